#include "common/rpc/answer_json.h"

#include "absl/strings/ascii.h"
#include "absl/strings/strip.h"

namespace ccoe::rpc {
namespace {

using Json = nlohmann::ordered_json;

// "RULES" of ROUTE_STAGE_RULES, in lower case.
std::string EnumWord(absl::string_view name, absl::string_view prefix) {
  return absl::AsciiStrToLower(absl::StripPrefix(name, prefix));
}

Json CandidatesJson(const google::protobuf::RepeatedPtrField<v1::RouteCandidate>& candidates) {
  Json array = Json::array();
  for (const v1::RouteCandidate& candidate : candidates) {
    array.push_back({{"domain", candidate.domain()},
                     {"score", candidate.score()},
                     {"threshold", candidate.threshold()}});
  }
  return array;
}

Json StageJson(const v1::RouteStageReport& stage) {
  Json json = {{"stage", StageName(stage.stage())},
               {"time_ms", Milliseconds(stage.time())},
               {"state_time_ms", Milliseconds(stage.state_time())},
               {"candidates", CandidatesJson(stage.candidates())},
               {"rules", Json::array()}};
  for (const v1::RuleHit& hit : stage.rules()) {
    json["rules"].push_back(
        {{"domain", hit.domain()}, {"rule", hit.rule()}, {"weight", hit.weight()}});
  }
  return json;
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

std::string RoleName(v1::NodeRole role) { return EnumWord(v1::NodeRole_Name(role), "NODE_ROLE_"); }

double Milliseconds(const google::protobuf::Duration& duration) {
  return static_cast<double>(duration.seconds()) * 1e3 + duration.nanos() / 1e6;
}

Json RouteJson(const v1::RouteDecision& route) {
  return {{"domain", route.domain()},         {"expert", route.expert()},
          {"version", route.version()},       {"stage", StageName(route.stage())},
          {"confidence", route.confidence()}, {"runner_up", route.runner_up()}};
}

Json UsageJson(const v1::Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens()},
          {"cached_tokens", usage.cached_tokens()},
          {"completion_tokens", usage.completion_tokens()}};
}

Json TimingsJson(const v1::Timings& timings) {
  return {{"route", Milliseconds(timings.route())},
          {"queue", Milliseconds(timings.queue())},
          {"prefill", Milliseconds(timings.prefill())},
          {"decode", Milliseconds(timings.decode())},
          {"total", Milliseconds(timings.total())}};
}

Json StepStartedJson(const v1::StepStarted& step) {
  return {{"step", step.step()},
          {"domain", step.domain()},
          {"expert", step.expert()},
          {"version", step.version()},
          {"instruction", step.instruction()}};
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

Json RouteResponseJson(const v1::RouteResponse& response) {
  Json json = RouteJson(response.route());
  json["candidates"] = CandidatesJson(response.candidates());
  for (const auto& stage : response.stages()) json["stages"].push_back(StageJson(stage));
  return json;
}

}  // namespace ccoe::rpc
