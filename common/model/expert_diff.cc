#include "common/model/expert_diff.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

#include "common/model/json.h"
#include "common/model/tensor_compare.h"
#include "common/model/text.h"

namespace ccoe::model {
namespace {

// What is not UTF-8 cannot stand in JSON: a loaded manifest has none of it.
std::string Dump(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// The members that have one value each.
Json Scalars(const ExpertPackage& package) {
  const ExpertManifest& manifest = package.manifest();
  Json fields = {{"name", manifest.name},
                 {"version", manifest.version},
                 {"domain", manifest.domain},
                 {"description", manifest.description},
                 {"kind", manifest.kind == ExpertKind::kLora ? "lora" : "full"},
                 {"attach_depth", manifest.attach_depth},
                 {"base.name", manifest.base.name},
                 {"base.digest", manifest.base.digest},
                 {"base.prefix_digest", manifest.base.prefix_digest},
                 {"weights", manifest.weights},
                 {"gate.rules.threshold", manifest.rules.threshold},
                 {"licence", manifest.licence}};
  if (package.lora_scale().has_value()) fields["adapter scale"] = *package.lora_scale();
  if (manifest.row.has_value()) {
    fields["gate.row.routing_layer"] = manifest.row->routing_layer;
    fields["gate.row.bias"] = manifest.row->bias;
    fields["gate.row.threshold"] = manifest.row->threshold;
  }
  const Json scores = Json::parse(manifest.scores_json, nullptr, /*allow_exceptions=*/false);
  // Not of an empty object, of which flatten makes a null.
  const Json paths = scores.empty() ? Json::object() : scores.flatten();
  for (const auto& [path, value] : paths.items()) fields[Cat("scores", path)] = value;
  return fields;
}

std::vector<FieldChange> DiffFields(const Json& a, const Json& b) {
  std::vector<FieldChange> changes;
  const auto value_of = [](const Json& fields, const std::string& key) {
    return fields.contains(key) ? fields[key] : Json();
  };
  Json keys = a;
  keys.update(b);
  for (const auto& [key, value] : keys.items()) {
    const Json in_a = value_of(a, key), in_b = value_of(b, key);
    if (in_a != in_b) changes.push_back({key, Dump(in_a), Dump(in_b)});
  }
  return changes;
}

base::TensorView ViewOf(const std::vector<float>& values) {
  return {base::DType::kF32,
          1,
          static_cast<int64_t>(values.size()),
          {reinterpret_cast<const std::byte*>(values.data()), values.size() * sizeof(float)}};
}

// A row's weights are too many to show.
void DiffRowWeights(const ExpertManifest& a, const ExpertManifest& b,
                    std::vector<FieldChange>* changes) {
  const auto describe = [](const ExpertManifest& manifest) {
    return manifest.row.has_value() ? Dump(Cat(manifest.row->weights.size(), " weights"))
                                    : std::string("null");
  };
  FieldChange change{"gate.row.weights", describe(a), describe(b)};
  if (change.a == change.b && a.row.has_value()) {
    const double distance = RelativeDistance(ViewOf(a.row->weights), ViewOf(b.row->weights));
    if (distance == 0) return;
    change.b = Dump(Cat(b.row->weights.size(), " weights at a relative distance of ", distance));
  }
  if (change.a != change.b) changes->push_back(std::move(change));
}

using Lists = std::vector<std::pair<std::string, std::vector<std::string>>>;

Lists ListsOf(const ExpertManifest& manifest) {
  std::vector<std::string> keywords, patterns, examples, sources;
  for (const GateKeyword& keyword : manifest.rules.keywords) {
    keywords.push_back(Dump({{"text", keyword.text}, {"weight", keyword.weight}}));
  }
  for (const GatePattern& pattern : manifest.rules.patterns) {
    patterns.push_back(Dump({{"regex", pattern.regex}, {"weight", pattern.weight}}));
  }
  for (const ExpertExample& example : manifest.examples) {
    examples.push_back(Dump({{"prompt", example.prompt},
                             {"arithmetic", example.arithmetic},
                             {"max_tokens", example.max_tokens},
                             {"token_ids", example.token_ids}}));
  }
  for (const ExpertSource& source : manifest.sources) {
    sources.push_back(Dump({{"name", source.name}, {"licence", source.licence}}));
  }
  Lists lists = {{"gate.rules.keywords", std::move(keywords)},
                 {"gate.rules.patterns", std::move(patterns)},
                 {"examples", std::move(examples)},
                 {"sources", std::move(sources)}};
  for (auto& [name, entries] : lists) std::sort(entries.begin(), entries.end());
  return lists;
}

std::vector<ListChange> DiffLists(const Lists& a, const Lists& b) {
  std::vector<ListChange> changes;
  for (size_t i = 0; i < a.size(); ++i) {
    ListChange change{a[i].first, {}, {}};
    std::ranges::set_difference(a[i].second, b[i].second, std::back_inserter(change.only_in_a));
    std::ranges::set_difference(b[i].second, a[i].second, std::back_inserter(change.only_in_b));
    if (!change.only_in_a.empty() || !change.only_in_b.empty()) {
      changes.push_back(std::move(change));
    }
  }
  return changes;
}

std::string Describe(const base::TensorView& tensor) {
  return Cat(base::InfoOf(tensor.dtype).name, " ", tensor.rows, "x", tensor.cols);
}

void DiffTensors(const TensorTable& a, const TensorTable& b,
                 const std::function<void(double)>& progress, ExpertDiff* diff) {
  size_t done = 0;
  for (const auto& [name, in_a] : a) {
    progress(static_cast<double>(done++) / static_cast<double>(a.size()));
    const auto found = b.find(name);
    if (found == b.end()) {
      diff->tensors_only_in_a.push_back(name);
      continue;
    }
    const base::TensorView& in_b = found->second;
    std::string of_a = Describe(in_a), of_b = Describe(in_b);
    if (of_a != of_b) diff->tensor_changes.push_back({name, std::move(of_a), std::move(of_b)});
    if (in_a.rows == in_b.rows && in_a.cols == in_b.cols) {
      diff->distances.push_back({name, RelativeDistance(in_a, in_b)});
    }
  }
  for (const auto& [name, view] : b) {
    if (!a.contains(name)) diff->tensors_only_in_b.push_back(name);
  }
  std::ranges::stable_sort(diff->distances, std::greater<>(), [](const TensorDistance& tensor) {
    return std::isnan(tensor.distance) ? HUGE_VAL : tensor.distance;
  });
  progress(1);
}

}  // namespace

bool ExpertDiff::Same() const {
  return fields.empty() && lists.empty() && tensors_only_in_a.empty() &&
         tensors_only_in_b.empty() && tensor_changes.empty() &&
         (distances.empty() || distances.front().distance == 0);
}

ExpertDiff DiffExperts(const ExpertPackage& a, const ExpertPackage& b,
                       const std::function<void(double)>& progress) {
  ExpertDiff diff;
  diff.fields = DiffFields(Scalars(a), Scalars(b));
  DiffRowWeights(a.manifest(), b.manifest(), &diff.fields);
  diff.lists = DiffLists(ListsOf(a.manifest()), ListsOf(b.manifest()));
  DiffTensors(a.tensors(), b.tensors(), progress, &diff);
  return diff;
}

}  // namespace ccoe::model
