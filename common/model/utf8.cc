#include "common/model/utf8.h"

#include <cstdint>
#include <cstring>

namespace ccoe::model {
namespace {

uint8_t At(std::string_view bytes, size_t i) { return static_cast<uint8_t>(bytes[i]); }

}  // namespace

Utf8Unit NextUtf8Unit(std::string_view bytes) {
  using Kind = Utf8Unit::Kind;
  const uint8_t lead = At(bytes, 0);
  if (lead < 0x80) return {Kind::kCharacter, 1};
  size_t length;
  uint8_t low = 0x80, high = 0xBF;  // bounds of the second byte
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return {Kind::kInvalid, 1};
  }
  for (size_t i = 1; i < length; ++i) {
    if (i == bytes.size()) return {Kind::kIncomplete, i};
    if (At(bytes, i) < low || At(bytes, i) > high) return {Kind::kInvalid, i};
    low = 0x80;
    high = 0xBF;
  }
  return {Kind::kCharacter, length};
}

size_t ValidUtf8Prefix(std::string_view bytes) {
  size_t valid = 0;
  while (valid < bytes.size()) {
    uint64_t eight;
    if (valid + sizeof(eight) <= bytes.size()) {
      std::memcpy(&eight, bytes.data() + valid, sizeof(eight));
      if ((eight & 0x8080808080808080u) == 0) {  // all ASCII
        valid += sizeof(eight);
        continue;
      }
    }
    const Utf8Unit unit = NextUtf8Unit(bytes.substr(valid));
    if (unit.kind != Utf8Unit::Kind::kCharacter) break;
    valid += unit.bytes;
  }
  return valid;
}

void AppendUtf8(char32_t code_point, std::string* to) {
  const auto add = [to](char32_t byte) { to->push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    add(code_point);
  } else if (code_point < 0x800) {
    add(0xC0 | code_point >> 6);
    add(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    add(0xE0 | code_point >> 12);
    add(0x80 | (code_point >> 6 & 0x3F));
    add(0x80 | (code_point & 0x3F));
  } else {
    add(0xF0 | code_point >> 18);
    add(0x80 | (code_point >> 12 & 0x3F));
    add(0x80 | (code_point >> 6 & 0x3F));
    add(0x80 | (code_point & 0x3F));
  }
}

char32_t DecodeUtf8(std::string_view text, size_t* bytes) {
  const uint8_t lead = At(text, 0);
  *bytes = NextUtf8Unit(text).bytes;
  if (*bytes == 1) return lead;
  char32_t code_point = lead & (0x7F >> *bytes);
  for (size_t i = 1; i < *bytes; ++i) code_point = code_point << 6 | (At(text, i) & 0x3F);
  return code_point;
}

std::vector<std::string_view> ValidUtf8Runs(std::string_view bytes) {
  std::vector<std::string_view> runs;
  while (!bytes.empty()) {
    const size_t valid = ValidUtf8Prefix(bytes);
    if (valid > 0) runs.push_back(bytes.substr(0, valid));
    bytes.remove_prefix(valid);
    if (!bytes.empty()) bytes.remove_prefix(NextUtf8Unit(bytes).bytes);
  }
  return runs;
}

}  // namespace ccoe::model
