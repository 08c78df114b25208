#include "common/telemetry/metrics.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ccoe::telemetry {
namespace {

using testing::HasSubstr;
using testing::Not;

MetricsOptions OptionsOf(const std::string& service) {
  return {.service = service, .version = "1.2.3", .arithmetic = "exact"};
}

GaugeValues WithExperts(std::vector<ListedExpert> experts) {
  GaugeValues values;
  values.experts = std::move(experts);
  return values;
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
  Metrics metrics(OptionsOf("serve"));
  metrics.AddExpert({"sql", "sql", "1.0.0"});
  const std::string text = metrics.Text();
  for (const char* line :
       {R"(ccoe_time_to_first_token_seconds_count{domain="sql",expert="sql",version="1.0.0"} 0)",
        R"(ccoe_requests_total{domain="sql",expert="sql",grpc_code="OK",version="1.0.0"} 0)",
        R"(ccoe_generated_tokens_total{domain="sql",expert="sql",version="1.0.0"} 0)",
        R"(ccoe_step_duration_seconds_count{service="serve",phase="decode"} 0)",
        R"(ccoe_route_duration_seconds_count{stage="rules"} 0)",
        R"(ccoe_route_decisions_total{domain="sql",reason="fallback"} 0)",
        R"(ccoe_requests_rejected_total{reason="QUEUE_FULL"} 0)",
        R"(ccoe_queue_requests{domain="sql"} 0)", R"(ccoe_kv_cache_blocks{state="free"} 0)",
        R"(ccoe_cancellations_total{cause="slow_reader"} 0)", R"(ccoe_sessions{state="waiting"} 0)",
        R"(ccoe_stream_stall_seconds_total{stream="client"} 0)", "ccoe_batch_size_count 0",
        "ccoe_boundary_state_bytes 0", "ccoe_active_requests 0", "ccoe_draining 0",
        "ccoe_expert_switches_total 0", R"(version="1.2.3"} 1)"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

TEST(MetricsTest, AServiceShowsWhatItHas) {
  const std::string router = Metrics(OptionsOf("router")).Text();
  const std::string backbone = Metrics(OptionsOf("backbone")).Text();
  const std::string serve = Metrics(OptionsOf("serve")).Text();
  EXPECT_THAT(router, Not(HasSubstr("ccoe_batch_size")));
  EXPECT_THAT(router, Not(HasSubstr("ccoe_hidden_state_bytes_total")));
  EXPECT_THAT(router, Not(HasSubstr("stream=\"link\"")));
  EXPECT_THAT(backbone, Not(HasSubstr("ccoe_requests_total")));
  EXPECT_THAT(backbone, Not(HasSubstr("stream=\"client\"")));
  EXPECT_THAT(backbone, HasSubstr("ccoe_hidden_state_bytes_total{direction=\"sent\"} 0"));
  EXPECT_THAT(serve, Not(HasSubstr("ccoe_hidden_state_bytes_total")));
  EXPECT_THAT(serve, HasSubstr("ccoe_batch_size"));
  EXPECT_THAT(serve, HasSubstr("ccoe_requests_total"));
}

TEST(MetricsTest, WhatWasNotAddedCountsAsOther) {
  Metrics metrics(OptionsOf("router"));
  metrics.AddExpert({"sql", "sql", "1.0.0"});
  metrics.ObserveRequest({"sql", "sql", "1.0.0"}, 0, absl::Seconds(1));
  metrics.ObserveRequest({"sql", "made up", "1.0.0"}, 0, absl::Seconds(1));
  metrics.ObserveRequest({}, 3, absl::Seconds(1));
  metrics.ObserveRoute("made up", RouteStageLabel::kRules, 0.7, absl::Microseconds(3));
  const std::string text = metrics.Text();
  EXPECT_THAT(text, Not(HasSubstr("made up")));
  for (const char* line :
       {R"(ccoe_requests_total{domain="other",expert="other",grpc_code="OK",version="other"} 1)",
        R"(ccoe_requests_total{domain="sql",expert="sql",grpc_code="OK",version="1.0.0"} 1)",
        R"(ccoe_requests_total{domain="none",expert="none",grpc_code="INVALID_ARGUMENT",)"
        R"(version="none"} 1)",
        R"(ccoe_route_decisions_total{domain="other",reason="rules"} 1)"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

TEST(MetricsTest, ExpertsThatLeftMakeRoomForNewOnes) {
  Metrics metrics(OptionsOf("router"));
  std::vector<ListedExpert> listed;
  for (size_t i = 0; i < kMaxExperts; ++i) listed.push_back({"sql", "sql", absl::StrCat(i), true});
  metrics.SetGaugeSource([&] { return WithExperts(listed); });
  EXPECT_THAT(metrics.Text(), HasSubstr(R"(version="63")"));
  const ExpertLabels further = {"sql", "sql", "new"};
  metrics.AddExpert(further);
  EXPECT_THAT(metrics.Text(), Not(HasSubstr(R"(version="new")")));
  listed.erase(listed.begin());
  EXPECT_THAT(metrics.Text(), HasSubstr(R"(version="0")"));  // as long as nobody needs the place
  metrics.AddExpert(further);
  metrics.ObserveRequest(further, 0, absl::Seconds(1));
  const std::string text = metrics.Text();
  EXPECT_THAT(text, Not(HasSubstr(R"(version="0")")));
  EXPECT_THAT(
      text,
      HasSubstr(
          R"(ccoe_requests_total{domain="sql",expert="sql",grpc_code="OK",version="new"} 1)"));
}

TEST(MetricsTest, DomainsAreBounded) {
  Metrics metrics(OptionsOf("router"));
  for (size_t i = 0; i < 2 * kMaxDomains; ++i) {
    metrics.AddExpert({absl::StrCat("domain", i), "e", "1"});
  }
  const std::string text = metrics.Text();
  EXPECT_THAT(text, HasSubstr("domain=\"domain63\""));
  EXPECT_THAT(text, Not(HasSubstr("domain=\"domain64\"")));
}

TEST(MetricsTest, GaugesAreReadAtTheScrape) {
  Metrics metrics(OptionsOf("serve"));
  int used = 3;
  metrics.SetGaugeSource([&used] {
    GaugeValues values = WithExperts({{"law", "law", "2", false}});
    values.kv_blocks_used = used;
    values.kv_blocks_free = 12 - used;
    return values;
  });
  const std::string text = metrics.Text();
  EXPECT_THAT(text, HasSubstr("ccoe_kv_cache_blocks{state=\"used\"} 3"));
  EXPECT_THAT(text, HasSubstr("ccoe_kv_cache_usage_ratio 0.25"));
  EXPECT_THAT(text, HasSubstr(R"(ccoe_expert_healthy{domain="law",expert="law",version="2"} 0)"));
  EXPECT_THAT(text, HasSubstr(R"(ccoe_queue_requests{domain="law"} 0)"));
  used = 6;
  EXPECT_THAT(metrics.Text(), HasSubstr("ccoe_kv_cache_usage_ratio 0.5"));
  metrics.SetGaugeSource(nullptr);
  used = 5;
  EXPECT_THAT(metrics.Text(), HasSubstr("ccoe_kv_cache_blocks{state=\"used\"} 6"));
}

TEST(MetricsTest, TheHealthOfAnExpertThatLeftIsNotShown) {
  Metrics metrics(OptionsOf("router"));
  std::vector<ListedExpert> listed = {{"law", "law", "2", true}};
  metrics.SetGaugeSource([&] { return WithExperts(listed); });
  EXPECT_THAT(metrics.Text(), HasSubstr("ccoe_expert_healthy{"));
  listed.clear();
  EXPECT_THAT(metrics.Text(), Not(HasSubstr("ccoe_expert_healthy{")));
  listed = {{"law", "law", "2", false}};
  EXPECT_THAT(metrics.Text(), HasSubstr("ccoe_expert_healthy{"));
}

TEST(MetricsTest, ADomainWithoutReplicaShowsItsDemandForAWhile) {
  Metrics metrics(OptionsOf("router"));
  metrics.AddExpert({"law", "law", "2"});
  metrics.HoldInQueue("law", absl::Hours(1));
  metrics.HoldInQueue("law", absl::ZeroDuration());
  EXPECT_THAT(metrics.Text(), HasSubstr(R"(ccoe_queue_requests{domain="law"} 1)"));
  for (int i = 0; i < 10000; ++i) metrics.HoldInQueue("law", absl::ZeroDuration());
  EXPECT_THAT(metrics.Text(), HasSubstr(R"(ccoe_queue_requests{domain="law"} 1)"));
}

TEST(MetricsTest, AQueuePlaceCountsWhileItIsHeld) {
  auto metrics = std::make_unique<Metrics>(OptionsOf("router"));
  metrics->AddExpert({"law", "law", "2"});
  std::shared_ptr<const void> place = metrics->EnterQueue("law");
  EXPECT_THAT(metrics->Text(), HasSubstr(R"(ccoe_queue_requests{domain="law"} 1)"));
  place = metrics->EnterQueue("");
  EXPECT_THAT(metrics->Text(), HasSubstr(R"(ccoe_queue_requests{domain="law"} 0)"));
  EXPECT_THAT(metrics->Text(), HasSubstr(R"(ccoe_queue_requests{domain="none"} 1)"));
  metrics.reset();
  place.reset();
}

TEST(MetricsServerTest, TakesAFreePortAndSaysWhich) {
  Metrics metrics(OptionsOf("serve"));
  const auto server = MetricsServer::Start("127.0.0.1:0", metrics);
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_GT((*server)->port(), 0);
  EXPECT_EQ((*server)->address(), absl::StrCat("127.0.0.1:", (*server)->port()));
  const auto second = MetricsServer::Start(absl::StrCat("127.0.0.1:", (*server)->port()), metrics);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
}

TEST(MetricsServerTest, AnswersAScrapeAndStopsAtOnce) {
  Metrics metrics(OptionsOf("serve"));
  absl::Duration shortest = absl::InfiniteDuration();
  for (int i = 0; i < 3; ++i) {
    auto server = MetricsServer::Start("127.0.0.1:0", metrics);
    ASSERT_TRUE(server.ok()) << server.status();
    EXPECT_THAT(Scrape((*server)->port()), HasSubstr("ccoe_active_requests 0"));
    const absl::Time start = absl::Now();
    server->reset();
    shortest = std::min(shortest, absl::Now() - start);
  }
  EXPECT_LT(shortest, absl::Seconds(1));
}

TEST(MetricsServerTest, NamesTheHostOfAllAddresses) {
  Metrics metrics(OptionsOf("serve"));
  const auto server = MetricsServer::Start(":0", metrics);
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_EQ((*server)->address(), absl::StrCat("0.0.0.0:", (*server)->port()));
}

}  // namespace
}  // namespace ccoe::telemetry
