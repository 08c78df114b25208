// Experts that come and go while requests run: none fails, none loses or changes a token.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "common/base/error.h"
#include "common/rpc/status.h"
#include "tests/integration/admin_harness.h"

namespace ccoe::testing {
namespace {

using base::Reason;

class PushPopTest : public AdminTest {
 protected:
  absl::StatusOr<v1::GetExpertResponse> Get(const std::string& name, const std::string& version) {
    grpc::ClientContext context;
    v1::GetExpertRequest request;
    request.set_name(name);
    request.set_version(version);
    v1::GetExpertResponse response;
    const absl::Status status =
        rpc::FromGrpcStatus(catalog_->GetExpert(&context, request, &response));
    if (!status.ok()) return status;
    return response;
  }
};

// Adds a tensor of zeros to a safetensors file.
void AppendTensor(const std::string& path, size_t bytes) {
  std::stringstream file;
  file << std::ifstream(path, std::ios::binary).rdbuf();
  const std::string text = file.str();
  uint64_t header_size = 0;
  std::memcpy(&header_size, text.data(), sizeof(header_size));
  std::string header = text.substr(8, header_size);
  const size_t begin = text.size() - 8 - header_size;
  header.resize(header.rfind('}'));
  absl::StrAppend(&header, ", \"zeros\": {\"dtype\": \"F32\", \"shape\": [", bytes / 4,
                  "], \"data_offsets\": [", begin, ", ", begin + bytes, "]}}");
  header.resize((header.size() + 7) / 8 * 8, ' ');
  header_size = header.size();
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(reinterpret_cast<const char*>(&header_size), sizeof(header_size));
  out << header << text.substr(text.size() - begin);
  out.close();
  std::filesystem::resize_file(path, 8 + header_size + begin + bytes);
}

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

TEST_F(PushPopTest, APushTellsWhatItDoesToTheGate) {
  const std::string lora = LoraOfVersion("1.0.0"), full = scratch() + "/full";
  std::filesystem::copy(TinyFolder("llama_full"), full);
  const auto examples = [](const std::string& list) {
    return absl::StrCat("\"examples\": [", list, "]");
  };
  const auto example = [](const std::string& prompt) {
    return absl::StrCat("{\"prompt\": \"", prompt,
                        "\", \"arithmetic\": \"exact\", \"max_tokens\": 1, \"token_ids\": [1]}");
  };
  ReplaceIn(lora + "/expert.json", examples(""),
            examples(example("tiny-lora, go") + ", " + example("tiny-full, go")));
  ReplaceIn(full + "/expert.json", examples(""), examples(example("tiny-full, stay")));
  ASSERT_TRUE(Push(lora).ok());
  v1::PushExpertRequest request;
  request.set_folder(full);
  request.set_validate_only(true);
  const auto response = Push(request);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->expert().name(), "tiny-full");
  EXPECT_THAT(Listed(), ::testing::ElementsAre("general", "tiny-lora"));
  ASSERT_EQ(response->confusion_size(), 2);
  const v1::GateConfusion& own = response->confusion(0);
  EXPECT_EQ(own.domain(), "tiny-full");
  EXPECT_THAT((std::vector<int>{own.prompts(), own.own(), own.moved()}),
              ::testing::ElementsAre(1, 1, 1));
  const v1::GateConfusion& other = response->confusion(1);
  EXPECT_EQ(other.domain(), "tiny-lora");
  EXPECT_THAT((std::vector<int>{other.prompts(), other.own(), other.moved()}),
              ::testing::ElementsAre(2, 1, 1));
  request.set_validate_only(false);
  const auto pushed = Push(request);
  ASSERT_TRUE(pushed.ok()) << pushed.status();
  EXPECT_EQ(pushed->confusion(1).moved(), 1);
  request.set_validate_only(true);
  EXPECT_EQ(Push(request).status().code(), absl::StatusCode::kAlreadyExists);
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

std::string StateOf(const v1::ListVersionsResponse& versions, const std::string& name) {
  for (const v1::ExpertVersion& version : versions.versions()) {
    if (version.expert().name() == name) return v1::VersionState_Name(version.state());
  }
  return "";
}

TEST_F(PushPopTest, APackageIsListedWhileItLoads) {
  // Large enough to be seen: most of it is a hole at its end, which only the base model refuses.
  constexpr size_t kBytes = size_t{256} << 20;
  const std::string folder = scratch() + "/large";
  std::filesystem::copy(TinyFolder("llama_full"), folder);
  AppendTensor(folder + "/model.safetensors", kBytes);
  std::atomic<bool> ended{false};
  std::thread push([&] {
    EXPECT_EQ(Push(folder).code(), absl::StatusCode::kFailedPrecondition);
    ended = true;
  });
  bool seen = false, listed = false;
  double progress = 0;
  while (!ended) {
    const v1::ListVersionsResponse versions = Versions();
    EXPECT_EQ(StateOf(versions, "general"), "VERSION_STATE_SERVING");
    const v1::ListExpertsResponse experts = Experts();
    if (experts.experts_size() > 1) {
      EXPECT_EQ(experts.experts(1).state(), v1::EXPERT_STATE_LOADING);
      EXPECT_GE(experts.experts(1).load_progress(), progress);
      listed = true;
    }
    if (StateOf(versions, "tiny-full") == "VERSION_STATE_LOADING") {
      EXPECT_GE(versions.versions(1).progress(), progress);
      progress = versions.versions(1).progress();
      if (!seen) {
        EXPECT_EQ(base::ReasonOf(Generate("x", {.domain = "tiny-full"}).status()),
                  Reason::kUnknownDomain);
      }
      seen = true;
    }
  }
  push.join();
  EXPECT_TRUE(seen);
  EXPECT_TRUE(listed);
  EXPECT_GT(progress, 0);
  EXPECT_EQ(StateOf(Versions(), "tiny-full"), "");
}

TEST_F(PushPopTest, APoppedExpertIsListedUntilItsRequestsEnd) {
  ASSERT_TRUE(Push(TinyFolder("llama_lora")).ok());
  EXPECT_EQ(StateOf(Versions("tiny-lora"), "tiny-lora"), "VERSION_STATE_SERVING");
  std::shared_ptr<const router::Catalog> request = backbone_->GetCatalog();  // all that one keeps
  ASSERT_TRUE(Pop("tiny-lora").ok());
  const v1::ListVersionsResponse versions = Versions("tiny-lora");
  ASSERT_EQ(versions.versions_size(), 1);
  EXPECT_EQ(versions.versions(0).state(), v1::VERSION_STATE_DRAINING);
  EXPECT_EQ(versions.versions(0).share(), 0);
  ASSERT_EQ(Experts().experts_size(), 2);
  EXPECT_EQ(Experts().experts(1).state(), v1::EXPERT_STATE_DRAINING);
  EXPECT_FALSE(Get("tiny-lora", "").ok());
  const auto leaving = Get("tiny-lora", "1.0.0");
  ASSERT_TRUE(leaving.ok()) << leaving.status();
  EXPECT_EQ(leaving->expert().state(), v1::EXPERT_STATE_DRAINING);
  EXPECT_EQ(Push(TinyFolder("llama_lora")).code(), absl::StatusCode::kAlreadyExists);
  request.reset();
  EXPECT_EQ(StateOf(Versions(), "tiny-lora"), "");
  EXPECT_EQ(Experts().experts_size(), 1);
  EXPECT_FALSE(Get("tiny-lora", "1.0.0").ok());
  EXPECT_TRUE(Push(TinyFolder("llama_lora")).ok());
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
