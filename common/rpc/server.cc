#include "common/rpc/server.h"

#include <grpcpp/channel.h>
#include <grpcpp/ext/channelz_service_plugin.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/impl/server_builder_option.h>
#include <grpcpp/impl/server_builder_plugin.h>
#include <grpcpp/impl/server_initializer.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <mutex>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/rpc/address.h"
#include "common/rpc/malformed_request.h"

namespace ccoe::rpc {
namespace {

constexpr int kKeepaliveTimeMs = 30'000;
constexpr int kKeepaliveTimeoutMs = 10'000;
constexpr int kMinPingIntervalMs = 10'000;

// Must be done before the first server is built.
void InitPluginsOnce() {
  static std::once_flag once;
  std::call_once(once, [] {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    grpc::channelz::experimental::InitChannelzService();
  });
}

// Tells the names of the services that a server was built with.
class ServiceNames final : public grpc::ServerBuilderPlugin {
 public:
  explicit ServiceNames(std::vector<std::string>* names) : names_(*names) {}
  std::string name() override { return "service_names"; }
  void InitServer(grpc::ServerInitializer*) override {}
  void Finish(grpc::ServerInitializer* initializer) override {
    names_ = *initializer->GetServiceList();
  }
  void ChangeArguments(const std::string&, void*) override {}

 private:
  std::vector<std::string>& names_;
};

class WithServiceNames final : public grpc::ServerBuilderOption {
 public:
  explicit WithServiceNames(std::vector<std::string>* names) : names_(names) {}
  void UpdateArguments(grpc::ChannelArguments*) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    plugins->push_back(std::make_unique<ServiceNames>(names_));
  }

 private:
  std::vector<std::string>* const names_;
};

struct Bound {
  std::vector<std::string> service_names;
  std::unique_ptr<grpc::Server> server;
  int port = 0;
  std::string address;
};

absl::StatusOr<Bound> Bind(const ServerOptions& options) {
  const std::string& listen = options.listen;
  Bound bound;
  grpc::ServerBuilder builder;
  if (!listen.empty()) {
    CCOE_RETURN_IF_ERROR(CheckListenAddress(listen));
    builder.AddListeningPort(
        absl::StartsWith(listen, ":") ? absl::StrCat("[::]", listen) : listen,
        options.credentials != nullptr ? options.credentials : grpc::InsecureServerCredentials(),
        &bound.port);
  }
  builder.SetMaxReceiveMessageSize(options.max_message_bytes);
  builder.SetMaxSendMessageSize(-1);
  builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::NUM_CQS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::MAX_POLLERS, 1);
  // Without it a second process could take the same port and half of the calls.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveTimeMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kMinPingIntervalMs);
  for (grpc::Service* service : options.services) builder.RegisterService(service);
  builder.SetOption(std::make_unique<WithServiceNames>(&bound.service_names));
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> interceptors;
  interceptors.push_back(std::make_unique<MalformedRequestFactory>());
  builder.experimental().SetInterceptorCreators(std::move(interceptors));
  bound.server = builder.BuildAndStart();
  if (bound.server == nullptr || (bound.port == 0 && !listen.empty())) {
    return absl::UnavailableError(absl::StrCat("cannot listen at ", listen,
                                               ": is the port taken, the host another machine?"));
  }
  if (IsUnixAddress(listen)) {
    bound.address = listen;
    bound.port = 0;
  } else if (!listen.empty()) {
    const std::string host = listen.substr(0, listen.rfind(':'));
    bound.address = absl::StrCat(host.empty() ? "localhost" : host, ":", bound.port);
  }
  return bound;
}

}  // namespace

struct Server::State {
  Bound main;
  Bound health;  // no server where none was asked for
};

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ServerOptions& options) {
  InitPluginsOnce();
  auto state = std::make_unique<State>();
  CCOE_ASSIGN_OR_RETURN(state->main, Bind(options));
  if (!options.health_listen.empty()) {
    ServerOptions health;
    health.listen = options.health_listen;
    CCOE_ASSIGN_OR_RETURN(state->health, Bind(health));
  }
  std::unique_ptr<Server> server(new Server(std::move(state)));
  server->SetHealth(Health::kServing);
  return server;
}

Server::Server(std::unique_ptr<State> state) : state_(std::move(state)) {}

Server::~Server() { Shutdown(absl::ZeroDuration()); }

std::shared_ptr<grpc::Channel> Server::InProcessChannel() {
  return state_->main.server->InProcessChannel(grpc::ChannelArguments());
}

int Server::port() const { return state_->main.port; }
int Server::health_port() const { return state_->health.port; }
const std::string& Server::address() const { return state_->main.address; }
const std::string& Server::health_address() const { return state_->health.address; }

void Server::SetHealth(Health health) {
  for (const Bound* bound : {&state_->main, &state_->health}) {
    if (bound->server == nullptr) continue;
    if (auto* service = bound->server->GetHealthCheckService(); service != nullptr) {
      service->SetServingStatus(health == Health::kServing);
      for (const std::string& name : state_->main.service_names) {
        service->SetServingStatus(name, health == Health::kServing);
      }
    }
  }
}

void Server::Shutdown(absl::Duration timeout) {
  SetHealth(Health::kNotServing);
  const auto deadline = absl::ToChronoTime(absl::Now() + timeout);
  // The port of its own for health answers until the last call is done.
  if (state_->main.server != nullptr) state_->main.server->Shutdown(deadline);
  if (state_->health.server != nullptr) {
    state_->health.server->Shutdown(std::chrono::system_clock::now());
  }
}

}  // namespace ccoe::rpc
