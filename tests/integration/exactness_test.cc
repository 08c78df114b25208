// A split model gives the same tokens, and the same log probabilities to the last bit, as the
// unsplit one, whatever the split, the batch, the chunking, the threads and the kernels.
#include <gtest/gtest.h>

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

class TinyExactnessTest : public ::testing::TestWithParam<Arithmetic> {
 protected:
  static void AddPackages(runtime::Engine& engine) {
    for (const char* name : {"llama_lora", "llama_full"}) {
      const absl::Status status = engine.AddExpert(TinyPackage(name));
      ASSERT_TRUE(status.ok()) << status;
    }
  }
  static std::vector<ExpertKey> Experts() {
    return {{"general", ""},
            {TinyPackage("llama_lora")->manifest().name, ""},
            {TinyPackage("llama_full")->manifest().name, ""}};
  }
  static std::vector<Answer> Reference(Arithmetic arithmetic,
                                       const std::vector<Request>& requests) {
    EngineSetup setup;
    setup.cpu = {arithmetic, compute::CpuKernels::kScalar, 1};
    const auto engine = MakeEngine(TinyModel("llama"), setup);
    AddPackages(*engine);
    return RunOneByOne(*engine, requests);
  }
};

TEST_P(TinyExactnessTest, BatchChunksThreadsAndKernelsDoNotChangeABit) {
  std::mt19937 random(1);
  const auto model = TinyModel("llama");
  const auto requests = MakeRequests(random, model->config().vocab, Experts());
  const auto expected = Reference(GetParam(), requests);
  for (int round = 0; round < 6; ++round) {
    EngineSetup setup;
    setup.cpu = RandomCpu(random, GetParam());
    setup.max_step_rows = std::vector<int>{1, 3, 17, 64, 256}[random() % 5];
    SCOPED_TRACE(absl::StrCat(compute::CpuKernelsName(setup.cpu.kernels).data(), " threads ",
                              setup.cpu.threads, " step rows ", setup.max_step_rows));
    const auto engine = MakeEngine(model, setup);
    AddPackages(*engine);
    EXPECT_EQ(RunAll(*engine, requests), expected);
  }
}

TEST_P(TinyExactnessTest, SplitsDoNotChangeABit) {
  std::mt19937 random(2);
  const auto model = TinyModel("llama");
  const auto requests = MakeRequests(random, model->config().vocab, Experts());
  const auto expected = Reference(GetParam(), requests);
  for (int depth = 1; depth <= 2; ++depth) {
    SCOPED_TRACE(absl::StrCat("expert node from layer ", depth));
    EngineSetup lower;
    lower.cpu = RandomCpu(random, GetParam());
    lower.layer_end = 2;
    lower.max_step_rows = 1 + static_cast<int>(random() % 40);
    EngineSetup upper;
    upper.cpu = RandomCpu(random, GetParam());
    upper.layer_begin = depth;
    upper.max_step_rows = 1 + static_cast<int>(random() % 40);
    // Few credits: the scheduler has to wait for them.
    std::vector<std::unique_ptr<LoopbackLink>> links;
    const auto expert = MakeEngine(model, upper);
    AddPackages(*expert);
    const auto backbone = MakeEngine(model, lower);
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

INSTANTIATE_TEST_SUITE_P(Arithmetics, TinyExactnessTest,
                         ::testing::Values(Arithmetic::kExact, Arithmetic::kI8B32),
                         [](const auto& param) {
                           return param.param == Arithmetic::kExact ? "Exact" : "I8B32";
                         });

// The quantised weights of the real file, in the arithmetic that production uses.
TEST(RealModelExactnessTest, SplitBatchedAndChunkedEqualsUnsplit) {
  const auto model = RealModel();
  if (model == nullptr) GTEST_SKIP() << "CCOE_MODEL is not set";
  std::mt19937 random(3);
  auto requests = MakeRequests(random, model->config().vocab, {{"general", ""}});
  requests.resize(4);
  EngineSetup plain;
  plain.cpu = {Arithmetic::kI8B32, compute::CpuKernels::kScalar, 2};
  plain.kv_budget_bytes = size_t{64} << 20;
  const auto expected = RunOneByOne(*MakeEngine(model, plain), requests);
  for (int depth : {7, 18}) {
    SCOPED_TRACE(absl::StrCat("depth ", depth));
    EngineSetup lower = plain;
    lower.cpu = {};
    lower.layer_end = depth;
    lower.max_step_rows = 19;
    EngineSetup upper = plain;
    upper.cpu = RandomCpu(random, Arithmetic::kI8B32);
    upper.layer_begin = depth;
    LoopbackLink link(64);
    const auto expert = MakeEngine(model, upper);
    const auto backbone = MakeEngine(model, lower);
    ASSERT_TRUE(link.Connect(backbone.get(), expert.get(), expert->Experts().front()).ok());
    EXPECT_EQ(RunAll(*backbone, requests), expected);
    link.Cut();
  }
}

}  // namespace
}  // namespace ccoe::testing
