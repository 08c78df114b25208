#include "common/model/tokenizer_json.h"

#include <algorithm>
#include <string>
#include <utility>

#include "common/base/status_macros.h"
#include "common/model/end_tokens.h"
#include "common/model/errors.h"
#include "common/model/json.h"
#include "common/model/text.h"

namespace ccoe::model {
namespace {

constexpr size_t kMaxBytes = 64 << 20;
constexpr int64_t kMaxId = (1 << 20) - 1;

// The "type" of a component, "" when it is absent or null.
std::string TypeOf(const Json* component) {
  if (component == nullptr || !component->is_object()) return "";
  const auto type = component->find("type");
  return type != component->end() && type->is_string() ? type->get<std::string>() : "";
}

// The parts of a component: those of a Sequence (under `list`), or itself; none when it is null.
absl::StatusOr<std::vector<const Json*>> PartsOf(const Json* component, std::string_view list,
                                                 std::string_view where) {
  std::vector<const Json*> parts;
  if (component == nullptr) return parts;
  if (TypeOf(component) != "Sequence") return std::vector<const Json*>{component};
  JsonReader reader(*component, where);
  CCOE_ASSIGN_OR_RETURN(const Json* array, reader.Array(list));
  for (const Json& part : *array) parts.push_back(&part);
  return parts;
}

absl::Status ReadNormalizer(const Json* component, std::string_view where, TokenizerSpec* spec) {
  CCOE_ASSIGN_OR_RETURN(const auto parts, PartsOf(component, "normalizers", where));
  for (const Json* part : parts) {
    if (TypeOf(part) != "NFC") {
      return Unsupported(where, "the normalizer \"", TypeOf(part),
                         "\" is not supported; supported: none, NFC");
    }
    spec->normalization = Normalization::kNfc;
  }
  return absl::OkStatus();
}

absl::StatusOr<SplitStep::Behavior> BehaviorOf(std::string_view name, std::string_view where) {
  using Behavior = SplitStep::Behavior;
  if (name == "Isolated") return Behavior::kIsolated;
  if (name == "Removed") return Behavior::kRemoved;
  if (name == "MergedWithPrevious") return Behavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return Behavior::kMergedWithNext;
  if (name == "Contiguous") return Behavior::kContiguous;
  return Damaged(where, "the split behavior \"", name, "\" is unknown");
}

// A regular expression that matches `text` and nothing else.
std::string Quoted(std::string_view text) {
  std::string quoted;
  for (const char c : text) {
    const bool word = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                      static_cast<unsigned char>(c) >= 0x80;
    if (!word) quoted.push_back('\\');
    quoted.push_back(c);
  }
  return quoted;
}

absl::StatusOr<SplitStep> ReadSplit(const Json& component, std::string_view where) {
  JsonReader reader(component, where);
  CCOE_ASSIGN_OR_RETURN(const Json* pattern, reader.Object("pattern"));
  JsonReader pattern_reader(*pattern, where);
  SplitStep step;
  if (pattern_reader.Has("String")) {
    CCOE_ASSIGN_OR_RETURN(const std::string text, pattern_reader.String("String"));
    step.regex = Quoted(text);
  } else {
    CCOE_ASSIGN_OR_RETURN(step.regex, pattern_reader.String("Regex"));
  }
  CCOE_ASSIGN_OR_RETURN(const std::string behavior, reader.String("behavior"));
  CCOE_ASSIGN_OR_RETURN(step.behavior, BehaviorOf(behavior, where));
  CCOE_ASSIGN_OR_RETURN(const bool invert, reader.BoolOr("invert", false));
  step.invert = invert ? SplitStep::Invert::kYes : SplitStep::Invert::kNo;
  return step;
}

absl::Status ReadPreTokenizer(const Json* component, std::string_view where, TokenizerSpec* spec) {
  CCOE_ASSIGN_OR_RETURN(const auto parts, PartsOf(component, "pretokenizers", where));
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::string type = TypeOf(parts[i]);
    JsonReader reader(*parts[i], where);
    if (type == "Split") {
      CCOE_ASSIGN_OR_RETURN(SplitStep step, ReadSplit(*parts[i], where));
      spec->steps.push_back(std::move(step));
    } else if (type == "Digits") {
      CCOE_ASSIGN_OR_RETURN(const bool individual, reader.BoolOr("individual_digits", false));
      spec->steps.push_back({individual ? R"(\p{N})" : R"(\p{N}+)"});
    } else if (type == "ByteLevel" && i + 1 == parts.size()) {
      CCOE_ASSIGN_OR_RETURN(const bool prefix_space, reader.BoolOr("add_prefix_space", true));
      if (prefix_space) {
        return Unsupported(where, "\"add_prefix_space\" is not supported; supported: false");
      }
      CCOE_ASSIGN_OR_RETURN(const bool use_regex, reader.BoolOr("use_regex", true));
      if (!use_regex) return absl::OkStatus();
      CCOE_ASSIGN_OR_RETURN(std::vector<SplitStep> gpt2, PreTokenizerByName("gpt-2"));
      spec->steps.push_back(std::move(gpt2[0]));
      return absl::OkStatus();
    } else {
      return Unsupported(where, "the pre-tokenizer \"", type,
                         "\" is not supported here; supported: Split, Digits, then ByteLevel");
    }
  }
  return Unsupported(where,
                     "the pre-tokenizers do not end with ByteLevel; supported: byte-level BPE");
}

absl::Status ReadVocabulary(const Json& vocabulary, std::string_view where, TokenizerSpec* spec) {
  int64_t last = -1;
  for (const auto& [text, id] : vocabulary.items()) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > static_cast<uint64_t>(kMaxId)) {
      return Damaged(where, "the id of token \"", text.substr(0, 100), "\" is not in [0, ", kMaxId,
                     "]");
    }
    last = std::max(last, id.get<int64_t>());
  }
  spec->tokens.resize(static_cast<size_t>(last + 1));
  for (const auto& [text, id] : vocabulary.items()) {
    TokenEntry& token = spec->tokens[id.get<size_t>()];
    if (token.kind != TokenKind::kUnused) {
      return Damaged(where, "two tokens have the id ", id.get<int64_t>());
    }
    token = {text, TokenKind::kNormal};
  }
  return absl::OkStatus();
}

absl::Status ReadAddedToken(const Json& entry, std::string_view where, TokenizerSpec* spec) {
  if (!entry.is_object()) return Damaged(where, "an added token is not an object");
  JsonReader reader(entry, where);
  CCOE_ASSIGN_OR_RETURN(const int64_t id, reader.Integer("id", 0, kMaxId));
  CCOE_ASSIGN_OR_RETURN(const std::string content, reader.String("content"));
  CCOE_ASSIGN_OR_RETURN(const bool special, reader.BoolOr("special", false));
  for (const std::string_view flag : {"lstrip", "rstrip", "single_word"}) {
    CCOE_ASSIGN_OR_RETURN(const bool set, reader.BoolOr(flag, false));
    if (set) {
      return Unsupported(where, "the added token \"", content.substr(0, 100), "\" has \"", flag,
                         "\" set, which is not supported");
    }
  }
  if (static_cast<size_t>(id) >= spec->tokens.size()) {
    spec->tokens.resize(static_cast<size_t>(id) + 1);
  }
  TokenEntry& token = spec->tokens[static_cast<size_t>(id)];
  if (token.kind != TokenKind::kUnused && token.text != content) {
    return Damaged(where, "two tokens have the id ", id);
  }
  token = {content, special ? TokenKind::kControl : TokenKind::kAdded};
  return absl::OkStatus();
}

// A merge is "left right" or ["left", "right"].
absl::StatusOr<std::pair<std::string_view, std::string_view>> ReadMerge(const Json& merge,
                                                                        std::string_view where) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    return std::pair<std::string_view, std::string_view>(merge[0].get_ref<const std::string&>(),
                                                         merge[1].get_ref<const std::string&>());
  }
  if (merge.is_string()) {
    const std::string_view text = merge.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space != std::string_view::npos) {
      return std::pair(text.substr(0, space), text.substr(space + 1));
    }
  }
  return Damaged(where, "a merge is not two tokens");
}

absl::Status ReadMerges(const Json& merges, std::string_view where, TokenizerSpec* spec) {
  StringMap<std::string_view, int32_t> ids;
  ids.reserve(spec->tokens.size());
  for (size_t i = 0; i < spec->tokens.size(); ++i) {
    if (spec->tokens[i].kind == TokenKind::kNormal) {
      ids.emplace(spec->tokens[i].text, static_cast<int32_t>(i));
    }
  }
  spec->merges.reserve(merges.size());
  for (const Json& merge : merges) {
    CCOE_ASSIGN_OR_RETURN(const auto pair, ReadMerge(merge, where));
    const auto left = ids.find(pair.first), right = ids.find(pair.second);
    if (left == ids.end() || right == ids.end()) {
      return Damaged(where, "merge ", spec->merges.size(),
                     " joins a token that is not in the vocabulary");
    }
    spec->merges.emplace_back(left->second, right->second);
  }
  return absl::OkStatus();
}

absl::Status ReadModel(JsonReader* root, const std::string& where, TokenizerSpec* spec) {
  CCOE_ASSIGN_OR_RETURN(const Json* model, root->Object("model"));
  JsonReader reader(*model, where);
  CCOE_ASSIGN_OR_RETURN(const std::string type, reader.StringOr("type", "BPE"));
  CCOE_ASSIGN_OR_RETURN(const bool fallback, reader.BoolOr("byte_fallback", false));
  CCOE_ASSIGN_OR_RETURN(const std::string prefix, reader.StringOr("continuing_subword_prefix", ""));
  CCOE_ASSIGN_OR_RETURN(const std::string suffix, reader.StringOr("end_of_word_suffix", ""));
  if (type != "BPE" || fallback || !prefix.empty() || !suffix.empty() || reader.Has("dropout")) {
    return Unsupported(where, "the model \"", type,
                       "\" with its options is not supported; supported: byte-level BPE without "
                       "byte_fallback, affixes and dropout");
  }
  CCOE_ASSIGN_OR_RETURN(spec->ignore_merges, reader.BoolOr("ignore_merges", false));
  CCOE_ASSIGN_OR_RETURN(const Json* vocabulary, reader.Object("vocab"));
  CCOE_RETURN_IF_ERROR(ReadVocabulary(*vocabulary, where, spec));
  CCOE_ASSIGN_OR_RETURN(const Json* added, root->ArrayOrNull("added_tokens"));
  if (added != nullptr) {
    for (const Json& entry : *added) CCOE_RETURN_IF_ERROR(ReadAddedToken(entry, where, spec));
  }
  CCOE_ASSIGN_OR_RETURN(const Json* merges, reader.Array("merges"));
  return ReadMerges(*merges, where, spec);
}

// The token that a template puts before the text: "single" is [SpecialToken, Sequence] or
// [Sequence].
absl::Status ReadTemplate(const Json& processor, std::string_view where, TokenizerSpec* spec) {
  JsonReader reader(processor, where);
  CCOE_ASSIGN_OR_RETURN(const Json* single, reader.Array("single"));
  const auto is = [&](size_t i, std::string_view kind) {
    return (*single)[i].is_object() && (*single)[i].contains(std::string(kind));
  };
  if (single->size() == 1 && is(0, "Sequence")) return absl::OkStatus();
  if (single->size() != 2 || !is(0, "SpecialToken") || !is(1, "Sequence")) {
    return Unsupported(where, "a post-processor adds other tokens than one before the text");
  }
  JsonReader token_reader((*single)[0], where);
  CCOE_ASSIGN_OR_RETURN(const Json* token, token_reader.Object("SpecialToken"));
  JsonReader id_reader(*token, where);
  CCOE_ASSIGN_OR_RETURN(const std::string text, id_reader.String("id"));
  for (size_t i = 0; i < spec->tokens.size(); ++i) {
    if (spec->tokens[i].kind == TokenKind::kControl && spec->tokens[i].text == text) {
      spec->bos_id = static_cast<int32_t>(i);
      return absl::OkStatus();
    }
  }
  return Damaged(where, "the post-processor's token \"", text.substr(0, 100),
                 "\" is no special token");
}

absl::Status ReadPostProcessor(const Json* component, std::string_view where, TokenizerSpec* spec) {
  CCOE_ASSIGN_OR_RETURN(const auto parts, PartsOf(component, "processors", where));
  for (const Json* part : parts) {
    const std::string type = TypeOf(part);
    if (type == "TemplateProcessing") {
      CCOE_RETURN_IF_ERROR(ReadTemplate(*part, where, spec));
    } else if (type != "ByteLevel") {
      return Unsupported(where, "the post-processor \"", type,
                         "\" is not supported; supported: ByteLevel, TemplateProcessing");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenizerSpec> ParseTokenizerJson(std::string_view text, std::string_view where) {
  CCOE_ASSIGN_OR_RETURN(const Json json, ParseJsonObject(text, kMaxBytes, where));
  JsonReader reader(json, where);
  TokenizerSpec spec;
  CCOE_RETURN_IF_ERROR(ReadNormalizer(reader.Find("normalizer"), where, &spec));
  CCOE_RETURN_IF_ERROR(ReadPreTokenizer(reader.Find("pre_tokenizer"), where, &spec));
  if (TypeOf(reader.Find("decoder")) != "ByteLevel") {
    return Unsupported(where, "the decoder \"", TypeOf(reader.Find("decoder")),
                       "\" is not supported; supported: ByteLevel");
  }
  CCOE_RETURN_IF_ERROR(ReadModel(&reader, std::string(where), &spec));
  CCOE_RETURN_IF_ERROR(ReadPostProcessor(reader.Find("post_processor"), where, &spec));
  AddKnownEndTokens(&spec);
  return spec;
}

}  // namespace ccoe::model
