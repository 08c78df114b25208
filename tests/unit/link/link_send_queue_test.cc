#include "common/rpc/link_send_queue.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace ccoe::rpc {
namespace {

EncodedRows Rows(runtime::SessionId session, int position, int count) {
  runtime::HiddenRows rows;
  rows.session = session;
  rows.position = position;
  rows.tokens.resize(count);
  rows.states.resize(count);
  return EncodeRows(0, {rows}, 1, 0)[0];
}

internal::v1::LinkRequest Close(runtime::SessionId session) {
  internal::v1::LinkRequest request;
  request.mutable_close()->set_session(session);
  return request;
}

// "r1@0" for rows of session 1 at position 0, "c1" for its close.
std::vector<std::string> Drain(LinkSendQueue& queue) {
  std::vector<std::string> order;
  internal::v1::LinkRequest message;
  while (queue.Pop(&message)) {
    if (message.has_close()) {
      order.push_back(absl::StrCat("c", message.close().session()));
    } else {
      const auto& segment = message.rows().segments(0);
      order.push_back(absl::StrCat("r", segment.session(), "@", segment.position()));
    }
  }
  return order;
}

using Order = std::vector<std::string>;

TEST(LinkSendQueueTest, ControlAndDecodeGoBeforePrefill) {
  LinkSendQueue queue;
  queue.PushRows(Rows(1, 0, 8));
  queue.PushRows(Rows(1, 8, 8));
  queue.PushRows(Rows(2, 30, 1));
  queue.PushControl(Close(3));
  queue.PushRows(Rows(4, 50, 1));
  EXPECT_EQ(Drain(queue), (Order{"r2@30", "c3", "r4@50", "r1@0", "r1@8"}));
}

TEST(LinkSendQueueTest, RowsOfOneSessionStayInOrder) {
  LinkSendQueue queue;
  queue.PushRows(Rows(1, 0, 8));
  queue.PushRows(Rows(1, 8, 1));  // the prompt's last row
  queue.PushRows(Rows(2, 30, 1));
  EXPECT_EQ(Drain(queue), (Order{"r2@30", "r1@0", "r1@8"}));
}

TEST(LinkSendQueueTest, ClearForgetsEverything) {
  LinkSendQueue queue;
  queue.PushRows(Rows(1, 0, 8));
  queue.PushControl(Close(1));
  queue.Clear();
  EXPECT_TRUE(Drain(queue).empty());
}

}  // namespace
}  // namespace ccoe::rpc
