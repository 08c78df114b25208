#include "common/rpc/link_send_queue.h"

#include <algorithm>
#include <utility>

namespace ccoe::rpc {
namespace {

bool SharesSession(const internal::v1::RowsFrame& a, const internal::v1::RowsFrame& b) {
  return a.expert() == b.expert() &&
         std::any_of(a.segments().begin(), a.segments().end(), [&](const auto& x) {
           return std::any_of(b.segments().begin(), b.segments().end(),
                              [&](const auto& y) { return x.session() == y.session(); });
         });
}

}  // namespace

void LinkSendQueue::PushControl(internal::v1::LinkRequest message) {
  first_.push_back(std::move(message));
}

void LinkSendQueue::PushRows(EncodedRows rows) {
  // The last row of a prompt can come alone and must not overtake the rows before it.
  const bool follows = std::any_of(prefill_.begin(), prefill_.end(), [&](const auto& waiting) {
    return SharesSession(waiting.rows(), rows.message.rows());
  });
  const bool late = rows.priority == FramePriority::kPrefill || follows;
  (late ? prefill_ : first_).push_back(std::move(rows.message));
}

bool LinkSendQueue::Pop(internal::v1::LinkRequest* message) {
  std::deque<internal::v1::LinkRequest>& queue = first_.empty() ? prefill_ : first_;
  if (queue.empty()) return false;
  *message = std::move(queue.front());
  queue.pop_front();
  return true;
}

void LinkSendQueue::Clear() {
  first_.clear();
  prefill_.clear();
}

}  // namespace ccoe::rpc
