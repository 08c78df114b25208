// Several versions of one domain, and what part of its requests each gets.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "absl/strings/str_cat.h"
#include "common/base/error.h"
#include "services/router/catalog.h"
#include "tests/integration/admin_harness.h"

namespace ccoe::testing {
namespace {

using base::Reason;
using ::testing::ElementsAre;
using TrafficTest = AdminTest;

constexpr char kDomain[] = "tiny-lora";

std::string VersionOf(const absl::StatusOr<v1::GenerateResponse>& response) {
  EXPECT_TRUE(response.ok()) << response.status();
  return response.ok() ? response->started().route().version() : "";
}

std::vector<double> Shares(const v1::ListVersionsResponse& response) {
  std::vector<double> shares;
  for (const v1::ExpertVersion& version : response.versions()) shares.push_back(version.share());
  return shares;
}

TEST_F(TrafficTest, ARequestsIdChoosesItsVersion) {
  ASSERT_TRUE(Push(TinyFolder("llama_lora")).ok());
  ASSERT_TRUE(Push(LoraOfVersion("2.0.0")).ok());
  EXPECT_THAT(Shares(Versions(kDomain)), ElementsAre(0, 1));
  EXPECT_EQ(VersionOf(Generate("go", {.domain = kDomain, .tokens = 1})), "2.0.0");
  const auto set = SetTraffic(kDomain, {{"1.0.0", 3}, {"2.0.0", 1}});
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_EQ(set->versions(0).weight(), 3);
  EXPECT_THAT(Shares(Versions(kDomain)), ElementsAre(0.75, 0.25));
  for (int i = 0; i < 40; ++i) {
    const std::string id = absl::StrCat("request-", i);
    const std::string expected =
        router::DrawOf(id) < (uint32_t{1} << 30) ? "2.0.0" : "1.0.0";  // the best's part is first
    // By the domain, by the gate, and by the name.
    EXPECT_EQ(VersionOf(Generate("go", {.domain = kDomain, .request_id = id, .tokens = 1})),
              expected);
    EXPECT_EQ(VersionOf(Generate("tiny-lora, go", {.request_id = id, .tokens = 1})), expected);
    EXPECT_EQ(VersionOf(Generate("go", {.expert = "tiny-lora", .request_id = id, .tokens = 1})),
              expected);
    const std::string other = expected == "1.0.0" ? "2.0.0" : "1.0.0";
    EXPECT_EQ(VersionOf(Generate(
                  "go", {.expert = "tiny-lora", .version = other, .request_id = id, .tokens = 1})),
              other);
  }
}

TEST_F(TrafficTest, VersionsComeWithoutAShareAndLeaveTheirs) {
  ASSERT_TRUE(Push(TinyFolder("llama_lora")).ok());
  ASSERT_TRUE(SetTraffic(kDomain, {{"1.0.0", 1}}).ok());
  ASSERT_TRUE(Push(LoraOfVersion("2.0.0")).ok());
  EXPECT_THAT(Shares(Versions(kDomain)), ElementsAre(1, 0));
  EXPECT_EQ(VersionOf(Generate("go", {.domain = kDomain, .tokens = 1})), "1.0.0");
  ASSERT_TRUE(Push(LoraOfVersion("3.0.0")).ok());
  ASSERT_TRUE(SetTraffic(kDomain, {{"1.0.0", 2}, {"2.0.0", 1}, {"3.0.0", 1}}).ok());
  ASSERT_TRUE(Pop("tiny-lora", "1.0.0").ok());
  EXPECT_THAT(Shares(Versions(kDomain)), ElementsAre(0.5, 0.5));
  ASSERT_TRUE(SetTraffic(kDomain, {{"2.0.0", 1}}).ok());
  ASSERT_TRUE(Pop("tiny-lora", "2.0.0").ok());
  EXPECT_THAT(Shares(Versions(kDomain)), ElementsAre(1));
  PushAgain(TinyFolder("llama_lora"));
  EXPECT_THAT(Shares(Versions(kDomain)), ElementsAre(0, 1));  // no weight was left
  ASSERT_TRUE(SetTraffic(kDomain, {{"1.0.0", 1}}).ok());
  ASSERT_TRUE(SetTraffic(kDomain, {}).ok());
  EXPECT_THAT(Shares(Versions(kDomain)), ElementsAre(0, 1));
}

TEST_F(TrafficTest, WhatIsRefusedChangesNothing) {
  ASSERT_TRUE(Push(TinyFolder("llama_lora")).ok());
  ASSERT_TRUE(Push(LoraOfVersion("2.0.0")).ok());
  ASSERT_TRUE(SetTraffic(kDomain, {{"1.0.0", 1}}).ok());
  EXPECT_EQ(base::ReasonOf(SetTraffic("", {}).status()), Reason::kInvalidRequest);
  EXPECT_EQ(base::ReasonOf(SetTraffic("nothing", {}).status()), Reason::kUnknownDomain);
  EXPECT_EQ(base::ReasonOf(SetTraffic(kDomain, {{"7", 1}}).status()), Reason::kUnknownExpert);
  EXPECT_EQ(base::ReasonOf(SetTraffic(kDomain, {{"1.0.0", -1}}).status()), Reason::kInvalidRequest);
  EXPECT_EQ(base::ReasonOf(SetTraffic(kDomain, {{"1.0.0", 0}}).status()), Reason::kInvalidRequest);
  grpc::ClientContext context;
  v1::ListVersionsRequest unknown;
  unknown.set_domain("nothing");
  v1::ListVersionsResponse response;
  EXPECT_EQ(admin_->ListVersions(&context, unknown, &response).error_code(),
            grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(Shares(Versions()), ElementsAre(1, 1, 0));  // `general` is alone
}

TEST_F(TrafficTest, RequestsUnderWayAreCounted) {
  ASSERT_TRUE(Push(TinyFolder("llama_lora")).ok());
  const auto active = [&] { return Versions(kDomain).versions(0).active_requests(); };
  EXPECT_EQ(active(), 0);
  std::atomic<bool> stop{false};
  std::thread client([&] {
    while (!stop) EXPECT_TRUE(Generate("go", {.domain = kDomain, .tokens = 400}).ok());
  });
  while (active() == 0) std::this_thread::yield();
  stop = true;
  client.join();
  while (active() > 0) std::this_thread::yield();
}

// A request's tokens are its version's, whatever happens to the others.
TEST_F(TrafficTest, NoRequestFailsWhileTrafficShifts) {
  const std::string first = TinyFolder("llama_lora"), second = LoraOfVersion("2.0.0");
  ASSERT_TRUE(Push(first).ok());
  ASSERT_TRUE(Push(second).ok());
  std::map<std::string, std::vector<int32_t>> expected;
  for (const std::string version : {"1.0.0", "2.0.0"}) {
    const auto response = Generate("go", {.expert = "tiny-lora", .version = version});
    ASSERT_TRUE(response.ok()) << response.status();
    expected[version] = Ids(*response);
  }
  ASSERT_NE(expected["1.0.0"], expected["2.0.0"]);
  std::atomic<bool> stop{false};
  std::atomic<int> done[3] = {};
  std::vector<std::thread> clients;
  for (int i = 0; i < 6; ++i) {
    clients.emplace_back([&] {
      while (!stop) {
        const auto response = Generate("go", {.domain = kDomain});
        ASSERT_TRUE(response.ok()) << response.status();
        const std::string version = response->started().route().version();
        EXPECT_EQ(Ids(*response), expected[version]);
        ++done[version[0] - '0'];
      }
    });
  }
  const auto wait_for = [&](int version) {
    const int before = done[version];
    while (done[version] == before && !HasFailure()) std::this_thread::yield();
  };
  for (int round = 0; round < 10; ++round) {
    EXPECT_TRUE(SetTraffic(kDomain, {{"1.0.0", 1}}).ok());
    wait_for(1);
    EXPECT_TRUE(SetTraffic(kDomain, {{"1.0.0", 50}, {"2.0.0", 50}}).ok());
    wait_for(1);
    wait_for(2);
    EXPECT_TRUE(Pop("tiny-lora", round % 2 == 0 ? "1.0.0" : "2.0.0").ok());
    wait_for(round % 2 == 0 ? 2 : 1);
    PushAgain(round % 2 == 0 ? first : second);
  }
  stop = true;
  for (std::thread& client : clients) client.join();
}

}  // namespace
}  // namespace ccoe::testing
