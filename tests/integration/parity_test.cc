// The engine's numbers against transformers' and PEFT's (tests/goldens/README.md), and the fast
// arithmetic against the exact one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/runtime/sampler.h"
#include "common/runtime/transformer.h"
#include "tests/integration/engine_harness.h"
#include "tests/integration/golden_file.h"

namespace ccoe::testing {
namespace {

using compute::Arithmetic;

// Called with each row of logits [vocab], in order.
using RowVisitor = std::function<void(int row, absl::Span<const float> logits)>;

// All layers of a model, and perhaps an expert, for whole sequences.
class Forward {
 public:
  Forward(std::shared_ptr<const model::Model> model, Arithmetic arithmetic, int max_tokens,
          const model::ExpertPackage* package = nullptr)
      : model_(std::move(model)), max_tokens_(max_tokens) {
    const model::ModelConfig& config = model_->config();
    compute::CpuOptions cpu;
    cpu.arithmetic = arithmetic;
    cpu.threads = 2;
    device_ = *compute::NewCpuDevice(cpu);
    const size_t pages = runtime::KvPool::PagesFor(config.layers, max_tokens);
    const compute::KvShape shape{config.kv_heads, config.head_dim};
    pool_ = *runtime::KvPool::Create(*device_, shape,
                                     pages * (*device_->NewKvPages(shape, 1))->page_bytes());
    runtime::Transformer::Options options;
    options.config = &config;
    options.device = device_.get();
    options.pool = pool_.get();
    options.max_rows = max_tokens;
    options.max_context = max_tokens;
    transformer_ = *runtime::Transformer::Create(options);
    base_ = *runtime::LoadBase(*model_, 0, config.layers, *device_);
    if (package != nullptr) expert_ = *runtime::LoadExpert({*model_, *package, base_}, *device_);
  }

  void Run(const std::vector<int32_t>& tokens, const RowVisitor& visit) {
    const int layers = model_->config().layers;
    const runtime::KvBlocks blocks = *pool_->Reserve(layers, max_tokens_);
    runtime::RowSpan span;
    span.rows = span.logit_rows = static_cast<int>(tokens.size());
    span.layer_end = layers;
    span.expert = expert_.get();
    span.blocks = &blocks;
    span.tokens = tokens.data();
    runtime::StepSink sink;
    sink.on_logits = [&](int, int row, absl::Span<const float> logits) { visit(row, logits); };
    transformer_->Run(base_, {span}, sink);
  }

 private:
  std::shared_ptr<const model::Model> model_;
  const int max_tokens_;
  std::unique_ptr<compute::Device> device_;
  std::unique_ptr<runtime::KvPool> pool_;
  std::unique_ptr<runtime::Transformer> transformer_;
  runtime::BaseWeights base_;
  std::unique_ptr<runtime::ExpertWeights> expert_;
};

struct TinyCase {
  std::string model;
  std::string package;  // empty: the base model alone
};

class TinyParityTest : public ::testing::TestWithParam<TinyCase> {};

TEST_P(TinyParityTest, EveryLogitOfEveryPosition) {
  const auto& [name, package_name] = GetParam();
  const GoldenFile golden(
      absl::StrCat("tiny/", package_name.empty() ? name : package_name, "/logits.safetensors"));
  const std::vector<int32_t> ids = golden.Ints("input_ids");
  const std::vector<float> expected = golden.Floats("logits");
  const auto package = package_name.empty() ? nullptr : TinyPackage(package_name);
  Forward forward(TinyModel(name), Arithmetic::kExact, static_cast<int>(ids.size()), package.get());
  size_t seen = 0;
  forward.Run(ids, [&](int row, absl::Span<const float> logits) {
    for (size_t i = 0; i < logits.size(); ++i, ++seen) {
      ASSERT_NEAR(logits[i], expected[row * logits.size() + i], 1e-3) << row << " " << i;
    }
  });
  EXPECT_EQ(seen, expected.size());
}

INSTANTIATE_TEST_SUITE_P(Families, TinyParityTest,
                         ::testing::Values(TinyCase{"llama", ""}, TinyCase{"llama_untied", ""},
                                           TinyCase{"llama3_rope", ""}, TinyCase{"qwen2", ""},
                                           TinyCase{"qwen2_untied", ""}, TinyCase{"qwen3", ""},
                                           TinyCase{"llama", "llama_lora"},
                                           TinyCase{"llama", "llama_full"}),
                         [](const auto& param) {
                           return param.param.package.empty() ? param.param.model
                                                              : param.param.package;
                         });

class RealParityTest : public ::testing::Test {
 protected:
  void SetUp() override {
    model_ = RealModel();
    if (model_ == nullptr) GTEST_SKIP() << "CCOE_MODEL is not set";
  }
  std::shared_ptr<const model::Model> model_;
};

TEST_F(RealParityTest, LogitsWithinTheReferencesOwnError) {
  const GoldenFile golden("smollm2/logits.safetensors");
  const std::vector<int32_t> chosen = golden.Ints("chosen_ids");
  Forward forward(model_, Arithmetic::kExact, 64);
  for (int prompt = 0; prompt < 3; ++prompt) {
    const std::string prefix = absl::StrCat("prompt", prompt, ".");
    const std::vector<int32_t> ids = golden.Ints(prefix + "input_ids");
    const std::vector<float> expected = golden.Floats(prefix + "chosen_logits");
    const std::vector<float> last = golden.Floats(prefix + "last_logits");
    const std::vector<float> difference = golden.Floats(prefix + "max_difference");
    const std::vector<int32_t> top = golden.Ints(prefix + "top_ids");
    forward.Run(ids, [&](int row, absl::Span<const float> logits) {
      const float tolerance = std::max(1e-3f, 4 * difference[row]);
      for (size_t i = 0; i < chosen.size(); ++i) {
        ASSERT_NEAR(logits[chosen[i]], expected[row * chosen.size() + i], tolerance)
            << prefix << row;
      }
      EXPECT_EQ(runtime::ArgMax(logits), top[row * 20]) << prefix << row;
      if (row + 1 < static_cast<int>(ids.size())) return;
      for (size_t i = 0; i < last.size(); ++i) {
        ASSERT_NEAR(logits[i], last[i], tolerance) << prefix << " token " << i;
      }
    });
  }
}

TEST_F(RealParityTest, GreedyTokensOfFortyPrompts) {
  std::ifstream file(absl::StrCat(CCOE_TEST_SOURCE_DIR, "/goldens/smollm2/greedy.json"));
  const auto golden = nlohmann::json::parse(file);
  std::vector<std::unique_ptr<Collector>> collectors;  // outlive the engine
  EngineSetup setup;
  setup.cpu.arithmetic = Arithmetic::kExact;
  setup.kv_budget_bytes = size_t{1} << 30;
  const auto engine = MakeEngine(model_, setup);
  const auto& prompts = golden.at("prompts");
  ASSERT_EQ(prompts.size(), 40u);
  for (const auto& prompt : prompts) {
    runtime::SessionSpec spec;
    spec.expert = {"general", ""};
    spec.prompt = prompt.at("prompt_ids").get<std::vector<int32_t>>();
    spec.stop.max_tokens = 64;
    spec.stop.ignore_end_of_generation = true;
    collectors.push_back(std::make_unique<Collector>());
    ASSERT_TRUE(engine->Open(std::move(spec), collectors.back().get()).ok());
  }
  for (size_t i = 0; i < prompts.size(); ++i) {
    ASSERT_TRUE(collectors[i]->Wait());
    const std::vector<int32_t> ids = collectors[i]->Ids();
    const auto expected = prompts[i].at("token_ids").get<std::vector<int32_t>>();
    const auto [ours, theirs] =
        std::mismatch(ids.begin(), ids.end(), expected.begin(), expected.end());
    if (ours == ids.end() && theirs == expected.end()) continue;
    // A divergence is the reference's own uncertainty, or a fault.
    const float margin = prompts[i].at("margins").at(theirs - expected.begin());
    EXPECT_LT(margin, 1e-3) << "prompt " << i << " token " << theirs - expected.begin();
  }
}

TEST_F(RealParityTest, FastArithmeticKeepsTheTopTokenOfAnswers) {
  std::ifstream file(absl::StrCat(CCOE_TEST_SOURCE_DIR, "/goldens/smollm2/greedy.json"));
  const auto golden = nlohmann::json::parse(file);
  Forward fast(model_, Arithmetic::kI8B32, 256);
  int clear = 0, agreed = 0;
  for (const auto& prompt : golden.at("prompts")) {
    auto ids = prompt.at("prompt_ids").get<std::vector<int32_t>>();
    const auto answer = prompt.at("token_ids").get<std::vector<int32_t>>();
    const auto margins = prompt.at("margins").get<std::vector<float>>();
    const int first = static_cast<int>(ids.size()) - 1;  // this row predicts answer[0]
    ids.insert(ids.end(), answer.begin(), answer.end() - 1);
    fast.Run(ids, [&](int row, absl::Span<const float> logits) {
      if (row < first || margins[row - first] <= 0.1f) return;
      ++clear;
      agreed += runtime::ArgMax(logits) == answer[row - first] ? 1 : 0;
    });
  }
  RecordProperty("top_1_agreement", absl::StrCat(static_cast<double>(agreed) / clear));
  EXPECT_GE(static_cast<double>(agreed) / clear, 0.995) << agreed << " of " << clear;
}

// English prose of the law and of engineering, Markdown, and code.
std::vector<int32_t> LongText(const model::Model& model) {
  std::string text;
  for (const char* name :
       {"LICENSE", "README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/testing.md",
        "docs/errors.md", "docs/dependencies.md", "proto/ccoe/v1/generation_service.proto",
        "proto/ccoe/v1/types.proto", "proto/ccoe/v1/catalog_service.proto"}) {
    std::ifstream file(absl::StrCat(CCOE_TEST_SOURCE_DIR, "/../", name));
    text.append((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  }
  return model.tokenizer().Encode(text);
}

TEST_F(RealParityTest, FastArithmeticKeepsPerplexityAndTheTopToken) {
  constexpr int kWindow = 250;
  constexpr int kTokens = 10000;
  std::vector<int32_t> ids = LongText(*model_);
  ASSERT_GE(ids.size(), static_cast<size_t>(kTokens));
  Forward exact(model_, Arithmetic::kExact, kWindow);
  Forward fast(model_, Arithmetic::kI8B32, kWindow);
  double exact_loss = 0, fast_loss = 0;
  int scored = 0, clear = 0, agreed = 0;
  for (int begin = 0; begin < kTokens; begin += kWindow) {
    const std::vector<int32_t> window(ids.begin() + begin, ids.begin() + begin + kWindow);
    std::vector<int32_t> best(kWindow);
    std::vector<float> margin(kWindow);
    exact.Run(window, [&](int row, absl::Span<const float> logits) {
      const auto top = runtime::TopLogprobs(logits, 2);
      best[row] = top[0].id;
      margin[row] = top[0].logprob - top[1].logprob;
      if (row + 1 < kWindow) exact_loss -= runtime::LogProbability(logits, window[row + 1]);
    });
    fast.Run(window, [&](int row, absl::Span<const float> logits) {
      if (margin[row] > 0.1f) {
        ++clear;
        agreed += runtime::ArgMax(logits) == best[row] ? 1 : 0;
      }
      if (row + 1 == kWindow) return;
      ++scored;
      fast_loss -= runtime::LogProbability(logits, window[row + 1]);
    });
  }
  const double ratio = std::exp((fast_loss - exact_loss) / scored);
  RecordProperty("perplexity_exact", absl::StrCat(std::exp(exact_loss / scored)));
  RecordProperty("perplexity_ratio", absl::StrCat(ratio));
  RecordProperty("top_1_agreement", absl::StrCat(static_cast<double>(agreed) / clear));
  EXPECT_NEAR(ratio, 1.0, 0.005);
  EXPECT_GE(static_cast<double>(agreed) / clear, 0.995) << agreed << " of " << clear;
}

}  // namespace
}  // namespace ccoe::testing
