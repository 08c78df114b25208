#include "common/model/byte_alphabet.h"

#include <array>
#include <cstdint>

#include "common/model/utf8.h"

namespace ccoe::model {
namespace {

constexpr size_t kAlphabetEnd = 0x144;  // the characters are below this code point

constexpr bool ShowsItself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr std::array<char16_t, 256> MakeCharacters() {
  std::array<char16_t, 256> characters{};
  char16_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    characters[byte] = ShowsItself(byte) ? static_cast<char16_t>(byte) : next++;
  }
  return characters;
}

constexpr std::array<char16_t, 256> kCharacters = MakeCharacters();

constexpr std::array<int16_t, kAlphabetEnd> MakeBytes() {
  std::array<int16_t, kAlphabetEnd> bytes{};
  for (int16_t& byte : bytes) byte = -1;
  for (int byte = 0; byte < 256; ++byte) bytes[kCharacters[byte]] = static_cast<int16_t>(byte);
  return bytes;
}

constexpr std::array<int16_t, kAlphabetEnd> kBytes = MakeBytes();

}  // namespace

std::optional<std::string> BytesOfByteLevelText(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  while (!text.empty()) {
    const Utf8Unit unit = NextUtf8Unit(text);
    if (unit.kind != Utf8Unit::Kind::kCharacter) return std::nullopt;
    size_t length;
    const char32_t character = DecodeUtf8(text, &length);
    if (character >= kAlphabetEnd || kBytes[character] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(kBytes[character]));
    text.remove_prefix(length);
  }
  return bytes;
}

std::string ByteLevelTextOf(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) AppendUtf8(kCharacters[static_cast<uint8_t>(byte)], &text);
  return text;
}

}  // namespace ccoe::model
