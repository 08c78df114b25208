// What tests of the admin port share: a server with its admin service, and stubs.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "ccoe/v1/admin_service.grpc.pb.h"
#include "ccoe/v1/catalog_service.grpc.pb.h"
#include "ccoe/v1/generation_service.grpc.pb.h"
#include "common/rpc/server.h"
#include "services/router/local_backbone.h"
#include "services/router/router.h"

namespace ccoe::testing {

// tests/goldens/tiny/<name>.
std::string TinyFolder(const std::string& name);

class AdminPortTest : public ::testing::Test {
 protected:
  AdminPortTest();
  ~AdminPortTest() override;

  // Serves the public services and the admin's over a backbone.
  void Serve(router::Backbone* backbone, router::ExpertHost* host);
  // Ends that, before the backbone goes.
  void Stop();

  absl::Status Push(const std::string& folder);
  absl::StatusOr<v1::PushExpertResponse> Push(const v1::PushExpertRequest& request);
  absl::Status Pop(const std::string& name, const std::string& version = "");
  // Until those that have the expert have ended.
  void PushAgain(const std::string& folder);
  // Weights by version.
  absl::StatusOr<v1::SetTrafficResponse> SetTraffic(const std::string& domain,
                                                    const std::map<std::string, int>& weights);
  v1::ListVersionsResponse Versions(const std::string& domain = "");
  v1::ListExpertsResponse Experts();
  // Names of those that are ready.
  std::vector<std::string> Listed();

  struct Ask {
    std::string domain = {};      // empty: the gate's
    std::string expert = {};      // where not empty, instead of the domain
    std::string version = {};     // the expert's
    std::string request_id = {};  // empty: the server's
    int tokens = 16;
  };
  static v1::GenerateRequest Request(const std::string& text, const Ask& ask);
  absl::StatusOr<v1::GenerateResponse> Generate(const std::string& text, const Ask& ask);
  absl::StatusOr<v1::GenerateResponse> Generate(const std::string& text) {
    return Generate(text, Ask());
  }
  static std::vector<int32_t> Ids(const v1::GenerateResponse& response) {
    return {response.token_ids().begin(), response.token_ids().end()};
  }
  // A copy of TinyFolder("llama_lora"), another version that gives other tokens. It goes with the
  // test.
  std::string LoraOfVersion(const std::string& version);
  // Replaces a part of a file, which has to be there.
  static void ReplaceIn(const std::string& file, const std::string& from, const std::string& to);
  // A folder that goes with the test.
  std::string scratch() const { return scratch_; }
  // The server's, for uploads of at most 1 MiB.
  std::string uploads() const { return scratch_ + "/uploads"; }

  telemetry::Metrics metrics_{{.service = "router", .version = "1.2.3", .arithmetic = "i8b32.v2"}};
  std::unique_ptr<router::Router> router_;
  std::unique_ptr<grpc::Service> admin_service_;
  std::unique_ptr<rpc::Server> server_;
  std::unique_ptr<v1::AdminService::Stub> admin_;
  std::unique_ptr<v1::CatalogService::Stub> catalog_;
  std::unique_ptr<v1::GenerationService::Stub> generation_;

 private:
  const std::string scratch_;
};

// Everything in one process.
class AdminTest : public AdminPortTest {
 protected:
  void SetUp() override;
  void TearDown() override;

  std::unique_ptr<router::LocalBackbone> backbone_;
};

}  // namespace ccoe::testing
