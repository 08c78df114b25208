#include "services/cli/event_json.h"

#include "common/base/error.h"

namespace ccoe::cli {
namespace {

using Json = nlohmann::ordered_json;

Json CandidateJson(const v1::CandidateReport& candidate) {
  return {{"domain", candidate.domain()},
          {"expert", candidate.expert()},
          {"version", candidate.version()},
          {"mean_logprob", candidate.mean_logprob()},
          {"selected", candidate.selected()},
          {"finish_reason", ReasonName(candidate.reason())},
          {"usage", rpc::UsageJson(candidate.usage())}};
}

}  // namespace

Json StartedJson(const v1::Started& started) {
  return {{"event", "started"},
          {"request_id", started.request_id()},
          {"route", RouteJson(started.route())},
          {"model_digest", started.model_digest()},
          {"seed", started.seed()}};
}

Json StepStartedJson(const v1::StepStarted& step) {
  Json json = {{"event", "step_started"}};
  json.update(rpc::StepStartedJson(step));
  return json;
}

Json DeltaJson(const v1::Delta& delta) {
  return {{"event", "delta"},
          {"text", delta.text()},
          {"token_ids", delta.token_ids()},
          {"step", delta.step()}};
}

Json PushedJson(const v1::PushExpertResponse& response) {
  Json json = ExpertJson(response.expert());
  json["confusion"] = Json::array();
  for (const v1::GateConfusion& domain : response.confusion()) {
    json["confusion"].push_back({{"domain", domain.domain()},
                                 {"prompts", domain.prompts()},
                                 {"own", domain.own()},
                                 {"moved", domain.moved()}});
  }
  return json;
}

Json VersionJson(const v1::ExpertVersion& version) {
  Json json = ExpertJson(version.expert());
  json["state"] = StateName(version.state());
  json["progress"] = version.progress();
  json["weight"] = version.weight();
  json["share"] = version.share();
  json["active_requests"] = version.active_requests();
  return json;
}

void Append(const v1::GenerateStreamResponse& event, Answer* answer) {
  switch (event.event_case()) {
    case v1::GenerateStreamResponse::kStarted:
      answer->started = event.started();
      break;
    case v1::GenerateStreamResponse::kDelta:
      answer->text += event.delta().text();
      answer->token_ids.insert(answer->token_ids.end(), event.delta().token_ids().begin(),
                               event.delta().token_ids().end());
      break;
    case v1::GenerateStreamResponse::kFinished:
      answer->finished = event.finished();
      break;
    default:
      break;
  }
}

Json AnswerJson(const Answer& answer) {
  const v1::Finished& finished = answer.finished;
  Json steps = Json::array();
  for (const v1::StepReport& step : finished.steps()) steps.push_back(rpc::StepJson(step));
  Json candidates = Json::array();
  for (const v1::CandidateReport& candidate : finished.candidates()) {
    candidates.push_back(CandidateJson(candidate));
  }
  const v1::RouteDecision& route = answer.started.route();
  return {{"event", "finished"},
          {"text", answer.text},
          {"token_ids", answer.token_ids},
          {"domain", route.domain()},
          {"expert", route.expert()},
          {"version", route.version()},
          {"route", RouteJson(route)},
          {"finish_reason", ReasonName(finished.reason())},
          {"matched_stop", finished.matched_stop()},
          {"usage", rpc::UsageJson(finished.usage())},
          {"steps", steps},
          {"candidates", candidates},
          {"timings_ms", rpc::TimingsJson(finished.timings())},
          {"request_id", answer.started.request_id()},
          {"model_digest", answer.started.model_digest()},
          {"seed", answer.started.seed()}};
}

Json ErrorJson(const absl::Status& status) {
  const base::ErrorEntry& entry = base::EntryOf(base::ReasonOf(status));
  return {{"event", "error"},
          {"code", absl::StatusCodeToString(status.code())},
          {"reason", entry.name},
          {"message", status.message()},
          {"retryable", entry.retry == base::Retry::kLater}};
}

}  // namespace ccoe::cli
