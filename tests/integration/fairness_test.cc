// Who of several keys comes first in an engine.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/base/error.h"
#include "common/base/mutex.h"
#include "tests/integration/engine_harness.h"

namespace ccoe::testing {
namespace {

using runtime::Flow;
using runtime::SessionSpec;

const Flow kA = {"a", 1};
const Flow kB = {"b", 1};

SessionSpec Spec(const Flow& flow, int prompt_tokens, int max_tokens) {
  SessionSpec spec;
  spec.expert = {"general", ""};
  spec.flow = flow;
  for (int i = 0; i < prompt_tokens; ++i) spec.prompt.push_back(20 + i % 200);
  spec.stop.max_tokens = max_tokens;
  spec.stop.ignore_end_of_generation = true;
  return spec;
}

// Whose sessions were admitted and had their first tokens, in order; the engine's thread alone
// writes it.
class Record {
 public:
  explicit Record(int sessions) : left_(sessions) {}

  void End() {
    base::MutexLock lock(&mutex_);
    if (--left_ == 0) ended_.SignalAll();
  }
  // Until every session has ended.
  void Wait() {
    base::MutexLock lock(&mutex_);
    while (left_ > 0) ended_.Wait(&mutex_);
  }

  std::string admitted;
  std::string first_tokens;

 private:
  base::Mutex mutex_;
  base::CondVar ended_;
  int left_ ABSL_GUARDED_BY(mutex_);
};

class Recorder final : public runtime::SessionListener {
 public:
  Recorder(Record* record, char name) : record_(*record), name_(name) {}
  void OnAdmitted() override { record_.admitted += name_; }
  void OnDelta(const runtime::Delta& delta) override {
    if (delta.token_offset == 0 && !delta.tokens.empty()) record_.first_tokens += name_;
  }
  void OnFinished(const runtime::Finished&) override { record_.End(); }
  void OnFailed(const absl::Status& status) override {
    ADD_FAILURE() << status;
    record_.End();
  }

 private:
  Record& record_;
  const char name_;
};

// The most sessions of a step. Read it once the engine is gone.
class StepSizes final : public runtime::EngineObserver {
 public:
  void OnStep(const runtime::StepReport& report) override {
    most = std::max(most, report.sessions);
  }
  int most = 0;
};

class FairnessTest : public ::testing::Test {
 protected:
  FairnessTest() { setup_.cpu.threads = 1; }

  // An engine that stands still with a first session of key a.
  void StartHeld() {
    engine_ = MakeEngine(TinyModel("llama"), setup_);
    first_.HoldAfter(1);
    ASSERT_TRUE(engine_->Open(Spec(kA, 10, 8), &first_).ok());
    first_.WaitForTokens(1);
  }
  // Opens sessions of `names`, lets the engine go on, and waits for the end of all.
  void RunAll(const std::string& names, int prompt_tokens, int max_tokens) {
    std::vector<std::unique_ptr<Recorder>> recorders;
    record_ = std::make_unique<Record>(static_cast<int>(names.size()));
    recorders.reserve(names.size());
    for (const char name : names) {
      recorders.push_back(std::make_unique<Recorder>(record_.get(), name));
      const Flow flow = {std::string(1, name), name == 'w' ? 3 : 1};
      ASSERT_TRUE(
          engine_->Open(Spec(flow, prompt_tokens, max_tokens), recorders.back().get()).ok());
    }
    first_.Release();
    record_->Wait();
    ASSERT_TRUE(first_.Wait());
    EXPECT_TRUE(engine_->Drain(absl::Seconds(60)));
  }

  // Opens a session that comes while the first one runs.
  void OpenBeside(const Flow& flow, int max_tokens) {
    others_.push_back(std::make_unique<Collector>());
    ASSERT_TRUE(engine_->Open(Spec(flow, 10, max_tokens), others_.back().get()).ok());
  }
  // Lets the engine go on until the first session has so many tokens.
  void RunUntil(size_t tokens) {
    first_.HoldAfter(tokens);
    first_.WaitForTokens(tokens);
  }
  void EndAll() {
    first_.Release();
    for (const auto& other : others_) ASSERT_TRUE(other->Wait());
  }

  EngineSetup setup_;
  Collector first_;
  std::vector<std::unique_ptr<Collector>> others_;
  std::unique_ptr<Record> record_;
  std::unique_ptr<runtime::Engine> engine_;
};

TEST_F(FairnessTest, AKeyThatComesLateDoesNotWaitForAllOfAnothers) {
  setup_.max_sessions = 1;
  StartHeld();
  RunAll("aaaaaabb", 20, 2);
  EXPECT_EQ(record_->admitted, "babaaaaa");
}

TEST_F(FairnessTest, AHeavyKeyComesMoreOften) {
  setup_.max_sessions = 1;
  StartHeld();
  RunAll("bbbbbbwwwwww", 20, 2);
  const std::string begin = record_->admitted.substr(0, 8);
  EXPECT_EQ(std::count(begin.begin(), begin.end(), 'w'), 6) << record_->admitted;
}

TEST_F(FairnessTest, WithinAKeyTheFirstToComeIsTheFirst) {
  setup_.max_sessions = 2;
  StartHeld();
  RunAll("aaaa", 20, 2);
  EXPECT_EQ(record_->admitted, "aaaa");
}

TEST_F(FairnessTest, APromptDoesNotWaitForAllPromptsOfAnotherKey) {
  setup_.max_step_rows = 16;
  StartHeld();
  RunAll("aaaab", 120, 2);
  EXPECT_EQ(record_->first_tokens.find('b'), 0u) << record_->first_tokens;
}

TEST_F(FairnessTest, AKeyBelowItsShareNeedNotWaitForAPlace) {
  StepSizes sizes;
  setup_.observer = &sizes;
  setup_.max_sessions = 4;
  StartHeld();
  for (int i = 0; i < 6; ++i) OpenBeside(kA, 60);
  RunUntil(3);
  EXPECT_EQ(engine_->Stats().sessions_running, 4) << "one key may have all of them";
  for (int i = 0; i < 3; ++i) OpenBeside(kB, 60);
  RunUntil(5);
  EXPECT_EQ(engine_->Stats().sessions_running, 6);
  EXPECT_TRUE(others_[6]->admitted && others_[7]->admitted) << "two are half of the places";
  EXPECT_FALSE(others_[8]->admitted);
  EndAll();
  EXPECT_TRUE(engine_->Drain(absl::Seconds(60)));
  engine_ = nullptr;
  EXPECT_EQ(sizes.most, 4) << "no step has more sessions than there are places";
}

TEST_F(FairnessTest, OneKeyDoesNotTakeAllBlocks) {
  setup_.kv_budget_bytes = size_t{1} << 18;
  StartHeld();
  RunUntil(2);
  const int total = engine_->Stats().kv_pages_total;
  const int each = engine_->Stats().kv_pages_used;
  ASSERT_GT(each, 0);
  for (int i = 0; i < total / each; ++i) OpenBeside(kA, 20);
  RunUntil(4);
  EXPECT_LE(engine_->Stats().kv_pages_used, total * 4 / 5 + each);
  EXPECT_GT(engine_->Stats().kv_pages_used, total / 2);
  OpenBeside(kB, 20);
  RunUntil(6);
  EXPECT_TRUE(others_.back()->admitted);
  EndAll();
}

TEST_F(FairnessTest, OneKeyDoesNotTakeAllPlacesToWait) {
  setup_.max_sessions = 1;
  setup_.max_waiting = 5;
  StartHeld();
  std::vector<std::unique_ptr<Collector>> others;
  const auto open = [&](const Flow& flow) {
    auto other = std::make_unique<Collector>();
    absl::Status status = engine_->Open(Spec(flow, 10, 2), other.get()).status();
    if (status.ok()) others.push_back(std::move(other));
    return status;
  };
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(open(kA).ok()) << i;
  EXPECT_EQ(base::ReasonOf(open(kA)), base::Reason::kQueueFull);
  EXPECT_TRUE(open(kB).ok());
  first_.Release();
  for (const auto& other : others) ASSERT_TRUE(other->Wait());
}

// One that needs much memory is not overtaken for ever by another key's small ones.
TEST_F(FairnessTest, ALargeSessionGetsItsTurn) {
  setup_.kv_budget_bytes = size_t{1} << 18;
  StartHeld();
  Record record(41);
  std::vector<std::unique_ptr<Recorder>> recorders;
  const auto open = [&](char name, int prompt_tokens, int max_tokens) {
    recorders.push_back(std::make_unique<Recorder>(&record, name));
    ASSERT_TRUE(engine_
                    ->Open(Spec({std::string(1, name), 1}, prompt_tokens, max_tokens),
                           recorders.back().get())
                    .ok());
  };
  for (int i = 0; i < 20; ++i) open('a', 10, 20);
  open('L', 200, 40);
  for (int i = 0; i < 20; ++i) open('a', 10, 20);
  first_.Release();
  record.Wait();
  EXPECT_LT(record.admitted.find('L'), 30u) << record.admitted;
}

}  // namespace
}  // namespace ccoe::testing
