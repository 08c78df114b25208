#include "common/rpc/upload.h"

#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace ccoe::rpc {
namespace {

namespace fs = std::filesystem;

class UploadTest : public ::testing::Test {
 protected:
  void SetUp() override { fs::create_directory(folder_); }
  void TearDown() override { fs::remove_all(folder_); }
  absl::StatusOr<std::unique_ptr<Upload>> Begin(std::vector<UploadFile> files) {
    return Upload::Begin({.folder = folder_, .max_bytes = 100000}, std::move(files));
  }
  bool LeftNothing() const { return fs::is_empty(folder_); }
  static std::string Read(const fs::path& path) {
    std::stringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
  }

  const std::string folder_ = absl::StrCat(::testing::TempDir(), "/upload_test_", getpid());
};

TEST(CheckUploadTest, RefusesWhatIsNotPlain) {
  for (const std::string name :
       {"", ".", "..", ".hidden", "a/b", "/etc/passwd", "..\\x", "a b", "\xc3\xa4"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(CheckUpload({{name, 1}}, 10))) << name;
  }
  EXPECT_TRUE(absl::IsInvalidArgument(CheckUpload({{std::string(256, 'a'), 1}}, 10)));
  EXPECT_TRUE(CheckUpload({{"model-00001.safetensors", 1}, {"a_b", 9}}, 10).ok());
}

TEST(CheckUploadTest, RefusesOtherNumbers) {
  EXPECT_TRUE(absl::IsInvalidArgument(CheckUpload({}, 10)));
  EXPECT_TRUE(absl::IsInvalidArgument(CheckUpload({{"a", 1}, {"a", 1}}, 10)));
  EXPECT_TRUE(absl::IsInvalidArgument(CheckUpload({{"a", 0}}, 10)));
  EXPECT_TRUE(absl::IsInvalidArgument(CheckUpload({{"a", -1}}, 10)));
  EXPECT_TRUE(absl::IsInvalidArgument(CheckUpload({{"a", 6}, {"b", 5}}, 10)));
  EXPECT_TRUE(absl::IsInvalidArgument(CheckUpload({{"a", INT64_MAX}, {"b", INT64_MAX}}, 10)));
  std::vector<UploadFile> files;
  for (size_t i = 0; i <= kMaxUploadFiles; ++i) files.push_back({absl::StrCat(i), 1});
  EXPECT_TRUE(absl::IsInvalidArgument(CheckUpload(files, 100)));
  files.pop_back();
  EXPECT_TRUE(CheckUpload(files, 100).ok());
}

TEST_F(UploadTest, PiecesNeedNotEndWithFiles) {
  for (const size_t piece : {1, 2, 3, 100}) {
    auto upload = Begin({{"a", 3}, {"b", 4}});
    ASSERT_TRUE(upload.ok()) << upload.status();
    const std::string bytes = "aaabbbb";
    for (size_t at = 0; at < bytes.size(); at += piece) {
      EXPECT_FALSE((*upload)->Finish().ok());
      ASSERT_TRUE((*upload)->Append(bytes.substr(at, piece)).ok());
    }
    ASSERT_TRUE((*upload)->Finish().ok());
    EXPECT_EQ(Read((*upload)->folder() + "/a"), "aaa");
    EXPECT_EQ(Read((*upload)->folder() + "/b"), "bbbb");
    EXPECT_EQ(fs::status((*upload)->folder()).permissions(), fs::perms::owner_all);
    EXPECT_TRUE(absl::IsInvalidArgument((*upload)->Append("x")));
    upload->reset();
    EXPECT_TRUE(LeftNothing());
  }
}

TEST_F(UploadTest, AFullDiskIsToldAndLeavesNothing) {
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit small = before;
  small.rlim_cur = 1000;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  {
    auto upload = Begin({{"a", 2000}});
    ASSERT_TRUE(upload.ok()) << upload.status();
    EXPECT_TRUE(absl::IsResourceExhausted((*upload)->Append(std::string(2000, 'x'))));
  }
  EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  EXPECT_TRUE(LeftNothing());
}

TEST_F(UploadTest, AStatusNamesFilesByThemselves) {
  const auto upload = Begin({{"a", 3}});
  ASSERT_TRUE(upload.ok()) << upload.status();
  const absl::Status status = (*upload)->WithoutFolder(
      absl::InvalidArgumentError(absl::StrCat((*upload)->folder(), "/a is damaged")));
  EXPECT_EQ(status, absl::InvalidArgumentError("a is damaged"));
  EXPECT_TRUE((*upload)->WithoutFolder(absl::OkStatus()).ok());
}

TEST_F(UploadTest, AFolderThatIsNotThereIsNamed) {
  const auto upload = Upload::Begin({.folder = folder_ + "/none", .max_bytes = 10}, {{"a", 1}});
  EXPECT_TRUE(absl::IsFailedPrecondition(upload.status())) << upload.status();
}

}  // namespace
}  // namespace ccoe::rpc
