#include "services/cli/exposition.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "common/telemetry/metrics.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ccoe::cli {
namespace {

constexpr char kText[] = R"(# HELP a_total Help with "quotes" {and} braces
# TYPE a_total counter
a_total{domain="sql",name="a \"b\" \\ c, d}"} 3
plain 1.5e-05 1700000000000
b_bucket{le="+Inf"} 7
empty{} NaN
)";

TEST(ExpositionTest, ReadsSamples) {
  const auto samples = ParseExposition(kText);
  ASSERT_TRUE(samples.ok()) << samples.status();
  ASSERT_EQ(samples->size(), 4u);
  EXPECT_EQ((*samples)[0].name, "a_total");
  EXPECT_EQ((*samples)[0].label("domain"), "sql");
  EXPECT_EQ((*samples)[0].label("name"), "a \"b\" \\ c, d}");
  EXPECT_EQ((*samples)[0].label("none"), "");
  EXPECT_EQ((*samples)[0].value, 3);
  EXPECT_EQ((*samples)[1].value, 1.5e-05);
  EXPECT_EQ((*samples)[2].label("le"), "+Inf");
  EXPECT_TRUE(ParseExposition("").ok());
  EXPECT_TRUE(ParseExposition("a 1\r\nb 2\r\n").ok());
}

TEST(ExpositionTest, RefusesWhatIsNone) {
  for (const char* line :
       {"a", "a ", "a x", " 1", "{} 1", "a{ 1", "a{b} 1", "a{b=} 1", "a{b=\"} 1", "a{b=\"c} 1",
        "a{=\"c\"} 1", "a{b=\"c\" 1", "a{b=\"c\\", "<html>", "a{b=\"c\"}"}) {
    EXPECT_EQ(ParseExposition(line).status().code(), absl::StatusCode::kInvalidArgument) << line;
  }
  const std::string text = kText;
  for (size_t size = 0; size < text.size(); ++size) {
    ParseExposition(text.substr(0, size)).IgnoreError();  // ends
  }
}

TEST(ScrapeTest, ReadsAProcessOfOurs) {
  telemetry::Metrics metrics({.service = "serve", .version = "1.2.3", .arithmetic = "exact"});
  const auto server = telemetry::MetricsServer::Start("127.0.0.1:0", metrics);
  ASSERT_TRUE(server.ok()) << server.status();
  const auto samples = Scrape((*server)->address(), absl::Seconds(30));
  ASSERT_TRUE(samples.ok()) << samples.status();
  EXPECT_GT(samples->size(), 100u);
  EXPECT_TRUE(Scrape(absl::StrCat("localhost:", (*server)->port()), absl::Seconds(30)).ok());
}

// Listens on a free port of 127.0.0.1.
class Listener {
 public:
  Listener() : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(listen(fd_, 4), 0);
    socklen_t size = sizeof address;
    EXPECT_EQ(getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    address_ = absl::StrCat("127.0.0.1:", ntohs(address.sin_port));
  }
  ~Listener() { close(fd_); }
  const std::string& address() const { return address_; }

  // Answers one connection.
  void Answer(const std::string& text) const {
    const int peer = accept(fd_, nullptr, nullptr);
    std::string request(1024, '\0');
    EXPECT_GT(recv(peer, request.data(), request.size(), 0), 0);
    EXPECT_EQ(send(peer, text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
    close(peer);
  }

 private:
  const int fd_;
  std::string address_;
};

TEST(ScrapeTest, SaysWhoHasNoMetrics) {
  const Listener listener;
  for (const char* answer :
       {"", "HTTP/1.", "HTTP/1.1 200 ", "HTTP/1.1 404 Not Found\r\n\r\na 1\n", "SSH-2.0-x\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n<html></html>\n", "HTTP/2 200 \r\n\r\na 1\n"}) {
    std::thread peer([&] { listener.Answer(answer); });
    const auto samples = Scrape(listener.address(), absl::Seconds(30));
    peer.join();
    EXPECT_EQ(samples.status().code(), absl::StatusCode::kFailedPrecondition) << answer;
  }
}

TEST(ScrapeTest, WaitsNoLongerThanItMay) {
  const Listener listener;  // accepts nobody
  EXPECT_TRUE(absl::IsUnavailable(Scrape(listener.address(), absl::Milliseconds(50)).status()));
  std::string gone;
  {
    const Listener other;
    gone = other.address();
  }
  EXPECT_TRUE(absl::IsUnavailable(Scrape(gone, absl::Seconds(30)).status()));
  EXPECT_EQ(Scrape("nonsense", absl::Seconds(30)).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace ccoe::cli
