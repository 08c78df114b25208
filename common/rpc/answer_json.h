#pragma once

#include <string>

#include "ccoe/v1/admin_service.pb.h"
#include "ccoe/v1/catalog_service.pb.h"
#include "ccoe/v1/generation_service.pb.h"
#include "nlohmann/json.hpp"

namespace ccoe::rpc {

// How parts of the public API's messages look as JSON, in the command line's output (docs/cli.md)
// and over HTTP (docs/http.md). Programs depend on the field names.
nlohmann::ordered_json RouteJson(const v1::RouteDecision& route);
nlohmann::ordered_json UsageJson(const v1::Usage& usage);
nlohmann::ordered_json TimingsJson(const v1::Timings& timings);
nlohmann::ordered_json StepStartedJson(const v1::StepStarted& step);
nlohmann::ordered_json StepJson(const v1::StepReport& step);
nlohmann::ordered_json ExpertJson(const v1::Expert& expert);
// RouteJson with `candidates`, and `stages` where the response explains itself.
nlohmann::ordered_json RouteResponseJson(const v1::RouteResponse& response);

// "explicit", "rules", "fallback", "learned"; "stop", "length", "stop_sequence".
std::string StageName(v1::RouteStage stage);
std::string ReasonName(v1::FinishReason reason);
// "ready", "unavailable", "loading", "draining".
std::string StateName(v1::ExpertState state);
std::string StateName(v1::VersionState state);  // "loading", "serving", "draining"
// "server", "router", "backbone", "expert".
std::string RoleName(v1::NodeRole role);

double Milliseconds(const google::protobuf::Duration& duration);

}  // namespace ccoe::rpc
