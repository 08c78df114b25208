// A split model gives the same tokens, and the same log probabilities to the last bit, as the
// unsplit one, whatever the split, the batch, the chunking, the threads and the kernels.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/integration/engine_harness.h"

namespace ccoe::testing {
namespace {

using compute::Arithmetic;
using runtime::ExpertKey;

constexpr int kTokens = 12;

// What a session gave: ids and log probabilities.
using Answer = std::vector<std::pair<int32_t, float>>;

struct Request {
  std::vector<int32_t> prompt;
  ExpertKey expert;
  float temperature = 0;
};

std::vector<Request> MakeRequests(std::mt19937& random, int vocab,
                                  const std::vector<ExpertKey>& experts) {
  std::vector<Request> requests;
  for (int i = 0; i < 6; ++i) {
    Request& request = requests.emplace_back();
    const int length = 1 + static_cast<int>(random() % 70);
    for (int j = 0; j < length; ++j) request.prompt.push_back(static_cast<int>(random() % vocab));
    request.expert = experts[i % experts.size()];
    request.temperature = i % 2 == 0 ? 0.0f : 0.8f;
  }
  return requests;
}

// Runs all requests at the same time.
std::vector<Answer> RunAll(runtime::Engine& engine, const std::vector<Request>& requests) {
  std::vector<std::unique_ptr<Collector>> collectors;
  for (const Request& request : requests) {
    runtime::SessionSpec spec;
    spec.prompt = request.prompt;
    spec.expert = request.expert;
    spec.sampling.temperature = request.temperature;
    spec.sampling.seed = 11;
    spec.sampling.top_logprobs = 2;
    spec.stop.max_tokens = kTokens;
    spec.stop.ignore_end_of_generation = true;
    collectors.push_back(std::make_unique<Collector>());
    auto id = engine.Open(std::move(spec), collectors.back().get());
    EXPECT_TRUE(id.ok()) << id.status();
  }
  std::vector<Answer> answers;
  for (const auto& collector : collectors) {
    EXPECT_TRUE(collector->Wait());
    EXPECT_TRUE(collector->status.ok()) << collector->status;
    Answer& answer = answers.emplace_back();
    for (const auto& token : collector->tokens) answer.emplace_back(token.id, token.logprob);
    EXPECT_EQ(answer.size(), static_cast<size_t>(kTokens));
  }
  return answers;
}

std::vector<Answer> RunOneByOne(runtime::Engine& engine, const std::vector<Request>& requests) {
  std::vector<Answer> answers;
  for (const Request& request : requests) answers.push_back(RunAll(engine, {request}).front());
  return answers;
}

compute::CpuOptions RandomCpu(std::mt19937& random, Arithmetic arithmetic) {
  const auto kernels = compute::SupportedCpuKernels();
  compute::CpuOptions cpu;
  cpu.arithmetic = arithmetic;
  cpu.kernels = kernels[random() % kernels.size()];
  cpu.threads = 1 + static_cast<int>(random() % 3);
  return cpu;
}

struct TinyCase {
  Arithmetic arithmetic;
  std::string model;
  std::vector<std::string> packages;
};

class TinyExactnessTest : public ::testing::TestWithParam<TinyCase> {
 protected:
  TinyExactnessTest() : model_(TinyModel(GetParam().model)) {
    experts_.push_back({"general", ""});
    for (const std::string& name : GetParam().packages) {
      packages_.push_back(TinyPackage(name));
      experts_.push_back({packages_.back()->manifest().name, ""});
    }
  }

  void AddPackages(runtime::Engine& engine) const {
    for (const auto& package : packages_) {
      const absl::Status status = engine.AddExpert(package);
      ASSERT_TRUE(status.ok()) << status;
    }
  }
  std::vector<Request> Requests(std::mt19937& random) const {
    return MakeRequests(random, model_->config().vocab, experts_);
  }
  std::vector<Answer> Reference(const std::vector<Request>& requests) const {
    EngineSetup setup;
    setup.cpu = {GetParam().arithmetic, compute::CpuKernels::kScalar, 1};
    const auto engine = MakeEngine(model_, setup);
    AddPackages(*engine);
    return RunOneByOne(*engine, requests);
  }

  const std::shared_ptr<const model::Model> model_;
  std::vector<std::shared_ptr<const model::ExpertPackage>> packages_;
  std::vector<ExpertKey> experts_;
};

TEST_P(TinyExactnessTest, BatchChunksThreadsAndKernelsDoNotChangeABit) {
  std::mt19937 random(1);
  const auto requests = Requests(random);
  const auto expected = Reference(requests);
  for (int round = 0; round < 6; ++round) {
    EngineSetup setup;
    setup.cpu = RandomCpu(random, GetParam().arithmetic);
    setup.max_step_rows = std::vector<int>{1, 3, 17, 64, 256}[random() % 5];
    SCOPED_TRACE(absl::StrCat(compute::CpuKernelsName(setup.cpu.kernels).data(), " threads ",
                              setup.cpu.threads, " step rows ", setup.max_step_rows));
    const auto engine = MakeEngine(model_, setup);
    AddPackages(*engine);
    EXPECT_EQ(RunAll(*engine, requests), expected);
  }
}

TEST_P(TinyExactnessTest, SplitsDoNotChangeABit) {
  std::mt19937 random(2);
  const auto requests = Requests(random);
  const auto expected = Reference(requests);
  for (int depth = 1; depth <= 2; ++depth) {
    SCOPED_TRACE(absl::StrCat("expert node from layer ", depth));
    EngineSetup lower;
    lower.cpu = RandomCpu(random, GetParam().arithmetic);
    lower.layer_end = 2;
    lower.max_step_rows = 1 + static_cast<int>(random() % 40);
    EngineSetup upper;
    upper.cpu = RandomCpu(random, GetParam().arithmetic);
    upper.layer_begin = depth;
    upper.max_step_rows = 1 + static_cast<int>(random() % 40);
    // Few credits: the scheduler has to wait for them.
    std::vector<std::unique_ptr<LoopbackLink>> links;
    const auto expert = MakeEngine(model_, upper);
    AddPackages(*expert);
    const auto backbone = MakeEngine(model_, lower);
    for (const runtime::ExpertInfo& info : expert->Experts()) {
      links.push_back(std::make_unique<LoopbackLink>(5));
      const absl::Status status = links.back()->Connect(backbone.get(), expert.get(), info);
      ASSERT_TRUE(status.ok()) << status;
    }
    EXPECT_EQ(RunAll(*backbone, requests), expected);
    EXPECT_EQ(backbone->Stats().kv_pages_used, 0);
    EXPECT_TRUE(expert->Drain(absl::Seconds(5)));
    EXPECT_EQ(expert->Stats().kv_pages_used, 0);
    for (const auto& link : links) {
      EXPECT_LE(link->max_in_flight(), 5);
      link->Cut();
    }
  }
}

std::vector<TinyCase> TinyCases() {
  std::vector<TinyCase> cases;
  for (const Arithmetic arithmetic : {Arithmetic::kExact, Arithmetic::kI8B32}) {
    cases.push_back({arithmetic, "llama", {"llama_lora", "llama_full"}});
    for (const char* model : {"llama3_rope", "llama_untied", "qwen2", "qwen2_untied", "qwen3"}) {
      cases.push_back({arithmetic, model, {}});
    }
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Families, TinyExactnessTest, ::testing::ValuesIn(TinyCases()),
                         [](const auto& param) {
                           return absl::StrCat(
                               param.param.model,
                               param.param.arithmetic == Arithmetic::kExact ? "_exact" : "_i8b32");
                         });

// The quantised weights of the real file, in the arithmetic that production uses.
TEST(RealModelExactnessTest, SplitBatchedAndChunkedEqualsUnsplit) {
  const auto model = RealModel();
  if (model == nullptr) GTEST_SKIP() << "CCOE_MODEL is not set";
  std::mt19937 random(3);
  const auto package =
      model::ExpertPackage::Load(absl::StrCat(CCOE_TEST_SOURCE_DIR, "/../deploy/experts/sql"));
  ASSERT_TRUE(package.ok()) << package.status();
  const std::vector<ExpertKey> keys = {{"general", ""}, {"sql", ""}};
  auto requests = MakeRequests(random, model->config().vocab, keys);
  requests.resize(4);
  EngineSetup plain;
  plain.cpu = {Arithmetic::kI8B32, compute::CpuKernels::kScalar, 2};
  plain.kv_budget_bytes = size_t{64} << 20;
  const auto unsplit = MakeEngine(model, plain);
  ASSERT_TRUE(unsplit->AddExpert(*package).ok());
  const auto expected = RunOneByOne(*unsplit, requests);
  const int deepest = (*package)->manifest().attach_depth;
  for (int round = 0; round < 3; ++round) {
    // The expert's own depth first, then random ones above it.
    const int depth = round == 0 ? deepest : 1 + static_cast<int>(random() % (deepest - 1));
    SCOPED_TRACE(absl::StrCat("depth ", depth));
    EngineSetup lower = plain;
    lower.cpu = {};
    lower.layer_end = depth;
    lower.max_step_rows = 19;
    EngineSetup upper = plain;
    upper.cpu = RandomCpu(random, Arithmetic::kI8B32);
    upper.layer_begin = depth;
    const auto expert = MakeEngine(model, upper);
    ASSERT_TRUE(expert->AddExpert(*package).ok());
    const auto backbone = MakeEngine(model, lower);
    std::vector<std::unique_ptr<LoopbackLink>> links;
    for (runtime::ExpertInfo info : expert->Experts()) {
      info.attach_depth = std::min(info.attach_depth, depth);  // where the rows enter
      links.push_back(std::make_unique<LoopbackLink>(64));
      ASSERT_TRUE(links.back()->Connect(backbone.get(), expert.get(), info).ok());
    }
    EXPECT_EQ(RunAll(*backbone, requests), expected);
    for (const auto& link : links) link->Cut();
  }
}

}  // namespace
}  // namespace ccoe::testing
