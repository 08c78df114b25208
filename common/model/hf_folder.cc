#include "common/model/hf_folder.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "common/base/status_macros.h"
#include "common/model/errors.h"
#include "common/model/hf_config.h"
#include "common/model/json.h"
#include "common/model/safetensors.h"
#include "common/model/text.h"
#include "common/model/tokenizer_json.h"

namespace ccoe::model {
namespace {

constexpr size_t kMaxIndexBytes = 16 << 20;
constexpr size_t kMaxTemplateBytes = 1 << 20;

bool Exists(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

// The template in tokenizer_config.json: text, or an array of named ones with one called "default".
absl::StatusOr<std::string> TemplateOfConfig(std::string_view text, const std::string& where) {
  CCOE_ASSIGN_OR_RETURN(const Json json, ParseJsonObject(text, kMaxTemplateBytes, where));
  JsonReader reader(json, where);
  const Json* value = reader.Find("chat_template");
  if (value == nullptr || !value->is_array()) return reader.StringOr("chat_template", "");
  for (const Json& entry : *value) {
    if (!entry.is_object()) return Damaged(where, "\"chat_template\" holds what is not an object");
    JsonReader named(entry, where);
    CCOE_ASSIGN_OR_RETURN(const std::string name, named.String("name"));
    if (name == "default") return named.String("template");
  }
  return std::string();
}

absl::StatusOr<std::string> ReadTemplate(const std::string& folder) {
  if (const std::string path = folder + "/chat_template.jinja"; Exists(path)) {
    CCOE_ASSIGN_OR_RETURN(const auto file, MappedFile::Open(path));
    if (file->text().size() > kMaxTemplateBytes) return Damaged(path, "larger than 1 MiB");
    return std::string(file->text());
  }
  const std::string path = folder + "/tokenizer_config.json";
  if (!Exists(path)) return std::string();
  CCOE_ASSIGN_OR_RETURN(const auto file, MappedFile::Open(path));
  return TemplateOfConfig(file->text(), path);
}

// The files that hold the tensors.
absl::StatusOr<std::set<std::string>> WeightFiles(const std::string& folder) {
  const std::string path = folder + "/model.safetensors.index.json";
  if (!Exists(path)) return std::set<std::string>{"model.safetensors"};
  CCOE_ASSIGN_OR_RETURN(const auto file, MappedFile::Open(path));
  CCOE_ASSIGN_OR_RETURN(const Json json, ParseJsonObject(file->text(), kMaxIndexBytes, path));
  JsonReader reader(json, path);
  CCOE_ASSIGN_OR_RETURN(const Json* map, reader.Object("weight_map"));
  std::set<std::string> names;
  for (const auto& [tensor, name] : map->items()) {
    if (!name.is_string() || !IsPlainFileName(name.get_ref<const std::string&>())) {
      return Damaged(path, "the file of \"", tensor.substr(0, 200), "\" is not a plain file name");
    }
    names.insert(name.get<std::string>());
  }
  return names;
}

absl::Status AddWeights(const std::string& path, ModelParts* parts) {
  CCOE_ASSIGN_OR_RETURN(std::shared_ptr<const MappedFile> file, MappedFile::Open(path));
  CCOE_ASSIGN_OR_RETURN(const TensorTable table, ParseSafetensors(file->bytes(), path));
  parts->files.push_back(std::move(file));
  for (const auto& [name, view] : table) {
    // Older files carry the frequencies, which the config gives.
    if (name.ends_with("rotary_emb.inv_freq")) continue;
    if (name == "lm_head.weight" && parts->config.tied_embeddings) continue;
    if (!parts->tensors.emplace(name, view).second) {
      return Damaged(path, "the tensor \"", name.substr(0, 200), "\" is in another file too");
    }
  }
  return absl::OkStatus();
}

}  // namespace

bool IsPlainFileName(std::string_view name) {
  if (name.empty() || name.size() > 255 || name[0] == '.') return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '-';
  });
}

absl::StatusOr<ModelParts> ReadHfWeights(const std::string& folder) {
  ModelParts parts;
  const std::string config_path = folder + "/config.json";
  CCOE_ASSIGN_OR_RETURN(const auto config_file, MappedFile::Open(config_path));
  CCOE_ASSIGN_OR_RETURN(parts.config, ParseHfConfig(config_file->text(), config_path));
  CCOE_ASSIGN_OR_RETURN(const std::set<std::string> names, WeightFiles(folder));
  for (const std::string& name : names) {
    CCOE_RETURN_IF_ERROR(AddWeights(folder + "/" + name, &parts));
  }
  const std::filesystem::path path = std::filesystem::path(folder).lexically_normal();
  parts.config.name = (path.has_filename() ? path : path.parent_path()).filename().string();
  return parts;
}

absl::StatusOr<ModelParts> ReadHfFolder(const std::string& folder) {
  CCOE_ASSIGN_OR_RETURN(ModelParts parts, ReadHfWeights(folder));
  if (const std::string path = folder + "/generation_config.json"; Exists(path)) {
    CCOE_ASSIGN_OR_RETURN(const auto file, MappedFile::Open(path));
    CCOE_RETURN_IF_ERROR(AddGenerationConfig(file->text(), path, &parts.config));
  }
  const std::string tokenizer_path = folder + "/tokenizer.json";
  CCOE_ASSIGN_OR_RETURN(const auto tokenizer_file, MappedFile::Open(tokenizer_path));
  CCOE_ASSIGN_OR_RETURN(parts.tokenizer,
                        ParseTokenizerJson(tokenizer_file->text(), tokenizer_path));
  CCOE_ASSIGN_OR_RETURN(parts.chat_template, ReadTemplate(folder));
  std::vector<int32_t>& ends = parts.config.eos_ids;
  const std::vector<int32_t>& known = parts.tokenizer.end_of_generation_ids;
  ends.insert(ends.end(), known.begin(), known.end());
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
  parts.tokenizer.end_of_generation_ids = ends;
  return parts;
}

}  // namespace ccoe::model
