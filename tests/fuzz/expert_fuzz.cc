// expert.json files, and text through their gate patterns.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "common/model/expert_manifest.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ccoe::model;
  const auto manifest = ParseExpertManifest({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (!manifest.ok()) return 0;
  for (const GatePattern& pattern : manifest->rules.patterns) {
    pattern.compiled->Contains("SELECT name FROM t WHERE id = 12; \xFF aaaaaaaaaaaaaaaaaaaaaaaa");
  }
  return 0;
}
