#include "common/model/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/model/test_files.h"

namespace ccoe::model {
namespace {

using test::AsBytes;
using test::Safetensors;
using testing::HasSubstr;

absl::Status StatusOf(std::string_view file) {
  return ParseSafetensors(AsBytes(file), "w.safetensors").status();
}

// One tensor with 8 bytes of data.
absl::Status StatusOfEntry(std::string_view entry) {
  return StatusOf(Safetensors("{\"t\":" + std::string(entry) + "}", std::string(8, 'x')));
}

TEST(Safetensors, ReadsTensors) {
  const std::string file = Safetensors(
      R"({"__metadata__":{"format":"pt"},"m":{"dtype":"F16","shape":[2,1],"data_offsets":[4,8]},)"
      R"("v":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
      test::FloatBytes({1, 2}));
  const auto table = ParseSafetensors(AsBytes(file), "w.safetensors");
  ASSERT_TRUE(table.ok()) << table.status();
  ASSERT_EQ(table->size(), 2u);
  const base::TensorView& matrix = table->at("m");
  EXPECT_EQ(matrix.dtype, base::DType::kF16);
  EXPECT_EQ(matrix.rows, 2);
  EXPECT_EQ(matrix.cols, 1);
  EXPECT_EQ(matrix.data.size(), 4u);
  EXPECT_EQ(table->at("v").rows, 1);
}

TEST(Safetensors, RefusesEveryTruncation) {
  const std::string file = Safetensors(R"({"v":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
                                       test::FloatBytes({1, 2}));
  ASSERT_TRUE(StatusOf(file).ok());
  for (size_t size = 0; size < file.size(); ++size) {
    const std::vector<char> part(file.begin(), file.begin() + static_cast<ptrdiff_t>(size));
    EXPECT_EQ(StatusOf({part.data(), part.size()}).code(), absl::StatusCode::kInvalidArgument)
        << size;
  }
}

TEST(Safetensors, RefusesBadEntries) {
  EXPECT_TRUE(StatusOfEntry(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})").ok());
  for (const std::string_view entry : {
           R"(7)",
           R"({"dtype":"F32","shape":[2]})",
           R"({"dtype":"F32","shape":[2],"data_offsets":[0]})",
           R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})",
           R"({"dtype":"F32","shape":[2],"data_offsets":[0,9]})",
           R"({"dtype":"F32","shape":[2],"data_offsets":[-8,0]})",
           R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})",
           R"({"dtype":"F32","shape":[0],"data_offsets":[0,0]})",
           R"({"dtype":"F32","shape":[-1],"data_offsets":[0,8]})",
           R"({"dtype":"F32","shape":[1.5],"data_offsets":[0,8]})",
           R"({"dtype":"F32","shape":[1],"data_offsets":[2,6]})",
           R"({"dtype":"F32","shape":[2147483647,2147483647],"data_offsets":[0,8]})",
           R"({"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8]})",
           R"({"dtype":32,"shape":[2],"data_offsets":[0,8]})",
       }) {
    EXPECT_EQ(StatusOfEntry(entry).code(), absl::StatusCode::kInvalidArgument) << entry;
  }
  for (const std::string_view entry : {
           R"({"dtype":"I64","shape":[1],"data_offsets":[0,8]})",
           R"({"dtype":"F32","shape":[],"data_offsets":[0,4]})",
           R"({"dtype":"F32","shape":[1,1,2],"data_offsets":[0,8]})",
       }) {
    EXPECT_EQ(StatusOfEntry(entry).code(), absl::StatusCode::kUnimplemented) << entry;
  }
}

TEST(Safetensors, RefusesOverlapsAndRepeatedNames) {
  const std::string_view entry = R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  const std::string data(8, 'x');
  const std::string e(entry);
  EXPECT_THAT(
      std::string(StatusOf(Safetensors("{\"a\":" + e + ",\"b\":" + e + "}", data)).message()),
      HasSubstr("overlap"));
  EXPECT_THAT(
      std::string(StatusOf(Safetensors("{\"a\":" + e + ",\"a\":" + e + "}", data)).message()),
      HasSubstr("appears twice"));
}

TEST(Safetensors, RefusesDeepNesting) {
  const std::string deep = std::string(100'000, '[') + std::string(100'000, ']');
  EXPECT_THAT(std::string(StatusOf(Safetensors("{\"a\":" + deep + "}", "")).message()),
              HasSubstr("nested deeper"));
}

}  // namespace
}  // namespace ccoe::model
