#include "common/rpc/link_replica.h"

#include "absl/strings/str_cat.h"
#include "common/rpc/link_client.h"
#include "common/rpc/link_frames.h"

namespace ccoe::rpc {

using internal::v1::LinkRequest;
using runtime::HiddenRows;
using runtime::SessionId;

void LinkReplica::Attach(std::shared_ptr<LinkConnection> connection, uint32_t index,
                         int credit_rows) {
  base::MutexLock lock(&mutex_);
  connection_ = std::move(connection);
  index_ = index;
  removed_ = false;
  window_ = credit_rows;
  credit_ = credit_rows;
}

void LinkReplica::Detach() {
  base::MutexLock lock(&mutex_);
  connection_ = nullptr;
  credit_ = 0;
}

bool LinkReplica::attached() const {
  base::MutexLock lock(&mutex_);
  return connection_ != nullptr;
}

void LinkReplica::MarkRemoved() {
  base::MutexLock lock(&mutex_);
  removed_ = true;
}

absl::Status LinkReplica::AddCredit(const internal::v1::Credit& credit) {
  base::MutexLock lock(&mutex_);
  const int64_t bytes = int64_t{credit.rows()} * hidden_ * sizeof(float);
  if (credit.rows() < 0 || credit.bytes() != bytes || credit.rows() > window_ - credit_) {
    return absl::InvalidArgumentError(
        absl::StrCat("credit of ", credit.rows(), " rows and ", credit.bytes(), " bytes"));
  }
  credit_ += credit.rows();
  return absl::OkStatus();
}

int LinkReplica::CreditRows() const {
  base::MutexLock lock(&mutex_);
  return credit_;
}

void LinkReplica::OpenSession(SessionId session, const runtime::RemoteSpec& spec) {
  const auto [connection, index] = Current();
  if (connection == nullptr) return;
  LinkRequest request;
  *request.mutable_open() = EncodeOpen(index, session, spec);
  connection->SendControl(std::move(request));
}

void LinkReplica::Send(std::vector<HiddenRows> rows) {
  const auto [connection, index] = Current();
  if (connection == nullptr) return;
  std::vector<EncodedRows> frames = EncodeRows(index, rows, hidden_, MonotonicNs());
  int count = 0;
  for (const EncodedRows& frame : frames) count += frame.rows;
  if (!Spend(count)) {
    return connection->End(absl::InternalError("rows were sent beyond the expert's credit"));
  }
  if (observer_ != nullptr) observer_->OnHiddenStatesSent(size_t{4} * hidden_ * count);
  connection->SendRows(std::move(frames));
}

void LinkReplica::CloseSession(SessionId session) {
  const auto [connection, index] = Current();
  if (connection == nullptr) return;
  LinkRequest request;
  request.mutable_close()->set_expert(index);
  request.mutable_close()->set_session(session);
  connection->SendControl(std::move(request));
}

void LinkReplica::Forget() {
  base::MutexLock lock(&mutex_);
  if (connection_ == nullptr || !removed_) return;  // that connection has ended
  LinkRequest request;
  request.mutable_release()->set_expert(index_);
  connection_->SendControl(std::move(request));
}

bool LinkReplica::Spend(int rows) {
  base::MutexLock lock(&mutex_);
  if (rows > credit_) return false;
  credit_ -= rows;
  return true;
}

std::pair<std::shared_ptr<LinkConnection>, uint32_t> LinkReplica::Current() const {
  base::MutexLock lock(&mutex_);
  return {connection_, index_};
}

}  // namespace ccoe::rpc
