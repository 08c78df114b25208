#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ccoe/internal/v1/link.pb.h"
#include "common/runtime/engine.h"

namespace ccoe::rpc {

// Versions of the link's protocol that this build speaks.
inline constexpr uint32_t kLinkProtocolMin = 1;
inline constexpr uint32_t kLinkProtocolMax = 2;
// The first in which experts come and go.
inline constexpr uint32_t kLinkProtocolExpertsChange = 2;

// What one end of a link computes.
struct LinkIdentity {
  std::string base_digest;
  std::string arithmetic;
  int layers = 0;  // of the base model
  int hidden = 0;
  int vocab = 0;
  int layer_begin = 0;  // computed here: [layer_begin, layer_end)
  int layer_end = 0;
  int max_context = 0;  // positions of a session
  std::string node;     // for the other side's log
};

internal::v1::Hello MakeHello(const LinkIdentity& backbone);

// The expert's side. The newest protocol version that both speak; FAILED_PRECONDITION with
// MODEL_MISMATCH says what differs.
absl::StatusOr<uint32_t> CheckHello(const internal::v1::Hello& hello, const LinkIdentity& expert);

// The backbone's side. FAILED_PRECONDITION with MODEL_MISMATCH says what differs; INVALID_ARGUMENT
// for a reply that makes no sense.
absl::Status CheckHelloReply(const internal::v1::HelloReply& reply, const LinkIdentity& backbone);
// As CheckHelloReply, of one expert.
absl::Status CheckOffered(const internal::v1::LinkExpert& expert, const LinkIdentity& backbone);

// The layer at which rows of a backbone that computes [0, backbone_end) enter an expert: its attach
// depth, or the backbone's end where the expert process has the base layers between (from
// `base_begin` on; 0: it has none). FAILED_PRECONDITION with MODEL_MISMATCH when there is no such
// layer.
absl::StatusOr<int> EntryDepth(const internal::v1::ExpertDescription& expert, int base_begin,
                               int backbone_end);

internal::v1::ExpertDescription DescribeExpert(const runtime::ExpertInfo& info,
                                               const std::string& manifest_json);
runtime::ExpertInfo ExpertInfoOf(const internal::v1::ExpertDescription& description);

}  // namespace ccoe::rpc
