// Experts that come and go while requests run: none fails, none loses or changes a token.
#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "absl/strings/str_cat.h"
#include "ccoe/v1/admin_service.grpc.pb.h"
#include "ccoe/v1/catalog_service.grpc.pb.h"
#include "ccoe/v1/generation_service.grpc.pb.h"
#include "common/base/error.h"
#include "common/rpc/server.h"
#include "common/rpc/status.h"
#include "services/router/admin_service.h"
#include "services/router/local_backbone.h"
#include "services/router/router.h"
#include "tests/integration/engine_harness.h"

namespace ccoe::testing {
namespace {

using base::Reason;

std::string Folder(const std::string& name) {
  return absl::StrCat(CCOE_TEST_SOURCE_DIR, "/goldens/tiny/", name);
}

class PushPopTest : public ::testing::Test {
 protected:
  void SetUp() override {
    router::LocalBackboneOptions options;
    options.model = TinyModel("llama");
    options.cpu.threads = 1;
    options.kv_budget_bytes = size_t{16} << 20;
    backbone_ = router::LocalBackbone::Create(std::move(options)).value();
    router_ = std::make_unique<router::Router>(
        router::RouterOptions{backbone_.get(), &metrics_, router::Limits(), "1.2.3"});
    admin_service_ = router::NewAdminService(backbone_.get());
    rpc::ServerOptions server;
    server.listen = "127.0.0.1:0";
    server.services = router_->services();
    server.services.push_back(admin_service_.get());
    server_ = rpc::Server::Start(server).value();
    const auto channel =
        grpc::CreateChannel(server_->address(), grpc::InsecureChannelCredentials());
    admin_ = v1::AdminService::NewStub(channel);
    catalog_ = v1::CatalogService::NewStub(channel);
    generation_ = v1::GenerationService::NewStub(channel);
  }

  absl::Status Push(const std::string& folder) {
    grpc::ClientContext context;
    v1::PushExpertRequest request;
    request.set_folder(folder);
    v1::PushExpertResponse response;
    return rpc::FromGrpcStatus(admin_->PushExpert(&context, request, &response));
  }
  absl::Status Pop(const std::string& name, const std::string& version = "") {
    grpc::ClientContext context;
    v1::PopExpertRequest request;
    request.set_name(name);
    request.set_version(version);
    v1::PopExpertResponse response;
    return rpc::FromGrpcStatus(admin_->PopExpert(&context, request, &response));
  }
  // Until those that have the expert have ended.
  void PushAgain(const std::string& folder) {
    absl::Status status = Push(folder);
    while (absl::IsAlreadyExists(status)) status = Push(folder);
    EXPECT_TRUE(status.ok()) << status;
  }
  std::vector<std::string> Listed() {
    grpc::ClientContext context;
    v1::ListExpertsResponse response;
    EXPECT_TRUE(catalog_->ListExperts(&context, {}, &response).ok());
    std::vector<std::string> names;
    for (const v1::Expert& expert : response.experts()) names.push_back(expert.name());
    return names;
  }
  absl::StatusOr<v1::GenerateResponse> Generate(const std::string& text,
                                                const std::string& domain = "", int tokens = 16) {
    grpc::ClientContext context;
    v1::GenerateRequest request;
    request.mutable_text()->set_text(text);
    if (!domain.empty()) request.set_domain(domain);
    request.mutable_sampling()->set_temperature(0);
    request.mutable_stop()->set_max_tokens(tokens);
    request.mutable_stop()->set_ignore_end_of_generation(true);
    request.mutable_output()->set_token_ids(true);
    v1::GenerateResponse response;
    const absl::Status status =
        rpc::FromGrpcStatus(generation_->Generate(&context, request, &response));
    if (!status.ok()) return status;
    return response;
  }
  static std::vector<int32_t> Ids(const v1::GenerateResponse& response) {
    return {response.token_ids().begin(), response.token_ids().end()};
  }

  telemetry::Metrics metrics_{{.service = "router", .version = "1.2.3", .arithmetic = "i8b32.v2"}};
  std::unique_ptr<router::LocalBackbone> backbone_;
  std::unique_ptr<router::Router> router_;
  std::unique_ptr<grpc::Service> admin_service_;
  std::unique_ptr<rpc::Server> server_;
  std::unique_ptr<v1::AdminService::Stub> admin_;
  std::unique_ptr<v1::CatalogService::Stub> catalog_;
  std::unique_ptr<v1::GenerationService::Stub> generation_;
};

TEST_F(PushPopTest, APushedExpertAnswersAndAPoppedOneDoesNot) {
  const size_t weights = backbone_->Stats().weights_bytes;
  EXPECT_EQ(base::ReasonOf(Generate("x", "tiny-lora").status()), Reason::kUnknownDomain);
  ASSERT_TRUE(Push(Folder("llama_lora")).ok());
  EXPECT_THAT(Listed(), ::testing::ElementsAre("general", "tiny-lora"));
  EXPECT_GT(backbone_->Stats().weights_bytes, weights);
  const auto routed = Generate("tiny-lora, go");
  ASSERT_TRUE(routed.ok()) << routed.status();
  EXPECT_EQ(routed->started().route().expert(), "tiny-lora");
  ASSERT_TRUE(Push(Folder("llama_full")).ok());
  EXPECT_THAT(Listed(), ::testing::ElementsAre("general", "tiny-full", "tiny-lora"));

  ASSERT_TRUE(Pop("tiny-lora").ok());
  EXPECT_THAT(Listed(), ::testing::ElementsAre("general", "tiny-full"));
  const auto general = Generate("tiny-lora, go");
  ASSERT_TRUE(general.ok()) << general.status();
  EXPECT_EQ(general->started().route().expert(), "general");
  ASSERT_TRUE(Pop("tiny-full", "1.0.0").ok());
  // With the last request that had them.
  while (backbone_->Stats().weights_bytes > weights) std::this_thread::yield();
}

TEST_F(PushPopTest, WhatIsRefusedChangesNothing) {
  ASSERT_TRUE(Push(Folder("llama_lora")).ok());
  EXPECT_EQ(Push(Folder("llama_lora")).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(Push(Folder("nothing")).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Push("").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Pop("").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Pop("general").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(base::ReasonOf(Pop("nobody")), Reason::kUnknownExpert);
  EXPECT_EQ(base::ReasonOf(Pop("tiny-lora", "7")), Reason::kUnknownExpert);
  const std::filesystem::path damaged =
      std::filesystem::path(::testing::TempDir()) / absl::StrCat("damaged_", getpid());
  std::filesystem::copy(Folder("llama_full"), damaged);
  for (const auto& file : std::filesystem::directory_iterator(damaged)) {
    if (file.path().extension() == ".safetensors") {
      std::filesystem::resize_file(file, std::filesystem::file_size(file) / 2);
    }
  }
  EXPECT_EQ(Push(damaged.string()).code(), absl::StatusCode::kInvalidArgument);
  std::filesystem::remove_all(damaged);
  EXPECT_THAT(Listed(), ::testing::ElementsAre("general", "tiny-lora"));
  EXPECT_TRUE(Generate("tiny-lora, go").ok());
}

TEST_F(PushPopTest, ARunningRequestKeepsItsExpert) {
  ASSERT_TRUE(Push(Folder("llama_lora")).ok());
  const std::vector<int32_t> expected = Ids(Generate("go", "tiny-lora", 400).value());
  grpc::ClientContext context;
  v1::GenerateRequest request;
  request.mutable_text()->set_text("go");
  request.set_domain("tiny-lora");
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stop()->set_max_tokens(400);
  request.mutable_stop()->set_ignore_end_of_generation(true);
  request.mutable_output()->set_token_ids(true);
  const auto reader = generation_->GenerateStream(&context, request);
  v1::GenerateStreamResponse event;
  ASSERT_TRUE(reader->Read(&event));  // it has begun
  ASSERT_TRUE(Pop("tiny-lora").ok());
  EXPECT_THAT(Listed(), ::testing::ElementsAre("general"));
  std::vector<int32_t> ids;
  while (reader->Read(&event)) {
    ids.insert(ids.end(), event.delta().token_ids().begin(), event.delta().token_ids().end());
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(ids, expected);
}

TEST_F(PushPopTest, NoRequestFailsWhileExpertsComeAndGo) {
  ASSERT_TRUE(Push(Folder("llama_lora")).ok());
  const std::vector<int32_t> with = Ids(Generate("tiny-lora, go").value());
  const std::vector<int32_t> without = Ids(Generate("tiny-lora, go", "general").value());
  ASSERT_NE(with, without);
  std::atomic<bool> stop{false};
  std::atomic<int> expert{0}, general{0};
  std::vector<std::thread> clients;
  for (int i = 0; i < 6; ++i) {
    clients.emplace_back([&] {
      while (!stop) {
        const auto response = Generate("tiny-lora, go");
        ASSERT_TRUE(response.ok()) << response.status();
        const bool routed = response->started().route().expert() == "tiny-lora";
        EXPECT_EQ(Ids(*response), routed ? with : without);
        (routed ? expert : general) += 1;
      }
    });
  }
  for (int round = 0; round < 20; ++round) {
    const int before = general;
    EXPECT_TRUE(Pop("tiny-lora").ok());
    while (general == before) std::this_thread::yield();
    const int expert_before = expert;
    PushAgain(Folder("llama_lora"));
    while (expert == expert_before) std::this_thread::yield();
  }
  stop = true;
  for (std::thread& client : clients) client.join();
}

}  // namespace
}  // namespace ccoe::testing
