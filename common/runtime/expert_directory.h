#pragma once

#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/base/mutex.h"
#include "common/runtime/engine.h"
#include "common/runtime/weights.h"

namespace ccoe::runtime {

// An expert that sessions can be opened for; does not change once it is listed. Sessions share it:
// one that is removed stays as long as they do.
struct ExpertEntry {
  ExpertInfo info;
  bool local = false;
  std::shared_ptr<const model::ExpertPackage> package;  // null for `general` and remote experts
  std::unique_ptr<const ExpertWeights> weights;         // local ones but `general`

  // The base model's own upper layers in this engine, which attach nowhere.
  bool IsBase() const { return local && weights == nullptr; }
  // How many of the base model's layers a row of it has run through at most.
  int depth() const { return IsBase() ? std::numeric_limits<int>::max() : info.attach_depth; }
};

// The experts of an engine and the replicas of those served elsewhere. Thread-safe.
class ExpertDirectory {
 public:
  // ALREADY_EXISTS if name and version are listed.
  absl::Status CheckNew(const ExpertKey& key) const;
  // Errors as of CheckNew; of AddReplica only if what is listed has other contents and a replica.
  absl::Status AddLocal(ExpertEntry entry);
  // NOT_FOUND; INVALID_ARGUMENT for the base model's own layers and for experts served elsewhere.
  absl::Status RemoveLocal(const ExpertKey& key);
  absl::Status AddReplica(const ExpertInfo& expert, RemoteExpert* replica);
  void RemoveReplica(RemoteExpert* replica);
  // As of Engine. An expert whose last replica this is can still be had by who has its entry.
  void RetireReplica(RemoteExpert* replica);
  // Replicas that were retired and that nobody can pick any more, but for those `in_use`; each is
  // told once.
  std::vector<RemoteExpert*> TakeForgotten(const std::function<bool(RemoteExpert*)>& in_use);

  // The entry for `key`; an empty version means the one listed last. NOT_FOUND.
  absl::StatusOr<std::shared_ptr<const ExpertEntry>> Find(const ExpertKey& key) const;
  // A replica of a remote expert that is none of `except`, in turn; null when none is connected.
  RemoteExpert* PickReplica(const ExpertEntry& entry, absl::Span<RemoteExpert* const> except);
  bool Healthy(const ExpertEntry& entry) const;
  // How many layers all that can be used share, of `layers`: the base model's own upper layers in
  // this engine do not count.
  int SharedDepth(int layers) const;
  // The attach depths of those that can be used, but for the base model's own upper layers in this
  // engine; ascending, each once.
  std::vector<int> Depths() const;
  std::vector<ExpertInfo> List() const;
  // Those served elsewhere.
  std::vector<std::shared_ptr<const ExpertEntry>> Remote() const;
  // Whether an expert served elsewhere is listed.
  bool HasRemote() const;
  // Of the weights of local experts.
  size_t WeightBytes() const;

 private:
  struct Listed {
    std::shared_ptr<const ExpertEntry> entry;
    std::vector<RemoteExpert*> replicas;
    size_t next = 0;
  };
  struct Retired {
    RemoteExpert* replica = nullptr;
    // What it is picked for as long as somebody has it; expired from the beginning where the expert
    // had other replicas.
    std::weak_ptr<const ExpertEntry> entry;
  };
  absl::Status CheckNewLocked(const ExpertKey& key) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  const Listed* FindExact(const ExpertKey& key) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static bool Usable(const Listed& listed) {
    return listed.entry->local || !listed.replicas.empty();
  }

  mutable base::Mutex mutex_;
  std::vector<Listed> listed_ ABSL_GUARDED_BY(mutex_);
  std::vector<Retired> retired_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ccoe::runtime
