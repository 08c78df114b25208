#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/base/tensor_view.h"

namespace ccoe::model {

// The directory of a GGUF file (versions 2 and 3, little-endian): metadata and tensors as views of
// its bytes, which the caller keeps alive. Every length and offset has been checked against the
// file.
class GgufFile {
 public:
  // INVALID_ARGUMENT: damaged. UNIMPLEMENTED: another version, byte order or tensor type. `where`
  // begins every message.
  static absl::StatusOr<GgufFile> Parse(absl::Span<const std::byte> bytes, std::string_view where);

  bool Has(std::string_view key) const { return values_.contains(key); }

  // Values by key: NOT_FOUND when absent, INVALID_ARGUMENT when of another type. Integers of any
  // width convert to int64_t, floats of any width to double.
  absl::StatusOr<std::string_view> String(std::string_view key) const;
  absl::StatusOr<int64_t> Integer(std::string_view key) const;
  absl::StatusOr<double> Float(std::string_view key) const;
  absl::StatusOr<bool> Bool(std::string_view key) const;
  absl::StatusOr<std::vector<std::string_view>> Strings(std::string_view key) const;
  absl::StatusOr<std::vector<int64_t>> Integers(std::string_view key) const;

  // As above, with a value for an absent key.
  absl::StatusOr<int64_t> IntegerOr(std::string_view key, int64_t absent) const;
  absl::StatusOr<double> FloatOr(std::string_view key, double absent) const;
  absl::StatusOr<bool> BoolOr(std::string_view key, bool absent) const;
  absl::StatusOr<std::string_view> StringOr(std::string_view key, std::string_view absent) const;

  // Tensors by GGUF name; a vector has one row.
  const std::map<std::string_view, base::TensorView>& tensors() const { return tensors_; }

 private:
  friend class GgufParser;

  // A value or an array of values of one type: its encoded bytes, and for strings the strings.
  struct Value {
    uint32_t type = 0;
    bool is_array = false;
    uint64_t count = 1;
    absl::Span<const std::byte> bytes;
    std::vector<std::string_view> strings;
  };

  absl::StatusOr<const Value*> Find(std::string_view key) const;
  absl::Status WrongType(std::string_view key, std::string_view wanted) const;

  std::string where_;
  std::map<std::string_view, Value> values_;
  std::map<std::string_view, base::TensorView> tensors_;
};

}  // namespace ccoe::model
