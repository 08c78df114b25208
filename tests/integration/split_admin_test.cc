// Experts that are pushed to expert processes through a router, and popped: no request fails, and
// none loses or changes a token.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <thread>
#include <utility>

#include "ccoe/internal/v1/packages.grpc.pb.h"
#include "common/base/error.h"
#include "services/backbone/backbone_node.h"
#include "services/router/local_backbone.h"
#include "services/router/remote_backbone.h"
#include "services/router/remote_expert_host.h"
#include "tests/integration/admin_harness.h"
#include "tests/integration/split_harness.h"

namespace ccoe::testing {
namespace {

namespace fs = std::filesystem;
using base::Reason;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int kSplit = 2;  // of 4 layers
constexpr char kDomain[] = "tiny-lora";

class SplitAdminTest : public AdminPortTest {
 protected:
  void Start(std::vector<ExpertSetup> setups) {
    for (ExpertSetup& setup : setups) {
      setup.begin = kSplit;
      experts_.push_back(ExpertSide::Start(model_, setup));
    }
    StartBackbone("127.0.0.1:0");
    remote_ = std::make_unique<router::RemoteBackbone>(
        router::RemoteBackboneOptions{.address = AddressIn(backbone_->ReadyLine()),
                                      .min_backoff = absl::Milliseconds(10),
                                      .max_backoff = absl::Milliseconds(50)});
    ASSERT_TRUE(remote_->WaitForCatalog(
        [&](const router::Catalog& catalog) { return catalog.processes.size() == experts_.size(); },
        absl::Seconds(30)));
    host_ = std::make_unique<router::RemoteExpertHost>(remote_.get(), nullptr, news_timeout_);
    Serve(remote_.get(), host_.get());
  }
  void Start(int experts) { Start(std::vector<ExpertSetup>(experts)); }
  void StartBackbone(const std::string& listen) {
    std::vector<std::string> peers;
    for (const auto& expert : experts_) peers.push_back(expert->server->address());
    backbone_ = StartBackboneNode(kSplit, peers, listen);
  }
  void TearDown() override {
    Stop();
    remote_.reset();
    backbone_.reset();
    experts_.clear();
  }

  absl::Status PushTo(const std::string& folder, const std::vector<std::string>& nodes) {
    v1::PushExpertRequest request;
    request.set_folder(folder);
    request.mutable_nodes()->Assign(nodes.begin(), nodes.end());
    return Push(request).status();
  }
  const std::string& Address(int expert) const { return experts_[expert]->server->address(); }
  // Names of the experts in an expert process.
  std::vector<std::string> At(int expert) const {
    std::vector<std::string> names;
    for (const runtime::ExpertInfo& info : experts_[expert]->engine->Experts()) {
      names.push_back(info.key.name);
    }
    return names;
  }
  bool WaitUntilAt(int expert, const std::vector<std::string>& names) const {
    return Eventually([&] { return At(expert) == names; });
  }
  size_t WeightBytes(int expert) const { return experts_[expert]->engine->Stats().weights_bytes; }
  std::string VersionOf(const absl::StatusOr<v1::GenerateResponse>& response) const {
    EXPECT_TRUE(response.ok()) << response.status();
    return response.ok() ? response->started().route().version() : "";
  }
  // What the expert of a package answers in one process.
  std::vector<int32_t> Whole(const std::string& text, const std::string& package) const {
    router::LocalBackboneOptions options;
    options.model = model_;
    options.experts = {model::ExpertPackage::Load(package).value()};
    options.cpu.threads = 1;
    options.kv_budget_bytes = size_t{16} << 20;
    const auto backbone = router::LocalBackbone::Create(std::move(options)).value();
    Collector collector;
    router::SessionRequest request;
    request.request_id = "whole";
    request.input.prompt = text;
    request.expert = {"tiny-lora", ""};
    request.sampling.temperature = 0;
    request.stop.max_tokens = 16;
    request.stop.ignore_end_of_generation = true;
    EXPECT_TRUE(backbone->Open(request, &collector).ok());
    EXPECT_TRUE(collector.Wait());
    return collector.Ids();
  }

  absl::Duration news_timeout_ = absl::Seconds(30);
  const std::shared_ptr<const model::Model> model_ = TinyModel("llama");
  std::vector<std::unique_ptr<ExpertSide>> experts_;
  std::unique_ptr<backbone::BackboneNode> backbone_;
  std::unique_ptr<router::RemoteBackbone> remote_;
  std::unique_ptr<router::RemoteExpertHost> host_;
};

TEST_F(SplitAdminTest, APushedExpertAnswersAndAPoppedOneDoesNot) {
  Start(2);
  const size_t weights = WeightBytes(0);
  EXPECT_EQ(base::ReasonOf(Generate("x", {.domain = kDomain}).status()), Reason::kUnknownDomain);
  ASSERT_TRUE(Push(TinyFolder("llama_lora")).ok());
  EXPECT_THAT(Listed(), ElementsAre("general", "tiny-lora"));
  for (int expert : {0, 1}) EXPECT_THAT(At(expert), ElementsAre("general", "tiny-lora"));
  EXPECT_GT(WeightBytes(0), weights);
  const auto routed = Generate("tiny-lora, go");
  ASSERT_TRUE(routed.ok()) << routed.status();
  EXPECT_EQ(routed->started().route().expert(), "tiny-lora");
  EXPECT_EQ(Ids(*routed), Whole("tiny-lora, go", TinyFolder("llama_lora")));
  EXPECT_EQ(Push(TinyFolder("llama_lora")).code(), absl::StatusCode::kAlreadyExists);

  ASSERT_TRUE(Pop("tiny-lora").ok());
  EXPECT_THAT(Listed(), ElementsAre("general"));
  const auto general = Generate("tiny-lora, go");
  ASSERT_TRUE(general.ok()) << general.status();
  EXPECT_EQ(general->started().route().expert(), "general");
  EXPECT_EQ(base::ReasonOf(Pop("tiny-lora")), Reason::kUnknownExpert);
  EXPECT_EQ(Pop("general").code(), absl::StatusCode::kInvalidArgument);
  for (int expert : {0, 1}) {
    EXPECT_TRUE(Eventually([&] { return WeightBytes(expert) == weights; }));
  }
  EXPECT_TRUE(Eventually([&] { return Experts().experts_size() == 1; }));
  PushAgain(TinyFolder("llama_lora"));
  EXPECT_TRUE(Generate("x", {.domain = kDomain}).ok());
}

TEST_F(SplitAdminTest, NodesAreChosenByDomainAndByName) {
  Start(2);
  ASSERT_TRUE(PushTo(TinyFolder("llama_lora"), {Address(1)}).ok());
  EXPECT_THAT(At(0), ElementsAre("general"));
  ASSERT_TRUE(Push(LoraOfVersion("2.0.0")).ok());  // to who has the domain
  EXPECT_THAT(At(0), ElementsAre("general"));
  EXPECT_THAT(At(1), ElementsAre("general", "tiny-lora", "tiny-lora"));
  const absl::Status unknown = PushTo(TinyFolder("llama_full"), {Address(0), "127.0.0.1:1"});
  EXPECT_EQ(base::ReasonOf(unknown), Reason::kInvalidRequest);
  EXPECT_THAT(std::string(unknown.message()), HasSubstr(Address(1)));
  EXPECT_EQ(base::ReasonOf(PushTo(TinyFolder("llama_full"), {Address(0), Address(0)})),
            Reason::kInvalidRequest);
  ASSERT_TRUE(PushTo(TinyFolder("llama_full"), {Address(0), Address(1)}).ok());
  EXPECT_THAT(At(0), ElementsAre("general", "tiny-full"));
  ASSERT_TRUE(Pop("tiny-lora", "1.0.0").ok());
  EXPECT_EQ(VersionOf(Generate("go", {.domain = kDomain})), "2.0.0");

  // A version may come to further processes, as the same package alone.
  ASSERT_TRUE(SetTraffic(kDomain, {{"2.0.0", 5}}).ok());
  const std::string second = scratch() + "/2.0.0";
  EXPECT_TRUE(PushTo(second, {Address(0)}).ok());
  EXPECT_THAT(At(0), ElementsAre("general", "tiny-full", "tiny-lora"));
  const v1::ListVersionsResponse versions = Versions(kDomain);
  EXPECT_EQ(versions.versions().rbegin()->weight(), 5);
  EXPECT_EQ(Push(second).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(PushTo(second, {Address(1)}).code(), absl::StatusCode::kAlreadyExists);
  ReplaceIn(second + "/expert.json", "\"attach_depth\": 2", "\"attach_depth\":  2");
  EXPECT_EQ(PushTo(second, {Address(0)}).code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(SplitAdminTest, ATrialServesNothing) {
  Start(1);
  v1::PushExpertRequest request;
  request.set_folder(TinyFolder("llama_lora"));
  request.set_validate_only(true);
  const auto response = Push(request);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->expert().name(), "tiny-lora");
  EXPECT_EQ(response->confusion_size(), 1);
  EXPECT_THAT(At(0), ElementsAre("general"));
  EXPECT_THAT(Listed(), ElementsAre("general"));
}

TEST_F(SplitAdminTest, ABadPackageChangesNothing) {
  Start(1);
  const std::string other = scratch() + "/other";
  fs::copy(TinyFolder("llama_lora"), other);
  ReplaceIn(other + "/expert.json", model_->digest(), "sha256:" + std::string(64, '0'));
  EXPECT_EQ(base::ReasonOf(Push(other)), Reason::kModelMismatch);
  const std::string damaged = scratch() + "/damaged";
  fs::copy(TinyFolder("llama_lora"), damaged);
  fs::resize_file(damaged + "/adapter_model.safetensors", 1000);
  EXPECT_EQ(Push(damaged).code(), absl::StatusCode::kInvalidArgument);
  const std::string early = scratch() + "/early";
  fs::copy(TinyFolder("llama_lora"), early);
  ReplaceIn(early + "/expert.json", "\"attach_depth\": 2", "\"attach_depth\": 1");
  EXPECT_EQ(Push(early).code(), absl::StatusCode::kFailedPrecondition) << "nobody has the layers";
  EXPECT_EQ(base::ReasonOf(PushTo(early, {Address(0)})), Reason::kModelMismatch);
  EXPECT_THAT(At(0), ElementsAre("general"));
  EXPECT_THAT(Listed(), ElementsAre("general"));
  EXPECT_TRUE(Generate("go").ok());
}

TEST_F(SplitAdminTest, ANodeThatRefusesUndoesThePush) {
  ExpertSetup full;
  full.upload_dir = scratch() + "/none";
  Start({ExpertSetup(), full});
  const absl::Status refused = Push(TinyFolder("llama_lora"));
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.message()), HasSubstr(Address(1)));
  EXPECT_TRUE(WaitUntilAt(0, {"general"}));
  EXPECT_THAT(Listed(), ElementsAre("general"));
  EXPECT_TRUE(PushTo(TinyFolder("llama_lora"), {Address(0)}).ok());
}

// A process that takes every package, and does not keep its word.
class FickleService final : public internal::v1::PackageService::Service {
 public:
  enum class Commit { kRefused, kForgotten };
  explicit FickleService(Commit commit) : commit_(commit) {}
  grpc::Status PushPackage(
      grpc::ServerContext*,
      grpc::ServerReaderWriter<internal::v1::PushPackageResponse, internal::v1::PushPackageRequest>*
          stream) override {
    internal::v1::PushPackageRequest request;
    internal::v1::PushPackageResponse response;
    int64_t bytes = 0;
    stream->Read(&request);
    for (const auto& file : request.header().files()) bytes += file.bytes();
    while (bytes > 0 && stream->Read(&request)) {
      bytes -= static_cast<int64_t>(request.chunk().size());
    }
    response.mutable_loaded();
    stream->Write(response);
    stream->Read(&request);
    if (commit_ == Commit::kRefused) return {grpc::StatusCode::UNAVAILABLE, "no more"};
    response.mutable_served();
    stream->Write(response);
    return grpc::Status::OK;
  }

 private:
  const Commit commit_;
};

TEST_F(SplitAdminTest, ANodeThatBreaksItsWordUndoesThePush) {
  news_timeout_ = absl::Milliseconds(200);
  for (const auto commit : {FickleService::Commit::kRefused, FickleService::Commit::kForgotten}) {
    FickleService fickle(commit);
    ExpertSetup setup;
    setup.package_service = &fickle;
    Start({ExpertSetup(), setup});
    EXPECT_EQ(Push(TinyFolder("llama_lora")).code(), absl::StatusCode::kUnavailable);
    EXPECT_TRUE(Eventually([&] { return Listed() == std::vector<std::string>{"general"}; }));
    EXPECT_TRUE(WaitUntilAt(0, {"general"}));
    TearDown();
  }
}

TEST_F(SplitAdminTest, APoppedExpertIsListedUntilItIsFree) {
  ExpertSetup setup;
  setup.linger = absl::Milliseconds(300);
  Start({setup});
  ASSERT_TRUE(Push(TinyFolder("llama_lora")).ok());
  const Ask ask{.domain = kDomain, .tokens = 400};
  const auto expected = Generate("go", ask);
  ASSERT_TRUE(expected.ok()) << expected.status();
  grpc::ClientContext context;
  const auto reader = generation_->GenerateStream(&context, Request("go", ask));
  v1::GenerateStreamResponse event;
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_EQ(Versions(kDomain).versions(0).active_requests(), 1);
  ASSERT_TRUE(Pop("tiny-lora").ok());
  const v1::ListVersionsResponse versions = Versions(kDomain);
  ASSERT_EQ(versions.versions_size(), 1);
  EXPECT_EQ(versions.versions(0).state(), v1::VERSION_STATE_DRAINING);
  EXPECT_EQ(Experts().experts(1).state(), v1::EXPERT_STATE_DRAINING);
  EXPECT_EQ(base::ReasonOf(Generate("x", {.domain = kDomain}).status()), Reason::kUnknownDomain);
  EXPECT_EQ(Push(TinyFolder("llama_lora")).code(), absl::StatusCode::kAlreadyExists);
  std::vector<int32_t> ids;
  while (reader->Read(&event)) {
    ids.insert(ids.end(), event.delta().token_ids().begin(), event.delta().token_ids().end());
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(ids, Ids(*expected));
  EXPECT_TRUE(Eventually([&] { return Experts().experts_size() == 1; }));
  PushAgain(TinyFolder("llama_lora"));
  EXPECT_EQ(Versions(kDomain).versions(0).state(), v1::VERSION_STATE_SERVING);
}

TEST_F(SplitAdminTest, WeightsOutlastTheirCatalog) {
  Start(1);
  ASSERT_TRUE(Push(TinyFolder("llama_lora")).ok());
  ASSERT_TRUE(SetTraffic(kDomain, {{"1.0.0", 3}}).ok());
  ASSERT_TRUE(Push(LoraOfVersion("2.0.0")).ok());
  const auto weights = [&] {
    std::vector<int> all;
    const v1::ListVersionsResponse versions = Versions(kDomain);
    for (const auto& version : versions.versions()) all.push_back(version.weight());
    return all;
  };
  EXPECT_THAT(weights(), ElementsAre(3, 0));
  EXPECT_EQ(VersionOf(Generate("go", {.domain = kDomain, .tokens = 1})), "1.0.0");
  const std::string address = AddressIn(backbone_->ReadyLine());
  backbone_.reset();
  EXPECT_TRUE(Eventually([&] { return !remote_->Health().ok(); }));
  StartBackbone(address);
  EXPECT_TRUE(Eventually([&] { return remote_->Health().ok(); }));
  EXPECT_THAT(weights(), ElementsAre(3, 0));
  ASSERT_TRUE(Pop("tiny-lora", "1.0.0").ok());
  PushAgain(TinyFolder("llama_lora"));
  EXPECT_THAT(weights(), ElementsAre(0, 0));
  EXPECT_EQ(base::ReasonOf(SetTraffic("none", {}).status()), Reason::kUnknownDomain);
}

// A request's tokens are its version's, whatever happens to the others.
TEST_F(SplitAdminTest, NoRequestFailsWhileVersionsComeAndGo) {
  Start(2);
  const std::string first = TinyFolder("llama_lora"), second = LoraOfVersion("2.0.0");
  std::map<std::string, std::vector<int32_t>> expected;
  expected["1.0.0"] = Whole("tiny-lora, go", first);
  expected["2.0.0"] = Whole("tiny-lora, go", second);
  ASSERT_NE(expected["1.0.0"], expected["2.0.0"]);
  ASSERT_TRUE(Push(first).ok());
  ASSERT_TRUE(Push(second).ok());
  std::atomic<bool> stop{false};
  std::atomic<int> done[3] = {};
  std::vector<std::thread> clients;
  for (int i = 0; i < 6; ++i) {
    clients.emplace_back([&, i] {
      while (!stop) {
        const auto response = Generate("tiny-lora, go", {.domain = i % 2 == 0 ? kDomain : ""});
        ASSERT_TRUE(response.ok()) << response.status();
        const std::string version = response->started().route().version();
        EXPECT_EQ(Ids(*response), expected[version]) << version;
        ++done[version[0] - '0'];
      }
    });
  }
  const auto wait_for = [&](int version) {
    const int before = done[version];
    while (done[version] == before && !HasFailure()) std::this_thread::yield();
  };
  for (int round = 0; round < 10; ++round) {
    EXPECT_TRUE(SetTraffic(kDomain, {{"1.0.0", 50}, {"2.0.0", 50}}).ok());
    wait_for(1);
    wait_for(2);
    EXPECT_TRUE(Pop("tiny-lora", round % 2 == 0 ? "1.0.0" : "2.0.0").ok());
    wait_for(round % 2 == 0 ? 2 : 1);
    PushAgain(round % 2 == 0 ? first : second);
  }
  stop = true;
  for (std::thread& client : clients) client.join();
  for (const auto& expert : experts_) EXPECT_TRUE(Eventually([&] { return expert->AtRest(); }));
}

// Its sessions go on at the other, and what is pushed and popped meanwhile is so where there is
// somebody.
TEST_F(SplitAdminTest, AProcessMayDieBetween) {
  Start(2);
  ASSERT_TRUE(Push(TinyFolder("llama_lora")).ok());
  const std::vector<int32_t> expected = Whole("tiny-lora, go", TinyFolder("llama_lora"));
  const Ask ask{.expert = "tiny-lora", .version = "1.0.0"};
  std::atomic<bool> stop{false};
  std::vector<std::thread> clients;
  for (int i = 0; i < 4; ++i) {
    clients.emplace_back([&] {
      while (!stop) {
        const auto response = Generate("tiny-lora, go", ask);
        ASSERT_TRUE(response.ok()) << response.status();
        EXPECT_EQ(Ids(*response), expected);
      }
    });
  }
  const std::string lost = Address(1), second = LoraOfVersion("2.0.0");
  experts_.pop_back();
  absl::Status pushed = Push(second);
  while (absl::IsUnavailable(pushed)) pushed = Push(second);  // the backbone has yet to hear
  EXPECT_TRUE(pushed.ok()) << pushed;
  EXPECT_EQ(base::ReasonOf(PushTo(TinyFolder("llama_full"), {lost})), Reason::kInvalidRequest);
  EXPECT_TRUE(Pop("tiny-lora", "2.0.0").ok());
  stop = true;
  for (std::thread& client : clients) client.join();
  EXPECT_TRUE(Pop("tiny-lora", "1.0.0").ok());  // it is listed still, of the one that is away
  EXPECT_TRUE(WaitUntilAt(0, {"general"}));
  EXPECT_FALSE(Generate("x", {.domain = kDomain}).ok());
  EXPECT_EQ(Pop("tiny-lora", "1.0.0").code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(SplitAdminTest, TheStatusTellsWhichProcessIsAway) {
  Start(2);
  ASSERT_TRUE(PushTo(TinyFolder("llama_lora"), {Address(1)}).ok());
  const auto status = [&] {
    v1::GetStatusResponse response;
    grpc::ClientContext context;
    EXPECT_TRUE(catalog_->GetStatus(&context, {}, &response).ok());
    return response;
  };
  ASSERT_TRUE(Eventually([&] { return status().nodes(3).experts_size() == 2; }));
  const v1::GetStatusResponse before = status();
  ASSERT_EQ(before.nodes_size(), 4);
  EXPECT_EQ(before.nodes(0).role(), v1::NODE_ROLE_ROUTER);
  EXPECT_EQ(before.nodes(1).role(), v1::NODE_ROLE_BACKBONE);
  EXPECT_EQ(before.nodes(1).address(), AddressIn(backbone_->ReadyLine()));
  EXPECT_TRUE(before.nodes(1).healthy());
  EXPECT_GT(before.nodes(1).load().kv_blocks_total(), 0);
  EXPECT_EQ(before.nodes(2).address(), Address(0));
  EXPECT_EQ(before.nodes(2).experts_size(), 1);
  EXPECT_EQ(before.nodes(3).role(), v1::NODE_ROLE_EXPERT);
  EXPECT_EQ(before.nodes(3).address(), Address(1));
  EXPECT_TRUE(before.nodes(3).healthy());
  EXPECT_EQ(before.nodes(3).experts(1).name(), "tiny-lora");

  experts_.pop_back();
  ASSERT_TRUE(Eventually([&] { return !status().nodes(3).healthy(); }));
  EXPECT_EQ(status().nodes(3).experts_size(), 2);  // that it had
  EXPECT_TRUE(status().nodes(2).healthy());
  backbone_.reset();
  ASSERT_TRUE(Eventually([&] { return !status().nodes(1).healthy(); }));
  EXPECT_FALSE(status().nodes(1).has_load());
  EXPECT_FALSE(status().nodes(2).healthy());
}

}  // namespace
}  // namespace ccoe::testing
