#include "common/model/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/model/test_files.h"

namespace ccoe::model {
namespace {

using test::AsBytes;
using test::GgufWriter;
using test::Put;
using testing::HasSubstr;

GgufWriter SmallFile() {
  GgufWriter writer;
  writer.String("general.architecture", "llama");
  writer.U32("a.number", 7);
  writer.F32("a.float", 0.5f);
  writer.Bool("a.flag", 1);
  writer.Strings("some.strings", {"x", "", "yz"});
  writer.Ints("some.ints", {1, -2});
  writer.Tensor("vector", {3}, 0, test::FloatBytes({1, 2, 3}));
  writer.Tensor("matrix", {32, 2}, 2, std::string(36, 'q'));
  return writer;
}

absl::Status StatusOf(std::string_view file) {
  return GgufFile::Parse(AsBytes(file), "m.gguf").status();
}

TEST(Gguf, ReadsValuesAndTensors) {
  const std::string bytes = SmallFile().Finish();
  const auto file = GgufFile::Parse(AsBytes(bytes), "m.gguf");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(*file->String("general.architecture"), "llama");
  EXPECT_EQ(*file->Integer("a.number"), 7);
  EXPECT_EQ(*file->Float("a.float"), 0.5);
  EXPECT_TRUE(*file->Bool("a.flag"));
  EXPECT_THAT(*file->Strings("some.strings"), testing::ElementsAre("x", "", "yz"));
  EXPECT_THAT(*file->Integers("some.ints"), testing::ElementsAre(1, -2));
  EXPECT_EQ(*file->IntegerOr("absent", 5), 5);
  const base::TensorView& vector = file->tensors().at("vector");
  EXPECT_EQ(vector.rows, 1);
  EXPECT_EQ(vector.cols, 3);
  const base::TensorView& matrix = file->tensors().at("matrix");
  EXPECT_EQ(matrix.dtype, base::DType::kQ4_0);
  EXPECT_EQ(matrix.rows, 2);
  EXPECT_EQ(matrix.data.size(), 36u);
  EXPECT_EQ(matrix.data[0], std::byte{'q'});
}

TEST(Gguf, NamesTheKeyOfAMissingOrWrongValue) {
  const std::string bytes = SmallFile().Finish();
  const auto file = GgufFile::Parse(AsBytes(bytes), "m.gguf");
  ASSERT_TRUE(file.ok());
  EXPECT_TRUE(absl::IsNotFound(file->Integer("absent").status()));
  EXPECT_THAT(std::string(file->Integer("a.float").status().message()),
              HasSubstr("m.gguf: the value of \"a.float\" is not an integer"));
  EXPECT_FALSE(file->String("some.strings").ok());
  EXPECT_FALSE(file->Strings("some.ints").ok());
  EXPECT_FALSE(file->Integers("some.strings").ok());
  EXPECT_FALSE(file->Integer("some.ints").ok());
  EXPECT_FALSE(file->Bool("a.number").ok());
}

TEST(Gguf, RefusesEveryTruncation) {
  const std::string bytes = SmallFile().Finish();
  for (size_t size = 0; size < bytes.size(); ++size) {
    // A copy, so that a sanitizer sees a read beyond the end.
    const std::vector<char> part(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(size));
    EXPECT_EQ(StatusOf({part.data(), part.size()}).code(), absl::StatusCode::kInvalidArgument)
        << size;
  }
}

TEST(Gguf, RefusesOtherMagicAndVersions) {
  std::string bytes = SmallFile().Finish();
  bytes[0] = 'X';
  EXPECT_EQ(StatusOf(bytes).code(), absl::StatusCode::kInvalidArgument);
  bytes[0] = 'G';
  for (const char version : {0, 1, 4}) {
    bytes[4] = version;
    EXPECT_EQ(StatusOf(bytes).code(), absl::StatusCode::kUnimplemented);
  }
  bytes[4] = 2;
  EXPECT_TRUE(StatusOf(bytes).ok());
}

TEST(Gguf, RefusesCountsThatTheFileCannotHold) {
  for (const size_t offset : {8, 16}) {
    std::string bytes = SmallFile().Finish();
    const uint64_t huge = uint64_t{1} << 60;
    std::memcpy(bytes.data() + offset, &huge, sizeof(huge));
    EXPECT_EQ(StatusOf(bytes).code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(Gguf, RefusesRepeatedNames) {
  GgufWriter keys = SmallFile();
  keys.U32("a.number", 8);
  EXPECT_THAT(std::string(StatusOf(keys.Finish()).message()), HasSubstr("appears twice"));
  GgufWriter tensors = SmallFile();
  tensors.Tensor("vector", {1}, 0, test::FloatBytes({1}));
  EXPECT_THAT(std::string(StatusOf(tensors.Finish()).message()), HasSubstr("appears twice"));
}

TEST(Gguf, RefusesBadTensors) {
  const auto status = [](const std::vector<uint64_t>& dimensions, uint32_t type, size_t bytes) {
    GgufWriter writer;
    writer.Tensor("t", dimensions, type, std::string(bytes, 'x'));
    return StatusOf(writer.Finish());
  };
  EXPECT_TRUE(status({32}, 8, 34).ok());
  EXPECT_FALSE(status({32}, 8, 33).ok());                       // beyond the end
  EXPECT_FALSE(status({31}, 8, 34).ok());                       // part of a block
  EXPECT_FALSE(status({0}, 0, 4).ok());                         // empty
  EXPECT_FALSE(status({uint64_t{1} << 32}, 0, 4).ok());         // too large
  EXPECT_FALSE(status({0x7fffffff, 0x7fffffff}, 0, 4).ok());    // larger than the file
  EXPECT_FALSE(status({}, 0, 4).ok());                          // no dimension
  EXPECT_TRUE(absl::IsUnimplemented(status({1, 1, 2}, 0, 8)));  // three dimensions
  EXPECT_TRUE(absl::IsUnimplemented(status({256}, 10, 84)));    // Q2_K
  EXPECT_THAT(std::string(status({256}, 10, 84).message()), HasSubstr("supported: F32"));
}

TEST(Gguf, RefusesBadAlignment) {
  for (const uint32_t alignment : {0u, 4u, 48u, 1u << 20}) {
    GgufWriter writer = SmallFile();
    writer.U32("general.alignment", alignment);
    EXPECT_EQ(StatusOf(writer.Finish()).code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(Gguf, RefusesNestedArrays) {
  std::string bytes = "GGUF";
  Put(&bytes, uint32_t{3});
  Put(&bytes, uint64_t{0});
  Put(&bytes, uint64_t{1});
  Put(&bytes, uint64_t{1});
  bytes += "k";
  Put(&bytes, uint32_t{9});
  Put(&bytes, uint32_t{9});
  Put(&bytes, uint64_t{1});
  EXPECT_TRUE(absl::IsUnimplemented(StatusOf(bytes)));
}

}  // namespace
}  // namespace ccoe::model
