#include "services/cli/event_json.h"

#include "absl/strings/ascii.h"
#include "absl/strings/strip.h"
#include "common/base/error.h"

namespace ccoe::cli {
namespace {

using Json = nlohmann::ordered_json;

// "RULES" of ROUTE_STAGE_RULES, in lower case.
std::string EnumWord(absl::string_view name, absl::string_view prefix) {
  return absl::AsciiStrToLower(absl::StripPrefix(name, prefix));
}

Json UsageJson(const v1::Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens()},
          {"cached_tokens", usage.cached_tokens()},
          {"completion_tokens", usage.completion_tokens()}};
}

Json StepJson(const v1::StepReport& step) {
  return {{"step", step.step()},
          {"route", RouteJson(step.route())},
          {"instruction", step.instruction()},
          {"finish_reason", ReasonName(step.reason())},
          {"matched_stop", step.matched_stop()},
          {"usage", UsageJson(step.usage())},
          {"timings_ms",
           {{"queue", Milliseconds(step.timings().queue())},
            {"prefill", Milliseconds(step.timings().prefill())},
            {"decode", Milliseconds(step.timings().decode())}}}};
}

Json CandidateJson(const v1::CandidateReport& candidate) {
  return {{"domain", candidate.domain()},         {"expert", candidate.expert()},
          {"version", candidate.version()},       {"mean_logprob", candidate.mean_logprob()},
          {"selected", candidate.selected()},     {"finish_reason", ReasonName(candidate.reason())},
          {"usage", UsageJson(candidate.usage())}};
}

}  // namespace

std::string StageName(v1::RouteStage stage) {
  return EnumWord(v1::RouteStage_Name(stage), "ROUTE_STAGE_");
}

std::string ReasonName(v1::FinishReason reason) {
  return EnumWord(v1::FinishReason_Name(reason), "FINISH_REASON_");
}

std::string StateName(v1::ExpertState state) {
  return EnumWord(v1::ExpertState_Name(state), "EXPERT_STATE_");
}

std::string StateName(v1::VersionState state) {
  return EnumWord(v1::VersionState_Name(state), "VERSION_STATE_");
}

double Milliseconds(const google::protobuf::Duration& duration) {
  return static_cast<double>(duration.seconds()) * 1e3 + duration.nanos() / 1e6;
}

Json RouteJson(const v1::RouteDecision& route) {
  return {{"domain", route.domain()},         {"expert", route.expert()},
          {"version", route.version()},       {"stage", StageName(route.stage())},
          {"confidence", route.confidence()}, {"runner_up", route.runner_up()}};
}

Json StartedJson(const v1::Started& started) {
  return {{"event", "started"},
          {"request_id", started.request_id()},
          {"route", RouteJson(started.route())},
          {"model_digest", started.model_digest()},
          {"seed", started.seed()}};
}

Json StepStartedJson(const v1::StepStarted& step) {
  return {{"event", "step_started"},   {"step", step.step()},
          {"domain", step.domain()},   {"expert", step.expert()},
          {"version", step.version()}, {"instruction", step.instruction()}};
}

Json DeltaJson(const v1::Delta& delta) {
  return {{"event", "delta"},
          {"text", delta.text()},
          {"token_ids", delta.token_ids()},
          {"step", delta.step()}};
}

Json ExpertJson(const v1::Expert& expert) {
  return {{"name", expert.name()},
          {"version", expert.version()},
          {"domain", expert.domain()},
          {"state", StateName(expert.state())},
          {"progress", expert.load_progress()},
          {"attach_depth", expert.attach_depth()},
          {"digest", expert.digest()},
          {"licence", expert.license()},
          {"description", expert.description()}};
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
  const v1::Timings& timings = finished.timings();
  Json steps = Json::array();
  for (const v1::StepReport& step : finished.steps()) steps.push_back(StepJson(step));
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
          {"usage", UsageJson(finished.usage())},
          {"steps", steps},
          {"candidates", candidates},
          {"timings_ms",
           {{"route", Milliseconds(timings.route())},
            {"queue", Milliseconds(timings.queue())},
            {"prefill", Milliseconds(timings.prefill())},
            {"decode", Milliseconds(timings.decode())},
            {"total", Milliseconds(timings.total())}}},
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
