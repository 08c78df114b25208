#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "ccoe/internal/v1/session.pb.h"
#include "common/rpc/link_client.h"

namespace ccoe::backbone {

// The experts that a backbone knows: its own and those behind its links. Thread-safe, as its links
// are.
class ExpertTable {
 public:
  explicit ExpertTable(std::vector<internal::v1::ExpertDescription> local)
      : local_(std::move(local)) {}

  // Before the table is read.
  void AddLink(const rpc::LinkClient& link) { links_.push_back(&link); }

  // By name, then version; an expert in several places is listed once, with all its replicas.
  std::vector<internal::v1::ExpertStatus> List() const;
  // The processes behind its links.
  std::vector<internal::v1::ExpertProcess> Processes() const;
  // Whether any expert can be used now.
  bool AnyConnected() const;
  // Whether every link has connected or failed to at least once.
  bool AllTried() const;

 private:
  const std::vector<internal::v1::ExpertDescription> local_;
  std::vector<const rpc::LinkClient*> links_;
};

}  // namespace ccoe::backbone
