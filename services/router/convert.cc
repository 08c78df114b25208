#include "services/router/convert.h"

#include "common/rpc/proto_time.h"
#include "services/router/catalog.h"

namespace ccoe::router {
namespace {

v1::RouteStage StageProto(RouteStage stage) {
  switch (stage) {
    case RouteStage::kExplicit:
      return v1::ROUTE_STAGE_EXPLICIT;
    case RouteStage::kRules:
      return v1::ROUTE_STAGE_RULES;
    case RouteStage::kLearned:
      return v1::ROUTE_STAGE_LEARNED;
    case RouteStage::kFallback:
      return v1::ROUTE_STAGE_FALLBACK;
  }
  return v1::ROUTE_STAGE_UNSPECIFIED;
}

v1::FinishReason ReasonProto(runtime::FinishReason reason) {
  switch (reason) {
    case runtime::FinishReason::kStop:
      return v1::FINISH_REASON_STOP;
    case runtime::FinishReason::kLength:
      return v1::FINISH_REASON_LENGTH;
    case runtime::FinishReason::kStopSequence:
      return v1::FINISH_REASON_STOP_SEQUENCE;
    case runtime::FinishReason::kScored:
      break;  // Score's answer has no reason
  }
  return v1::FINISH_REASON_UNSPECIFIED;
}

v1::Timings TimingsProto(const runtime::Timings& timings) {
  v1::Timings proto;
  *proto.mutable_queue() = rpc::ToProto(timings.queue);
  *proto.mutable_prefill() = rpc::ToProto(timings.prefill);
  *proto.mutable_decode() = rpc::ToProto(timings.decode);
  return proto;
}

void AddCandidate(const ResolvedStep& step, const runtime::ExpertKey& selected,
                  v1::Finished* finished) {
  v1::CandidateReport& report = *finished->add_candidates();
  report.set_domain(step.decision.domain);
  report.set_expert(step.decision.expert.name);
  report.set_version(step.decision.expert.version);
  report.set_mean_logprob(step.mean_logprob);
  report.set_selected(step.decision.expert == selected);
  report.set_reason(ReasonProto(step.finished.reason));
  *report.mutable_usage() = ToProto(step.finished.usage);
}

}  // namespace

v1::RouteDecision ToProto(const RouteDecision& decision) {
  v1::RouteDecision proto;
  proto.set_domain(decision.domain);
  proto.set_expert(decision.expert.name);
  proto.set_version(decision.expert.version);
  proto.set_stage(StageProto(decision.stage));
  proto.set_confidence(decision.confidence);
  proto.set_runner_up(decision.runner_up);
  return proto;
}

v1::RouteResponse RouteResponseProto(const Resolved& resolved) {
  v1::RouteResponse response;
  const auto add_scores = [](const std::vector<DomainScore>& scores, auto* candidates) {
    for (const DomainScore& score : scores) {
      v1::RouteCandidate& candidate = *candidates->Add();
      candidate.set_domain(score.domain);
      candidate.set_score(score.score);
      candidate.set_threshold(score.threshold);
    }
  };
  *response.mutable_route() = ToProto(resolved.decision);
  add_scores(resolved.decision.scores, response.mutable_candidates());
  for (const StageReport& stage : resolved.stages) {
    v1::RouteStageReport& report = *response.add_stages();
    report.set_stage(StageProto(stage.stage));
    *report.mutable_time() = rpc::ToProto(stage.time);
    *report.mutable_state_time() = rpc::ToProto(stage.state_time);
    add_scores(stage.scores, report.mutable_candidates());
    for (const RuleHit& hit : stage.hits) {
      v1::RuleHit& rule = *report.add_rules();
      rule.set_domain(hit.domain);
      rule.set_rule(hit.rule);
      rule.set_weight(hit.weight);
    }
  }
  return response;
}

v1::Expert ExpertProto(const CatalogEntry& entry) {
  v1::Expert proto;
  proto.set_name(entry.info.key.name);
  proto.set_version(entry.info.key.version);
  proto.set_domain(entry.info.domain);
  proto.set_description(entry.info.description);
  proto.set_attach_depth(entry.info.attach_depth);
  proto.set_digest(entry.info.package_digest);
  proto.set_state(entry.info.healthy ? v1::EXPERT_STATE_READY : v1::EXPERT_STATE_UNAVAILABLE);
  proto.set_load_progress(1);
  if (entry.manifest != nullptr) {
    proto.set_license(entry.manifest->licence);
    proto.set_scores_json(entry.manifest->scores_json);
  }
  return proto;
}

bool ComesFirst(const v1::Expert& a, const v1::Expert& b) {
  if (a.domain() != b.domain()) return a.domain() < b.domain();
  if (a.name() != b.name()) return a.name() < b.name();
  return CompareVersions(a.version(), b.version()) < 0;
}

v1::Usage ToProto(const runtime::Usage& usage) {
  v1::Usage proto;
  proto.set_prompt_tokens(usage.prompt_tokens);
  proto.set_cached_tokens(usage.cached_tokens);
  proto.set_completion_tokens(usage.completion_tokens);
  return proto;
}

v1::Started StartedProto(const CallInfo& info, const Resolved& resolved, uint64_t seed) {
  v1::Started proto;
  proto.set_request_id(info.request_id);
  *proto.mutable_route() = ToProto(resolved.decision);
  proto.set_model_digest(resolved.catalog->model.digest);
  proto.set_seed(seed);
  return proto;
}

v1::StepReport StepReportProto(const Resolved& resolved, int step) {
  const ResolvedStep& ended = resolved.steps[step];
  v1::StepReport report;
  report.set_step(step);
  *report.mutable_route() = ToProto(ended.decision);
  report.set_instruction(ended.instruction);
  report.set_reason(ReasonProto(ended.finished.reason));
  report.set_matched_stop(ended.finished.matched_stop);
  *report.mutable_usage() = ToProto(ended.finished.usage);
  *report.mutable_timings() = TimingsProto(ended.finished.timings);
  return report;
}

v1::StepStarted StepStartedProto(const ParsedRequest& request, const Resolved& resolved, int step) {
  const bool planned = request.plan.has_value() && !resolved.steps.empty();
  const RouteDecision& decision = planned ? resolved.steps[step].decision : resolved.decision;
  v1::StepStarted proto;
  proto.set_step(step);
  proto.set_domain(decision.domain);
  proto.set_expert(decision.expert.name);
  proto.set_version(decision.expert.version);
  if (planned) proto.set_instruction(resolved.steps[step].instruction);
  return proto;
}

v1::Finished FinishedProto(const runtime::Finished& finished, const ParsedRequest& request,
                           const Resolved& resolved, absl::Duration total) {
  v1::Finished proto;
  proto.set_reason(ReasonProto(finished.reason));
  proto.set_matched_stop(finished.matched_stop);
  *proto.mutable_usage() = ToProto(finished.usage);
  *proto.mutable_timings() = TimingsProto(finished.timings);
  *proto.mutable_timings()->mutable_route() = rpc::ToProto(resolved.route_time);
  *proto.mutable_timings()->mutable_total() = rpc::ToProto(total);
  for (size_t i = 0; i < resolved.steps.size(); ++i) {
    if (request.plan.has_value()) {
      *proto.add_steps() = StepReportProto(resolved, static_cast<int>(i));
    } else {
      AddCandidate(resolved.steps[i], resolved.decision.expert, &proto);
    }
  }
  return proto;
}

v1::TokenLogprob ToProto(const runtime::TokenLogprob& token, const Backbone& backbone) {
  v1::TokenLogprob proto;
  proto.set_id(token.id);
  proto.set_token(backbone.TokenBytes(token.id));
  proto.set_logprob(token.logprob);
  return proto;
}

v1::TokenLogprob ToProto(const runtime::GeneratedToken& token, const Backbone& backbone) {
  v1::TokenLogprob proto = ToProto(runtime::TokenLogprob{token.id, token.logprob}, backbone);
  for (const runtime::TokenLogprob& top : token.top) {
    *proto.add_top() = ToProto(top, backbone);
  }
  return proto;
}

}  // namespace ccoe::router
