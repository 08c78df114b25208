#include "tests/bench/ping_pong.h"

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/notification.h"

namespace ccoe::bench {
namespace {

grpc::ByteBuffer Message(size_t bytes) {
  const grpc::Slice slice(std::string(bytes, 'x'));
  return grpc::ByteBuffer(&slice, 1);
}

class EchoReactor final : public grpc::ServerGenericBidiReactor {
 public:
  explicit EchoReactor(size_t reply_bytes) : reply_(Message(reply_bytes)) { StartRead(&request_); }

  void OnReadDone(bool ok) override {
    if (ok) {
      StartWrite(&reply_);
    } else {
      Finish(grpc::Status::OK);
    }
  }
  void OnWriteDone(bool ok) override {
    if (ok) StartRead(&request_);
  }
  void OnDone() override { delete this; }

 private:
  const grpc::ByteBuffer reply_;
  grpc::ByteBuffer request_;
};

// The size of the answers is the method's name.
constexpr char kMethodPrefix[] = "/ccoe.bench.PingPong/";

class EchoService final : public grpc::CallbackGenericService {
 public:
  grpc::ServerGenericBidiReactor* CreateReactor(
      grpc::GenericCallbackServerContext* context) override {
    size_t reply_bytes = 0;
    const absl::string_view method = context->method();
    if (!absl::SimpleAtoi(absl::StripPrefix(method, kMethodPrefix), &reply_bytes)) {
      return CallbackGenericService::CreateReactor(context);
    }
    return new EchoReactor(reply_bytes);
  }
};

class PingReactor final : public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  PingReactor(size_t request_bytes, int count) : request_(Message(request_bytes)), left_(count) {
    durations_.reserve(count);
  }

  void Start() {
    Ping();
    StartCall();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    durations_.push_back(absl::FromChrono(std::chrono::steady_clock::now() - sent_));
    OnHalfDone();
  }
  void OnWriteDone(bool ok) override {
    if (ok) OnHalfDone();
  }
  void OnDone(const grpc::Status& status) override {
    status_ = status;
    done_.Notify();
  }

  absl::StatusOr<std::vector<absl::Duration>> Wait() {
    done_.WaitForNotification();
    if (left_ > 0 || !status_.ok()) {
      return absl::UnavailableError(
          absl::StrCat("the ping-pong's stream broke: ", status_.error_message()));
    }
    return std::move(durations_);
  }

 private:
  // The answer may be here before the word that the message has left.
  void OnHalfDone() {
    if (--halves_ > 0) return;
    if (--left_ > 0) {
      Ping();
    } else {
      StartWritesDone();
    }
  }

  void Ping() {
    halves_ = 2;
    sent_ = std::chrono::steady_clock::now();
    StartRead(&reply_);
    StartWrite(&request_);
  }

  const grpc::ByteBuffer request_;
  grpc::ByteBuffer reply_;
  int left_;
  std::atomic<int> halves_{0};
  std::chrono::steady_clock::time_point sent_;
  std::vector<absl::Duration> durations_;
  grpc::Status status_;
  absl::Notification done_;
};

}  // namespace

struct PingPongServer::State {
  EchoService service;
  std::unique_ptr<grpc::Server> server;
  int port = 0;
};

absl::StatusOr<std::unique_ptr<PingPongServer>> PingPongServer::Create() {
  auto state = std::make_unique<State>();
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &state->port);
  builder.RegisterCallbackGenericService(&state->service);
  state->server = builder.BuildAndStart();
  if (state->server == nullptr || state->port == 0) {
    return absl::UnavailableError("cannot listen on 127.0.0.1");
  }
  return std::unique_ptr<PingPongServer>(new PingPongServer(std::move(state)));
}

PingPongServer::PingPongServer(std::unique_ptr<State> state) : state_(std::move(state)) {}

PingPongServer::~PingPongServer() { state_->server->Shutdown(); }

int PingPongServer::port() const { return state_->port; }

absl::StatusOr<std::vector<absl::Duration>> PingPong(const std::string& address,
                                                     size_t request_bytes, size_t reply_bytes,
                                                     int count) {
  grpc::GenericStub stub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  PingReactor reactor(request_bytes, count);
  const std::string method = absl::StrCat(kMethodPrefix, reply_bytes);
  stub.PrepareBidiStreamingCall(&context, method, {}, &reactor);
  reactor.Start();
  return reactor.Wait();
}

}  // namespace ccoe::bench
