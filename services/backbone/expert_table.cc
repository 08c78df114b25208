#include "services/backbone/expert_table.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

namespace ccoe::backbone {

using internal::v1::ExpertStatus;

std::vector<ExpertStatus> ExpertTable::List() const {
  std::map<std::pair<std::string, std::string>, ExpertStatus> experts;
  const auto add = [&](const internal::v1::ExpertDescription& description, const std::string& id,
                       bool connected) {
    ExpertStatus& status = experts[{description.expert().name(), description.expert().version()}];
    if (!status.has_description()) *status.mutable_description() = description;
    internal::v1::ExpertReplica* replica = status.add_replicas();
    replica->set_id(id);
    replica->set_connected(connected);
  };
  for (const internal::v1::ExpertDescription& description : local_) {
    add(description, "local", true);
  }
  for (const rpc::LinkClient* link : links_) {
    const rpc::LinkClient::State state = link->GetState();
    for (const internal::v1::ExpertDescription& description : state.experts) {
      add(description, link->address(), state.status.ok() && !state.draining);
    }
  }
  std::vector<ExpertStatus> list;
  for (auto& [key, status] : experts) list.push_back(std::move(status));
  return list;
}

std::vector<internal::v1::ExpertProcess> ExpertTable::Processes() const {
  std::vector<internal::v1::ExpertProcess> processes;
  processes.reserve(links_.size());
  for (const rpc::LinkClient* link : links_) {
    const rpc::LinkClient::State state = link->GetState();
    internal::v1::ExpertProcess& process = processes.emplace_back();
    process.set_address(link->address());
    process.set_connected(state.status.ok() && !state.draining);
    process.set_layer_begin(state.layer_begin);
  }
  return processes;
}

bool ExpertTable::AnyConnected() const {
  return !local_.empty() ||
         std::any_of(links_.begin(), links_.end(),
                     [](const rpc::LinkClient* link) { return link->GetState().status.ok(); });
}

bool ExpertTable::AllTried() const {
  return std::all_of(links_.begin(), links_.end(),
                     [](const rpc::LinkClient* link) { return link->GetState().tried; });
}

}  // namespace ccoe::backbone
