// Lists a server's experts and streams one answer. CMakeLists.txt says how it is built and run.

#include <absl/status/status.h>
#include <google/rpc/error_details.pb.h>
#include <google/rpc/status.pb.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>

#include "ccoe/v1/catalog_service.grpc.pb.h"
#include "ccoe/v1/generation_service.grpc.pb.h"

namespace {

using Clock = std::chrono::system_clock;
constexpr int kAttempts = 3;

// What the details of an error say besides its code and message.
struct Refusal {
  std::string reason;
  std::optional<std::chrono::milliseconds> delay;
};

Refusal RefusalOf(const grpc::Status& status) {
  Refusal refusal;
  google::rpc::Status details;
  details.ParseFromString(status.error_details());
  for (const google::protobuf::Any& detail : details.details()) {
    google::rpc::ErrorInfo info;
    google::rpc::RetryInfo retry;
    if (detail.UnpackTo(&info)) {
      refusal.reason = info.reason();
    } else if (detail.UnpackTo(&retry)) {
      refusal.delay = std::chrono::milliseconds(retry.retry_delay().seconds() * 1000 +
                                                retry.retry_delay().nanos() / 1'000'000);
    }
  }
  return refusal;
}

// The part of an enum's name after its prefix; of a value that a newer server adds, its number.
template <typename Enum>
std::string Name(Enum value, const std::string& prefix) {
  const auto* known = google::protobuf::GetEnumDescriptor<Enum>()->FindValueByNumber(value);
  return known != nullptr ? known->name().substr(prefix.size()) : std::to_string(value);
}

grpc::Status ListExperts(ccoe::v1::CatalogService::Stub& catalog, grpc::ClientContext& context) {
  ccoe::v1::ListExpertsResponse response;
  const grpc::Status status = catalog.ListExperts(&context, {}, &response);
  for (const ccoe::v1::Expert& expert : response.experts()) {
    std::cout << expert.name() << " " << expert.version() << " answers " << expert.domain() << ": "
              << Name(expert.state(), "EXPERT_STATE_") << "\n";
  }
  return status;
}

void Print(const ccoe::v1::GenerateStreamResponse& event, const std::string& id) {
  if (event.has_started()) {
    std::cout << "[" << event.started().route().domain() << "]\n";
  } else if (event.has_delta()) {
    std::cout << event.delta().text() << std::flush;
  } else if (event.has_finished()) {
    std::cout << "\n[" << event.finished().usage().completion_tokens() << " tokens, "
              << Name(event.finished().reason(), "FINISH_REASON_") << ", " << id << "]\n";
  }  // An event that a newer server adds is left out.
}

grpc::Status Answer(ccoe::v1::GenerationService::Stub& generation,
                    const ccoe::v1::GenerateRequest& request, const std::string& id) {
  // It holds for all attempts together.
  const auto deadline = Clock::now() + std::chrono::seconds(60);
  for (int attempt = 1;; ++attempt) {
    grpc::ClientContext context;
    context.set_deadline(deadline);
    context.AddMetadata("x-request-id", id);
    const auto stream = generation.GenerateStream(&context, request);
    bool begun = false;
    for (ccoe::v1::GenerateStreamResponse event; stream->Read(&event); begun = true) {
      Print(event, id);
    }
    const grpc::Status status = stream->Finish();
    const Refusal refusal = RefusalOf(status);
    // The server names a delay where a retry can help.
    if (status.ok() || begun || !refusal.delay || attempt == kAttempts) return status;
    std::cerr << refusal.reason << ", again in " << refusal.delay->count() << " ms\n";
    std::this_thread::sleep_until(std::min(Clock::now() + *refusal.delay, deadline));
  }
}

ccoe::v1::GenerateRequest RequestFor(const std::string& prompt, const std::string& domain) {
  ccoe::v1::GenerateRequest request;
  ccoe::v1::ChatMessage* user = request.mutable_chat()->add_messages();
  user->set_role(ccoe::v1::ROLE_USER);
  user->set_content(prompt);
  if (!domain.empty()) request.set_domain(domain);
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stop()->set_max_tokens(32);
  return request;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3 && argc != 4) {
    std::cerr << "usage: ask ADDRESS PROMPT [DOMAIN]\n";
    return 2;
  }
  grpc::ChannelArguments arguments;
  arguments.SetLoadBalancingPolicyName("round_robin");
  const auto channel = grpc::CreateCustomChannel(std::string("dns:///") + argv[1],
                                                 grpc::InsecureChannelCredentials(), arguments);
  const std::string id = "example-" + std::to_string(std::random_device()());
  grpc::ClientContext context;
  context.set_deadline(Clock::now() + std::chrono::seconds(10));
  context.AddMetadata("x-request-id", id);
  grpc::Status status = ListExperts(*ccoe::v1::CatalogService::NewStub(channel), context);
  if (status.ok()) {
    status = Answer(*ccoe::v1::GenerationService::NewStub(channel),
                    RequestFor(argv[2], argc == 4 ? argv[3] : ""), id);
  }
  if (status.ok()) return 0;
  // Branch on code and reason; the message is for people and may change. gRPC's codes are Abseil's.
  std::cerr << absl::StatusCodeToString(static_cast<absl::StatusCode>(status.error_code())) << " "
            << RefusalOf(status).reason << ": " << status.error_message() << " (" << id << ")\n";
  return 1;
}
