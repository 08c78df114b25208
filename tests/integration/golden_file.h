#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace ccoe::testing {

// A golden safetensors file (tests/goldens/README.md). Unlike the product's parser it takes tensors
// of any rank and int32, and dies on anything unexpected.
class GoldenFile {
 public:
  // `path` below tests/goldens.
  explicit GoldenFile(const std::string& path);

  std::vector<float> Floats(const std::string& name) const;
  std::vector<int32_t> Ints(const std::string& name) const;

 private:
  const std::string& Bytes(const std::string& name) const;

  std::map<std::string, std::string> tensors_;
};

}  // namespace ccoe::testing
