// tokenizer.json files, and text through the tokenizers that they make.

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include "common/model/tokenizer.h"
#include "common/model/tokenizer_json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ccoe::model;
  auto spec = ParseTokenizerJson({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (!spec.ok()) return 0;
  const auto tokenizer = Tokenizer::Create(*std::move(spec));
  if (!tokenizer.ok()) return 0;
  constexpr std::string_view kText = "I'm 12  years,\n\n e\u0301 \xF0\x9F\x98\x80 \xFF<|im_end|>";
  StreamingDetokenizer detokenizer(**tokenizer);
  for (const int32_t id : (*tokenizer)->Encode(kText)) detokenizer.Push(id);
  detokenizer.Finish();
  return 0;
}
