#include "tests/integration/admin_harness.h"

#include <grpcpp/create_channel.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/rpc/status.h"
#include "tests/integration/engine_harness.h"

namespace ccoe::testing {
namespace {

namespace fs = std::filesystem;

}  // namespace

std::string TinyFolder(const std::string& name) {
  return absl::StrCat(CCOE_TEST_SOURCE_DIR, "/goldens/tiny/", name);
}

AdminPortTest::AdminPortTest()
    : scratch_(absl::StrCat(::testing::TempDir(), "/admin_test_", getpid())) {
  fs::create_directories(uploads());
}

AdminPortTest::~AdminPortTest() { fs::remove_all(scratch_); }

void AdminTest::SetUp() {
  router::LocalBackboneOptions options;
  options.model = TinyModel("llama");
  options.cpu.threads = 1;
  options.kv_budget_bytes = size_t{16} << 20;
  backbone_ = router::LocalBackbone::Create(std::move(options)).value();
  Serve(backbone_.get(), backbone_.get());
}

void AdminTest::TearDown() { Stop(); }

void AdminPortTest::Serve(router::Backbone* backbone, router::ExpertHost* host) {
  router_ = std::make_unique<router::Router>(
      router::RouterOptions{backbone, &metrics_, router::Limits(), "1.2.3"});
  admin_service_ =
      router_->NewAdminService(host, {.folder = uploads(), .max_bytes = int64_t{1} << 20});
  rpc::ServerOptions server;
  server.listen = "127.0.0.1:0";
  server.services = router_->services();
  server.services.push_back(admin_service_.get());
  server_ = rpc::Server::Start(server).value();
  const auto channel = grpc::CreateChannel(server_->address(), grpc::InsecureChannelCredentials());
  admin_ = v1::AdminService::NewStub(channel);
  catalog_ = v1::CatalogService::NewStub(channel);
  generation_ = v1::GenerationService::NewStub(channel);
}

void AdminPortTest::Stop() {
  server_.reset();
  admin_service_.reset();
  router_.reset();
}

absl::StatusOr<v1::PushExpertResponse> AdminPortTest::Push(const v1::PushExpertRequest& request) {
  grpc::ClientContext context;
  v1::PushExpertResponse response;
  const absl::Status status = rpc::FromGrpcStatus(admin_->PushExpert(&context, request, &response));
  if (!status.ok()) return status;
  return response;
}

absl::Status AdminPortTest::Push(const std::string& folder) {
  v1::PushExpertRequest request;
  request.set_folder(folder);
  return Push(request).status();
}

absl::Status AdminPortTest::Pop(const std::string& name, const std::string& version) {
  grpc::ClientContext context;
  v1::PopExpertRequest request;
  request.set_name(name);
  request.set_version(version);
  v1::PopExpertResponse response;
  return rpc::FromGrpcStatus(admin_->PopExpert(&context, request, &response));
}

void AdminPortTest::PushAgain(const std::string& folder) {
  absl::Status status = Push(folder);
  while (absl::IsAlreadyExists(status)) status = Push(folder);
  EXPECT_TRUE(status.ok()) << status;
}

absl::StatusOr<v1::SetTrafficResponse> AdminPortTest::SetTraffic(
    const std::string& domain, const std::map<std::string, int>& weights) {
  grpc::ClientContext context;
  v1::SetTrafficRequest request;
  request.set_domain(domain);
  for (const auto& [version, weight] : weights) {
    v1::VersionWeight& proto = *request.add_weights();
    proto.set_version(version);
    proto.set_weight(weight);
  }
  v1::SetTrafficResponse response;
  const absl::Status status = rpc::FromGrpcStatus(admin_->SetTraffic(&context, request, &response));
  if (!status.ok()) return status;
  return response;
}

v1::ListVersionsResponse AdminPortTest::Versions(const std::string& domain) {
  grpc::ClientContext context;
  v1::ListVersionsRequest request;
  request.set_domain(domain);
  v1::ListVersionsResponse response;
  EXPECT_TRUE(admin_->ListVersions(&context, request, &response).ok());
  return response;
}

v1::ListExpertsResponse AdminPortTest::Experts() {
  grpc::ClientContext context;
  v1::ListExpertsResponse response;
  EXPECT_TRUE(catalog_->ListExperts(&context, {}, &response).ok());
  return response;
}

std::vector<std::string> AdminPortTest::Listed() {
  std::vector<std::string> names;
  const v1::ListExpertsResponse experts = Experts();
  for (const v1::Expert& expert : experts.experts()) {
    if (expert.state() == v1::EXPERT_STATE_READY) names.push_back(expert.name());
  }
  return names;
}

v1::GenerateRequest AdminPortTest::Request(const std::string& text, const Ask& ask) {
  v1::GenerateRequest request;
  request.mutable_text()->set_text(text);
  if (!ask.domain.empty()) request.set_domain(ask.domain);
  if (!ask.expert.empty()) {
    request.mutable_expert()->set_name(ask.expert);
    request.mutable_expert()->set_version(ask.version);
  }
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stop()->set_max_tokens(ask.tokens);
  request.mutable_stop()->set_ignore_end_of_generation(true);
  request.mutable_output()->set_token_ids(true);
  return request;
}

absl::StatusOr<v1::GenerateResponse> AdminPortTest::Generate(const std::string& text,
                                                             const Ask& ask) {
  grpc::ClientContext context;
  if (!ask.request_id.empty()) context.AddMetadata("x-request-id", ask.request_id);
  v1::GenerateResponse response;
  const absl::Status status =
      rpc::FromGrpcStatus(generation_->Generate(&context, Request(text, ask), &response));
  if (!status.ok()) return status;
  return response;
}

void AdminPortTest::ReplaceIn(const std::string& file, const std::string& from,
                              const std::string& to) {
  std::stringstream text;
  text << std::ifstream(file).rdbuf();
  ASSERT_NE(text.str().find(from), std::string::npos) << file;
  std::ofstream(file) << absl::StrReplaceAll(text.str(), {{from, to}});
}

std::string AdminPortTest::LoraOfVersion(const std::string& version) {
  const fs::path folder = fs::path(scratch_) / version;
  fs::copy(TinyFolder("llama_lora"), folder);
  ReplaceIn(folder / "expert.json", "\"version\": \"1.0.0\"",
            absl::StrCat("\"version\": \"", version, "\""));
  ReplaceIn(folder / "adapter_config.json",
            "\"lora_alpha\": ", absl::StrCat("\"lora_alpha\": ", version.substr(0, 1)));
  return folder.string();
}

}  // namespace ccoe::testing
