#include "common/rpc/link_frames.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <limits>
#include <string>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "common/base/check.h"
#include "common/base/status_macros.h"
#include "common/rpc/request_context.h"

namespace ccoe::rpc {
namespace {

using runtime::HiddenRows;
using runtime::RowOutput;

static_assert(std::endian::native == std::endian::little, "the wire is little endian");

constexpr int kMaxTopLogprobs = 20;

internal::v1::RowOutput EncodeOutput(RowOutput output) {
  switch (output) {
    case RowOutput::kNone:
      return internal::v1::ROW_OUTPUT_NONE;
    case RowOutput::kSample:
      return internal::v1::ROW_OUTPUT_SAMPLE;
    case RowOutput::kScore:
      return internal::v1::ROW_OUTPUT_SCORE;
  }
  return internal::v1::ROW_OUTPUT_NONE;
}

absl::StatusOr<RowOutput> DecodeOutput(internal::v1::RowOutput output) {
  switch (output) {
    case internal::v1::ROW_OUTPUT_NONE:
      return RowOutput::kNone;
    case internal::v1::ROW_OUTPUT_SAMPLE:
      return RowOutput::kSample;
    case internal::v1::ROW_OUTPUT_SCORE:
      return RowOutput::kScore;
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("rows frame: unknown output ", static_cast<int>(output)));
  }
}

absl::Status Malformed(const char* what, int64_t value) {
  return absl::InvalidArgumentError(absl::StrCat("rows frame: ", what, " (", value, ")"));
}

// Collects segments into frames of at most `rows_per_frame` rows.
class FrameBuilder {
 public:
  FrameBuilder(uint32_t expert, int hidden, int64_t sent_ns)
      : expert_(expert), hidden_(hidden), sent_ns_(sent_ns) {}

  // Makes room for what is to come.
  void Expect(size_t rows) { expected_bytes_ = sizeof(float) * hidden_ * rows; }

  // Appends rows [begin, end) of `rows`, with its output when the part is the last one.
  void Append(const HiddenRows& rows, int begin, int end, FramePriority priority) {
    const int rows_per_frame = static_cast<int>(kMaxPayloadBytes / (sizeof(float) * hidden_));
    while (begin < end) {
      if (frames_.empty() || frames_.back().priority != priority ||
          frames_.back().rows == rows_per_frame) {
        StartFrame(priority);
      }
      const int count = std::min(end - begin, rows_per_frame - frames_.back().rows);
      AppendPart(rows, begin, count);
      begin += count;
    }
  }

  std::vector<EncodedRows> Take() { return std::move(frames_); }

 private:
  void StartFrame(FramePriority priority) {
    EncodedRows& frame = frames_.emplace_back();
    frame.priority = priority;
    frame.message.mutable_rows()->set_expert(expert_);
    frame.message.mutable_rows()->set_sent_ns(sent_ns_);
    frame.message.mutable_rows()->mutable_payload()->reserve(
        std::min(expected_bytes_, kMaxPayloadBytes));
  }

  void AppendPart(const HiddenRows& rows, int begin, int count) {
    EncodedRows& frame = frames_.back();
    internal::v1::RowsFrame* message = frame.message.mutable_rows();
    internal::v1::RowsSegment* segment = message->add_segments();
    segment->set_session(rows.session);
    segment->set_epoch(rows.epoch);
    segment->set_position(rows.position + begin);
    const bool last = begin + count == static_cast<int>(rows.tokens.size());
    const bool wanted = rows.output == RowOutput::kScore || last;
    segment->set_output(EncodeOutput(wanted ? rows.output : RowOutput::kNone));
    segment->mutable_tokens()->Add(rows.tokens.begin() + begin,
                                   rows.tokens.begin() + begin + count);
    if (rows.output == RowOutput::kScore) {
      segment->mutable_targets()->Add(rows.targets.begin() + begin,
                                      rows.targets.begin() + begin + count);
    }
    message->mutable_payload()->append(
        reinterpret_cast<const char*>(rows.states.data() + static_cast<size_t>(begin) * hidden_),
        sizeof(float) * hidden_ * count);
    frame.rows += count;
    expected_bytes_ -= std::min(expected_bytes_, sizeof(float) * hidden_ * count);
  }

  const uint32_t expert_;
  const int hidden_;
  const int64_t sent_ns_;
  size_t expected_bytes_ = 0;  // of rows that will be appended at the least
  std::vector<EncodedRows> frames_;
};

absl::Status CheckSegment(const internal::v1::RowsSegment& segment, const FrameLimits& limits) {
  const int count = segment.tokens_size();
  if (count < 1) return Malformed("a segment without rows", segment.session());
  if (segment.position() < 0 || segment.position() > limits.max_positions - count) {
    return Malformed("position out of range", segment.position());
  }
  for (int32_t token : segment.tokens()) {
    if (token < 0 || token >= limits.vocab) return Malformed("token out of range", token);
  }
  const bool scored = segment.output() == internal::v1::ROW_OUTPUT_SCORE;
  if (segment.targets_size() != (scored ? count : 0)) {
    return Malformed("wrong number of targets", segment.targets_size());
  }
  for (int32_t target : segment.targets()) {
    if (target < -1 || target >= limits.vocab) return Malformed("target out of range", target);
  }
  return absl::OkStatus();
}

}  // namespace

int64_t MonotonicNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

std::vector<EncodedRows> EncodeRows(uint32_t expert, const std::vector<HiddenRows>& rows,
                                    int hidden, int64_t sent_ns) {
  CCOE_CHECK(sizeof(float) * hidden <= kMaxPayloadBytes);
  FrameBuilder builder(expert, hidden, sent_ns);
  const auto single = [](const HiddenRows& r) { return r.tokens.size() == 1; };
  builder.Expect(std::count_if(rows.begin(), rows.end(), single));
  for (const HiddenRows& r : rows) {
    CCOE_CHECK(r.states.size() == r.tokens.size() * hidden);
    if (single(r)) builder.Append(r, 0, 1, FramePriority::kDecode);
  }
  for (const HiddenRows& r : rows) {
    const int count = static_cast<int>(r.tokens.size());
    if (count < 2) continue;
    builder.Expect(count);
    builder.Append(r, 0, count, FramePriority::kPrefill);
  }
  return builder.Take();
}

absl::StatusOr<std::vector<HiddenRows>> DecodeRows(const internal::v1::RowsFrame& frame,
                                                   const FrameLimits& limits) {
  if (frame.segments_size() == 0) return Malformed("no segments", 0);
  if (frame.payload().size() > kMaxPayloadBytes) {
    return Malformed("payload too large", frame.payload().size());
  }
  const size_t row_bytes = sizeof(float) * limits.hidden;
  size_t total_rows = 0;
  for (const internal::v1::RowsSegment& segment : frame.segments()) {
    CCOE_RETURN_IF_ERROR(CheckSegment(segment, limits));
    total_rows += segment.tokens_size();
  }
  if (frame.payload().size() != total_rows * row_bytes) {
    return Malformed("payload does not match the number of rows", frame.payload().size());
  }

  std::vector<HiddenRows> result;
  result.reserve(frame.segments_size());
  const char* payload = frame.payload().data();
  for (const internal::v1::RowsSegment& segment : frame.segments()) {
    HiddenRows& rows = result.emplace_back();
    rows.session = segment.session();
    rows.epoch = segment.epoch();
    rows.position = segment.position();
    CCOE_ASSIGN_OR_RETURN(rows.output, DecodeOutput(segment.output()));
    rows.tokens.assign(segment.tokens().begin(), segment.tokens().end());
    rows.targets.assign(segment.targets().begin(), segment.targets().end());
    // A string's data is aligned for every scalar, and rows are whole floats.
    const auto* states = reinterpret_cast<const float*>(payload);
    rows.states.assign(states, states + rows.tokens.size() * limits.hidden);
    payload += rows.tokens.size() * row_bytes;
  }
  return result;
}

internal::v1::OpenLinkSession EncodeOpen(uint32_t expert, runtime::SessionId session,
                                         const runtime::RemoteSpec& spec) {
  internal::v1::OpenLinkSession open;
  open.set_expert(expert);
  open.set_session(session);
  open.set_request_id(spec.request_id);
  open.set_traceparent(spec.traceparent);
  open.set_package_digest(spec.package_digest);
  open.set_attach_depth(spec.attach_depth);
  open.set_max_positions(spec.max_positions);
  open.set_prompt_tokens(spec.prompt_tokens);
  *open.mutable_sampling() = EncodeSampling(spec.sampling);
  return open;
}

absl::StatusOr<runtime::RemoteSpec> DecodeOpen(const internal::v1::OpenLinkSession& open,
                                               const FrameLimits& limits) {
  runtime::RemoteSpec spec;
  spec.request_id = open.request_id();
  if (IsValidTraceparent(open.traceparent())) spec.traceparent = open.traceparent();
  spec.package_digest = open.package_digest();
  spec.attach_depth = open.attach_depth();
  spec.max_positions = open.max_positions();
  if (spec.max_positions < 1 || spec.max_positions > limits.max_positions) {
    return absl::InvalidArgumentError(absl::StrCat("session of ", spec.max_positions,
                                                   " positions; this process serves up to ",
                                                   limits.max_positions));
  }
  spec.prompt_tokens = open.prompt_tokens();
  if (spec.prompt_tokens < 1 || spec.prompt_tokens > spec.max_positions) {
    return absl::InvalidArgumentError(absl::StrCat("prompt of ", spec.prompt_tokens,
                                                   " tokens in a session of ", spec.max_positions,
                                                   " positions"));
  }
  CCOE_ASSIGN_OR_RETURN(spec.sampling, DecodeSampling(open.sampling()));
  return spec;
}

internal::v1::SamplingParams EncodeSampling(const runtime::SamplingParams& sampling) {
  internal::v1::SamplingParams out;
  out.set_temperature(sampling.temperature);
  out.set_top_k(sampling.top_k);
  out.set_top_p(sampling.top_p);
  out.set_min_p(sampling.min_p);
  out.set_repetition_penalty(sampling.repetition_penalty);
  out.set_presence_penalty(sampling.presence_penalty);
  out.set_frequency_penalty(sampling.frequency_penalty);
  out.set_seed(sampling.seed);
  if (sampling.top_logprobs >= 0) out.set_top_logprobs(sampling.top_logprobs);
  return out;
}

absl::StatusOr<runtime::SamplingParams> DecodeSampling(
    const internal::v1::SamplingParams& sampling) {
  // Written so that NaN fails every test.
  const auto within = [](float value, float low, float high) {
    return value >= low && value <= high;
  };
  constexpr float kMax = std::numeric_limits<float>::max();
  const char* wrong = nullptr;
  if (!within(sampling.temperature(), 0, kMax)) wrong = "temperature";
  if (sampling.top_k() < 0) wrong = "top_k";
  if (!(sampling.top_p() > 0 && sampling.top_p() <= 1)) wrong = "top_p";
  if (!(sampling.min_p() >= 0 && sampling.min_p() < 1)) wrong = "min_p";
  if (!(sampling.repetition_penalty() > 0 && sampling.repetition_penalty() <= kMax)) {
    wrong = "repetition_penalty";
  }
  if (!within(sampling.presence_penalty(), -2, 2)) wrong = "presence_penalty";
  if (!within(sampling.frequency_penalty(), -2, 2)) wrong = "frequency_penalty";
  if (sampling.has_top_logprobs() &&
      (sampling.top_logprobs() < 0 || sampling.top_logprobs() > kMaxTopLogprobs)) {
    wrong = "top_logprobs";
  }
  if (wrong != nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("sampling: ", wrong, " is out of its range"));
  }
  runtime::SamplingParams out;
  out.temperature = sampling.temperature();
  out.top_k = sampling.top_k();
  out.top_p = sampling.top_p();
  out.min_p = sampling.min_p();
  out.repetition_penalty = sampling.repetition_penalty();
  out.presence_penalty = sampling.presence_penalty();
  out.frequency_penalty = sampling.frequency_penalty();
  out.seed = sampling.seed();
  out.top_logprobs = sampling.has_top_logprobs() ? sampling.top_logprobs() : -1;
  return out;
}

void EncodeToken(const runtime::GeneratedToken& token, internal::v1::GeneratedToken* out) {
  out->set_id(token.id);
  out->set_position(token.position);
  out->set_logprob(token.logprob);
  for (const runtime::TokenLogprob& top : token.top) {
    internal::v1::TokenLogprob* entry = out->add_top();
    entry->set_id(top.id);
    entry->set_logprob(top.logprob);
  }
}

runtime::GeneratedToken DecodeToken(const internal::v1::GeneratedToken& token) {
  runtime::GeneratedToken out;
  out.id = token.id();
  out.position = token.position();
  out.logprob = token.logprob();
  out.top.reserve(token.top_size());
  for (const internal::v1::TokenLogprob& top : token.top()) {
    out.top.push_back({top.id(), top.logprob()});
  }
  return out;
}

void EncodeResult(const runtime::RemoteResult& result, internal::v1::RowsResult* out) {
  out->set_session(result.session);
  out->set_epoch(result.epoch);
  for (const runtime::GeneratedToken& token : result.tokens) EncodeToken(token, out->add_tokens());
}

absl::StatusOr<std::vector<runtime::RemoteResult>> DecodeResults(
    const internal::v1::ResultsFrame& frame, const FrameLimits& limits) {
  std::vector<runtime::RemoteResult> results;
  results.reserve(frame.results_size());
  for (const internal::v1::RowsResult& result : frame.results()) {
    runtime::RemoteResult& out = results.emplace_back();
    out.session = result.session();
    out.epoch = result.epoch();
    out.tokens.reserve(result.tokens_size());
    for (const internal::v1::GeneratedToken& token : result.tokens()) {
      if (token.id() < 0 || token.id() >= limits.vocab) {
        return absl::InvalidArgumentError(
            absl::StrCat("results frame: token out of range (", token.id(), ")"));
      }
      if (token.top_size() > kMaxTopLogprobs) {
        return absl::InvalidArgumentError("results frame: too many log probabilities");
      }
      out.tokens.push_back(DecodeToken(token));
    }
  }
  return results;
}

void EncodeError(const absl::Status& status, internal::v1::LinkError* out) {
  out->set_code(static_cast<int>(status.code()));
  out->set_message(std::string(status.message()));
  status.ForEachPayload([out](absl::string_view type_url, const absl::Cord& payload) {
    internal::v1::LinkErrorDetail* detail = out->add_details();
    detail->set_type_url(std::string(type_url));
    detail->set_value(std::string(payload));
  });
}

absl::Status DecodeError(const internal::v1::LinkError& error) {
  const bool known = error.code() > 0 && error.code() <= 16;
  absl::Status status(
      known ? static_cast<absl::StatusCode>(error.code()) : absl::StatusCode::kUnknown,
      error.message());
  for (const internal::v1::LinkErrorDetail& detail : error.details()) {
    status.SetPayload(detail.type_url(), absl::Cord(detail.value()));
  }
  return status;
}

}  // namespace ccoe::rpc
