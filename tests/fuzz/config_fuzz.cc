// config.json and adapter_config.json files: both parsers see every input.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "common/model/hf_config.h"
#include "common/model/lora_adapter.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ccoe::model;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  (void)ParseLoraConfig(text, "fuzz");
  auto config = ParseHfConfig(text, "fuzz");
  if (!config.ok()) return 0;
  config->InverseFrequencies();
  config->CanonicalJson();
  (void)AddGenerationConfig(text, "fuzz", &*config);
  return 0;
}
