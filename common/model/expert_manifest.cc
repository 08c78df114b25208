#include "common/model/expert_manifest.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "common/base/status_macros.h"
#include "common/model/digest.h"
#include "common/model/errors.h"
#include "common/model/hf_folder.h"
#include "common/model/json.h"
#include "common/model/text.h"

namespace ccoe::model {
namespace {

constexpr std::string_view kFormat = "ccoe.expert.v1";
constexpr std::string_view kGeneral = "general";  // as runtime::kGeneralExpert
constexpr size_t kMaxBytes = 8 << 20;
constexpr size_t kMaxNameBytes = 63;
constexpr size_t kMaxTextBytes = 4096;
constexpr size_t kMaxEntries = 4096;  // of a list
constexpr size_t kMaxPatterns = 256;
constexpr size_t kMaxRowWeights = 1 << 17;
constexpr int kMaxDepth = 1024;
constexpr int kMaxExampleTokens = 1 << 16;
constexpr double kMaxWeight = 1e6;

// [a-z0-9][a-z0-9_.-]{0,62}
bool IsName(std::string_view text) {
  const auto alphanumeric = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  return !text.empty() && text.size() <= kMaxNameBytes && alphanumeric(text[0]) &&
         std::all_of(text.begin(), text.end(),
                     [&](char c) { return alphanumeric(c) || c == '_' || c == '.' || c == '-'; });
}

absl::StatusOr<std::string> ReadName(JsonReader* reader, std::string_view key) {
  CCOE_ASSIGN_OR_RETURN(std::string name, reader->String(key));
  if (IsName(name)) return name;
  return Damaged(reader->where(), "\"", key,
                 "\" has to match [a-z0-9][a-z0-9_.-]{0,62}: lower case, at most 63 characters");
}

// A name or domain of the package's own.
absl::StatusOr<std::string> ReadOwnName(JsonReader* reader, std::string_view key) {
  CCOE_ASSIGN_OR_RETURN(std::string name, ReadName(reader, key));
  if (name != kGeneral) return name;
  return Damaged(
      reader->where(), "\"", key, "\" may not be \"", kGeneral,
      "\": so are called the base model's own layers, which answer what no expert claims");
}

absl::StatusOr<std::string> ReadText(JsonReader* reader, std::string_view key) {
  CCOE_ASSIGN_OR_RETURN(std::string text, reader->StringOr(key, ""));
  if (text.size() <= kMaxTextBytes) return text;
  return Damaged(reader->where(), "\"", key, "\" is longer than ", kMaxTextBytes, " bytes");
}

absl::StatusOr<double> ReadWeight(JsonReader* reader, std::string_view key) {
  CCOE_ASSIGN_OR_RETURN(const double weight, reader->Number(key));
  if (std::abs(weight) <= kMaxWeight) return weight;
  return Damaged(reader->where(), "\"", key, "\" is beyond a million");
}

absl::StatusOr<std::string> ReadDigest(JsonReader* reader, std::string_view key) {
  CCOE_ASSIGN_OR_RETURN(std::string digest, reader->StringOr(key, ""));
  if (digest.empty() || IsDigest(digest)) return digest;
  return Damaged(
      reader->where(), "\"", key,
      "\" has to be sha256: and 64 hexadecimal digits, as `ccoe model inspect` shows it");
}

// Calls `read` with a reader of each object of the array `key`, which may be absent.
template <typename Read>
absl::Status ForEachObject(JsonReader* reader, std::string_view key, size_t limit,
                           const Read& read) {
  CCOE_ASSIGN_OR_RETURN(const Json* array, reader->ArrayOrNull(key));
  if (array == nullptr) return absl::OkStatus();
  if (array->size() > limit) {
    return Damaged(reader->where(), "\"", key, "\" has more than ", limit, " entries");
  }
  for (size_t i = 0; i < array->size(); ++i) {
    const std::string where = Cat(reader->where(), ": ", key, "[", i, "]");
    if (!(*array)[i].is_object()) return Damaged(where, "not an object");
    JsonReader entry((*array)[i], where);
    CCOE_RETURN_IF_ERROR(read(&entry));
    CCOE_RETURN_IF_ERROR(entry.CheckAllKnown());
  }
  return absl::OkStatus();
}

absl::Status ReadBase(JsonReader* root, ExpertBase* base) {
  CCOE_ASSIGN_OR_RETURN(const Json* object, root->Object("base"));
  JsonReader reader(*object, Cat(root->where(), ": base"));
  CCOE_ASSIGN_OR_RETURN(base->name, ReadText(&reader, "name"));
  CCOE_ASSIGN_OR_RETURN(base->digest, ReadDigest(&reader, "digest"));
  CCOE_ASSIGN_OR_RETURN(base->prefix_digest, ReadDigest(&reader, "prefix_digest"));
  return reader.CheckAllKnown();
}

absl::Status ReadKeyword(JsonReader* reader, GateRules* rules) {
  GateKeyword keyword;
  CCOE_ASSIGN_OR_RETURN(keyword.text, reader->String("text"));
  if (keyword.text.empty() || keyword.text.size() > 256) {
    return Damaged(reader->where(), "\"text\" has to have 1 to 256 bytes");
  }
  CCOE_ASSIGN_OR_RETURN(keyword.weight, ReadWeight(reader, "weight"));
  rules->keywords.push_back(std::move(keyword));
  return absl::OkStatus();
}

absl::Status ReadPattern(JsonReader* reader, GateRules* rules) {
  GatePattern pattern;
  CCOE_ASSIGN_OR_RETURN(pattern.regex, reader->String("regex"));
  absl::StatusOr<std::shared_ptr<const Regex>> compiled = Regex::Compile(pattern.regex);
  if (!compiled.ok()) return At(reader->where(), compiled.status());
  pattern.compiled = *std::move(compiled);
  CCOE_ASSIGN_OR_RETURN(pattern.weight, ReadWeight(reader, "weight"));
  rules->patterns.push_back(std::move(pattern));
  return absl::OkStatus();
}

absl::Status ReadRules(const Json& object, const std::string& where, GateRules* rules) {
  JsonReader reader(object, where);
  CCOE_ASSIGN_OR_RETURN(rules->threshold, ReadWeight(&reader, "threshold"));
  if (rules->threshold <= 0) return Damaged(where, "\"threshold\" has to be above 0");
  CCOE_RETURN_IF_ERROR(ForEachObject(&reader, "keywords", kMaxEntries, [rules](JsonReader* entry) {
    return ReadKeyword(entry, rules);
  }));
  CCOE_RETURN_IF_ERROR(ForEachObject(&reader, "patterns", kMaxPatterns, [rules](JsonReader* entry) {
    return ReadPattern(entry, rules);
  }));
  return reader.CheckAllKnown();
}

absl::Status ReadRow(const Json& object, const std::string& where, int attach_depth, GateRow* row) {
  JsonReader reader(object, where);
  CCOE_ASSIGN_OR_RETURN(const int64_t layer, reader.Integer("routing_layer", 1, attach_depth));
  row->routing_layer = static_cast<int>(layer);
  CCOE_ASSIGN_OR_RETURN(const double bias, ReadWeight(&reader, "bias"));
  CCOE_ASSIGN_OR_RETURN(const double threshold, ReadWeight(&reader, "threshold"));
  row->threshold = static_cast<float>(threshold);
  if (row->threshold <= 0 || row->threshold >= 1) {
    return Damaged(where, "\"threshold\" has to be a probability, above 0 and below 1");
  }
  row->bias = static_cast<float>(bias);
  CCOE_ASSIGN_OR_RETURN(const Json* weights, reader.Array("weights"));
  if (weights->empty() || weights->size() > kMaxRowWeights) {
    return Damaged(where, "\"weights\" has to hold one number for each hidden value");
  }
  for (const Json& weight : *weights) {
    if (!weight.is_number() || !(std::abs(weight.get<double>()) <= kMaxWeight)) {
      return Damaged(where, "\"weights\" has to hold numbers of at most a million");
    }
    row->weights.push_back(static_cast<float>(weight.get<double>()));
  }
  return reader.CheckAllKnown();
}

absl::Status ReadGate(JsonReader* root, ExpertManifest* manifest) {
  CCOE_ASSIGN_OR_RETURN(const Json* object, root->Object("gate"));
  const std::string where = Cat(root->where(), ": gate");
  JsonReader reader(*object, where);
  if (reader.Has("rules")) {
    CCOE_ASSIGN_OR_RETURN(const Json* rules, reader.Object("rules"));
    CCOE_RETURN_IF_ERROR(ReadRules(*rules, Cat(where, ".rules"), &manifest->rules));
  }
  if (reader.Has("row")) {
    CCOE_ASSIGN_OR_RETURN(const Json* row, reader.Object("row"));
    CCOE_RETURN_IF_ERROR(
        ReadRow(*row, Cat(where, ".row"), manifest->attach_depth, &manifest->row.emplace()));
  }
  return reader.CheckAllKnown();
}

absl::Status ReadExample(JsonReader* reader, ExpertManifest* manifest) {
  ExpertExample example;
  CCOE_ASSIGN_OR_RETURN(example.prompt, reader->String("prompt"));
  CCOE_ASSIGN_OR_RETURN(example.arithmetic, ReadName(reader, "arithmetic"));
  CCOE_ASSIGN_OR_RETURN(const int64_t max_tokens,
                        reader->Integer("max_tokens", 1, kMaxExampleTokens));
  example.max_tokens = static_cast<int>(max_tokens);
  CCOE_ASSIGN_OR_RETURN(const Json* ids, reader->Array("token_ids"));
  if (ids->size() > static_cast<size_t>(max_tokens)) {
    return Damaged(reader->where(), "\"token_ids\" has more than \"max_tokens\" tokens");
  }
  for (const Json& id : *ids) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > std::numeric_limits<int32_t>::max()) {
      return Damaged(reader->where(), "\"token_ids\" has to hold token ids");
    }
    example.token_ids.push_back(id.get<int32_t>());
  }
  manifest->examples.push_back(std::move(example));
  return absl::OkStatus();
}

absl::Status ReadSource(JsonReader* reader, ExpertManifest* manifest) {
  ExpertSource source;
  CCOE_ASSIGN_OR_RETURN(source.name, ReadText(reader, "name"));
  CCOE_ASSIGN_OR_RETURN(source.licence, ReadText(reader, "licence"));
  manifest->sources.push_back(std::move(source));
  return absl::OkStatus();
}

absl::Status ReadKind(JsonReader* reader, ExpertManifest* manifest) {
  CCOE_ASSIGN_OR_RETURN(const std::string kind, reader->String("kind"));
  if (kind != "lora" && kind != "full") {
    return Damaged(reader->where(), "\"kind\" has to be \"lora\" or \"full\"");
  }
  manifest->kind = kind == "lora" ? ExpertKind::kLora : ExpertKind::kFull;
  CCOE_ASSIGN_OR_RETURN(const int64_t depth, reader->Integer("attach_depth", 0, kMaxDepth));
  manifest->attach_depth = static_cast<int>(depth);
  CCOE_ASSIGN_OR_RETURN(manifest->weights, reader->String("weights"));
  if (!IsPlainFileName(manifest->weights)) {
    return Damaged(reader->where(), "\"weights\" has to name a file in the package's own folder");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ExpertManifest> ParseExpertManifest(std::string_view text, std::string_view where) {
  CCOE_ASSIGN_OR_RETURN(const Json json, ParseJsonObject(text, kMaxBytes, where));
  JsonReader reader(json, where);
  ExpertManifest manifest;
  CCOE_ASSIGN_OR_RETURN(const std::string format, reader.String("format"));
  if (format != kFormat) {
    return Unsupported(where, "the format \"", format.substr(0, 64),
                       "\" is not supported; supported: ", kFormat);
  }
  CCOE_ASSIGN_OR_RETURN(manifest.name, ReadOwnName(&reader, "name"));
  CCOE_ASSIGN_OR_RETURN(manifest.version, ReadName(&reader, "version"));
  CCOE_ASSIGN_OR_RETURN(manifest.domain, ReadOwnName(&reader, "domain"));
  CCOE_ASSIGN_OR_RETURN(manifest.description, ReadText(&reader, "description"));
  CCOE_RETURN_IF_ERROR(ReadKind(&reader, &manifest));
  CCOE_RETURN_IF_ERROR(ReadBase(&reader, &manifest.base));
  CCOE_RETURN_IF_ERROR(ReadGate(&reader, &manifest));
  CCOE_RETURN_IF_ERROR(ForEachObject(&reader, "examples", kMaxEntries, [&](JsonReader* entry) {
    return ReadExample(entry, &manifest);
  }));
  CCOE_ASSIGN_OR_RETURN(manifest.licence, ReadText(&reader, "licence"));
  CCOE_RETURN_IF_ERROR(ForEachObject(&reader, "sources", kMaxEntries, [&](JsonReader* entry) {
    return ReadSource(entry, &manifest);
  }));
  manifest.scores_json = "{}";
  if (reader.Has("scores")) {
    CCOE_ASSIGN_OR_RETURN(const Json* scores, reader.Object("scores"));
    manifest.scores_json = scores->dump();
  }
  CCOE_RETURN_IF_ERROR(reader.CheckAllKnown());
  return manifest;
}

}  // namespace ccoe::model
