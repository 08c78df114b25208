#include <arpa/inet.h>
#include <prometheus/exposer.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <exception>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/telemetry/metrics.h"

namespace ccoe::telemetry {
namespace {

constexpr absl::Duration kKnockInterval = absl::Milliseconds(5);

// CivetWeb takes "port" for all addresses, not ":port", and no names of hosts.
std::string CivetAddress(const std::string& listen) {
  if (absl::StartsWith(listen, ":")) return listen.substr(1);
  if (absl::StartsWith(listen, "localhost:")) return absl::StrCat("127.0.0.1", listen.substr(9));
  return listen;
}

// Connects to what listens at `host`, an IPv4 address, and hangs up. Waits for nobody.
void Knock(const std::string& host, int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  if (inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1) return;
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  (void)connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  close(fd);
}

}  // namespace

struct MetricsServer::State {
  std::string host = "0.0.0.0";  // that it listens at
  std::unique_ptr<prometheus::Exposer> exposer;
  std::shared_ptr<prometheus::Collectable> collectable;  // the exposer holds it weakly
};

absl::StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::Start(const std::string& listen,
                                                                    const Metrics& metrics) {
  const std::string address = CivetAddress(listen);
  auto state = std::make_unique<State>();
  if (const size_t colon = address.rfind(':'); colon != std::string::npos) {
    state->host = address.substr(0, colon);
  }
  try {
    state->exposer = std::make_unique<prometheus::Exposer>(address);
    state->collectable = metrics.collectable();
    state->exposer->RegisterCollectable(state->collectable);
  } catch (const std::exception& error) {
    return absl::UnavailableError(
        absl::StrCat("cannot serve metrics at ", listen, ": ", error.what()));
  }
  return std::unique_ptr<MetricsServer>(new MetricsServer(std::move(state)));
}

MetricsServer::MetricsServer(std::unique_ptr<State> state) : state_(std::move(state)) {}

// CivetWeb's acceptor sees an order to stop when a connection comes, or after up to two seconds.
MetricsServer::~MetricsServer() {
  std::atomic<bool> stopped{false};
  std::thread knocker([&stopped, host = state_->host, port = port()] {
    while (!stopped) {
      Knock(host, port);
      absl::SleepFor(kKnockInterval);
    }
  });
  state_->exposer.reset();
  stopped = true;
  knocker.join();
}

int MetricsServer::port() const {
  const std::vector<int> ports = state_->exposer->GetListeningPorts();
  return ports.empty() ? 0 : ports.front();
}

std::string MetricsServer::address() const { return absl::StrCat(state_->host, ":", port()); }

}  // namespace ccoe::telemetry
