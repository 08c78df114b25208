#include "services/router/key_ring.h"

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/error.h"
#include "gtest/gtest.h"
#include "services/router/api_keys.h"

namespace ccoe::router {
namespace {

using base::Reason;

class KeyRingTest : public testing::Test {
 protected:
  KeyRingTest() : path_(absl::StrCat(testing::TempDir(), "/key_ring.json")) {}

  // A file with these names; the key of each is "key-NAME".
  void Write(const std::vector<std::string>& names, int max_concurrent_requests = 0) {
    internal::v1::ApiKeys keys;
    for (const std::string& name : names) {
      internal::v1::ApiKey& key = *keys.add_keys();
      key.set_name(name);
      key.set_sha256(HashApiKey("key-" + name));
      key.set_max_concurrent_requests(max_concurrent_requests);
    }
    ASSERT_TRUE(SaveApiKeys(keys, path_).ok());
  }
  static Reason ReasonFor(const KeyRing& ring, const std::string& authorization) {
    return base::ReasonOf(ring.Find(authorization).status());
  }

  const std::string path_;
};

TEST_F(KeyRingTest, KnowsCallersByTheirKeys) {
  Write({"a", "b", "c"});
  const auto ring = KeyRing::Open(path_).value();
  for (const char* name : {"a", "b", "c"}) {
    const auto caller = ring->Find(absl::StrCat("Bearer key-", name));
    ASSERT_TRUE(caller.ok()) << caller.status();
    EXPECT_EQ((*caller)->name(), name);
  }
  EXPECT_TRUE(ring->Find("bearer key-a").ok());
}

TEST_F(KeyRingTest, RefusesWithoutAKeyThatItKnows) {
  Write({"a"});
  const auto ring = KeyRing::Open(path_).value();
  for (const char* missing : {"", "key-a", "Basic key-a", "Bearer"}) {
    EXPECT_EQ(ReasonFor(*ring, missing), Reason::kApiKeyMissing) << missing;
  }
  for (const char* unknown : {"Bearer ", "Bearer key-", "Bearer key-a ", "Bearer key-b"}) {
    EXPECT_EQ(ReasonFor(*ring, unknown), Reason::kApiKeyUnknown) << unknown;
  }
  // The hash is no key.
  EXPECT_EQ(ReasonFor(*ring, absl::StrCat("Bearer ", HashApiKey("key-a"))), Reason::kApiKeyUnknown);
}

TEST_F(KeyRingTest, FollowsItsFile) {
  Write({"a", "b"});
  const auto ring = KeyRing::Open(path_).value();
  const std::shared_ptr<Caller> a = ring->Find("Bearer key-a").value();
  const auto place = a->Enter(absl::Now());
  Write({"a", "c"}, 1);
  ring->CheckFile();
  EXPECT_EQ(ReasonFor(*ring, "Bearer key-b"), Reason::kApiKeyUnknown);
  EXPECT_TRUE(ring->Find("Bearer key-c").ok());
  // The same caller, with its new limit and what it has under way.
  EXPECT_EQ(ring->Find("Bearer key-a").value(), a);
  EXPECT_EQ(base::ReasonOf(a->Enter(absl::Now()).status()), Reason::kKeyConcurrency);
}

TEST_F(KeyRingTest, KeepsItsKeysWhereTheFileIsBadOrGone) {
  Write({"a"});
  const auto ring = KeyRing::Open(path_).value();
  std::ofstream(path_, std::ios::trunc) << "{";
  ring->CheckFile();
  EXPECT_TRUE(ring->Find("Bearer key-a").ok());
  std::filesystem::remove(path_);
  ring->CheckFile();
  EXPECT_TRUE(ring->Find("Bearer key-a").ok());
  Write({"b"});
  ring->CheckFile();
  EXPECT_FALSE(ring->Find("Bearer key-a").ok());
}

TEST_F(KeyRingTest, IsNotThereWithoutAFile) {
  EXPECT_EQ(KeyRing::Open("").value(), nullptr);
  EXPECT_EQ(KeyRing::Open("/nowhere/keys.json").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace ccoe::router
