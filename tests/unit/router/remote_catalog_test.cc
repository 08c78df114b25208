#include "services/router/remote_catalog.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "services/router/remote_expert_host.h"

namespace ccoe::router {
namespace {

using internal::v1::WatchResponse;
using ::testing::ElementsAre;

// Adds an expert of the domain "law" with its replicas; those with a "-" in front are away.
void AddLaw(const std::string& version, const std::vector<std::string>& replicas,
            WatchResponse* response) {
  internal::v1::ExpertStatus& status = *response->add_experts();
  status.mutable_description()->mutable_expert()->set_name("law");
  status.mutable_description()->mutable_expert()->set_version(version);
  status.mutable_description()->set_domain("law");
  status.mutable_description()->set_package_digest("sha256:" + version);
  for (const std::string& replica : replicas) {
    const bool away = replica.front() == '-';
    internal::v1::ExpertReplica& proto = *status.add_replicas();
    proto.set_id(away ? replica.substr(1) : replica);
    proto.set_connected(!away);
  }
}

void AddProcess(const std::string& address, int layer_begin, bool connected,
                WatchResponse* response) {
  internal::v1::ExpertProcess& process = *response->add_processes();
  process.set_address(address);
  process.set_layer_begin(layer_begin);
  process.set_connected(connected);
}

void Update(const WatchResponse& response, RemoteCatalog* catalog) {
  catalog->Update(ModelDescription(), EntriesOf(response), response);
}

TEST(RemoteCatalogTest, TellsWhoServesAndWhoCould) {
  WatchResponse response;
  AddLaw("1", {"a:1", "-b:1", "local"}, &response);
  AddLaw("2", {"-b:1"}, &response);
  AddProcess("a:1", 18, true, &response);
  AddProcess("b:1", 18, false, &response);
  RemoteCatalog remote;
  EXPECT_EQ(remote.Get(), nullptr);
  Update(response, &remote);
  const Catalog& catalog = *remote.Get();
  EXPECT_THAT(catalog.experts[0].nodes, ElementsAre("a:1"));
  EXPECT_TRUE(catalog.experts[0].info.healthy);
  EXPECT_THAT(catalog.experts[1].nodes, ElementsAre());
  EXPECT_FALSE(catalog.experts[1].info.healthy);
  ASSERT_EQ(catalog.processes.size(), 1u);
  EXPECT_EQ(catalog.processes[0].layer_begin, 18);
  EXPECT_THAT(catalog.processes[0].experts, ElementsAre(runtime::ExpertKey{"law", "1"}));
  ASSERT_EQ(catalog.absent_processes.size(), 1u);
  EXPECT_THAT(catalog.absent_processes[0].experts,
              ElementsAre(runtime::ExpertKey{"law", "1"}, runtime::ExpertKey{"law", "2"}));
  EXPECT_THAT(catalog.backbone_experts, ElementsAre(runtime::ExpertKey{"law", "1"}));
}

TEST(RemoteCatalogTest, WhatIsTheRoutersOwnStays) {
  RemoteCatalog remote;
  WatchResponse both, second, other;
  AddLaw("1", {"a:1"}, &both);
  AddLaw("2", {"a:1"}, &both);
  AddLaw("2", {"a:1"}, &second);
  Update(both, &remote);
  ASSERT_TRUE(remote.SetTraffic("law", {{{"", "1"}, 3}, {{"", "2"}, 1}}).ok());
  const auto requests = remote.Get()->experts[1].active_requests;
  ++*requests;
  Update(second, &remote);
  EXPECT_EQ(remote.Get()->experts[0].weight, 1);
  EXPECT_EQ(remote.Get()->experts[0].active_requests, requests);
  Update(both, &remote);  // the first comes back
  EXPECT_EQ(remote.Get()->experts[0].weight, 3);
  EXPECT_EQ(*remote.Get()->experts[0].active_requests, 0);
  EXPECT_EQ(*remote.Get()->experts[1].active_requests, 1);

  other = both;  // another package of that version
  other.mutable_experts(1)->mutable_description()->set_package_digest("sha256:other");
  Update(other, &remote);
  EXPECT_EQ(*remote.Get()->experts[1].active_requests, 0);
  remote.ForgetWeight({"law", "1"});
  Update(both, &remote);
  EXPECT_EQ(remote.Get()->experts[0].weight, 0);
  EXPECT_EQ(remote.Get()->experts[1].weight, 1);
  Update(second, &remote);
  ASSERT_TRUE(remote.SetTraffic("law", {}).ok());
  Update(both, &remote);
  EXPECT_EQ(remote.Get()->experts[1].weight, 0);
  EXPECT_FALSE(remote.SetTraffic("none", {}).ok());
}

class NodesForTest : public ::testing::Test {
 protected:
  NodesForTest() {
    WatchResponse response;
    AddLaw("1", {"b:1", "a:1"}, &response);
    AddLaw("2", {"c:1", "a:1"}, &response);
    AddProcess("a:1", 18, true, &response);
    AddProcess("b:1", 20, true, &response);
    AddProcess("c:1", 20, true, &response);
    AddProcess("d:1", 10, false, &response);
    Update(response, &remote_);
  }
  absl::StatusOr<std::vector<std::string>> NodesOf(const std::string& domain, int depth,
                                                   const std::vector<std::string>& asked,
                                                   const std::string& version = "9") const {
    model::ExpertManifest manifest;
    manifest.name = domain;
    manifest.version = version;
    manifest.domain = domain;
    manifest.attach_depth = depth;
    return NodesFor(*remote_.Get(), manifest, asked);
  }
  RemoteCatalog remote_;
};

TEST_F(NodesForTest, ThoseThatServeTheDomainComeFirst) {
  EXPECT_THAT(*NodesOf("law", 18, {}), ElementsAre("a:1", "b:1", "c:1"));
  EXPECT_THAT(*NodesOf("sql", 20, {}), ElementsAre("a:1", "b:1", "c:1"));
  EXPECT_THAT(*NodesOf("sql", 18, {}), ElementsAre("a:1"));
  EXPECT_TRUE(absl::IsFailedPrecondition(NodesOf("sql", 17, {}).status()));
  EXPECT_THAT(*NodesOf("law", 18, {}, "1"), ElementsAre("c:1"));  // the others have it
}

TEST_F(NodesForTest, OneThatAllHaveIsThere) {
  WatchResponse response;
  AddLaw("1", {"a:1"}, &response);
  AddProcess("a:1", 18, true, &response);
  AddProcess("b:1", 18, true, &response);
  Update(response, &remote_);
  EXPECT_TRUE(absl::IsAlreadyExists(NodesOf("law", 18, {}, "1").status()));
  EXPECT_THAT(*NodesOf("law", 18, {"b:1"}, "1"), ElementsAre("b:1"));
}

TEST_F(NodesForTest, ThoseThatAreAskedForAreConnectedAndComeOnce) {
  EXPECT_THAT(*NodesOf("law", 18, {"c:1"}), ElementsAre("c:1"));
  EXPECT_TRUE(absl::IsInvalidArgument(NodesOf("law", 18, {"d:1"}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(NodesOf("law", 18, {"x:1"}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(NodesOf("law", 18, {"c:1", "c:1"}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(NodesOf("law", 18, {""}).status()));
}

}  // namespace
}  // namespace ccoe::router
