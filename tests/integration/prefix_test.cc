// Sessions that begin with tokens that others had: the same answers, bit for bit, as without the
// prefix cache, and nothing computed that is known.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <future>
#include <random>

#include "absl/strings/str_cat.h"
#include "tests/integration/answers.h"
#include "tests/integration/expert_engines.h"

namespace ccoe::testing {
namespace {

using runtime::SessionSpec;

class PrefixTest : public ExpertEnginesTest {
 protected:
  PrefixTest() : ExpertEnginesTest(TwoDepthPackages()) {
    EngineSetup without = setup_;
    without.prefix_cache = false;
    reference_ = WithPackages(without);
  }

  // Undecided sessions are decided for the expert that the spec names.
  std::unique_ptr<Collector> Open(SessionSpec spec, int routing_layer) {
    auto collector = std::make_unique<Collector>();
    if (routing_layer == 0) {
      EXPECT_TRUE(engine_->Open(std::move(spec), collector.get()).ok());
      return collector;
    }
    auto id = std::make_shared<std::promise<runtime::SessionId>>();
    collector->on_route_state = [this, id, expert = spec.expert](absl::Span<const float>) {
      engine_->Decide(id->get_future().get(), expert);
    };
    spec.expert = {};
    spec.routing_layer = routing_layer;
    const int end = spec.score_from.value_or(static_cast<int>(spec.prompt.size()));
    spec.route_tokens = {{end / 2, end}};
    const auto opened = engine_->Open(std::move(spec), collector.get());
    EXPECT_TRUE(opened.ok()) << opened.status();
    id->set_value(opened.value_or(0));
    return collector;
  }
  // Runs a session, which must answer as the reference; the tokens of its prompt that were found.
  int Run(const SessionSpec& spec, int routing_layer = 0) {
    const auto collector = Open(spec, routing_layer);
    EXPECT_EQ(AnswerOf(*collector), RunAll(*reference_, {spec})[0]) << spec.expert.name;
    return collector->finished.has_value() ? collector->finished->usage.cached_tokens : -1;
  }
  static void AddStep(const std::string& expert, int tokens, SessionSpec* spec) {
    runtime::NextStep& next = spec->next_steps.emplace_back();
    next.expert = {expert, ""};
    next.from =
        tokens % 2 == 0 ? runtime::NextStep::From::kPrompt : runtime::NextStep::From::kAnswer;
    next.tokens.assign(tokens, 33);
    next.stop.max_tokens = 5;
  }
  // Conversations that go on, with any expert, branch, are scored, have several steps, and share
  // their beginnings, several at a time; some are cancelled.
  void ExpectAsWithout(uint32_t seed, int rounds) {
    std::mt19937 random(seed);
    const auto below = [&](int n) { return static_cast<int>(random() % n); };
    std::vector<std::vector<int32_t>> contexts = {Spec("", 40, 0).prompt};
    int found = 0;
    for (int round = 0; round < rounds; ++round) {
      std::vector<SessionSpec> specs;
      std::vector<std::unique_ptr<Collector>> collectors;
      for (int i = 0; i < 4; ++i) {
        SessionSpec spec = Spec(kTwoDepthExperts[below(4)], 1, 1 + below(40));
        spec.prompt = contexts[below(static_cast<int>(contexts.size()))];
        for (int more = below(50); more >= 0; --more) spec.prompt.push_back(20 + below(200));
        spec.sampling.temperature = below(2) == 0 ? 0.9F : 0.0F;
        spec.sampling.seed = below(1000);
        int routing_layer = below(3);
        if (below(5) == 0) {
          spec.score_from = 1 + below(static_cast<int>(spec.prompt.size()) - 1);
        } else if (below(4) == 0) {
          routing_layer = 0;
          while (below(3) > 0) AddStep(kTwoDepthExperts[below(4)], below(20), &spec);
        }
        collectors.push_back(Open(spec, routing_layer));
        specs.push_back(std::move(spec));
      }
      Collector cancelled;
      const auto id = engine_->Open(specs[below(4)], &cancelled);
      ASSERT_TRUE(id.ok()) << id.status();
      engine_->Cancel(*id, absl::CancelledError("enough"));
      const std::vector<Answer> expected = RunAll(*reference_, specs);
      EXPECT_EQ(AnswersOf(collectors), expected) << "round " << round;
      ASSERT_TRUE(cancelled.Wait());
      for (size_t i = 0; i < specs.size(); ++i) {
        found += collectors[i]->finished->usage.cached_tokens;
        std::vector<int32_t>& context = contexts.emplace_back(specs[i].prompt);
        for (const auto& [token, logprob] : expected[i].tokens) context.push_back(token);
        if (context.size() > 250) context.resize(10 + below(200));
      }
    }
    EXPECT_GT(found, 0);
    ExpectAtRest();
  }

  std::unique_ptr<runtime::Engine> reference_;
};

TEST_F(PrefixTest, AFollowUpComputesWhatIsNew) {
  engine_ = WithPackages(setup_);
  for (const std::string& expert : kTwoDepthExperts) {
    SessionSpec spec = Spec(expert, 100, 30);
    spec.cache_salt = expert;
    EXPECT_EQ(Run(spec), 0);
    const Answer answer = RunAll(*reference_, {spec})[0];
    for (const auto& [token, logprob] : answer.tokens) spec.prompt.push_back(token);
    spec.prompt.insert(spec.prompt.end(), 10, 50);
    EXPECT_EQ(Run(spec), 128) << "129 rows had run, four whole pages";
    EXPECT_EQ(Run(spec, 1), 128);
  }
  EXPECT_GT(engine_->Stats().kv_pages_cached, 0);
  ExpectAtRest();
}

TEST_F(PrefixTest, AnotherExpertGoesOnFromTheStates) {
  for (const std::string& first : kTwoDepthExperts) {
    for (const std::string& second : kTwoDepthExperts) {
      SCOPED_TRACE(absl::StrCat(first, " to ", second));
      engine_ = WithPackages(setup_);
      Run(Spec(first, 100, 5));
      EXPECT_EQ(Run(Spec(second, 110, 5)), 96);
      EXPECT_EQ(Run(Spec(second, 110, 5), 1), 96);
      EXPECT_EQ(Run(Spec(first, 110, 5)), 96);
      ExpectAtRest();
    }
  }
}

TEST_F(PrefixTest, TheLastTokenIsAlwaysComputed) {
  engine_ = WithPackages(setup_);
  EXPECT_EQ(Run(Spec("general", 64, 5)), 0);
  EXPECT_EQ(Run(Spec("general", 64, 5)), 32);
  EXPECT_EQ(Run(Spec("general", 65, 5)), 64);
  SessionSpec scored = Spec("general", 64, 0);
  scored.score_from = 33;
  EXPECT_EQ(Run(scored), 32);
  scored.score_from = 32;
  EXPECT_EQ(Run(scored), 0);
}

TEST_F(PrefixTest, SaltsDoNotShare) {
  engine_ = WithPackages(setup_);
  SessionSpec spec = Spec("tiny-lora", 100, 5);
  spec.cache_salt = "a";
  EXPECT_EQ(Run(spec), 0);
  EXPECT_EQ(Run(spec), 96);
  spec.cache_salt = "b";
  EXPECT_EQ(Run(spec), 0);
  spec.cache_salt = "";
  EXPECT_EQ(Run(spec, 1), 0);
}

TEST_F(PrefixTest, ItCanBeTurnedOff) {
  setup_.prefix_cache = false;
  engine_ = WithPackages(setup_);
  Run(Spec("general", 100, 5));
  EXPECT_EQ(Run(Spec("general", 100, 5)), 0);
  EXPECT_EQ(engine_->Stats().kv_pages_cached, 0);
}

TEST_F(PrefixTest, AnExpertThatIsGoneLeavesNoLayers) {
  engine_ = WithPackages(setup_);
  Run(Spec("tiny-lora", 100, 5));
  const int cached = engine_->Stats().kv_pages_cached;
  ASSERT_TRUE(engine_->RemoveExpert({"tiny-lora", "1.0.0"}).ok());
  EXPECT_EQ(Run(Spec("tiny-early", 20, 5)), 0);  // the engine has come past it
  EXPECT_EQ(engine_->Stats().kv_pages_cached, cached - 3 * 2) << "three pages, two layers";
}

TEST_F(PrefixTest, NorDoesOneThatGoesWhileItRuns) {
  engine_ = WithPackages(setup_);
  const SessionSpec spec = Spec("tiny-lora", 100, 5);
  Collector held;
  held.HoldAfter(1);
  ASSERT_TRUE(engine_->Open(spec, &held).ok());
  held.WaitForTokens(1);
  ASSERT_TRUE(engine_->RemoveExpert({"tiny-lora", "1.0.0"}).ok());
  held.Release();
  EXPECT_EQ(AnswerOf(held), RunAll(*reference_, {spec})[0]);
  EXPECT_EQ(engine_->Stats().kv_pages_cached, 3 * 2) << "three pages of two base layers";
  ASSERT_TRUE(engine_->AddExpert(packages_[0]).ok());
  EXPECT_EQ(Run(spec), 96) << "from the states";
  ExpectAtRest();
}

TEST_F(PrefixTest, AProbeLeavesItsStem) {
  engine_ = WithPackages(setup_);
  const SessionSpec spec = Spec("tiny-lora", 100, 5);
  SessionSpec probe = spec;
  probe.expert = {};
  probe.routing_layer = 1;
  probe.route_tokens = {{50, 100}};
  Collector collector;
  std::promise<runtime::SessionId> id;
  collector.on_route_state = [&](absl::Span<const float>) {
    engine_->Cancel(id.get_future().get(), absl::CancelledError("the state was wanted"));
  };
  const auto opened = engine_->Open(probe, &collector);
  ASSERT_TRUE(opened.ok()) << opened.status();
  id.set_value(*opened);
  ASSERT_TRUE(collector.Wait());
  EXPECT_EQ(engine_->Stats().kv_pages_cached, 3 * 1) << "three pages of the layer that all share";
  EXPECT_EQ(Run(spec), 96);
  ExpectAtRest();
}

TEST_F(PrefixTest, AnyConversationsAnswerAsWithout) {
  for (const int step_rows : {256, 17}) {
    SCOPED_TRACE(step_rows);
    setup_.max_step_rows = step_rows;
    engine_ = WithPackages(setup_);
    ExpectAsWithout(step_rows, 25);
  }
}

TEST_F(PrefixTest, SoTheyDoWhenThePoolIsShort) {
  setup_.kv_budget_bytes = size_t{1} << 20;
  engine_ = WithPackages(setup_);
  ExpectAsWithout(3, 25);
}

TEST_F(PrefixTest, ThePoolTakesWhatItNeeds) {
  setup_.kv_budget_bytes = size_t{1} << 20;
  engine_ = WithPackages(setup_);
  SessionSpec spec = Spec("general", 200, 5);
  EXPECT_EQ(Run(spec), 0);
  EXPECT_EQ(Run(spec), 192);
  const int pages = engine_->Stats().kv_pages_cached;
  for (int salt = 0; salt * pages < engine_->Stats().kv_pages_total; ++salt) {
    spec.cache_salt = absl::StrCat(salt);
    EXPECT_EQ(Run(spec), 0);
  }
  spec.cache_salt = "";
  EXPECT_EQ(Run(spec), 0) << "what was used least recently is gone";
  ExpectAtRest();
}

TEST_F(PrefixTest, SoTheyDoWhereTheExpertsAreElsewhere) {
  Split(2, 1, {1, 2, 2, 1}, 2);
  ExpectAsWithout(4, 15);
  Split(4, 1, {0, 2, 2, 1}, 2);
  ExpectAsWithout(5, 15);
}

TEST_F(PrefixTest, ASplitModelFindsThePrefixToo) {
  Split(2, 1, {2, 2, 2, 1}, 2);
  EXPECT_EQ(Run(Spec("tiny-lora", 100, 5)), 0);
  EXPECT_EQ(Run(Spec("tiny-lora", 100, 5)), 96);
  EXPECT_EQ(Run(Spec("tiny-full", 100, 5), 1), 96);
  EXPECT_EQ(Run(Spec("tiny-early", 100, 5)), 96);
  ExpectAtRest();
}

TEST_F(PrefixTest, ASessionThatBeganFromItMoves) {
  for (const size_t after : {1, 6}) {
    Split(2, 1, {2, 2, 2}, 2);
    const SessionSpec spec = Spec("tiny-lora", 200, 12);
    EXPECT_EQ(Run(spec), 0);
    Collector held;
    held.HoldAfter(after);
    ASSERT_TRUE(engine_->Open(spec, &held).ok());
    held.WaitForTokens(after);
    for (size_t i = 0; i < links_.size(); i += 2) links_[i]->Cut();  // one replica of each
    held.Release();
    EXPECT_EQ(AnswerOf(held), RunAll(*reference_, {spec})[0]);
    EXPECT_EQ(held.finished->usage.cached_tokens, 192);
    ExpectAtRest();
  }
}

// A further step of another expert must not write the pages that others share.
TEST_F(PrefixTest, FurtherStepsLeaveSharedPagesAlone) {
  engine_ = WithPackages(setup_);
  SessionSpec spec = Spec("tiny-lora", 100, 5);
  Run(spec);
  SessionSpec steps = spec;
  for (const char* expert : {"tiny-early", "tiny-full", "tiny-lora"}) AddStep(expert, 3, &steps);
  const auto collectors = OpenAll(*engine_, {steps});
  EXPECT_EQ(AnswerOf(*collectors[0]), RunAll(*reference_, {steps})[0]);
  EXPECT_EQ(collectors[0]->steps[0].usage.cached_tokens, 96);
  for (const std::string& expert : kTwoDepthExperts) EXPECT_EQ(Run(Spec(expert, 120, 5)), 96);
  ExpectAtRest();
}

}  // namespace
}  // namespace ccoe::testing
