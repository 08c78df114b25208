#include "common/model/json.h"

#include <cmath>
#include <unordered_set>
#include <utility>
#include <vector>

#include "common/base/status_macros.h"
#include "common/model/errors.h"
#include "common/model/text.h"

namespace ccoe::model {
namespace {

constexpr size_t kMaxDepth = 64;

// Builds a document as the library's own handler does, but stops at what hostile texts would use.
class Builder : public nlohmann::json_sax<Json> {
 public:
  explicit Builder(Json* result) : dom_(*result, /*allow_exceptions=*/false) {}

  const std::string& error() const { return error_; }

  bool null() override { return dom_.null(); }
  bool boolean(bool value) override { return dom_.boolean(value); }
  bool number_integer(number_integer_t value) override { return dom_.number_integer(value); }
  bool number_unsigned(number_unsigned_t value) override { return dom_.number_unsigned(value); }
  bool number_float(number_float_t value, const string_t& text) override {
    return dom_.number_float(value, text);
  }
  bool string(string_t& value) override { return dom_.string(value); }
  bool binary(binary_t& value) override { return dom_.binary(value); }

  bool start_object(size_t size) override {
    keys_.emplace_back();
    return Enter() && dom_.start_object(size);
  }
  bool key(string_t& value) override {
    if (!keys_.back().insert(value).second) {
      return Fail(Cat("the key \"", value.substr(0, 100), "\" appears twice in an object"));
    }
    return dom_.key(value);
  }
  bool end_object() override {
    keys_.pop_back();
    --depth_;
    return dom_.end_object();
  }
  bool start_array(size_t size) override { return Enter() && dom_.start_array(size); }
  bool end_array() override {
    --depth_;
    return dom_.end_array();
  }
  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    (void)error;
    return Fail(Cat("not valid JSON at byte ", position));
  }

 private:
  bool Enter() { return ++depth_ <= kMaxDepth || Fail(Cat("nested deeper than ", kMaxDepth)); }
  bool Fail(std::string error) {
    error_ = std::move(error);
    return false;
  }

  nlohmann::detail::json_sax_dom_parser<Json> dom_;
  std::vector<std::unordered_set<std::string>> keys_;  // of the open objects
  size_t depth_ = 0;
  std::string error_;
};

}  // namespace

absl::StatusOr<Json> ParseJson(std::string_view text, size_t max_bytes, std::string_view where) {
  if (text.size() > max_bytes) {
    return Damaged(where, text.size(), " bytes of JSON; at most ", max_bytes, " are read");
  }
  Json result;
  Builder builder(&result);
  if (!Json::sax_parse(text.begin(), text.end(), &builder)) return Damaged(where, builder.error());
  return result;
}

absl::StatusOr<Json> ParseJsonObject(std::string_view text, size_t max_bytes,
                                     std::string_view where) {
  CCOE_ASSIGN_OR_RETURN(Json json, ParseJson(text, max_bytes, where));
  if (!json.is_object()) return Damaged(where, "not a JSON object");
  return json;
}

absl::Status JsonReader::Wrong(std::string_view key, std::string_view wanted) const {
  return Damaged(where_, "\"", key, "\" has to be ", wanted);
}

const Json* JsonReader::Find(std::string_view key) {
  asked_.emplace(key);
  const auto found = object_.find(key);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

absl::StatusOr<std::string> JsonReader::String(std::string_view key) {
  const Json* value = Find(key);
  if (value == nullptr || !value->is_string()) return Wrong(key, "a string");
  return value->get_ref<const std::string&>();
}

absl::StatusOr<std::string> JsonReader::StringOr(std::string_view key, std::string_view absent) {
  if (!Has(key)) return std::string(absent);
  return String(key);
}

absl::StatusOr<int64_t> JsonReader::Integer(std::string_view key, int64_t low, int64_t high) {
  const Json* value = Find(key);
  const std::string wanted = Cat("an integer in [", low, ", ", high, "]");
  if (value == nullptr || !value->is_number_integer()) return Wrong(key, wanted);
  if (value->is_number_unsigned()) {
    const uint64_t number = value->get<uint64_t>();
    if (high < 0 || number > static_cast<uint64_t>(high)) return Wrong(key, wanted);
  }
  const int64_t number = value->get<int64_t>();
  if (number < low || number > high) return Wrong(key, wanted);
  return number;
}

absl::StatusOr<int64_t> JsonReader::IntegerOr(std::string_view key, int64_t absent, int64_t low,
                                              int64_t high) {
  if (!Has(key)) return absent;
  return Integer(key, low, high);
}

absl::StatusOr<double> JsonReader::Number(std::string_view key) {
  const Json* value = Find(key);
  if (value == nullptr || !value->is_number()) return Wrong(key, "a number");
  const double number = value->get<double>();
  if (!std::isfinite(number)) return Wrong(key, "a finite number");
  return number;
}

absl::StatusOr<double> JsonReader::NumberOr(std::string_view key, double absent) {
  if (!Has(key)) return absent;
  return Number(key);
}

absl::StatusOr<bool> JsonReader::BoolOr(std::string_view key, bool absent) {
  const Json* value = Find(key);
  if (value == nullptr) return absent;
  if (!value->is_boolean()) return Wrong(key, "true or false");
  return value->get<bool>();
}

absl::StatusOr<const Json*> JsonReader::Object(std::string_view key) {
  const Json* value = Find(key);
  if (value == nullptr || !value->is_object()) return Wrong(key, "an object");
  return value;
}

absl::StatusOr<const Json*> JsonReader::Array(std::string_view key) {
  const Json* value = Find(key);
  if (value == nullptr || !value->is_array()) return Wrong(key, "an array");
  return value;
}

absl::StatusOr<const Json*> JsonReader::ArrayOrNull(std::string_view key) {
  if (!Has(key)) return nullptr;
  return Array(key);
}

absl::Status JsonReader::CheckAllKnown() const {
  for (const auto& [key, value] : object_.items()) {
    if (!asked_.contains(key)) return Damaged(where_, "the key \"", key, "\" is unknown");
  }
  return absl::OkStatus();
}

}  // namespace ccoe::model
