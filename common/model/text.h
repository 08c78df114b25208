#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace ccoe::model {

// Abseil's string_view is a type of its own in Debian's build; these carry std::string_view over.
inline absl::string_view ForAbseil(std::string_view text) { return {text.data(), text.size()}; }
template <typename T>
const T& ForAbseil(const T& value) requires(!std::is_convertible_v<const T&, std::string_view>) {
  return value;
}

// absl::StrCat over strings, views and numbers.
template <typename... Parts>
std::string Cat(const Parts&... parts) {
  return absl::StrCat(ForAbseil(parts)...);
}

// Removes `prefix` from the beginning of `text`, if it is there.
inline bool ConsumePrefix(std::string_view* text, std::string_view prefix) {
  if (!text->starts_with(prefix)) return false;
  text->remove_prefix(prefix.size());
  return true;
}

struct StringHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};

// Maps by string, searched by view. Key is std::string, or std::string_view of what outlives the
// map.
template <typename Key, typename Value>
using StringMap = absl::flat_hash_map<Key, Value, StringHash, std::equal_to<>>;

}  // namespace ccoe::model
