// Experts that come and go while requests run: none fails, none loses or changes a token.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "common/base/error.h"
#include "tests/integration/admin_harness.h"

namespace ccoe::testing {
namespace {

using base::Reason;
using PushPopTest = AdminTest;

TEST_F(PushPopTest, APushedExpertAnswersAndAPoppedOneDoesNot) {
  const size_t weights = backbone_->Stats().weights_bytes;
  EXPECT_EQ(base::ReasonOf(Generate("x", {.domain = "tiny-lora"}).status()),
            Reason::kUnknownDomain);
  ASSERT_TRUE(Push(TinyFolder("llama_lora")).ok());
  EXPECT_THAT(Listed(), ::testing::ElementsAre("general", "tiny-lora"));
  EXPECT_GT(backbone_->Stats().weights_bytes, weights);
  const auto routed = Generate("tiny-lora, go");
  ASSERT_TRUE(routed.ok()) << routed.status();
  EXPECT_EQ(routed->started().route().expert(), "tiny-lora");
  ASSERT_TRUE(Push(TinyFolder("llama_full")).ok());
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
  ASSERT_TRUE(Push(TinyFolder("llama_lora")).ok());
  EXPECT_EQ(Push(TinyFolder("llama_lora")).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(Push(TinyFolder("nothing")).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Push("").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Pop("").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Pop("general").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(base::ReasonOf(Pop("nobody")), Reason::kUnknownExpert);
  EXPECT_EQ(base::ReasonOf(Pop("tiny-lora", "7")), Reason::kUnknownExpert);
  const std::filesystem::path damaged = std::filesystem::path(scratch()) / "damaged";
  std::filesystem::copy(TinyFolder("llama_full"), damaged);
  for (const auto& file : std::filesystem::directory_iterator(damaged)) {
    if (file.path().extension() == ".safetensors") {
      std::filesystem::resize_file(file, std::filesystem::file_size(file) / 2);
    }
  }
  EXPECT_EQ(Push(damaged.string()).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Listed(), ::testing::ElementsAre("general", "tiny-lora"));
  EXPECT_TRUE(Generate("tiny-lora, go").ok());
}

TEST_F(PushPopTest, ARunningRequestKeepsItsExpert) {
  ASSERT_TRUE(Push(TinyFolder("llama_lora")).ok());
  const std::vector<int32_t> expected =
      Ids(Generate("go", {.domain = "tiny-lora", .tokens = 400}).value());
  grpc::ClientContext context;
  const auto reader =
      generation_->GenerateStream(&context, Request("go", {.domain = "tiny-lora", .tokens = 400}));
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
  ASSERT_TRUE(Push(TinyFolder("llama_lora")).ok());
  const std::vector<int32_t> with = Ids(Generate("tiny-lora, go").value());
  const std::vector<int32_t> without =
      Ids(Generate("tiny-lora, go", {.domain = "general"}).value());
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
    PushAgain(TinyFolder("llama_lora"));
    while (expert == expert_before) std::this_thread::yield();
  }
  stop = true;
  for (std::thread& client : clients) client.join();
}

}  // namespace
}  // namespace ccoe::testing
