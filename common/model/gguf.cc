#include "common/model/gguf.h"

#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "common/base/status_macros.h"
#include "common/model/errors.h"
#include "common/model/text.h"

namespace ccoe::model {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr uint64_t kMaxNameBytes = 255;
constexpr uint32_t kDefaultAlignment = 32;
constexpr uint64_t kMaxAlignment = 1 << 16;

enum ValueType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

// Bytes of one value, by type; 0 for strings and arrays.
constexpr std::array<uint64_t, 13> kValueBytes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

std::optional<base::DType> DTypeOf(uint32_t ggml_type) {
  switch (ggml_type) {
    case 0:
      return base::DType::kF32;
    case 1:
      return base::DType::kF16;
    case 2:
      return base::DType::kQ4_0;
    case 3:
      return base::DType::kQ4_1;
    case 6:
      return base::DType::kQ5_0;
    case 7:
      return base::DType::kQ5_1;
    case 8:
      return base::DType::kQ8_0;
    case 12:
      return base::DType::kQ4_K;
    case 13:
      return base::DType::kQ5_K;
    case 14:
      return base::DType::kQ6_K;
    case 30:
      return base::DType::kBF16;
    default:
      return std::nullopt;
  }
}

template <typename T>
T Load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

std::optional<int64_t> IntegerAt(uint32_t type, const std::byte* at) {
  switch (type) {
    case kUint8:
      return Load<uint8_t>(at);
    case kInt8:
      return Load<int8_t>(at);
    case kUint16:
      return Load<uint16_t>(at);
    case kInt16:
      return Load<int16_t>(at);
    case kUint32:
      return Load<uint32_t>(at);
    case kInt32:
      return Load<int32_t>(at);
    case kInt64:
      return Load<int64_t>(at);
    case kUint64: {
      const uint64_t value = Load<uint64_t>(at);
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
      return static_cast<int64_t>(value);
    }
    default:
      return std::nullopt;
  }
}

// Reads forward through bytes, never past their end.
class Cursor {
 public:
  explicit Cursor(absl::Span<const std::byte> bytes) : bytes_(bytes) {}

  size_t position() const { return position_; }
  uint64_t left() const { return bytes_.size() - position_; }

  template <typename T>
  bool Read(T* value) {
    if (left() < sizeof(T)) return false;
    *value = Load<T>(bytes_.data() + position_);
    position_ += sizeof(T);
    return true;
  }

  bool ReadBytes(uint64_t count, absl::Span<const std::byte>* value) {
    if (left() < count) return false;
    *value = bytes_.subspan(position_, count);
    position_ += count;
    return true;
  }

  bool ReadString(std::string_view* value) {
    uint64_t length;
    absl::Span<const std::byte> bytes;
    if (!Read(&length) || !ReadBytes(length, &bytes)) return false;
    *value = {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    return true;
  }

 private:
  absl::Span<const std::byte> bytes_;
  size_t position_ = 0;
};

struct TensorEntry {
  std::string_view name;
  base::TensorView view;
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

}  // namespace

class GgufParser {
 public:
  GgufParser(absl::Span<const std::byte> bytes, std::string_view where)
      : bytes_(bytes), cursor_(bytes) {
    file_.where_ = where;
  }

  absl::StatusOr<GgufFile> Run() {
    uint64_t tensor_count, value_count;
    CCOE_RETURN_IF_ERROR(ReadHeader(&tensor_count, &value_count));
    for (uint64_t i = 0; i < value_count; ++i) CCOE_RETURN_IF_ERROR(ReadKeyValue());
    std::vector<TensorEntry> entries;
    for (uint64_t i = 0; i < tensor_count; ++i) {
      CCOE_ASSIGN_OR_RETURN(TensorEntry entry, ReadTensorEntry());
      entries.push_back(entry);
    }
    CCOE_RETURN_IF_ERROR(PlaceTensors(entries));
    return std::move(file_);
  }

 private:
  template <typename... Parts>
  absl::Status Bad(const Parts&... what) const {
    return Damaged(file_.where_, what...);
  }
  absl::Status Truncated() const { return Bad("the file is truncated; fetch it again"); }

  absl::Status ReadHeader(uint64_t* tensor_count, uint64_t* value_count) {
    uint32_t magic, version;
    if (!cursor_.Read(&magic)) return Truncated();
    if (magic != kMagic) return Bad("not a GGUF file (wrong magic number)");
    if (!cursor_.Read(&version)) return Truncated();
    if (version != 2 && version != 3) {
      return Unsupported(file_.where_, "GGUF version ", version,
                         "; supported: 2 and 3, little-endian");
    }
    if (!cursor_.Read(tensor_count) || !cursor_.Read(value_count)) return Truncated();
    // The smallest tensor entry takes 24 bytes, the smallest key and value 13.
    if (*tensor_count > cursor_.left() / 24 || *value_count > cursor_.left() / 13) {
      return Bad("more entries (", *tensor_count, " tensors, ", *value_count,
                 " values) than the file can hold");
    }
    return absl::OkStatus();
  }

  absl::Status ReadKeyValue() {
    std::string_view key;
    uint32_t type;
    if (!cursor_.ReadString(&key) || !cursor_.Read(&type)) return Truncated();
    if (key.empty() || key.size() > kMaxNameBytes) return Bad("a key of ", key.size(), " bytes");
    GgufFile::Value value;
    value.is_array = type == kArray;
    if (value.is_array && (!cursor_.Read(&type) || !cursor_.Read(&value.count))) {
      return Truncated();
    }
    if (type >= kValueBytes.size() || type == kArray) {
      return Unsupported(file_.where_, "key \"", key, "\" has value type ", type,
                         "; supported: numbers, booleans, strings and arrays of them");
    }
    value.type = type;
    if (type == kString) {
      if (value.count > cursor_.left() / sizeof(uint64_t)) return Truncated();
      value.strings.resize(value.count);
      for (std::string_view& string : value.strings) {
        if (!cursor_.ReadString(&string)) return Truncated();
      }
    } else if (value.count > cursor_.left() / kValueBytes[type] ||
               !cursor_.ReadBytes(value.count * kValueBytes[type], &value.bytes)) {
      return Truncated();
    }
    if (!file_.values_.emplace(key, std::move(value)).second) {
      return Bad("the key \"", key, "\" appears twice");
    }
    return absl::OkStatus();
  }

  absl::StatusOr<TensorEntry> ReadTensorEntry() {
    TensorEntry entry;
    uint32_t dimensions, type;
    if (!cursor_.ReadString(&entry.name) || !cursor_.Read(&dimensions)) return Truncated();
    if (entry.name.empty() || entry.name.size() > kMaxNameBytes) {
      return Bad("a tensor name of ", entry.name.size(), " bytes");
    }
    if (dimensions < 1 || dimensions > 4) {
      return Bad("tensor \"", entry.name, "\" has ", dimensions, " dimensions");
    }
    std::array<uint64_t, 4> shape = {1, 1, 1, 1};
    for (uint32_t d = 0; d < dimensions; ++d) {
      if (!cursor_.Read(&shape[d])) return Truncated();
      if (shape[d] < 1 || shape[d] > std::numeric_limits<int32_t>::max()) {
        return Bad("tensor \"", entry.name, "\" has a dimension of ", shape[d]);
      }
    }
    if (!cursor_.Read(&type) || !cursor_.Read(&entry.offset)) return Truncated();
    if (shape[2] != 1 || shape[3] != 1) {
      return Unsupported(file_.where_, "tensor \"", entry.name,
                         "\" has more than two dimensions; supported: vectors and matrices");
    }
    const std::optional<base::DType> dtype = DTypeOf(type);
    if (!dtype.has_value()) {
      return Unsupported(file_.where_, "tensor \"", entry.name, "\" has GGML type ", type,
                         "; supported: F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, "
                         "Q6_K");
    }
    entry.view.dtype = *dtype;
    entry.view.cols = static_cast<int64_t>(shape[0]);
    entry.view.rows = static_cast<int64_t>(shape[1]);
    const std::optional<size_t> row_bytes = entry.view.RowBytes();
    if (!row_bytes.has_value()) {
      return Bad("tensor \"", entry.name, "\" has rows of ", shape[0],
                 " values, no whole number of ", base::InfoOf(*dtype).name, " blocks");
    }
    // Both factors are below 2^34: no overflow.
    entry.bytes = *row_bytes * shape[1];
    return entry;
  }

  absl::Status PlaceTensors(const std::vector<TensorEntry>& entries) {
    CCOE_ASSIGN_OR_RETURN(const int64_t alignment,
                          file_.IntegerOr("general.alignment", kDefaultAlignment));
    if (alignment < 8 || static_cast<uint64_t>(alignment) > kMaxAlignment ||
        !std::has_single_bit(static_cast<uint64_t>(alignment))) {
      return Bad("general.alignment is ", alignment, ", no power of two in [8, 65536]");
    }
    const uint64_t align = static_cast<uint64_t>(alignment);
    const uint64_t start = (cursor_.position() + align - 1) / align * align;
    if (!entries.empty() && start > bytes_.size()) return Truncated();
    for (const TensorEntry& entry : entries) {
      const uint64_t available = bytes_.size() - start;
      if (entry.offset % align != 0) {
        return Bad("tensor \"", entry.name, "\" is not aligned to ", align, " bytes");
      }
      if (entry.offset > available || entry.bytes > available - entry.offset) {
        return Bad("tensor \"", entry.name, "\" ends beyond the end of the file; fetch it again");
      }
      base::TensorView view = entry.view;
      view.data = bytes_.subspan(start + entry.offset, entry.bytes);
      if (!file_.tensors_.emplace(entry.name, view).second) {
        return Bad("the tensor \"", entry.name, "\" appears twice");
      }
    }
    return absl::OkStatus();
  }

  const absl::Span<const std::byte> bytes_;
  Cursor cursor_;
  GgufFile file_;
};

absl::StatusOr<GgufFile> GgufFile::Parse(absl::Span<const std::byte> bytes,
                                         std::string_view where) {
  return GgufParser(bytes, where).Run();
}

absl::StatusOr<const GgufFile::Value*> GgufFile::Find(std::string_view key) const {
  const auto found = values_.find(key);
  if (found == values_.end()) {
    return absl::NotFoundError(Cat(where_, ": the key \"", key, "\" is missing"));
  }
  return &found->second;
}

absl::Status GgufFile::WrongType(std::string_view key, std::string_view wanted) const {
  return Damaged(where_, "the value of \"", key, "\" is not ", wanted);
}

absl::StatusOr<std::string_view> GgufFile::String(std::string_view key) const {
  CCOE_ASSIGN_OR_RETURN(const Value* value, Find(key));
  if (value->is_array || value->type != kString) return WrongType(key, "a string");
  return value->strings[0];
}

absl::StatusOr<int64_t> GgufFile::Integer(std::string_view key) const {
  CCOE_ASSIGN_OR_RETURN(const Value* value, Find(key));
  if (value->is_array) return WrongType(key, "an integer");
  const std::optional<int64_t> integer = IntegerAt(value->type, value->bytes.data());
  if (!integer.has_value()) return WrongType(key, "an integer of 63 bits");
  return *integer;
}

absl::StatusOr<double> GgufFile::Float(std::string_view key) const {
  CCOE_ASSIGN_OR_RETURN(const Value* value, Find(key));
  if (!value->is_array && value->type == kFloat32) return Load<float>(value->bytes.data());
  if (!value->is_array && value->type == kFloat64) return Load<double>(value->bytes.data());
  return WrongType(key, "a floating-point number");
}

absl::StatusOr<bool> GgufFile::Bool(std::string_view key) const {
  CCOE_ASSIGN_OR_RETURN(const Value* value, Find(key));
  if (value->is_array || value->type != kBool) return WrongType(key, "a boolean");
  return Load<uint8_t>(value->bytes.data()) != 0;
}

absl::StatusOr<std::vector<std::string_view>> GgufFile::Strings(std::string_view key) const {
  CCOE_ASSIGN_OR_RETURN(const Value* value, Find(key));
  if (!value->is_array || value->type != kString) return WrongType(key, "an array of strings");
  return value->strings;
}

absl::StatusOr<std::vector<int64_t>> GgufFile::Integers(std::string_view key) const {
  CCOE_ASSIGN_OR_RETURN(const Value* value, Find(key));
  if (!value->is_array) return WrongType(key, "an array of integers");
  std::vector<int64_t> integers;
  integers.reserve(value->count);
  for (uint64_t i = 0; i < value->count; ++i) {
    const std::optional<int64_t> integer =
        value->type == kString
            ? std::nullopt
            : IntegerAt(value->type, value->bytes.data() + i * kValueBytes[value->type]);
    if (!integer.has_value()) return WrongType(key, "an array of integers");
    integers.push_back(*integer);
  }
  return integers;
}

absl::StatusOr<int64_t> GgufFile::IntegerOr(std::string_view key, int64_t absent) const {
  if (!Has(key)) return absent;
  return Integer(key);
}

absl::StatusOr<double> GgufFile::FloatOr(std::string_view key, double absent) const {
  if (!Has(key)) return absent;
  return Float(key);
}

absl::StatusOr<bool> GgufFile::BoolOr(std::string_view key, bool absent) const {
  if (!Has(key)) return absent;
  return Bool(key);
}

absl::StatusOr<std::string_view> GgufFile::StringOr(std::string_view key,
                                                    std::string_view absent) const {
  if (!Has(key)) return absent;
  return String(key);
}

}  // namespace ccoe::model
