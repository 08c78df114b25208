#include "tests/integration/golden_file.h"

#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "common/base/check.h"

namespace ccoe::testing {
namespace {

template <typename T>
std::vector<T> Decode(const std::string& bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

}  // namespace

GoldenFile::GoldenFile(const std::string& path) {
  std::ifstream file(absl::StrCat(CCOE_TEST_SOURCE_DIR, "/goldens/", path), std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  CCOE_CHECK(bytes.size() > 8);
  uint64_t header_size = 0;
  std::memcpy(&header_size, bytes.data(), 8);
  const auto header = nlohmann::json::parse(bytes.substr(8, header_size));
  const std::string data = bytes.substr(8 + header_size);
  for (const auto& [name, tensor] : header.items()) {
    if (name == "__metadata__") continue;
    const size_t begin = tensor.at("data_offsets").at(0);
    const size_t end = tensor.at("data_offsets").at(1);
    tensors_[name] = data.substr(begin, end - begin);
  }
}

const std::string& GoldenFile::Bytes(const std::string& name) const {
  const auto it = tensors_.find(name);
  CCOE_CHECK(it != tensors_.end());
  return it->second;
}

std::vector<float> GoldenFile::Floats(const std::string& name) const {
  return Decode<float>(Bytes(name));
}

std::vector<int32_t> GoldenFile::Ints(const std::string& name) const {
  return Decode<int32_t>(Bytes(name));
}

}  // namespace ccoe::testing
