#pragma once

#include <memory>
#include <vector>

#include "common/runtime/engine_impl.h"

namespace ccoe::runtime {

// What the prefix cache has of a session's prompt, in pages from its beginning: of `whole` nothing
// has to run here, and up to `stem`, where that is more, rows go on from their states at
// stem_depth.
struct EngineImpl::Prefix {
  std::vector<std::shared_ptr<const PrefixEntry>> entries;
  int whole = 0;
  int stem = 0;
  int stem_depth = 0;             // 0: no stem
  std::vector<KvColumn> columns;  // of the pages, to share

  int whole_rows() const { return whole * compute::kKvPageTokens; }
  int stem_rows() const { return stem * compute::kKvPageTokens; }
  void DropStem() {
    stem = stem_depth = 0;
    columns.resize(whole);
  }
};

}  // namespace ccoe::runtime
