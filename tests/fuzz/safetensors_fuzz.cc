// safetensors files, as weights and as a LoRA adapter.

#include <cstddef>
#include <cstdint>

#include "common/model/lora_adapter.h"
#include "common/model/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ccoe::model;
  const auto table = ParseSafetensors({reinterpret_cast<const std::byte*>(data), size}, "fuzz");
  if (!table.ok()) return 0;
  unsigned sum = 0;
  for (const auto& [name, view] : *table) {
    const auto row = view.Row(view.rows - 1);
    sum += static_cast<unsigned>(view.data.front()) + static_cast<unsigned>(row.back());
  }
  [[maybe_unused]] static volatile unsigned sink;
  sink = sum;
  const auto lora = MakeLoraTable(*table, {.rank = 4, .scale = 2}, 0, "fuzz");
  if (!lora.ok()) return 0;
  ModelConfig config;
  config.layers = 4;
  config.hidden = 64;
  config.heads = config.kv_heads = 4;
  config.head_dim = 16;
  config.ffn = 96;
  (void)CheckLoraShapes(*lora, config);
  return 0;
}
