#pragma once

#include <vector>

#include "absl/types/span.h"
#include "common/runtime/prefix_cache.h"

namespace ccoe::runtime {

// A session's hidden states after some layer, gathered in pages for the prefix cache. A page whose
// first row did not come stays empty.
class StatePages {
 public:
  explicit StatePages(int hidden) : hidden_(hidden) {}

  // Takes rows [position, position + n), [n, hidden). What has come already comes with the same
  // values again and is left out.
  void Take(int position, absl::Span<const float> rows);
  // Forgets all but the first `rows` rows.
  void Truncate(int rows);
  // The rows of a page, once; null when not all of them have come.
  StatePage Extract(int index);

 private:
  int hidden_;
  std::vector<std::vector<float>> pages_;
};

}  // namespace ccoe::runtime
