#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace ccoe::model {

// A compiled PCRE2 expression with UTF and UCP, by JIT where the system allows it. Work and memory
// of a match are bounded. Immutable and thread-safe.
class Regex {
 public:
  struct Match {
    size_t begin = 0;
    size_t end = 0;
  };

  // INVALID_ARGUMENT says where the expression is wrong.
  static absl::StatusOr<std::shared_ptr<const Regex>> Compile(std::string_view pattern);
  ~Regex();
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;

  // The first match in `text` at or after `from`; nullopt when there is none or when the search
  // came to its limit of work. Requires `text` to be valid UTF-8 and `from` to be at a character.
  std::optional<Match> Find(std::string_view text, size_t from) const;
  // Whether the expression matches anywhere in `text`, which may be any bytes: a match never
  // contains bytes that are not UTF-8.
  bool Contains(std::string_view text) const;

 private:
  struct State;
  explicit Regex(std::unique_ptr<const State> state);
  std::unique_ptr<const State> state_;
};

}  // namespace ccoe::model
