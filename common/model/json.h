#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace ccoe::model {

using Json = nlohmann::json;

// Parses a whole text. Depth is bounded, keys may not repeat, strings are valid UTF-8, and the text
// is at most `max_bytes`: INVALID_ARGUMENT otherwise. `where` begins every message.
absl::StatusOr<Json> ParseJson(std::string_view text, size_t max_bytes, std::string_view where);

// As ParseJson, for a text that has to be an object.
absl::StatusOr<Json> ParseJsonObject(std::string_view text, size_t max_bytes,
                                     std::string_view where);

// Reads the members of one object and remembers which were asked for. A member that is null counts
// as absent. Borrows the object. INVALID_ARGUMENT messages name the member.
class JsonReader {
 public:
  JsonReader(const Json& object, std::string_view where) : object_(object), where_(where) {}

  // The member, or null when it is absent.
  const Json* Find(std::string_view key);
  bool Has(std::string_view key) { return Find(key) != nullptr; }

  absl::StatusOr<std::string> String(std::string_view key);
  absl::StatusOr<std::string> StringOr(std::string_view key, std::string_view absent);
  absl::StatusOr<int64_t> Integer(std::string_view key, int64_t low, int64_t high);
  absl::StatusOr<int64_t> IntegerOr(std::string_view key, int64_t absent, int64_t low,
                                    int64_t high);
  // Finite.
  absl::StatusOr<double> Number(std::string_view key);
  absl::StatusOr<double> NumberOr(std::string_view key, double absent);
  absl::StatusOr<bool> BoolOr(std::string_view key, bool absent);
  absl::StatusOr<const Json*> Object(std::string_view key);
  absl::StatusOr<const Json*> Array(std::string_view key);
  // nullptr when absent.
  absl::StatusOr<const Json*> ArrayOrNull(std::string_view key);

  // INVALID_ARGUMENT when the object has a member that was never asked for.
  absl::Status CheckAllKnown() const;

  const std::string& where() const { return where_; }

 private:
  absl::Status Wrong(std::string_view key, std::string_view wanted) const;

  const Json& object_;
  const std::string where_;
  std::set<std::string, std::less<>> asked_;
};

}  // namespace ccoe::model
