#include "common/model/tokenizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <utility>

#include "absl/strings/escaping.h"
#include "common/base/status_macros.h"
#include "common/model/bpe.h"
#include "common/model/byte_alphabet.h"
#include "common/model/digest.h"
#include "common/model/pre_tokenizer.h"
#include "common/model/text.h"
#include "common/model/utf8.h"

namespace ccoe::model {
namespace {

constexpr size_t kMaxTokens = 1 << 20;
constexpr size_t kMaxTokenBytes = 1 << 16;

std::string Nfc(std::string_view text) {
  const bool ascii = std::all_of(text.begin(), text.end(),
                                 [](char c) { return static_cast<unsigned char>(c) < 0x80; });
  if (ascii) return std::string(text);
  utf8proc_uint8_t* composed = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &composed,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  if (size < 0) return std::string(text);
  std::string result(reinterpret_cast<const char*>(composed), static_cast<size_t>(size));
  std::free(composed);
  return result;
}

}  // namespace

struct Tokenizer::State {
  State(BpeMerger bpe, PreTokenizer pre_tokenizer)
      : bpe(std::move(bpe)), pre_tokenizer(std::move(pre_tokenizer)) {}

  BpeMerger bpe;
  PreTokenizer pre_tokenizer;
  Normalization normalization = Normalization::kNone;
  std::vector<std::string> bytes;  // by id
  std::vector<TokenKind> kinds;    // by id
  std::array<int32_t, 256> byte_tokens{};
  StringMap<std::string, int32_t> whole_ids;    // by bytes: pieces that are not merged
  StringMap<std::string, int32_t> special_ids;  // by text
  std::optional<int32_t> bos;
  std::vector<int32_t> end_of_generation;  // ascending
  std::string digest;
};

namespace {

// Checked vocabulary, on the way to a Tokenizer.
struct Vocabulary {
  std::vector<std::string> bytes;
  std::vector<TokenKind> kinds;
  StringMap<std::string, int32_t> normal_ids;
  StringMap<std::string, int32_t> special_ids;
  std::array<int32_t, 256> byte_tokens;
};

absl::StatusOr<Vocabulary> MakeVocabulary(const TokenizerSpec& spec) {
  if (spec.tokens.empty() || spec.tokens.size() > kMaxTokens) {
    return absl::InvalidArgumentError(
        Cat("a vocabulary of ", spec.tokens.size(), " tokens; supported: 1 to ", kMaxTokens));
  }
  Vocabulary vocabulary;
  vocabulary.byte_tokens.fill(-1);
  vocabulary.bytes.reserve(spec.tokens.size());
  vocabulary.kinds.reserve(spec.tokens.size());
  vocabulary.normal_ids.reserve(spec.tokens.size());
  for (size_t i = 0; i < spec.tokens.size(); ++i) {
    const TokenEntry& token = spec.tokens[i];
    const int32_t id = static_cast<int32_t>(i);
    const bool normal = token.kind == TokenKind::kNormal;
    if (token.text.size() > kMaxTokenBytes ||
        (token.text.empty() && token.kind != TokenKind::kUnused)) {
      return absl::InvalidArgumentError(Cat("token ", id, " has ", token.text.size(), " bytes"));
    }
    std::string bytes = normal ? BytesOfByteLevelText(token.text).value_or(token.text) : token.text;
    if (token.kind != TokenKind::kUnused) {
      auto& ids = normal ? vocabulary.normal_ids : vocabulary.special_ids;
      const auto [other, is_new] = ids.emplace(bytes, id);
      if (!is_new) {
        return absl::InvalidArgumentError(
            Cat("tokens ", other->second, " and ", id, " have the same text"));
      }
    }
    if (normal && bytes.size() == 1) vocabulary.byte_tokens[static_cast<uint8_t>(bytes[0])] = id;
    vocabulary.bytes.push_back(std::move(bytes));
    vocabulary.kinds.push_back(token.kind);
  }
  return vocabulary;
}

absl::StatusOr<std::vector<BpeMerger::Merge>> MakeMerges(const TokenizerSpec& spec,
                                                         const Vocabulary& vocabulary) {
  std::vector<BpeMerger::Merge> merges;
  merges.reserve(spec.merges.size());
  for (size_t rank = 0; rank < spec.merges.size(); ++rank) {
    const auto [left, right] = spec.merges[rank];
    for (const int32_t id : {left, right}) {
      if (id < 0 || static_cast<size_t>(id) >= vocabulary.kinds.size() ||
          vocabulary.kinds[id] != TokenKind::kNormal) {
        return absl::InvalidArgumentError(
            Cat("merge ", rank, " joins a token that is not in the vocabulary"));
      }
    }
    const auto result =
        vocabulary.normal_ids.find(Cat(vocabulary.bytes[left], vocabulary.bytes[right]));
    if (result == vocabulary.normal_ids.end()) {
      return absl::InvalidArgumentError(
          Cat("the result of merge ", rank, " is not in the vocabulary"));
    }
    merges.push_back({left, right, result->second});
  }
  return merges;
}

absl::Status CheckIds(const TokenizerSpec& spec) {
  std::vector<int32_t> ids = spec.end_of_generation_ids;
  if (spec.bos_id.has_value()) ids.push_back(*spec.bos_id);
  for (const int32_t id : ids) {
    if (id < 0 || static_cast<size_t>(id) >= spec.tokens.size()) {
      return absl::InvalidArgumentError(
          Cat("a special token has id ", id, ", outside the vocabulary of ", spec.tokens.size()));
    }
  }
  return absl::OkStatus();
}

char KindLetter(TokenKind kind) {
  switch (kind) {
    case TokenKind::kNormal:
      return 'n';
    case TokenKind::kAdded:
      return 'a';
    case TokenKind::kControl:
      return 'c';
    case TokenKind::kUnused:
      break;
  }
  return 'u';
}

// docs/models.md describes the text that is hashed.
std::string DigestOf(const TokenizerSpec& spec, const Vocabulary& vocabulary) {
  Sha256 hash;
  hash.Update("ccoe.tokenizer.v1\n");
  hash.Update(Cat("nfc ", spec.normalization == Normalization::kNfc ? 1 : 0, "\n"));
  hash.Update(Cat("ignore_merges ", spec.ignore_merges ? 1 : 0, "\n"));
  for (const SplitStep& step : spec.steps) {
    hash.Update(Cat("split ", static_cast<int>(step.behavior), " ", static_cast<int>(step.invert),
                    " ", absl::BytesToHexString(step.regex), "\n"));
  }
  for (size_t id = 0; id < vocabulary.bytes.size(); ++id) {
    hash.Update(Cat(std::string(1, KindLetter(vocabulary.kinds[id])), " ",
                    absl::BytesToHexString(vocabulary.bytes[id]), "\n"));
  }
  for (const auto& [left, right] : spec.merges) {
    hash.Update(Cat("m ", left, " ", right, "\n"));
  }
  return Cat("sha256:", hash.FinishHex());
}

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<const State> state) : state_(std::move(state)) {}
Tokenizer::~Tokenizer() = default;

absl::StatusOr<std::unique_ptr<const Tokenizer>> Tokenizer::Create(TokenizerSpec spec) {
  CCOE_RETURN_IF_ERROR(CheckIds(spec));
  CCOE_ASSIGN_OR_RETURN(Vocabulary vocabulary, MakeVocabulary(spec));
  CCOE_ASSIGN_OR_RETURN(std::vector<BpeMerger::Merge> merges, MakeMerges(spec, vocabulary));
  CCOE_ASSIGN_OR_RETURN(BpeMerger bpe,
                        BpeMerger::Create(vocabulary.byte_tokens, std::move(merges)));
  CCOE_ASSIGN_OR_RETURN(PreTokenizer pre_tokenizer, PreTokenizer::Create(spec.steps));
  auto state = std::make_unique<State>(std::move(bpe), std::move(pre_tokenizer));
  state->digest = DigestOf(spec, vocabulary);
  state->normalization = spec.normalization;
  state->bytes = std::move(vocabulary.bytes);
  state->kinds = std::move(vocabulary.kinds);
  state->byte_tokens = vocabulary.byte_tokens;
  if (spec.ignore_merges) state->whole_ids = std::move(vocabulary.normal_ids);
  state->special_ids = std::move(vocabulary.special_ids);
  state->bos = spec.bos_id;
  state->end_of_generation = std::move(spec.end_of_generation_ids);
  std::sort(state->end_of_generation.begin(), state->end_of_generation.end());
  return std::unique_ptr<const Tokenizer>(new Tokenizer(std::move(state)));
}

std::vector<int32_t> Tokenizer::Encode(std::string_view text) const {
  const State& state = *state_;
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 3 + 8);
  while (!text.empty()) {
    const std::string_view valid = text.substr(0, ValidUtf8Prefix(text));
    std::string normalized;
    std::string_view run = valid;
    if (state.normalization == Normalization::kNfc) run = normalized = Nfc(valid);
    if (!run.empty()) {
      for (const std::string_view piece : state.pre_tokenizer.Split(run)) {
        const auto whole = state.whole_ids.find(piece);
        if (whole != state.whole_ids.end()) {
          ids.push_back(whole->second);
        } else {
          state.bpe.Append(piece, &ids);
        }
      }
    }
    text.remove_prefix(valid.size());
    if (text.empty()) break;
    const int32_t byte_token = state.byte_tokens[static_cast<uint8_t>(text[0])];
    if (byte_token >= 0) ids.push_back(byte_token);
    text.remove_prefix(1);
  }
  return ids;
}

std::optional<int32_t> Tokenizer::SpecialToken(std::string_view text) const {
  const auto found = state_->special_ids.find(text);
  if (found == state_->special_ids.end()) return std::nullopt;
  return found->second;
}

std::string_view Tokenizer::TokenBytes(int32_t id) const {
  if (IsSpecial(id)) return {};
  return state_->bytes[id];
}

std::string_view Tokenizer::TokenText(int32_t id) const {
  if (id < 0 || id >= vocab_size()) return {};
  return state_->bytes[id];
}

bool Tokenizer::IsSpecial(int32_t id) const {
  if (id < 0 || id >= vocab_size()) return true;
  const TokenKind kind = state_->kinds[id];
  return kind == TokenKind::kControl || kind == TokenKind::kUnused;
}

bool Tokenizer::IsEndOfGeneration(int32_t id) const {
  return std::binary_search(state_->end_of_generation.begin(), state_->end_of_generation.end(), id);
}

int Tokenizer::vocab_size() const { return static_cast<int>(state_->bytes.size()); }

std::optional<int32_t> Tokenizer::bos() const { return state_->bos; }

const std::string& Tokenizer::digest() const { return state_->digest; }

std::string StreamingDetokenizer::Push(int32_t id) {
  held_ += tokenizer_->TokenBytes(id);
  std::string text;
  std::string_view left = held_;
  while (!left.empty()) {
    const Utf8Unit unit = NextUtf8Unit(left);
    if (unit.kind == Utf8Unit::Kind::kIncomplete) break;
    text += unit.kind == Utf8Unit::Kind::kCharacter ? left.substr(0, unit.bytes)
                                                    : kReplacementCharacter;
    left.remove_prefix(unit.bytes);
  }
  held_ = std::string(left);
  return text;
}

std::string StreamingDetokenizer::Finish() {
  std::string text(held_.empty() ? std::string_view() : kReplacementCharacter);
  held_.clear();
  return text;
}

}  // namespace ccoe::model
