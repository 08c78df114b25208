#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ccoe/internal/v1/link.pb.h"
#include "common/runtime/remote.h"

namespace ccoe::rpc {

// Translation between the runtime's types and the link's frames
// (proto/ccoe/internal/v1/link.proto). Pure functions. What is decoded comes from the network and
// is checked whole.

inline constexpr size_t kMaxPayloadBytes = 256 * 1024;
// Room for a frame with the largest payload and its header.
inline constexpr int kMaxFrameBytes = 1 << 20;

// The clock of the stamps: nanoseconds from a point that is this machine's own.
int64_t MonotonicNs();

// What the receiver of a frame knows about the sender's model.
struct FrameLimits {
  int hidden = 0;         // values of a row
  int vocab = 0;          // token ids are in [0, vocab)
  int max_positions = 0;  // positions are in [0, max_positions)
};

enum class FramePriority { kDecode, kPrefill };

struct EncodedRows {
  internal::v1::LinkRequest message;
  // kDecode: every segment is a single row that may overtake prefill rows of other sessions.
  FramePriority priority = FramePriority::kDecode;
  int rows = 0;
};

// Frames of at most kMaxPayloadBytes for the rows of one step: single rows together first, then the
// longer segments, divided between rows where they do not fit. Of a divided segment that samples,
// only the last part does; of one that is scored, each part is. Requires hidden values per row in
// every `states`, and 4 * hidden <= kMaxPayloadBytes.
std::vector<EncodedRows> EncodeRows(uint32_t expert, const std::vector<runtime::HiddenRows>& rows,
                                    int hidden, int64_t sent_ns);

// INVALID_ARGUMENT says which rule of link.proto the frame breaks.
absl::StatusOr<std::vector<runtime::HiddenRows>> DecodeRows(const internal::v1::RowsFrame& frame,
                                                            const FrameLimits& limits);

internal::v1::OpenLinkSession EncodeOpen(uint32_t expert, runtime::SessionId session,
                                         const runtime::RemoteSpec& spec);
// Leaves `expert` of the result empty: the receiver knows it by the frame's index. A malformed
// traceparent is dropped.
absl::StatusOr<runtime::RemoteSpec> DecodeOpen(const internal::v1::OpenLinkSession& open,
                                               const FrameLimits& limits);

internal::v1::SamplingParams EncodeSampling(const runtime::SamplingParams& sampling);
// INVALID_ARGUMENT names the field that is out of its range.
absl::StatusOr<runtime::SamplingParams> DecodeSampling(
    const internal::v1::SamplingParams& sampling);

void EncodeToken(const runtime::GeneratedToken& token, internal::v1::GeneratedToken* out);
runtime::GeneratedToken DecodeToken(const internal::v1::GeneratedToken& token);

// The stamps are left to the caller.
void EncodeResult(const runtime::RemoteResult& result, internal::v1::RowsResult* out);
absl::StatusOr<std::vector<runtime::RemoteResult>> DecodeResults(
    const internal::v1::ResultsFrame& frame, const FrameLimits& limits);

void EncodeError(const absl::Status& status, internal::v1::LinkError* out);
// Never OK: a code that is none becomes UNKNOWN.
absl::Status DecodeError(const internal::v1::LinkError& error);

}  // namespace ccoe::rpc
