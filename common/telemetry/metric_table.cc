#include "common/telemetry/metric_table.h"

#include <array>

namespace ccoe::telemetry {
namespace {

// Seconds, but for the last two.
constexpr auto kFirstTokenBuckets =
    std::to_array({0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075,
                   0.1,   0.2,   0.5,   1.0,   2.0,    5.0,  10.0,  20.0, 40.0, 80.0, 160.0});
constexpr auto kInterTokenBuckets =
    std::to_array({0.001, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03,
                   0.04,  0.05,  0.075, 0.1,   0.2,   0.5,    1.0,  2.0,   5.0,  10.0});
constexpr auto kRequestBuckets = std::to_array({0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0,
                                                5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0});
constexpr auto kQueueBuckets = std::to_array(
    {0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0});
constexpr auto kRouteBuckets =
    std::to_array({0.00001, 0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01,
                   0.02, 0.05, 0.1, 0.2, 0.5, 1.0});
constexpr auto kStepBuckets =
    std::to_array({0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015,
                   0.02,   0.03,   0.05,   0.075, 0.1,   0.2,   0.5,   1.0,    2.0,  5.0});
constexpr auto kHopBuckets =
    std::to_array({0.00005, 0.000075, 0.0001, 0.00015, 0.0002, 0.0003, 0.0005, 0.00075, 0.001,
                   0.0015, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1});
constexpr auto kRatioBuckets = std::to_array({0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0});
constexpr auto kSessionBuckets =
    std::to_array({1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0});

constexpr char kByExpert[] = "`domain`, `expert`, `version`";

constexpr auto kTable = std::to_array<MetricEntry>({
    {MetricId::kRequests, "ccoe_requests_total", MetricType::kCounter, MetricPart::kRouter,
     "`domain`, `expert`, `version`, `grpc_code`",
     "Requests that ended (Generate, GenerateStream, Score), by who answered and how."},
    {MetricId::kRequestDuration, "ccoe_request_duration_seconds", MetricType::kHistogram,
     MetricPart::kRouter, kByExpert, "From a request's arrival to its end, however it ended.",
     kRequestBuckets},
    {MetricId::kFirstToken, "ccoe_time_to_first_token_seconds", MetricType::kHistogram,
     MetricPart::kRouter, kByExpert, "From a request's arrival to its first token.",
     kFirstTokenBuckets},
    {MetricId::kInterToken, "ccoe_inter_token_latency_seconds", MetricType::kHistogram,
     MetricPart::kRouter, kByExpert, "Between two successive tokens of a request.",
     kInterTokenBuckets},
    {MetricId::kRejected, "ccoe_requests_rejected_total", MetricType::kCounter, MetricPart::kRouter,
     "`reason` = those of the errors", "Requests refused before they started."},
    {MetricId::kCancellations, "ccoe_cancellations_total", MetricType::kCounter,
     MetricPart::kRouter, "`cause` = client, deadline, slow_reader, drain",
     "Requests ended from outside before they were complete."},
    {MetricId::kActiveRequests, "ccoe_active_requests", MetricType::kGauge, MetricPart::kRouter, "",
     "Requests that have not ended, waiting ones included."},
    {MetricId::kQueueRequests, "ccoe_queue_requests", MetricType::kGauge, MetricPart::kRouter,
     "`domain`",
     "Requests that wait to start, and those that were refused in the last 30 s because their "
     "domain "
     "has no replica, so that it shows its demand. `none`: not routed yet."},
    {MetricId::kQueueDuration, "ccoe_queue_duration_seconds", MetricType::kHistogram,
     MetricPart::kRouter, "",
     "From a request's arrival to its start (a prefill that decides where it goes comes before), "
     "or to "
     "its end if it never started.",
     kQueueBuckets},
    {MetricId::kPromptTokens, "ccoe_prompt_tokens_total", MetricType::kCounter, MetricPart::kRouter,
     kByExpert,
     "Tokens of the prompts of requests that ended well; of a further step: of its context."},
    {MetricId::kCachedTokens, "ccoe_cached_tokens_total", MetricType::kCounter, MetricPart::kRouter,
     kByExpert, "Of the prompt tokens those that did not have to be computed from the embedding."},
    {MetricId::kGeneratedTokens, "ccoe_generated_tokens_total", MetricType::kCounter,
     MetricPart::kRouter, kByExpert, "Tokens generated, of all requests, as they come."},
    {MetricId::kExpertSwitches, "ccoe_expert_switches_total", MetricType::kCounter,
     MetricPart::kRouter, "", "Steps of requests that another expert than the step before began."},
    {MetricId::kKeyActiveRequests, "ccoe_key_active_requests", MetricType::kGauge,
     MetricPart::kRouter, "`key` = the names in the keys file",
     "Requests of a key that have not ended, waiting ones included."},
    {MetricId::kKeyTokens, "ccoe_key_tokens_total", MetricType::kCounter, MetricPart::kRouter,
     "`key` = the names in the keys file", "Tokens of prompts and answers that a key has used."},
    {MetricId::kRouteDecisions, "ccoe_route_decisions_total", MetricType::kCounter,
     MetricPart::kRouter, "`domain`, `reason` = explicit, rules, learned, fallback",
     "Where prompts went, and what decided; fallback: no domain claimed it (Route included)."},
    {MetricId::kRouteDuration, "ccoe_route_duration_seconds", MetricType::kHistogram,
     MetricPart::kRouter, "`stage` = explicit, rules, learned, fallback",
     "The gate's own time for a prompt, without the prefill.", kRouteBuckets},
    {MetricId::kRouteConfidence, "ccoe_route_confidence_ratio", MetricType::kHistogram,
     MetricPart::kRouter, "`stage` = explicit, rules, learned, fallback",
     "How sure a decision was, in [0, 1].", kRatioBuckets},
    {MetricId::kExpertHealthy, "ccoe_expert_healthy", MetricType::kGauge, MetricPart::kRouter,
     kByExpert, "1: the expert can answer now. 0: it is known, but has no replica."},
    {MetricId::kStepDuration, "ccoe_step_duration_seconds", MetricType::kHistogram,
     MetricPart::kEngine, "`service`, `phase` = prefill, decode, mixed", "One step of the engine.",
     kStepBuckets},
    {MetricId::kBatchSize, "ccoe_batch_size", MetricType::kHistogram, MetricPart::kEngine, "",
     "Sessions in a step of the engine.", kSessionBuckets},
    {MetricId::kLastStep, "ccoe_last_step_timestamp_seconds", MetricType::kGauge,
     MetricPart::kEngine, "",
     "When the engine's last step ended, in Unix time; before the first one: when it started."},
    {MetricId::kSessions, "ccoe_sessions", MetricType::kGauge, MetricPart::kEngine,
     "`state` = running, waiting", "Sessions of the engine; waiting: for memory or a replica."},
    {MetricId::kKvBlocks, "ccoe_kv_cache_blocks", MetricType::kGauge, MetricPart::kEngine,
     "`state` = free, cached, used",
     "Blocks of the KV pool; cached: kept for prompts to come, and free for all else."},
    {MetricId::kKvUsage, "ccoe_kv_cache_usage_ratio", MetricType::kGauge, MetricPart::kEngine, "",
     "Part of the KV pool that is in use, in [0, 1]."},
    {MetricId::kBoundaryBytes, "ccoe_boundary_state_bytes", MetricType::kGauge, MetricPart::kEngine,
     "", "Memory reserved for the boundary states of live sessions."},
    {MetricId::kHiddenBytes, "ccoe_hidden_state_bytes_total", MetricType::kCounter,
     MetricPart::kLink, "`direction` = sent, received",
     "Hidden states that crossed a link between processes."},
    {MetricId::kHiddenSend, "ccoe_hidden_state_send_duration_seconds", MetricType::kHistogram,
     MetricPart::kLink, "",
     "One way over a link, seen by the backbone: half of the round trip without the expert's time.",
     kHopBuckets},
    {MetricId::kStreamStall, "ccoe_stream_stall_seconds_total", MetricType::kCounter,
     MetricPart::kStream, "`stream` = client, link",
     "Time that ready work stood still: for a client that reads slowly (router), for a link's "
     "credit (backbone)."},
    {MetricId::kDraining, "ccoe_draining", MetricType::kGauge, MetricPart::kProcess, "",
     "1: the process finishes what it has and takes nothing new."},
    {MetricId::kCertificateExpiry, "ccoe_certificate_expiry_timestamp_seconds", MetricType::kGauge,
     MetricPart::kProcess, "",
     "When the certificate of the main port ends, of a process that serves TLS; 0: its file cannot "
     "be read."},
    {MetricId::kBuildInfo, "ccoe_build_info", MetricType::kGauge, MetricPart::kProcess,
     "`service`, `version`, `arithmetic`", "Always 1; the labels tell what runs."},
    {MetricId::kModelInfo, "ccoe_model_info", MetricType::kGauge, MetricPart::kEngine,
     "`model`, `family`, `digest`", "Always 1; the labels tell the base model."},
    {MetricId::kHttpRequests, "ccoe_http_requests_total", MetricType::kCounter, MetricPart::kHttp,
     "`path`, `code`",
     "HTTP requests by what they were answered; `path` is a route's, or other. 200 counts as a "
     "stream begins."},
});

}  // namespace

absl::Span<const MetricEntry> MetricTable() { return kTable; }
const MetricEntry& EntryOf(MetricId id) { return kTable[static_cast<size_t>(id)]; }

}  // namespace ccoe::telemetry
