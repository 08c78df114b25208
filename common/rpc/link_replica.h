#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ccoe/internal/v1/link.pb.h"
#include "common/base/mutex.h"
#include "common/rpc/link_connection.h"
#include "common/runtime/remote.h"

namespace ccoe::rpc {

class LinkObserver;

// An expert at the other end of a LinkClient. Lives as long as the client; is attached to one
// connection after another. What the engine says while there is none is dropped: the removal of the
// replica, which is on its way to the engine, moves or fails those sessions. Thread-safe.
class LinkReplica final : public runtime::RemoteExpert {
 public:
  // `observer` may be null; outlives this.
  LinkReplica(int hidden, LinkObserver* observer) : hidden_(hidden), observer_(observer) {}

  void Attach(std::shared_ptr<LinkConnection> connection, uint32_t index, int credit_rows);
  void Detach();
  bool attached() const;
  // The other end has told that the expert is removed: Forget is to release it.
  void MarkRemoved();
  // INVALID_ARGUMENT for credit that was not spent.
  absl::Status AddCredit(const internal::v1::Credit& credit);

  int CreditRows() const override;
  void OpenSession(runtime::SessionId session, const runtime::RemoteSpec& spec) override;
  void Send(std::vector<runtime::HiddenRows> rows) override;
  void CloseSession(runtime::SessionId session) override;
  void Forget() override;

 private:
  bool Spend(int rows);
  std::pair<std::shared_ptr<LinkConnection>, uint32_t> Current() const;

  const int hidden_;
  LinkObserver* const observer_;
  mutable base::Mutex mutex_;
  std::shared_ptr<LinkConnection> connection_ ABSL_GUARDED_BY(mutex_);
  uint32_t index_ ABSL_GUARDED_BY(mutex_) = 0;
  bool removed_ ABSL_GUARDED_BY(mutex_) = false;
  int window_ ABSL_GUARDED_BY(mutex_) = 0;
  int credit_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace ccoe::rpc
