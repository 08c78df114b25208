#include <cstring>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "common/compute/cpu/block_format.h"
#include "gtest/gtest.h"
#include "tests/unit/compute/compute_test_util.h"

namespace ccoe::compute {
namespace {

std::vector<std::byte> FromHex(const std::string& hex) {
  std::vector<std::byte> bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<std::byte>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

TEST(DequantizeTest, GivesTheBitsOfGgmlsDefinitions) {
  std::ifstream file(CCOE_TEST_SOURCE_DIR "/unit/compute/testdata/dequantize.txt");
  std::set<std::string> seen;
  std::string name;
  std::string block_hex;
  std::string values_hex;
  while (file >> name >> block_hex >> values_hex) {
    for (const base::DType dtype : kAllTypes) {
      if (TypeName(dtype) != name) continue;
      seen.insert(name);
      const auto block = FromHex(block_hex);
      const auto values = FromHex(values_hex);
      std::vector<float> want(values.size() / sizeof(float));
      std::memcpy(want.data(), values.data(), values.size());
      std::vector<float> got(want.size());
      cpu::DequantizeRow(dtype, block.data(), static_cast<int64_t>(want.size()), got.data());
      EXPECT_TRUE(SameBits(got, want)) << name;
    }
  }
  EXPECT_EQ(seen.size(), 8u);
}

TEST(DequantizeTest, FloatFormats) {
  const uint16_t half[] = {0x3c00, 0x0001, 0xfc00, 0x8000, 0x7bff};
  float out[5];
  cpu::DequantizeRow(base::DType::kF16, reinterpret_cast<const std::byte*>(half), 5, out);
  EXPECT_TRUE(SameBits({out, out + 5}, {1, 0x1p-24f, -INFINITY, -0.0f, 65504}));
  cpu::DequantizeRow(base::DType::kBF16, reinterpret_cast<const std::byte*>(half), 1, out);
  EXPECT_EQ(out[0], 0x1p-7f);
}

}  // namespace
}  // namespace ccoe::compute
