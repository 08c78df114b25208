// Frames of the link between backbone and expert, as either end receives them.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "common/rpc/link_frames.h"
#include "common/rpc/link_handshake.h"

namespace ccoe::rpc {
namespace {

constexpr FrameLimits kLimits{4, 100, 64};

LinkIdentity Identity() {
  LinkIdentity identity;
  identity.base_digest = std::string(1, 'd');
  identity.arithmetic = "exact";
  identity.layers = 4;
  identity.hidden = kLimits.hidden;
  identity.layer_end = 2;
  return identity;
}

void Expect(bool condition) {
  if (!condition) std::abort();
}

void AtTheExpert(const internal::v1::LinkRequest& request) {
  (void)CheckHello(request.hello(), Identity());
  (void)DecodeOpen(request.open(), kLimits);
  const auto rows = DecodeRows(request.rows(), kLimits);
  if (!rows.ok()) return;
  for (const runtime::HiddenRows& r : *rows) {
    Expect(!r.tokens.empty() && r.states.size() == r.tokens.size() * kLimits.hidden);
    Expect(r.position >= 0 && r.position + r.tokens.size() <= size_t{64});
  }
  // What was accepted survives another journey.
  size_t count = 0;
  for (const EncodedRows& frame : EncodeRows(0, *rows, kLimits.hidden, 0)) {
    const auto again = DecodeRows(frame.message.rows(), kLimits);
    Expect(again.ok());
    count += again->size();
  }
  Expect(count == rows->size());
}

void AtTheBackbone(const internal::v1::LinkResponse& response) {
  (void)CheckHelloReply(response.hello(), Identity());
  (void)CheckOffered(response.added().expert(), Identity());
  (void)DecodeResults(response.results(), kLimits);
  Expect(!DecodeError(response.failed().error()).ok());
  for (const auto& expert : response.hello().experts()) (void)ExpertInfoOf(expert.description());
}

}  // namespace
}  // namespace ccoe::rpc

// The first byte says which end receives the rest.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const int length = static_cast<int>(size - 1);
  if (data[0] % 2 == 0) {
    ccoe::internal::v1::LinkRequest request;
    if (request.ParseFromArray(data + 1, length)) ccoe::rpc::AtTheExpert(request);
  } else {
    ccoe::internal::v1::LinkResponse response;
    if (response.ParseFromArray(data + 1, length)) ccoe::rpc::AtTheBackbone(response);
  }
  return 0;
}
