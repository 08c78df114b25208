#pragma once

#include <deque>

#include "common/rpc/link_frames.h"

namespace ccoe::rpc {

// Frames of a backbone that wait for the stream: control and decode frames in order, then prefill
// frames in order. Rows of one session never overtake one another; control frames may overtake
// prefill frames of their session. Credits bound its length. Not thread-safe.
class LinkSendQueue {
 public:
  void PushControl(internal::v1::LinkRequest message);
  void PushRows(EncodedRows rows);
  // Takes the next frame; false when there is none.
  bool Pop(internal::v1::LinkRequest* message);
  void Clear();

 private:
  std::deque<internal::v1::LinkRequest> first_;    // control, decode
  std::deque<internal::v1::LinkRequest> prefill_;  // after those
};

}  // namespace ccoe::rpc
