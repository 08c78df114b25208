#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <utility>

#include "ccoe/v1/generation_service.pb.h"
#include "common/base/error.h"
#include "common/rpc/status.h"
#include "services/router/call_info.h"
#include "services/router/call_timer.h"
#include "services/router/convert.h"
#include "services/router/session_call.h"

namespace ccoe::router {

// A call that runs a session and answers once. A subclass fills the response.
class UnaryCall : public grpc::ServerUnaryReactor, public SessionCall {
 public:
  UnaryCall(RouterCore* core, const char* method, grpc::CallbackServerContext* context)
      : SessionCall(core, ReadCallInfo(method, core->keys(), *context)), context_(*context) {}

  // Starts `call`, which lives until its OnDone.
  static grpc::ServerUnaryReactor* Start(const std::shared_ptr<UnaryCall>& call,
                                         absl::StatusOr<ParsedRequest> parsed) {
    call->self_ = call;
    if (call->deadline() < call->info().deadline) {
      call->deadline_timer_.Set(call->deadline(), call, &UnaryCall::CancelAtLimit);
    }
    call->Begin(std::move(parsed));
    return call.get();
  }

 private:
  virtual void Fill(const runtime::Finished& finished) = 0;

  void Admitted() override {}
  void Ended(const absl::StatusOr<runtime::Finished>& result) override {
    if (result.ok()) {
      Fill(*result);
      context_.AddInitialMetadata(rpc::kRequestIdKey, info().request_id);
    } else {
      rpc::AddErrorTrailers(result.status(), context_);
    }
    Finish(rpc::ToGrpcStatus(result.status()));
  }
  void OnCancel() override { Cancel(CancelReason(info())); }
  void OnDone() override {
    deadline_timer_.Stop();
    std::move(self_).reset();
  }
  void CancelAtLimit() {
    Cancel(base::MakeError(base::Reason::kDeadlineExceeded,
                           "the request took as long as the server allows"));
  }

  grpc::CallbackServerContext& context_;
  std::shared_ptr<UnaryCall> self_;  // until OnDone
  CallTimer deadline_timer_;
};

class GenerateCall final : public UnaryCall {
 public:
  GenerateCall(RouterCore* core, grpc::CallbackServerContext* context,
               v1::GenerateResponse* response)
      : UnaryCall(core, "Generate", context), response_(*response) {}

 private:
  void Piece(const runtime::Delta& delta) override {
    response_.mutable_text()->append(delta.text);
    for (const runtime::GeneratedToken& token : delta.tokens) {
      if (request().wants_token_ids) response_.add_token_ids(token.id);
      if (request().sampling.top_logprobs >= 0) {
        *response_.add_logprobs() = ToProto(token, core().backbone());
      }
    }
  }
  void Fill(const runtime::Finished& finished) override {
    *response_.mutable_started() = StartedProto(info(), resolved(), request().sampling.seed);
    v1::Finished& proto = *response_.mutable_finished();
    proto = FinishedProto(finished, request(), resolved(), absl::Now() - arrival());
    for (v1::StepReport& step : *proto.mutable_steps()) {
      step.set_text(resolved().steps[step.step()].text);
    }
  }

  v1::GenerateResponse& response_;
};

class ScoreCall final : public UnaryCall {
 public:
  ScoreCall(RouterCore* core, grpc::CallbackServerContext* context, v1::ScoreResponse* response)
      : UnaryCall(core, "Score", context), response_(*response) {}

 private:
  void Piece(const runtime::Delta&) override {}
  void Fill(const runtime::Finished& finished) override {
    response_.set_request_id(info().request_id);
    *response_.mutable_route() = ToProto(resolved().decision);
    response_.set_model_digest(resolved().catalog->model.digest);
    double total = 0;
    for (const runtime::GeneratedToken& score : finished.scores) {
      *response_.add_tokens() = ToProto(score, core().backbone());
      total += score.logprob;
    }
    response_.set_total_logprob(total);
    *response_.mutable_usage() = ToProto(finished.usage);
  }

  v1::ScoreResponse& response_;
};

}  // namespace ccoe::router
