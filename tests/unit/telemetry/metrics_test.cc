#include "common/telemetry/metrics.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ccoe::telemetry {
namespace {

using testing::HasSubstr;
using testing::Not;

MetricsOptions TestOptions() {
  return {.service = "router", .version = "1.2.3", .arithmetic = "exact"};
}

TEST(MetricsTest, ChildrenExistAtZero) {
  Metrics metrics(TestOptions());
  metrics.AddDomain("sql");
  const std::string text = metrics.Text();
  for (const char* line :
       {"ccoe_time_to_first_token_seconds_count 0", "ccoe_inter_token_latency_seconds_count 0",
        "ccoe_step_duration_seconds_count{service=\"router\",phase=\"decode\"} 0",
        "ccoe_route_duration_seconds_count{stage=\"rules\"} 0",
        "ccoe_hidden_state_bytes_total{direction=\"sent\"} 0",
        "ccoe_kv_cache_blocks{state=\"free\"} 0", "ccoe_batch_size_count 0",
        "ccoe_queue_requests 0", "ccoe_active_requests 0",
        "ccoe_cancellations_total{cause=\"slow_reader\"} 0", "ccoe_generated_tokens_total 0",
        "ccoe_prompt_tokens_total 0", "ccoe_sessions{state=\"waiting\"} 0", "version=\"1.2.3\""}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
  EXPECT_THAT(text, HasSubstr("domain=\"sql\""));
}

TEST(MetricsTest, UnknownDomainsCountAsOther) {
  Metrics metrics(TestOptions());
  metrics.AddDomain("sql");
  metrics.CountRequest("sql", 0);
  metrics.CountRequest("made up", 0);
  metrics.CountRequest("", 3);
  for (int i = 0; i < 100; ++i) metrics.AddDomain(absl::StrCat("domain", i));
  const std::string text = metrics.Text();
  EXPECT_THAT(text, Not(HasSubstr("made up")));
  EXPECT_THAT(text, Not(HasSubstr("domain99")));
  EXPECT_THAT(text, HasSubstr("ccoe_requests_total{domain=\"other\",grpc_code=\"OK\"} 1"));
  EXPECT_THAT(text, HasSubstr("ccoe_requests_total{domain=\"sql\",grpc_code=\"OK\"} 1"));
  EXPECT_THAT(text,
              HasSubstr("ccoe_requests_total{domain=\"none\",grpc_code=\"INVALID_ARGUMENT\"} 1"));
}

TEST(MetricsTest, GaugesAreReadAtTheScrape) {
  Metrics metrics(TestOptions());
  int used = 3;
  metrics.SetGaugeSource([&used] {
    GaugeValues values;
    values.kv_blocks_used = used;
    return values;
  });
  EXPECT_THAT(metrics.Text(), HasSubstr("ccoe_kv_cache_blocks{state=\"used\"} 3"));
  used = 4;
  EXPECT_THAT(metrics.Text(), HasSubstr("ccoe_kv_cache_blocks{state=\"used\"} 4"));
  metrics.SetGaugeSource(nullptr);
  used = 5;
  EXPECT_THAT(metrics.Text(), HasSubstr("ccoe_kv_cache_blocks{state=\"used\"} 4"));
}

TEST(MetricsServerTest, TakesAFreePortAndSaysWhich) {
  Metrics metrics(TestOptions());
  const auto server = MetricsServer::Start("127.0.0.1:0", metrics);
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_GT((*server)->port(), 0);
  const auto second = MetricsServer::Start(absl::StrCat("127.0.0.1:", (*server)->port()), metrics);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace ccoe::telemetry
