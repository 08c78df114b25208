#include "services/gateway/http_server.h"

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <unordered_set>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "common/base/mutex.h"
#include "common/base/status_macros.h"
#include "common/rpc/address.h"
#include "common/telemetry/log.h"
#include "services/gateway/http_connection.h"

namespace ccoe::gateway {

namespace net = boost::asio;
using net::ip::tcp;
using Error = boost::system::error_code;

namespace {

constexpr std::chrono::milliseconds kAcceptPause(100);  // where there are no file descriptors left

absl::StatusOr<tcp::acceptor> Bind(net::io_context& context, const std::string& listen) {
  CCOE_RETURN_IF_ERROR(rpc::CheckListenAddress(listen));
  const size_t colon = listen.rfind(':');
  std::string host = listen.substr(0, colon);
  if (host.empty()) host = "[::]";
  host = std::string(absl::StripSuffix(absl::StripPrefix(host, "["), "]"));
  Error error;
  tcp::resolver resolver(context);
  const auto found =
      resolver.resolve(host, listen.substr(colon + 1), tcp::resolver::passive, error);
  tcp::acceptor acceptor(context);
  if (!error) {
    const tcp::endpoint endpoint = *found.begin();
    acceptor.open(endpoint.protocol(), error);
    if (!error) acceptor.set_option(net::socket_base::reuse_address(true), error);
    if (!error) acceptor.bind(endpoint, error);
    if (!error) acceptor.listen(net::socket_base::max_listen_connections, error);
  }
  if (!error) return acceptor;
  return absl::UnavailableError(absl::StrCat("cannot listen at ", listen, ": ", error.message()));
}

}  // namespace

struct HttpServer::State : std::enable_shared_from_this<State> {
  State(EventLoop& event_loop, HttpServerOptions options, tcp::acceptor bound)
      : loop(event_loop),
        host{std::move(options), /*draining=*/false,
             [this](HttpConnection* connection) { OnGone(connection); }},
        acceptor(std::move(bound)),
        pause(loop.context()) {}

  void Accept() {
    acceptor.async_accept([self = shared_from_this()](const Error& error, tcp::socket socket) {
      self->OnAccepted(error, std::move(socket));
    });
  }

  void OnAccepted(const Error& error, tcp::socket socket) {
    if (!acceptor.is_open()) return;
    if (error) {
      telemetry::LogWarning("http_accept_failed", {{"message", error.message()}});
      pause.expires_after(kAcceptPause);
      pause.async_wait([self = shared_from_this()](const Error& cancelled) {
        if (!cancelled && self->acceptor.is_open()) self->Accept();
      });
      return;
    }
    const auto most = static_cast<size_t>(host.options.limits.max_connections);
    // Those that are refused linger: beyond as many again there is no answer.
    if (connections.size() >= 2 * most) return Accept();
    const bool full = connections.size() >= most;
    const auto connection = std::make_shared<HttpConnection>(std::move(socket), host);
    connections.insert(connection.get());
    SetOpen();
    full ? connection->Refuse() : connection->Start();
    Accept();
  }

  void OnGone(HttpConnection* connection) {
    connections.erase(connection);
    SetOpen();
  }

  void SetOpen() {
    base::MutexLock lock(&mutex);
    open = connections.size();
    changed.SignalAll();
  }

  void StopAccepting() {
    host.draining = true;
    Error ignored;
    acceptor.close(ignored);
    pause.cancel();
  }

  // Those that are there now; closing one takes it out of `connections`.
  std::vector<std::shared_ptr<HttpConnection>> Connections() {
    std::vector<std::shared_ptr<HttpConnection>> list;
    list.reserve(connections.size());
    for (HttpConnection* connection : connections) list.push_back(connection->shared_from_this());
    return list;
  }

  bool WaitUntilGone(absl::Duration timeout) {
    const absl::Time deadline = absl::Now() + timeout;
    base::MutexLock lock(&mutex);
    while (open > 0) {
      const absl::Duration left = deadline - absl::Now();
      if (left <= absl::ZeroDuration()) return false;
      changed.WaitFor(&mutex, absl::ToChronoNanoseconds(left));
    }
    return true;
  }

  EventLoop& loop;
  HttpConnection::Host host;
  tcp::acceptor acceptor;
  net::steady_timer pause;
  std::unordered_set<HttpConnection*> connections;
  std::string address;

  base::Mutex mutex;
  base::CondVar changed;
  size_t open ABSL_GUARDED_BY(mutex) = 0;
  bool closed ABSL_GUARDED_BY(mutex) = false;
};

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(EventLoop& loop,
                                                              HttpServerOptions options) {
  const std::string listen = options.listen;
  CCOE_ASSIGN_OR_RETURN(tcp::acceptor acceptor, Bind(loop.context(), listen));
  Error error;
  const unsigned short port = acceptor.local_endpoint(error).port();
  const std::string host = listen.substr(0, listen.rfind(':'));
  auto state = std::make_shared<State>(loop, std::move(options), std::move(acceptor));
  state->address = absl::StrCat(host.empty() ? "localhost" : host, ":", port);
  loop.Post([state] { state->Accept(); });
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(state)));
}

HttpServer::HttpServer(std::shared_ptr<State> state) : state_(std::move(state)) {}

HttpServer::~HttpServer() {
  state_->loop.Post([state = state_] {
    state->StopAccepting();
    for (const auto& connection : state->Connections()) connection->Close();
    base::MutexLock lock(&state->mutex);
    state->closed = true;
    state->changed.SignalAll();
  });
  base::MutexLock lock(&state_->mutex);
  while (!state_->closed || state_->open > 0) state_->changed.Wait(&state_->mutex);
}

const std::string& HttpServer::address() const { return state_->address; }

void HttpServer::StartDraining() {
  state_->loop.Post([state = state_] {
    state->StopAccepting();
    for (const auto& connection : state->Connections()) connection->Drain();
  });
}

bool HttpServer::Drain(absl::Duration timeout) {
  StartDraining();
  return state_->WaitUntilGone(timeout);
}

}  // namespace ccoe::gateway
