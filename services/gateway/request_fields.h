#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/model/json.h"

namespace ccoe::gateway {

// Reads the fields of one object of a request and remembers which were asked for. A field that is
// null counts as absent. Errors are those of InvalidParam, with the field's path. Borrows the
// object.
class RequestFields {
 public:
  // `path` of the object itself; empty for the request.
  RequestFields(const model::Json& object, std::string path);
  // INVALID_ARGUMENT for a value that is no object.
  static absl::StatusOr<RequestFields> Of(const model::Json& value, std::string path);

  // The field, or null where it is absent.
  const model::Json* Find(std::string_view name);
  // "path.name".
  std::string PathOf(std::string_view name) const;

  absl::StatusOr<std::optional<std::string>> String(std::string_view name);
  absl::StatusOr<std::optional<int64_t>> Integer(std::string_view name, int64_t low, int64_t high);
  absl::StatusOr<std::optional<double>> Number(std::string_view name);
  absl::StatusOr<bool> BoolOr(std::string_view name, bool absent);
  // A text, or a list of texts; none where it is absent.
  absl::StatusOr<std::vector<std::string>> Strings(std::string_view name);

  // UNSUPPORTED where the field has another value than `only`.
  absl::Status Only(std::string_view name, const model::Json& only);
  // UNSUPPORTED where there is a field that was never asked for.
  absl::Status CheckAllKnown() const;

 private:
  absl::Status Wrong(std::string_view name, const std::string& wanted) const;

  const model::Json& object_;
  const std::string path_;
  std::set<std::string, std::less<>> asked_;
};

}  // namespace ccoe::gateway
