#include "services/gateway/request_fields.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "services/gateway/http_error.h"

namespace ccoe::gateway {

using model::Json;

RequestFields::RequestFields(const Json& object, std::string path)
    : object_(object), path_(std::move(path)) {}

absl::StatusOr<RequestFields> RequestFields::Of(const Json& value, std::string path) {
  if (!value.is_object()) return InvalidParam(path, "has to be an object");
  return RequestFields(value, std::move(path));
}

const Json* RequestFields::Find(std::string_view name) {
  asked_.emplace(name);
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

std::string RequestFields::PathOf(std::string_view name) const {
  return absl::StrCat(path_, path_.empty() ? "" : ".", std::string(name));
}

absl::Status RequestFields::Wrong(std::string_view name, const std::string& wanted) const {
  return InvalidParam(PathOf(name), absl::StrCat("has to be ", wanted));
}

absl::StatusOr<std::optional<std::string>> RequestFields::String(std::string_view name) {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) return Wrong(name, "a string");
  return value->get_ref<const std::string&>();
}

absl::StatusOr<std::optional<int64_t>> RequestFields::Integer(std::string_view name, int64_t low,
                                                              int64_t high) {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  const std::string wanted = absl::StrCat("an integer in [", low, ", ", high, "]");
  if (!value->is_number_integer()) return Wrong(name, wanted);
  if (value->is_number_unsigned() &&
      value->get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return Wrong(name, wanted);
  }
  const int64_t number = value->get<int64_t>();
  if (number < low || number > high) return Wrong(name, wanted);
  return number;
}

absl::StatusOr<std::optional<double>> RequestFields::Number(std::string_view name) {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number() || !std::isfinite(value->get<double>())) return Wrong(name, "a number");
  return value->get<double>();
}

absl::StatusOr<bool> RequestFields::BoolOr(std::string_view name, bool absent) {
  const Json* value = Find(name);
  if (value == nullptr) return absent;
  if (!value->is_boolean()) return Wrong(name, "true or false");
  return value->get<bool>();
}

absl::StatusOr<std::vector<std::string>> RequestFields::Strings(std::string_view name) {
  std::vector<std::string> texts;
  const Json* value = Find(name);
  if (value == nullptr) return texts;
  if (value->is_string()) return std::vector<std::string>{value->get<std::string>()};
  if (!value->is_array()) return Wrong(name, "a string or a list of strings");
  texts.reserve(value->size());
  for (const Json& text : *value) {
    if (!text.is_string()) return Wrong(name, "a string or a list of strings");
    texts.push_back(text.get<std::string>());
  }
  return texts;
}

absl::Status RequestFields::Only(std::string_view name, const Json& only) {
  const Json* value = Find(name);
  if (value == nullptr || *value == only) return absl::OkStatus();
  return UnsupportedParam(PathOf(name), absl::StrCat("is not supported; ", only.dump(), " is"));
}

absl::Status RequestFields::CheckAllKnown() const {
  for (const auto& [name, value] : object_.items()) {
    if (!value.is_null() && !asked_.contains(name)) {
      return UnsupportedParam(PathOf(name), "is not a field that this server knows");
    }
  }
  return absl::OkStatus();
}

}  // namespace ccoe::gateway
