#pragma once

#include <string>

#include "absl/status/status.h"
#include "ccoe/v1/admin_service.pb.h"
#include "ccoe/v1/catalog_service.pb.h"
#include "ccoe/v1/generation_service.pb.h"
#include "common/rpc/answer_json.h"
#include "nlohmann/json.hpp"

namespace ccoe::cli {

using rpc::ExpertJson;
using rpc::Milliseconds;
using rpc::ReasonName;
using rpc::RouteJson;
using rpc::StageName;
using rpc::StateName;

// The events of an answer as JSON lines (docs/cli.md). Scripts depend on the field names.
nlohmann::ordered_json StartedJson(const v1::Started& started);
nlohmann::ordered_json StepStartedJson(const v1::StepStarted& step);
nlohmann::ordered_json DeltaJson(const v1::Delta& delta);

// The line of `experts push --json`: the expert, with `confusion`.
nlohmann::ordered_json PushedJson(const v1::PushExpertResponse& response);
// A line of `experts traffic --json`: with the expert's weight, share and requests.
nlohmann::ordered_json VersionJson(const v1::ExpertVersion& version);

// An answer as it grew.
struct Answer {
  v1::Started started;
  std::string text;
  std::vector<int32_t> token_ids;
  v1::Finished finished;
};

// Takes in an event.
void Append(const v1::GenerateStreamResponse& event, Answer* answer);

// The last line of `generate --json`.
nlohmann::ordered_json AnswerJson(const Answer& answer);

// The last line where a command fails. Requires !status.ok().
nlohmann::ordered_json ErrorJson(const absl::Status& status);

}  // namespace ccoe::cli
