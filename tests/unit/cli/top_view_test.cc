#include "services/cli/top_view.h"

#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/telemetry/metrics.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ccoe::cli {
namespace {

using testing::HasSubstr;

constexpr telemetry::ExpertLabels kSql = {"sql", "sql", "1.0.0"};

// A process of ours whose metrics are looked at.
class Process {
 public:
  explicit Process(const std::string& service)
      : metrics({.service = service, .version = "1", .arithmetic = "exact"}) {
    metrics.SetGaugeSource([this] { return gauges; });
  }
  ProcessScrape Look() const { return {"here:1", ParseExposition(metrics.Text())}; }

  telemetry::Metrics metrics;
  telemetry::GaugeValues gauges;
};

TEST(TopViewTest, ShowsWhatHappenedBetweenTwoLooks) {
  Process serve("serve");
  serve.gauges.experts = {{"sql", "sql", "1.0.0", true}, {"law", "law", "2", false}};
  serve.gauges.kv_blocks_used = 1;
  serve.gauges.kv_blocks_free = 3;
  serve.gauges.sessions_running = 2;
  serve.gauges.active_requests = 3;
  serve.Look();                                                     // lists the experts
  serve.metrics.ObserveTimeToFirstToken(kSql, absl::Seconds(100));  // long ago
  const std::vector<ProcessScrape> before = {serve.Look()};
  for (int i = 0; i < 10; ++i) {
    serve.metrics.ObserveRequest(kSql, i < 8 ? 0 : 14, absl::Seconds(1));
    serve.metrics.ObserveTimeToFirstToken(kSql, absl::Milliseconds(i < 5 ? 35 : 150));
    serve.metrics.ObserveStep(telemetry::StepPhase::kDecode, absl::Milliseconds(3), 1);
  }
  serve.metrics.AddTokens(kSql, telemetry::TokenKind::kGenerated, 50);
  serve.metrics.CountRejection(base::Reason::kQueueFull);
  const auto place = serve.metrics.EnterQueue("sql");
  const TopView view = MakeTopView(before, {serve.Look()}, absl::Seconds(2));

  EXPECT_EQ(view.active_requests, 3);
  EXPECT_EQ(view.waiting_requests, 1);
  EXPECT_EQ(view.rejections_per_second, 0.5);
  ASSERT_EQ(view.experts.size(), 2u);
  EXPECT_EQ(view.experts[0].expert, "law");
  EXPECT_FALSE(view.experts[0].healthy);
  EXPECT_TRUE(std::isnan(view.experts[0].first_token.p50));
  const ExpertLine& sql = view.experts[1];
  EXPECT_TRUE(sql.healthy);
  EXPECT_EQ(sql.requests_per_second, 5);
  EXPECT_EQ(sql.failures_per_second, 1);
  EXPECT_EQ(sql.tokens_per_second, 25);
  EXPECT_DOUBLE_EQ(sql.first_token.p50, 0.04);                 // the end of (30 ms, 40 ms]
  EXPECT_DOUBLE_EQ(sql.first_token.p95, 0.1 + 0.1 * 4.5 / 5);  // within (100 ms, 200 ms]
  EXPECT_TRUE(std::isnan(sql.inter_token.p95));
  ASSERT_EQ(view.processes.size(), 1u);
  EXPECT_EQ(view.processes[0].service, "serve");
  EXPECT_EQ(view.processes[0].state, "serving");
  EXPECT_EQ(view.processes[0].running, 2);
  EXPECT_EQ(view.processes[0].kv_usage, 0.25);
  EXPECT_EQ(view.processes[0].steps_per_second, 5);
}

TEST(TopViewTest, AProcessThatStartedAnewBeganAtZero) {
  Process old("router");
  old.gauges.experts = {{"sql", "sql", "1.0.0", true}};
  old.Look();
  for (int i = 0; i < 100; ++i) old.metrics.ObserveRequest(kSql, 0, absl::Seconds(1));
  Process anew("router");
  anew.gauges = old.gauges;
  anew.Look();
  anew.metrics.ObserveRequest(kSql, 0, absl::Seconds(1));
  const TopView view = MakeTopView({old.Look()}, {anew.Look()}, absl::Seconds(1));
  EXPECT_EQ(view.experts.at(0).requests_per_second, 1);
}

TEST(TopViewTest, OneThatIsGoneCountsWithNothing) {
  Process router("router");
  router.gauges.experts = {{"sql", "sql", "1.0.0", true}};
  router.Look();
  router.metrics.ObserveRequest(kSql, 0, absl::Seconds(1));
  const ProcessScrape gone = {"there:1", absl::UnavailableError("nobody answers at there:1")};
  const TopView view =
      MakeTopView({gone, gone}, {router.Look(), gone}, absl::Seconds(1));  // the first came back
  EXPECT_EQ(view.experts.at(0).requests_per_second, 0);
  EXPECT_EQ(view.processes.at(1).state, "nobody answers at there:1");
  EXPECT_THAT(TopText(view), HasSubstr("nobody answers at there:1"));
}

TEST(TopTextTest, IsATableOfWhatIsKnown) {
  Process router("router");
  router.gauges.experts = {{"sql", "sql", "1.0.0", true}, {"law", "law", "2", false}};
  router.metrics.SetDraining();
  router.Look();
  const std::string text = TopText(MakeTopView({router.Look()}, {router.Look()}, absl::Seconds(1)));
  EXPECT_THAT(text, HasSubstr("sql            1.0.0      ready"));
  EXPECT_THAT(text, HasSubstr("law            2          down"));
  EXPECT_THAT(text, HasSubstr("router    here:1                          -        -        -"));
  EXPECT_THAT(text, HasSubstr("draining"));
}

}  // namespace
}  // namespace ccoe::cli
