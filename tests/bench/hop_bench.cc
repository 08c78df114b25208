// Times the hop between a backbone and an expert process: the real link with an engine on the far
// side that answers at once, beside bare gRPC messages of the same size. Prints one line of JSON
// per payload. tests/bench/run.py runs it.

#include <grpcpp/grpcpp.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/base/mutex.h"
#include "common/base/status_macros.h"
#include "common/rpc/link_client.h"
#include "common/rpc/link_server.h"
#include "tests/bench/echo_engine.h"
#include "tests/bench/ping_pong.h"

ABSL_FLAG(int, count, 4000, "round trips of each kind and payload");
ABSL_FLAG(int, hidden, 576, "values of a hidden state");

namespace ccoe::bench {
namespace {

constexpr int kBlock = 200;  // round trips before the other kind has its turn

// What one measurement sends: `sessions` sessions, each with `rows` consecutive rows.
struct Payload {
  int sessions = 1;
  int rows = 1;
};

constexpr std::array<Payload, 3> kPayloads = {{{1, 1}, {1, 64}, {64, 1}}};

struct Ports {
  int link = 0;
  int bare = 0;
};

rpc::LinkIdentity Identity(int layer_begin, int layer_end) {
  rpc::LinkIdentity identity;
  identity.base_digest = "sha256:0";
  identity.arithmetic = "i8b32.v2";
  identity.layers = 30;
  identity.hidden = absl::GetFlag(FLAGS_hidden);
  identity.vocab = 1000;
  identity.layer_begin = layer_begin;
  identity.layer_end = layer_end;
  identity.max_context = 1 << 20;
  identity.node = "bench";
  return identity;
}

// The far side's process: serves until `until_closed` reaches its end.
absl::Status Serve(int ports_to, int until_closed) {
  EchoEngine engine;
  rpc::LinkServerOptions options;
  options.identity = Identity(18, 30);
  options.engine = &engine;
  runtime::ExpertInfo expert;
  expert.key.name = runtime::kGeneralExpert;
  expert.attach_depth = 18;
  options.experts.push_back(rpc::DescribeExpert(expert, ""));
  rpc::LinkServer link(std::move(options));
  CCOE_ASSIGN_OR_RETURN(auto bare, PingPongServer::Create());

  Ports ports;
  ports.bare = bare->port();
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &ports.link);
  builder.SetMaxReceiveMessageSize(1 << 20);
  builder.RegisterService(link.service());
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) return absl::UnavailableError("cannot listen on 127.0.0.1");
  if (write(ports_to, &ports, sizeof(ports)) != sizeof(ports)) {
    return absl::UnavailableError("cannot tell the ports");
  }
  char byte = 0;
  while (read(until_closed, &byte, 1) > 0) {
  }
  server->Shutdown(absl::ToChronoTime(absl::Now()));
  link.Stop();
  return absl::OkStatus();
}

// Collects what the stamps in the frames say.
class RoundTrips final : public rpc::LinkObserver {
 public:
  void OnHiddenStatesSent(size_t) override {}
  void OnHiddenStatesReceived(size_t) override {}
  void OnRoundTrip(absl::Duration on_the_way) override {
    base::MutexLock lock(&mutex_);
    durations_.push_back(on_the_way);
  }
  void OnLinkChanged(const std::string&, const absl::Status&) override {}
  void OnExpertsChanged(const std::string&) override {}

  std::vector<absl::Duration> Take() {
    base::MutexLock lock(&mutex_);
    return std::exchange(durations_, {});
  }

 private:
  base::Mutex mutex_;
  std::vector<absl::Duration> durations_ ABSL_GUARDED_BY(mutex_);
};

// The backbone's end of the link under test.
class Caller {
 public:
  explicit Caller(int port) : client_(Options(port)) {}
  ~Caller() { client_.Stop(); }

  // Opens the sessions that all payloads share.
  absl::Status Open() {
    CCOE_ASSIGN_OR_RETURN(replica_, engine_.WaitForReplica(absl::Seconds(10)));
    int sessions = 0;
    for (const Payload& payload : kPayloads) sessions = std::max(sessions, payload.sessions);
    runtime::RemoteSpec spec;
    spec.expert.name = runtime::kGeneralExpert;
    spec.attach_depth = 18;
    spec.max_positions = 1 << 20;
    spec.prompt_tokens = 1;
    for (int i = 0; i < sessions; ++i) replica_->OpenSession(i, spec);
    return engine_.WaitFor(sessions);
  }

  // `count` round trips, one after another: how long each was on the way.
  absl::StatusOr<std::vector<absl::Duration>> Run(const Payload& payload, int count) {
    std::vector<runtime::HiddenRows> rows(payload.sessions);
    for (int i = 0; i < payload.sessions; ++i) {
      rows[i].session = i;
      rows[i].output = runtime::RowOutput::kSample;
      rows[i].tokens.resize(payload.rows);
      rows[i].states.resize(size_t{1} * payload.rows * absl::GetFlag(FLAGS_hidden));
    }
    round_trips_.Take();
    for (int i = 0; i < count; ++i) {
      while (replica_->CreditRows() < payload.sessions * payload.rows) std::this_thread::yield();
      replica_->Send(rows);
      CCOE_RETURN_IF_ERROR(engine_.WaitFor(payload.sessions));
    }
    return round_trips_.Take();
  }

 private:
  rpc::LinkClientOptions Options(int port) {
    rpc::LinkClientOptions options;
    options.address = absl::StrCat("127.0.0.1:", port);
    options.identity = Identity(0, 18);
    options.engine = &engine_;
    options.observer = &round_trips_;
    return options;
  }

  CallerEngine engine_;
  RoundTrips round_trips_;
  rpc::LinkClient client_;
  runtime::RemoteExpert* replica_ = nullptr;
};

double Quantile(std::vector<absl::Duration>* durations, double q) {
  const auto at = durations->begin() + static_cast<int64_t>(q * (durations->size() - 1));
  std::nth_element(durations->begin(), at, durations->end());
  return absl::ToDoubleMicroseconds(*at);
}

absl::Status Measure(const Payload& payload, int bare_port, Caller* caller) {
  const int row_bytes = absl::GetFlag(FLAGS_hidden) * static_cast<int>(sizeof(float));
  const size_t request_bytes = size_t{1} * payload.sessions * payload.rows * row_bytes;
  const size_t reply_bytes = size_t{32} * payload.sessions;  // about what results take
  const std::string bare_address = absl::StrCat("127.0.0.1:", bare_port);
  std::vector<absl::Duration> link;
  std::vector<absl::Duration> bare;
  CCOE_RETURN_IF_ERROR(caller->Run(payload, kBlock).status());  // warm up
  for (int done = 0; done < absl::GetFlag(FLAGS_count); done += kBlock) {
    CCOE_ASSIGN_OR_RETURN(auto by_link, caller->Run(payload, kBlock));
    link.insert(link.end(), by_link.begin(), by_link.end());
    // The first of a stream pay for its opening.
    constexpr int kUncounted = 20;
    CCOE_ASSIGN_OR_RETURN(auto by_bare,
                          PingPong(bare_address, request_bytes, reply_bytes, kBlock + kUncounted));
    bare.insert(bare.end(), by_bare.begin() + kUncounted, by_bare.end());
  }
  std::printf(
      "{\"sessions\": %d, \"rows\": %d, \"row_bytes\": %d, \"count\": %zu, \"link_p50_us\": %.1f, "
      "\"link_p99_us\": %.1f, \"bare_p50_us\": %.1f, \"bare_p99_us\": %.1f}\n",
      payload.sessions, payload.rows, row_bytes, bare.size(), Quantile(&link, 0.5),
      Quantile(&link, 0.99), Quantile(&bare, 0.5), Quantile(&bare, 0.99));
  std::fflush(stdout);
  return absl::OkStatus();
}

absl::Status Call(int ports_from) {
  Ports ports;
  if (read(ports_from, &ports, sizeof(ports)) != sizeof(ports)) {
    return absl::UnavailableError("the far side did not start");
  }
  Caller caller(ports.link);
  CCOE_RETURN_IF_ERROR(caller.Open());
  for (const Payload& payload : kPayloads) {
    CCOE_RETURN_IF_ERROR(Measure(payload, ports.bare, &caller));
  }
  return absl::OkStatus();
}

// Two processes; gRPC starts in each after the fork.
absl::Status Main() {
  int ports[2];
  int alive[2];
  if (pipe(ports) != 0 || pipe(alive) != 0) return absl::InternalError("no pipe");
  const pid_t child = fork();
  if (child < 0) return absl::InternalError("cannot fork");
  if (child == 0) {
    close(ports[0]);
    close(alive[1]);
    return Serve(ports[1], alive[0]);
  }
  close(ports[1]);
  close(alive[0]);
  const absl::Status status = Call(ports[0]);
  close(alive[1]);
  int child_status = 0;
  waitpid(child, &child_status, 0);
  if (status.ok() && child_status != 0) return absl::InternalError("the far side failed");
  return status;
}

}  // namespace
}  // namespace ccoe::bench

int main(int argc, char** argv) {
  absl::SetProgramUsageMessage(
      "Times the hop between two processes beside bare gRPC messages of the same size; prints one "
      "line of JSON per payload.");
  absl::ParseCommandLine(argc, argv);
  const absl::Status status = ccoe::bench::Main();
  if (!status.ok()) std::fprintf(stderr, "error: %s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
