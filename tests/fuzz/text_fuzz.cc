// Any bytes as text: encoded by a byte-level tokenizer of every pre-tokenizer, they come back.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/model/byte_alphabet.h"
#include "common/model/tokenizer.h"
#include "common/model/utf8.h"

namespace {

using namespace ccoe::model;

std::unique_ptr<const Tokenizer> MakeTokenizer(std::string_view pre) {
  TokenizerSpec spec;
  for (int byte = 0; byte < 256; ++byte) {
    spec.tokens.push_back(
        {ByteLevelTextOf(std::string(1, static_cast<char>(byte))), TokenKind::kNormal});
  }
  const auto merge = [&](int32_t left, int32_t right, std::string_view bytes) {
    spec.tokens.push_back({ByteLevelTextOf(bytes), TokenKind::kNormal});
    spec.merges.emplace_back(left, right);
  };
  merge('a', 'a', "aa");
  merge(256, 256, "aaaa");
  merge(' ', ' ', "  ");
  merge('1', '2', "12");
  spec.steps = *PreTokenizerByName(pre);
  return *Tokenizer::Create(std::move(spec));
}

void Require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto* const tokenizers = new std::vector<std::unique_ptr<const Tokenizer>>([] {
    std::vector<std::unique_ptr<const Tokenizer>> all;
    for (const char* pre : {"smollm", "gpt-2", "llama-bpe", "qwen2"}) {
      all.push_back(MakeTokenizer(pre));
    }
    return all;
  }());
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const auto& tokenizer : *tokenizers) {
    StreamingDetokenizer detokenizer(*tokenizer);
    std::string bytes, shown;
    for (const int32_t id : tokenizer->Encode(text)) {
      bytes += tokenizer->TokenBytes(id);
      shown += detokenizer.Push(id);
    }
    shown += detokenizer.Finish();
    Require(bytes == text);
    Require(ValidUtf8Prefix(shown) == shown.size());
    if (ValidUtf8Prefix(text) == text.size()) Require(shown == text);
  }
  return 0;
}
