#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/integration/engine_harness.h"

namespace ccoe::testing {

// `general`, and experts that attach at two depths; their packages.
inline const std::vector<std::string> kTwoDepthExperts = {"general", "tiny-lora", "tiny-full",
                                                          "tiny-early"};
inline std::vector<std::shared_ptr<const model::ExpertPackage>> TwoDepthPackages() {
  return {TinyPackage("llama_lora"), TinyPackage("llama_full"),
          TinyPackage("llama_lora", {{"\"tiny-lora\"", "\"tiny-early\""},
                                     {"\"attach_depth\": 2", "\"attach_depth\": 1"}})};
}

// A fixture with experts of the tiny Llama model, in one engine or split over two.
class ExpertEnginesTest : public ::testing::Test {
 protected:
  explicit ExpertEnginesTest(std::vector<std::shared_ptr<const model::ExpertPackage>> packages)
      : packages_(std::move(packages)) {
    setup_.cpu.threads = 1;
  }
  ~ExpertEnginesTest() override { Clear(); }

  void Clear() {
    for (const auto& link : links_) link->Cut();
    engine_ = nullptr;
    upper_ = nullptr;
    links_.clear();
  }
  std::unique_ptr<runtime::Engine> WithPackages(const EngineSetup& setup) const {
    auto engine = MakeEngine(model_, setup);
    for (const auto& package : packages_) EXPECT_TRUE(engine->AddExpert(package).ok());
    return engine;
  }
  // An engine of layers [0, layers), and one from layer `begin` on; each of the experts there,
  // `general` first, gets its rows at the depth that `entry` has for it, 0 for none, over so many
  // links.
  void Split(int layers, int begin, const std::vector<int>& entry, int replicas = 1) {
    Clear();
    EngineSetup lower = setup_, upper = setup_;
    lower.layer_end = layers;
    upper.layer_begin = begin;
    upper_ = WithPackages(upper);
    engine_ = MakeEngine(model_, lower);
    for (size_t i = 0; i < entry.size(); ++i) {
      for (int replica = 0; entry[i] > 0 && replica < replicas; ++replica) Connect(i, entry[i]);
    }
  }
  // Links the upper engine's `index`-th expert, whose rows enter at `depth`.
  void Connect(size_t index, int depth) {
    runtime::ExpertInfo info = upper_->Experts()[index];
    info.attach_depth = depth;
    links_.push_back(std::make_unique<LoopbackLink>(7));
    ASSERT_TRUE(links_.back()->Connect(engine_.get(), upper_.get(), info).ok());
  }
  void ExpectAtRest() {
    EXPECT_TRUE(engine_->Drain(absl::Seconds(10)));
    EXPECT_EQ(engine_->Stats().kv_pages_used, 0);
    EXPECT_EQ(engine_->Stats().boundary_bytes_used, 0u);
    if (upper_ == nullptr) return;
    EXPECT_TRUE(upper_->Drain(absl::Seconds(10)));
    EXPECT_EQ(upper_->Stats().kv_pages_used, 0);
  }

  const std::shared_ptr<const model::Model> model_ = TinyModel("llama");
  const std::vector<std::shared_ptr<const model::ExpertPackage>> packages_;
  EngineSetup setup_;
  std::vector<std::unique_ptr<LoopbackLink>> links_;
  std::unique_ptr<runtime::Engine> upper_;
  std::unique_ptr<runtime::Engine> engine_;
};

}  // namespace ccoe::testing
