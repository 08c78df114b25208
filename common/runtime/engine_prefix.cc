#include "common/runtime/engine_prefix.h"

#include <algorithm>
#include <utility>

// The engine's thread: what sessions find in the prefix cache, and what they leave to it.
namespace ccoe::runtime {
namespace {

using compute::kKvPageTokens;
using Entries = std::vector<std::shared_ptr<const PrefixEntry>>;

// So many attach depths have their states cached, the shallowest: a deeper expert goes on from
// those of a shallower one.
constexpr size_t kSpareDepths = 4;

// Layers that are the base model's own under the session's expert, of those that run here.
int OwnDepth(const LocalSequence& sequence) {
  return sequence.undecided() ? sequence.stem_depth
                              : std::min(sequence.expert->depth(), sequence.layer_end);
}

// Layers that no step of the session computes anew for rows that it has found.
int SettledLayers(const LocalSequence& sequence) {
  int settled = sequence.layer_end;
  for (const auto& next : sequence.next_experts) {
    if (next == sequence.expert) continue;
    settled = std::min({settled, OwnDepth(sequence), next->depth()});
  }
  return settled;
}

// Rows of the prompt whose output nobody asks for; of an undecided one also without the last that
// its gate needs, so that its state is told by a step that runs.
int RowsToFind(const LocalSequence& sequence) {
  int rows = sequence.spec.score_from.value_or(static_cast<int>(sequence.spec.prompt.size())) - 1;
  if (sequence.route_pool.has_value()) {
    rows = std::min(rows, sequence.spec.route_tokens.back().end - 1);
  }
  return rows;
}

// Whether a page has all base layers below `depth`, and the states that are kept there.
bool Covers(const PrefixEntry& entry, int depth, const std::map<int, int>& kept) {
  return static_cast<int>(entry.trunk.size()) >= depth &&
         std::all_of(kept.begin(), kept.end(), [&](const auto& at) {
           return at.first == 0 || at.first > depth || entry.states.contains(at.first);
         });
}

// Whether nothing of a page has to run again for the session's expert.
bool IsWhole(const PrefixEntry& entry, const LocalSequence& sequence,
             const std::map<int, int>& kept) {
  const int own = OwnDepth(sequence);
  return Covers(entry, own, kept) &&
         (own == sequence.layer_end || entry.tails.contains(sequence.expert->info.package_digest));
}

template <typename Predicate>
int CountLeading(const Entries& entries, const Predicate& fits) {
  const auto end = std::find_if_not(entries.begin(), entries.end(),
                                    [&](const auto& entry) { return fits(*entry); });
  return static_cast<int>(end - entries.begin());
}

// All layers of a page for which IsWhole holds.
KvColumn WholeColumn(const PrefixEntry& entry, const LocalSequence& sequence) {
  const int own = OwnDepth(sequence);
  KvColumn column(entry.trunk.begin(), entry.trunk.begin() + own);
  if (own < sequence.layer_end) {
    const KvColumn& tail = entry.tails.at(sequence.expert->info.package_digest);
    column.insert(column.end(), tail.begin(), tail.end());
  }
  return column;
}

// Whether the gate can do without the page's rows, or has their states.
bool ServesGate(const PrefixEntry& entry, int position, const SessionSpec& spec) {
  return entry.states.contains(spec.routing_layer) ||
         std::none_of(spec.route_tokens.begin(), spec.route_tokens.end(),
                      [&](const model::TokenRange& range) {
                        return range.begin < position + kKvPageTokens && range.end > position;
                      });
}

KvColumn ColumnOf(const KvBlocks& blocks, int index, int layer_begin, int layer_end) {
  KvColumn column;
  column.reserve(layer_end - layer_begin);
  for (int layer = layer_begin; layer < layer_end; ++layer) {
    column.push_back(blocks.Table(layer)[index]);
  }
  return column;
}

}  // namespace

// `kept`: depths whose states the session keeps from its first row on.
EngineImpl::Prefix EngineImpl::FindPrefix(const LocalSequence& sequence,
                                          const std::map<int, int>& kept) const {
  Prefix prefix;
  if (sequence.undecided()) prefix.stem_depth = sequence.stem_depth;
  if (cache_ == nullptr) return prefix;
  const SessionSpec& spec = sequence.spec;
  const auto tokens = absl::MakeConstSpan(spec.prompt).first(RowsToFind(sequence));
  prefix.entries = cache_->Find(spec.cache_salt, tokens);
  const int settled = SettledLayers(sequence);
  if (sequence.undecided()) {
    int position = 0;
    prefix.stem = CountLeading(prefix.entries, [&](const PrefixEntry& entry) {
      return Covers(entry, prefix.stem_depth, kept) &&
             ServesGate(entry, std::exchange(position, position + kKvPageTokens), spec);
    });
  } else if (settled == sequence.layer_end) {
    prefix.whole = CountLeading(
        prefix.entries, [&](const PrefixEntry& entry) { return IsWhole(entry, sequence, kept); });
  }
  if (!sequence.undecided() && !prefix.entries.empty()) {
    const int deepest = std::min({OwnDepth(sequence), settled, sequence.layer_end - 1});
    for (const auto& states : prefix.entries.front()->states) {
      const int depth = states.first;
      if (depth > deepest) break;
      const int stem = CountLeading(prefix.entries, [&](const PrefixEntry& entry) {
        return Covers(entry, depth, kept) && entry.states.contains(depth);
      });
      // What saves most.
      if (stem > prefix.whole &&
          (stem - prefix.whole) * depth >= (prefix.stem - prefix.whole) * prefix.stem_depth) {
        prefix.stem = stem;
        prefix.stem_depth = depth;
      }
    }
  }
  for (int index = 0; index < std::max(prefix.whole, prefix.stem); ++index) {
    const PrefixEntry& entry = *prefix.entries[index];
    prefix.columns.push_back(
        index < prefix.whole
            ? WholeColumn(entry, sequence)
            : KvColumn(entry.trunk.begin(), entry.trunk.begin() + prefix.stem_depth));
  }
  return prefix;
}

// The session, whose memory is reserved, begins after what was found.
void EngineImpl::BeginAfter(const Prefix& prefix, LocalSequence& sequence) {
  sequence.computed = prefix.whole_rows();
  sequence.stem_depth = prefix.stem_depth;
  sequence.stem_rows = prefix.stem_rows();
  sequence.cached_tokens = std::max(prefix.whole_rows(), prefix.stem_rows());
  const int own = OwnDepth(sequence);
  for (auto& [depth, states] : sequence.states) {
    if (depth > own) break;  // a later step's
    const int pages = depth <= prefix.stem_depth ? prefix.stem : prefix.whole;
    for (int index = 0; index < pages; ++index) {
      states.Append(*prefix.entries[index]->states.at(depth));
    }
  }
  if (!sequence.route_pool.has_value()) return;
  for (int index = 0; index < prefix.stem; ++index) {
    const auto& states = prefix.entries[index]->states;
    const auto routing = states.find(sequence.spec.routing_layer);
    if (routing != states.end()) {
      sequence.route_pool->Add(index * kKvPageTokens, *routing->second);
    }
  }
}

// A session that ran to its stem has its expert: what is known of the rows beyond the stem under
// that expert need not run. `leaving`: states of rows that leave.
void EngineImpl::SkipKnown(LocalSequence& sequence, BoundaryStates& leaving) {
  if (cache_ == nullptr) return;
  const bool local = sequence.expert->local;
  const std::map<int, int> kept =
      local ? std::map<int, int>{} : std::map<int, int>{{sequence.layer_end, 0}};
  const int rows = std::min(sequence.stem_rows, RowsToFind(sequence));
  const Entries entries =
      cache_->Find(sequence.spec.cache_salt, absl::MakeConstSpan(sequence.spec.prompt).first(rows));
  const int whole = CountLeading(
      entries, [&](const PrefixEntry& entry) { return IsWhole(entry, sequence, kept); });
  for (int index = 0; index < whole; ++index) {
    sequence.blocks.Share(index, WholeColumn(*entries[index], sequence));
    if (!local) leaving.Append(*entries[index]->states.at(sequence.layer_end));
  }
  sequence.computed = whole * kKvPageTokens;
}

// What a session that ends leaves to those that come.
void EngineImpl::KeepPrefix(LocalSequence& sequence) {
  if (cache_ == nullptr || sequence.blocks.page_count() == 0) return;
  const int own = OwnDepth(sequence);
  const bool on_stem = sequence.undecided() || sequence.on_stem();
  const int whole = sequence.undecided() ? 0 : sequence.computed / kKvPageTokens;
  const int pages = (on_stem ? sequence.stem_rows : sequence.computed) / kKvPageTokens;
  const bool has_tail =
      whole > 0 && own < sequence.layer_end && directory_.Healthy(*sequence.expert);
  std::vector<PrefixEntry> entries(pages);
  for (int index = 0; index < pages; ++index) {
    PrefixEntry& entry = entries[index];
    entry.trunk = ColumnOf(sequence.blocks, index, 0, index < whole ? own : sequence.stem_depth);
    if (index < whole && has_tail) {
      entry.tails[sequence.expert->info.package_digest] =
          ColumnOf(sequence.blocks, index, own, sequence.layer_end);
    }
    for (auto& [depth, spare] : sequence.spare) {
      if (StatePage states = spare.Extract(index)) entry.states[depth] = std::move(states);
    }
  }
  cache_->Insert(sequence.spec.cache_salt, sequence.tokens, std::move(entries));
}

// For the states that a session gathers for the prefix cache.
std::map<int, StatePages> EngineImpl::SparePages(const LocalSequence& sequence) const {
  std::map<int, StatePages> spare;
  if (cache_ == nullptr) return spare;
  const int hidden = options_.model->config().hidden;
  for (int depth : directory_.Depths()) {
    if (depth < 1 || depth > options_.layer_end || spare.size() == kSpareDepths) continue;
    spare.emplace(depth, StatePages(hidden));
  }
  if (sequence.undecided()) {
    spare.emplace(sequence.stem_depth, StatePages(hidden));
    spare.emplace(sequence.spec.routing_layer, StatePages(hidden));
  }
  return spare;
}

}  // namespace ccoe::runtime
