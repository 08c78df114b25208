#include "common/telemetry/metrics.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ccoe::telemetry {
namespace {

using testing::HasSubstr;
using testing::Not;

MetricsOptions TestOptions() {
  return {.service = "router", .version = "1.2.3", .arithmetic = "exact"};
}

// What a scrape of 127.0.0.1 gets, headers and body.
std::string Scrape(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  std::string answer;
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
    constexpr std::string_view kRequest = "GET /metrics HTTP/1.0\r\n\r\n";
    send(fd, kRequest.data(), kRequest.size(), MSG_NOSIGNAL);
    std::array<char, 4096> piece;
    for (ssize_t n = 0; (n = recv(fd, piece.data(), piece.size(), 0)) > 0;) {
      answer.append(piece.data(), static_cast<size_t>(n));
    }
  }
  close(fd);
  return answer;
}

TEST(MetricsTest, ChildrenExistAtZero) {
  Metrics metrics(TestOptions());
  metrics.AddDomain("sql");
  const std::string text = metrics.Text();
  for (const char* line :
       {"ccoe_time_to_first_token_seconds_count 0", "ccoe_inter_token_latency_seconds_count 0",
        "ccoe_step_duration_seconds_count{service=\"router\",phase=\"decode\"} 0",
        "ccoe_route_duration_seconds_count{stage=\"rules\"} 0",
        "ccoe_hidden_state_bytes_total{direction=\"sent\"} 0", "ccoe_boundary_state_bytes 0",
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
    values.domains = {"law"};
    return values;
  });
  const std::string text = metrics.Text();
  EXPECT_THAT(text, HasSubstr("ccoe_kv_cache_blocks{state=\"used\"} 3"));
  EXPECT_THAT(text, HasSubstr("ccoe_requests_total{domain=\"law\",grpc_code=\"OK\"} 0"));
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
  EXPECT_EQ((*server)->address(), absl::StrCat("127.0.0.1:", (*server)->port()));
  const auto second = MetricsServer::Start(absl::StrCat("127.0.0.1:", (*server)->port()), metrics);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
}

TEST(MetricsServerTest, AnswersAScrapeAndStopsAtOnce) {
  Metrics metrics(TestOptions());
  absl::Duration shortest = absl::InfiniteDuration();
  for (int i = 0; i < 3; ++i) {
    auto server = MetricsServer::Start("127.0.0.1:0", metrics);
    ASSERT_TRUE(server.ok()) << server.status();
    EXPECT_THAT(Scrape((*server)->port()), HasSubstr("ccoe_queue_requests 0"));
    const absl::Time start = absl::Now();
    server->reset();
    shortest = std::min(shortest, absl::Now() - start);
  }
  EXPECT_LT(shortest, absl::Seconds(1));
}

TEST(MetricsServerTest, NamesTheHostOfAllAddresses) {
  Metrics metrics(TestOptions());
  const auto server = MetricsServer::Start(":0", metrics);
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_EQ((*server)->address(), absl::StrCat("0.0.0.0:", (*server)->port()));
}

}  // namespace
}  // namespace ccoe::telemetry
