#include "common/model/pre_tokenizer.h"

#include <string>
#include <utility>

#include "common/base/status_macros.h"
#include "common/model/text.h"
#include "common/model/utf8.h"

namespace ccoe::model {
namespace {

constexpr std::string_view kDigit = R"(\p{N})";
constexpr std::string_view kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";

// PCRE2's \s holds U+180E, the expressions of tokenizers mean Unicode's White_Space.
std::string WithUnicodeSpace(std::string_view regex) {
  std::string result;
  for (size_t i = 0; i < regex.size(); ++i) {
    if (regex[i] != '\\' || i + 1 == regex.size()) {
      result.push_back(regex[i]);
      continue;
    }
    ++i;
    if (regex[i] == 's') {
      result += "\\p{White_Space}";
    } else if (regex[i] == 'S') {
      result += "\\P{White_Space}";
    } else {
      result += {'\\', regex[i]};
    }
  }
  return result;
}

// A stretch of a piece, inside or outside the matches.
struct Stretch {
  std::string_view text;
  bool matched = false;
};

std::vector<Stretch> Stretches(const Regex& regex, SplitStep::Invert invert,
                               std::string_view piece) {
  std::vector<Stretch> stretches;
  const bool inverted = invert == SplitStep::Invert::kYes;
  const auto add = [&](size_t begin, size_t end, bool matched) {
    if (begin < end) stretches.push_back({piece.substr(begin, end - begin), matched != inverted});
  };
  size_t done = 0, from = 0;
  while (from < piece.size()) {
    const std::optional<Regex::Match> match = regex.Find(piece, from);
    if (!match.has_value()) break;
    if (match->begin == match->end) {
      if (match->begin >= piece.size()) break;
      from = match->begin + NextUtf8Unit(piece.substr(match->begin)).bytes;
      continue;
    }
    add(done, match->begin, false);
    add(match->begin, match->end, true);
    done = from = match->end;
  }
  add(done, piece.size(), false);
  return stretches;
}

// The text from the beginning of `a` to the end of `b`, which follows it.
std::string_view Joined(std::string_view a, std::string_view b) {
  return {a.data(), a.size() + b.size()};
}

}  // namespace

absl::StatusOr<std::vector<SplitStep>> PreTokenizerByName(std::string_view name) {
  const auto isolated = [](std::string_view regex) { return SplitStep{std::string(regex)}; };
  if (name == "smollm") return std::vector<SplitStep>{isolated(kDigit), isolated(kGpt2)};
  if (name == "gpt-2" || name == "gpt2") return std::vector<SplitStep>{isolated(kGpt2)};
  if (name == "llama-bpe" || name == "llama3" || name == "llama-v3") {
    return std::vector<SplitStep>{isolated(kLlama3)};
  }
  if (name == "qwen2" || name == "deepseek-r1-qwen") {
    return std::vector<SplitStep>{isolated(kQwen2)};
  }
  return absl::UnimplementedError(
      Cat("the pre-tokenizer \"", name,
          "\" is not supported; supported: smollm, gpt-2, llama-bpe (llama3), qwen2"));
}

absl::StatusOr<PreTokenizer> PreTokenizer::Create(absl::Span<const SplitStep> steps) {
  PreTokenizer result;
  for (const SplitStep& step : steps) {
    CCOE_ASSIGN_OR_RETURN(std::shared_ptr<const Regex> regex,
                          Regex::Compile(WithUnicodeSpace(step.regex)));
    result.steps_.push_back({std::move(regex), step.behavior, step.invert});
  }
  return result;
}

std::vector<std::string_view> PreTokenizer::Split(std::string_view text) const {
  std::vector<std::string_view> pieces = {text};
  for (const Step& step : steps_) {
    std::vector<std::string_view> next;
    next.reserve(pieces.size());
    for (const std::string_view piece : pieces) SplitPiece(step, piece, &next);
    pieces = std::move(next);
  }
  return pieces;
}

void PreTokenizer::SplitPiece(const Step& step, std::string_view piece,
                              std::vector<std::string_view>* out) {
  using Behavior = SplitStep::Behavior;
  const size_t first = out->size();
  bool join_next = false;     // kMergedWithNext: the last piece awaits what follows
  bool last_matched = false;  // of the stretch before
  for (const Stretch& stretch : Stretches(*step.regex, step.invert, piece)) {
    const bool has_last = out->size() > first;
    bool join = join_next;
    join_next = false;
    switch (step.behavior) {
      case Behavior::kIsolated:
        break;
      case Behavior::kRemoved:
        if (stretch.matched) continue;
        break;
      case Behavior::kContiguous:
        join = has_last && last_matched == stretch.matched;
        break;
      case Behavior::kMergedWithPrevious:
        join = has_last && stretch.matched && !last_matched;
        break;
      case Behavior::kMergedWithNext:
        join = join && !stretch.matched;
        join_next = stretch.matched;
        break;
    }
    if (join) {
      out->back() = Joined(out->back(), stretch.text);
    } else {
      out->push_back(stretch.text);
    }
    last_matched = stretch.matched;
  }
}

}  // namespace ccoe::model
