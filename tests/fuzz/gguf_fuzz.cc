// GGUF files, as far as a model's parts and its tokenizer.

#include <cstddef>
#include <cstdint>

#include "common/model/chat_template.h"
#include "common/model/gguf.h"
#include "common/model/gguf_model.h"
#include "common/model/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ccoe::model;
  const auto file = GgufFile::Parse({reinterpret_cast<const std::byte*>(data), size}, "fuzz");
  if (!file.ok()) return 0;
  unsigned sum = 0;
  for (const auto& [name, view] : file->tensors()) {
    // What every reader relies on: the first and the last byte of each row are there.
    const auto row = view.Row(view.rows - 1);
    sum += static_cast<unsigned>(view.data.front()) + static_cast<unsigned>(row.back());
  }
  [[maybe_unused]] static volatile unsigned sink;
  sink = sum;
  auto parts = ModelPartsFromGguf(*file, "fuzz");
  if (!parts.ok()) return 0;
  parts->config.InverseFrequencies();
  parts->config.CanonicalJson();
  ChatTemplate::Recognise(parts->chat_template);
  for (const TensorShape& shape : ModelTensors(parts->config)) {
    if (!CheckTensor(parts->tensors, shape).ok()) break;
  }
  const auto tokenizer = Tokenizer::Create(std::move(parts->tokenizer));
  if (tokenizer.ok()) (*tokenizer)->Encode("The quick brown fox, 12  34\n");
  return 0;
}
