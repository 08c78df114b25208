#include "common/runtime/output_text.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"

namespace ccoe::runtime {
namespace {

// Length of the longest end of `text` that a stop sequence begins with.
size_t HeldLength(absl::string_view text, const std::vector<std::string>& stop_sequences) {
  size_t held = 0;
  for (const std::string& stop : stop_sequences) {
    for (size_t n = std::min(text.size(), stop.size() - 1); n > held; --n) {
      if (absl::StartsWith(stop, text.substr(text.size() - n))) held = n;
    }
  }
  return held;
}

// Moves `size` back to a character boundary of `text`.
size_t AtCharacter(absl::string_view text, size_t size) {
  while (size > 0 && size < text.size() && (static_cast<uint8_t>(text[size]) & 0xC0) == 0x80) {
    --size;
  }
  return size;
}

}  // namespace

OutputText::OutputText(const model::Tokenizer& tokenizer, std::vector<std::string> stop_sequences)
    : detokenizer_(tokenizer), stop_sequences_(std::move(stop_sequences)) {}

std::string OutputText::Push(int32_t id) {
  held_ += detokenizer_.Push(id);
  return Release(/*last=*/false);
}

std::string OutputText::Finish() {
  if (stopped()) return "";
  held_ += detokenizer_.Finish();
  return Release(/*last=*/true);
}

std::string OutputText::Release(bool last) {
  size_t first = std::string::npos;
  for (const std::string& stop : stop_sequences_) {
    const size_t at = held_.find(stop);
    if (at < first) {
      first = at;
      matched_stop_ = stop;
    }
  }
  size_t size = held_.size();
  if (stopped()) {
    size = first;
  } else if (!last) {
    size = held_.size() - HeldLength(held_, stop_sequences_);
  }
  size = AtCharacter(held_, size);
  std::string text = held_.substr(0, size);
  held_.erase(0, stopped() ? held_.size() : size);
  return text;
}

}  // namespace ccoe::runtime
