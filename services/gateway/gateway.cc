#include "services/gateway/gateway.h"

#include <grpcpp/channel.h>

#include <utility>

#include "common/base/status_macros.h"
#include "common/rpc/proto_time.h"
#include "services/gateway/event_loop.h"
#include "services/gateway/http_server.h"
#include "services/gateway/router_client.h"
#include "services/gateway/routes.h"

namespace ccoe::gateway {
namespace {

constexpr int kStreamed = 200;
constexpr std::string_view kNoPath = "other";

// Counts a request by its answer.
class CountedExchange final : public Exchange {
 public:
  CountedExchange(std::shared_ptr<Exchange> exchange, telemetry::Metrics& metrics,
                  std::string_view path)
      : exchange_(std::move(exchange)), metrics_(metrics), path_(path) {}

  const HttpRequest& request() const override { return exchange_->request(); }
  void Respond(HttpResponse response) override {
    metrics_.CountHttpRequest(path_, response.status);
    exchange_->Respond(std::move(response));
  }
  void StartStream() override {
    metrics_.CountHttpRequest(path_, kStreamed);
    exchange_->StartStream();
  }
  bool Full() const override { return exchange_->Full(); }
  void Write(std::string bytes) override { exchange_->Write(std::move(bytes)); }
  void EndStream() override { exchange_->EndStream(); }
  void OnRoom(std::function<void()> callback) override { exchange_->OnRoom(std::move(callback)); }
  void OnClosed(std::function<void()> callback) override {
    exchange_->OnClosed(std::move(callback));
  }

 private:
  const std::shared_ptr<Exchange> exchange_;
  telemetry::Metrics& metrics_;
  const std::string_view path_;
};

}  // namespace

// In the order of construction. The loop ends after the server and before the router's stubs, for
// calls that were cancelled end on it.
struct Gateway::State {
  explicit State(GatewayOptions gateway_options)
      : options(std::move(gateway_options)),
        loop(std::make_unique<EventLoop>()),
        router(*loop, options.channel),
        context{router, options.max_body_bytes} {}
  ~State() {
    server.reset();
    loop.reset();
  }

  void Handle(std::shared_ptr<Exchange> exchange) {
    const RouteMatch match = FindRoute(exchange->request().method, exchange->request().path);
    Dispatch(context, match,
             std::make_shared<CountedExchange>(std::move(exchange), *options.metrics, match.path));
  }

  const GatewayOptions options;
  std::unique_ptr<EventLoop> loop;
  RouterClient router;
  HandlerContext context;
  std::unique_ptr<HttpServer> server;
};

absl::StatusOr<std::unique_ptr<Gateway>> Gateway::Start(GatewayOptions options) {
  auto state = std::make_unique<State>(std::move(options));
  const internal::v1::HttpConfig& config = state->options.config;
  HttpServerOptions server;
  server.listen = config.listen();
  server.limits.max_connections = config.max_connections();
  server.limits.max_body_bytes = state->options.max_body_bytes;
  server.limits.read_timeout = rpc::FromProto(config.read_timeout());
  server.limits.idle_timeout = rpc::FromProto(config.idle_timeout());
  server.limits.write_timeout = rpc::FromProto(config.write_timeout());
  server.handler = [state = state.get()](std::shared_ptr<Exchange> exchange) {
    state->Handle(std::move(exchange));
  };
  server.on_refused = [metrics = state->options.metrics](int status) {
    metrics->CountHttpRequest(kNoPath, status);
  };
  CCOE_ASSIGN_OR_RETURN(state->server, HttpServer::Start(*state->loop, std::move(server)));
  return std::unique_ptr<Gateway>(new Gateway(std::move(state)));
}

Gateway::Gateway(std::unique_ptr<State> state) : state_(std::move(state)) {}
Gateway::~Gateway() = default;

const std::string& Gateway::address() const { return state_->server->address(); }
void Gateway::StartDraining() { state_->server->StartDraining(); }
bool Gateway::Drain(absl::Duration timeout) { return state_->server->Drain(timeout); }

}  // namespace ccoe::gateway
