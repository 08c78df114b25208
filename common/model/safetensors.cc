#include "common/model/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/base/check.h"
#include "common/base/status_macros.h"
#include "common/model/errors.h"
#include "common/model/json.h"

namespace ccoe::model {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr size_t kMaxHeaderBytes = 32 << 20;

constexpr std::pair<std::string_view, base::DType> kTypes[] = {
    {"F32", base::DType::kF32}, {"F16", base::DType::kF16}, {"BF16", base::DType::kBF16}};

std::optional<base::DType> DTypeOf(std::string_view name) {
  for (const auto& [known, dtype] : kTypes) {
    if (name == known) return dtype;
  }
  return std::nullopt;
}

std::string_view NameOf(base::DType dtype) {
  for (const auto& [name, known] : kTypes) {
    if (dtype == known) return name;
  }
  CCOE_CHECK(!"a type that safetensors files do not have");
  return {};
}

// Two integers of an array of two.
absl::StatusOr<std::pair<uint64_t, uint64_t>> ReadOffsets(JsonReader* reader) {
  CCOE_ASSIGN_OR_RETURN(const Json* array, reader->Array("data_offsets"));
  if (array->size() != 2 || !(*array)[0].is_number_unsigned() ||
      !(*array)[1].is_number_unsigned()) {
    return Damaged(reader->where(), "\"data_offsets\" has to be two positions");
  }
  return std::pair((*array)[0].get<uint64_t>(), (*array)[1].get<uint64_t>());
}

absl::Status ReadShape(JsonReader* reader, base::TensorView* view) {
  CCOE_ASSIGN_OR_RETURN(const Json* shape, reader->Array("shape"));
  if (shape->size() != 1 && shape->size() != 2) {
    return Unsupported(reader->where(), "a tensor of ", shape->size(),
                       " dimensions; supported: vectors and matrices");
  }
  for (const Json& dimension : *shape) {
    if (!dimension.is_number_unsigned() || dimension.get<uint64_t>() < 1 ||
        dimension.get<uint64_t>() > std::numeric_limits<int32_t>::max()) {
      return Damaged(reader->where(), "a dimension is no integer in [1, 2^31)");
    }
  }
  view->rows = shape->size() == 2 ? (*shape)[0].get<int64_t>() : 1;
  view->cols = shape->back().get<int64_t>();
  return absl::OkStatus();
}

absl::StatusOr<base::TensorView> ReadTensor(const Json& entry, absl::Span<const std::byte> data,
                                            const std::string& where) {
  if (!entry.is_object()) return Damaged(where, "not an object");
  JsonReader reader(entry, where);
  CCOE_ASSIGN_OR_RETURN(const std::string dtype_name, reader.String("dtype"));
  const std::optional<base::DType> dtype = DTypeOf(dtype_name);
  if (!dtype.has_value()) {
    return Unsupported(where, "the type ", dtype_name.substr(0, 32),
                       " is not supported; supported: F32, F16, BF16");
  }
  base::TensorView view;
  view.dtype = *dtype;
  CCOE_RETURN_IF_ERROR(ReadShape(&reader, &view));
  CCOE_ASSIGN_OR_RETURN(const auto offsets, ReadOffsets(&reader));
  const auto [begin, end] = offsets;
  if (begin > end || end > data.size()) return Damaged(where, "lies beyond the end of the file");
  // Both dimensions are below 2^31 and values at most 4 bytes: no overflow in 64 bits but the
  // sign's.
  const uint64_t value_bytes = static_cast<uint64_t>(base::InfoOf(*dtype).block_bytes);
  const uint64_t values = static_cast<uint64_t>(view.rows) * static_cast<uint64_t>(view.cols);
  if (values > (end - begin) / value_bytes || values * value_bytes != end - begin) {
    return Damaged(where, "has ", end - begin, " bytes, not what its shape and type need");
  }
  if (begin % value_bytes != 0) return Damaged(where, "is not aligned to ", value_bytes, " bytes");
  view.data = data.subspan(begin, end - begin);
  return view;
}

}  // namespace

absl::StatusOr<TensorTable> ParseSafetensors(absl::Span<const std::byte> bytes,
                                             std::string_view where) {
  uint64_t header_bytes;
  if (bytes.size() < sizeof(header_bytes)) {
    return Damaged(where, "not a safetensors file (shorter than 8 bytes)");
  }
  std::memcpy(&header_bytes, bytes.data(), sizeof(header_bytes));
  const absl::Span<const std::byte> rest = bytes.subspan(sizeof(header_bytes));
  if (header_bytes > rest.size()) {
    return Damaged(where, "the header of ", header_bytes,
                   " bytes ends beyond the end of the file: truncated, or not a safetensors file");
  }
  if (header_bytes % sizeof(float) != 0) {
    return Damaged(where, "the header's length is no multiple of 4; write the file anew");
  }
  const std::string_view header(reinterpret_cast<const char*>(rest.data()), header_bytes);
  const absl::Span<const std::byte> data = rest.subspan(header_bytes);
  CCOE_ASSIGN_OR_RETURN(const Json json, ParseJsonObject(header, kMaxHeaderBytes, where));
  TensorTable table;
  uint64_t total = 0;
  for (const auto& [name, entry] : json.items()) {
    if (name == "__metadata__") continue;
    CCOE_ASSIGN_OR_RETURN(
        const base::TensorView view,
        ReadTensor(entry, data, Cat(where, ": tensor \"", name.substr(0, 200), "\"")));
    total += view.data.size();
    // The format has no overlaps: more bytes than the file has would be hidden ones read twice.
    if (total > data.size()) return Damaged(where, "tensors overlap");
    table.emplace(name, view);
  }
  return table;
}

absl::Status WriteSafetensors(const TensorTable& tensors, const ByteSink& sink) {
  std::vector<TensorTable::const_pointer> order;  // the widest first: all are aligned then
  for (const auto& entry : tensors) order.push_back(&entry);
  std::ranges::stable_sort(order, std::greater<>(), [](const auto* entry) {
    return base::InfoOf(entry->second.dtype).block_bytes;
  });
  Json header = {{"__metadata__", {{"format", "pt"}}}};  // transformers wants to be told
  size_t offset = 0;
  for (const auto* entry : order) {
    const base::TensorView& view = entry->second;
    Json shape = Json::array({view.rows, view.cols});
    if (view.rows == 1) shape = Json::array({view.cols});
    header[entry->first] = {{"dtype", NameOf(view.dtype)},
                            {"shape", std::move(shape)},
                            {"data_offsets", {offset, offset + view.data.size()}}};
    offset += view.data.size();
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t bytes = text.size();
  const auto as_bytes = [](const void* data, size_t size) {
    return absl::Span<const std::byte>(static_cast<const std::byte*>(data), size);
  };
  CCOE_RETURN_IF_ERROR(sink(as_bytes(&bytes, sizeof(bytes))));
  CCOE_RETURN_IF_ERROR(sink(as_bytes(text.data(), text.size())));
  for (const auto* entry : order) CCOE_RETURN_IF_ERROR(sink(entry->second.data));
  return absl::OkStatus();
}

}  // namespace ccoe::model
