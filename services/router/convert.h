#pragma once

#include "ccoe/v1/catalog_service.pb.h"
#include "ccoe/v1/generation_service.pb.h"
#include "ccoe/v1/types.pb.h"
#include "common/runtime/session.h"
#include "services/router/session_call.h"

namespace ccoe::router {

v1::RouteDecision ToProto(const RouteDecision& decision);
v1::Expert ExpertProto(const CatalogEntry& entry);
// The order of lists: by domain, name and version.
bool ComesFirst(const v1::Expert& a, const v1::Expert& b);
v1::RouteResponse RouteResponseProto(const Resolved& resolved);
v1::Usage ToProto(const runtime::Usage& usage);
v1::Started StartedProto(const CallInfo& info, const Resolved& resolved, uint64_t seed);
// The step that begins: of a plan, or 0.
v1::StepStarted StepStartedProto(const ParsedRequest& request, const Resolved& resolved, int step);
// A plan's step that has ended, without its text.
v1::StepReport StepReportProto(const Resolved& resolved, int step);
// The end of a request, with the reports of its steps.
v1::Finished FinishedProto(const runtime::Finished& finished, const ParsedRequest& request,
                           const Resolved& resolved, absl::Duration total);

// The token's bytes come from the backbone.
v1::TokenLogprob ToProto(const runtime::GeneratedToken& token, const Backbone& backbone);
v1::TokenLogprob ToProto(const runtime::TokenLogprob& token, const Backbone& backbone);

}  // namespace ccoe::router
