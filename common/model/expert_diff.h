#pragma once

#include <functional>
#include <string>
#include <vector>

#include "common/model/expert_package.h"

namespace ccoe::model {

// A member of the manifest, or of the adapter's configuration, that differs. The values are JSON.
struct FieldChange {
  std::string field;  // "version", "base.digest", "scores/exact_match"
  std::string a;
  std::string b;
};

// Entries of a list that only one package has, as JSON; their order does not count.
struct ListChange {
  std::string list;  // "gate.rules.keywords", "gate.rules.patterns", "examples", "sources"
  std::vector<std::string> only_in_a;
  std::vector<std::string> only_in_b;
};

// A tensor whose shape or type differs, as "f16 64x96".
struct TensorChange {
  std::string name;
  std::string a;
  std::string b;
};

struct TensorDistance {
  std::string name;
  double distance = 0;  // of RelativeDistance (tensor_compare.h)
};

struct ExpertDiff {
  std::vector<FieldChange> fields;
  std::vector<ListChange> lists;  // those that differ
  std::vector<std::string> tensors_only_in_a;
  std::vector<std::string> tensors_only_in_b;
  std::vector<TensorChange> tensor_changes;
  std::vector<TensorDistance> distances;  // of all tensors of one shape; the largest first

  // Whether the packages say and compute the same, however their files are written.
  bool Same() const;
};

// What is different in `b`. Reads all weights; `progress` is called with the part that is done, in
// [0, 1].
ExpertDiff DiffExperts(const ExpertPackage& a, const ExpertPackage& b,
                       const std::function<void(double)>& progress);

}  // namespace ccoe::model
