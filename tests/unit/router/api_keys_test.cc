#include "services/router/api_keys.h"

#include <sys/stat.h>

#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ccoe::router {
namespace {

using testing::HasSubstr;

std::string File(const std::string& members) { return absl::StrCat("{\"keys\": [", members, "]}"); }

std::string Key(const std::string& name, const std::string& more = "") {
  return absl::StrCat("{\"name\": \"", name, "\", \"sha256\": \"", HashApiKey(name), "\"", more,
                      "}");
}

TEST(ApiKeysTest, ReadsWhatItIsGranted) {
  const auto keys =
      ParseApiKeys(File(absl::StrCat(Key("team-a", R"(, "weight": 3, "max_concurrent_requests": 8,
                                         "tokens_per_minute": 60000)"),
                                     ",", Key("b"))),
                   "test");
  ASSERT_TRUE(keys.ok()) << keys.status();
  ASSERT_EQ(keys->keys_size(), 2);
  EXPECT_EQ(keys->keys(0).weight(), 3);
  EXPECT_EQ(keys->keys(0).max_concurrent_requests(), 8);
  EXPECT_EQ(keys->keys(0).tokens_per_minute(), 60000);
  EXPECT_FALSE(keys->keys(1).has_weight());
  EXPECT_TRUE(ParseApiKeys("{}", "test").ok());
}

TEST(ApiKeysTest, RefusesWhatIsWrongAndSaysWhere) {
  const struct {
    std::string text;
    const char* says;
  } cases[] = {
      {"", "/keys.json"},
      {"[]", "/keys.json"},
      {File("{}"), "keys[0]: name"},
      {File(Key("a") + "," + Key("a")), "keys[1]: another key is named a"},
      {File(absl::StrReplaceAll(Key("b"), {{HashApiKey("b"), HashApiKey("a")}}) + "," + Key("a")),
       "keys[1]: another name has the same sha256"},
      {File(Key("a b")), "keys[0]: name"},
      {File(Key(std::string(65, 'x'))), "keys[0]: name"},
      {File("{\"name\": \"a\", \"sha256\": \"ccoe_secret\"}"), "keys[0]: sha256"},
      {File(absl::StrCat("{\"name\": \"a\", \"sha256\": \"", std::string(64, 'A'), "\"}")),
       "keys[0]: sha256"},
      {File(Key("a", ", \"weight\": 0")), "keys[0]: weight"},
      {File(Key("a", ", \"weight\": 101")), "keys[0]: weight"},
      {File(Key("a", ", \"cache_group\": \"a b\"")), "keys[0]: cache_group"},
      {File(Key("a", ", \"max_concurrent_requests\": -1")), "keys[0]: max_concurrent_requests"},
      {File(Key("a", ", \"tokens_per_minute\": -1")), "keys[0]: tokens_per_minute"},
      {File(Key("a", ", \"tokens_per_minute\": 1e12")), "tokens_per_minute"},
      {File(Key("a", ", \"admin\": true")), "admin"},
      {File(Key("a", ", \"weight\": 1, \"weight\": 2")), "weight"},
  };
  for (const auto& bad : cases) {
    const absl::Status status = ParseApiKeys(bad.text, "/keys.json").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad.text;
    EXPECT_THAT(std::string(status.message()), HasSubstr("/keys.json")) << bad.text;
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.says)) << bad.text;
    EXPECT_THAT(std::string(status.message()), testing::Not(HasSubstr("ccoe_secret")));
  }
}

TEST(ApiKeysTest, KeysAreLongAndNeverTheSame) {
  const std::string key = MakeApiKey();
  EXPECT_EQ(key.size(), 5u + 64u);
  EXPECT_TRUE(key.starts_with("ccoe_"));
  EXPECT_NE(key, MakeApiKey());
}

TEST(ApiKeysTest, SavesForItsOwnerAlone) {
  const std::string path = absl::StrCat(testing::TempDir(), "/saved_keys.json");
  std::filesystem::remove(path);
  EXPECT_EQ(LoadApiKeys(path).status().code(), absl::StatusCode::kNotFound);
  const auto keys = ParseApiKeys(File(Key("a", ", \"tokens_per_minute\": 7")), "test");
  ASSERT_TRUE(SaveApiKeys(*keys, path).ok());
  struct stat info;
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  const auto again = LoadApiKeys(path);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->keys(0).tokens_per_minute(), 7);
  EXPECT_FALSE(SaveApiKeys(*keys, "/nowhere/keys.json").ok());
}

}  // namespace
}  // namespace ccoe::router
