#include "common/model/expert_writer.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "common/base/status_macros.h"
#include "common/model/errors.h"
#include "common/model/expert_package.h"
#include "common/model/lora_adapter.h"
#include "common/model/mapped_file.h"
#include "common/model/safetensors.h"
#include "common/model/text.h"
#include "common/model/utf8.h"

namespace ccoe::model {
namespace {

constexpr std::string_view kManifest = "expert.json";
constexpr std::string_view kAdapterConfig = "adapter_config.json";
constexpr std::string_view kAdapterWeights = "adapter_model.safetensors";

absl::StatusOr<std::string> ManifestText(const NewExpert& expert, ExpertKind kind, int attach_depth,
                                         const ExpertBase& base, std::string_view weights) {
  for (const std::string* text :
       {&expert.name, &expert.version, &expert.domain, &expert.description, &expert.licence}) {
    if (ValidUtf8Prefix(*text) == text->size()) continue;
    return absl::InvalidArgumentError("a name, description or licence is not UTF-8");
  }
  using Json = nlohmann::ordered_json;
  const auto or_null = [](const std::string& text) { return text.empty() ? Json() : Json(text); };
  const Json manifest = {
      {"format", "ccoe.expert.v1"},
      {"name", expert.name},
      {"version", expert.version},
      {"domain", expert.domain},
      {"description", expert.description},
      {"kind", kind == ExpertKind::kLora ? "lora" : "full"},
      {"attach_depth", attach_depth},
      {"base",
       {{"name", base.name},
        {"digest", or_null(base.digest)},
        {"prefix_digest", or_null(base.prefix_digest)}}},
      {"weights", weights},
      {"gate",
       {{"rules", {{"threshold", 1.0}, {"keywords", Json::array()}, {"patterns", Json::array()}}},
        {"row", nullptr}}},
      {"examples", Json::array()},
      {"licence", expert.licence},
      {"sources", Json::array()},
      {"scores", Json::object()}};
  // The base's name is for people; its own bytes may be any.
  return manifest.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

absl::Status Copy(const MappedFile& file, std::string_view name, StagedFolder& to) {
  return to.Write(name, file.text());
}

}  // namespace

absl::Status CheckNewExpert(const NewExpert& expert) {
  CCOE_ASSIGN_OR_RETURN(const std::string manifest,
                        ManifestText(expert, ExpertKind::kFull, 1, {}, "model.safetensors"));
  CCOE_RETURN_IF_ERROR(ParseExpertManifest(manifest, kManifest).status());
  return CheckNewFolder(expert.out);
}

absl::StatusOr<WrittenExpert> FinishExpert(const NewExpert& expert, ExpertKind kind,
                                           int attach_depth, const ExpertBase& base,
                                           std::string_view weights, const Model& model,
                                           StagedFolder& folder) {
  CCOE_ASSIGN_OR_RETURN(const std::string manifest,
                        ManifestText(expert, kind, attach_depth, base, weights));
  CCOE_RETURN_IF_ERROR(folder.Write(kManifest, manifest));
  CCOE_ASSIGN_OR_RETURN(const std::shared_ptr<const ExpertPackage> package,
                        ExpertPackage::Load(folder.staging()));
  CCOE_RETURN_IF_ERROR(package->CheckAgainst(model));
  CCOE_RETURN_IF_ERROR(folder.Publish());
  return WrittenExpert{attach_depth, package->tensors().size(), package->weight_bytes(),
                       package->digest(), package->manifest().base};
}

absl::StatusOr<WrittenExpert> PackAdapter(const PackOptions& options, const Model& model) {
  CCOE_RETURN_IF_ERROR(CheckNewExpert(options.expert));
  const std::string config_path = Cat(options.adapter, "/", kAdapterConfig);
  CCOE_ASSIGN_OR_RETURN(const auto config_file, MappedFile::Open(config_path));
  CCOE_ASSIGN_OR_RETURN(const LoraConfig config, ParseLoraConfig(config_file->text(), config_path));
  const std::string weights_path = Cat(options.adapter, "/", kAdapterWeights);
  CCOE_ASSIGN_OR_RETURN(const auto weights, MappedFile::Open(weights_path));
  CCOE_ASSIGN_OR_RETURN(const TensorTable tensors,
                        ParseSafetensors(weights->bytes(), weights_path));
  CCOE_ASSIGN_OR_RETURN(const LoraTable table,
                        MakeLoraTable(tensors, config, /*attach_depth=*/0, weights_path));
  CCOE_RETURN_IF_ERROR(CheckLoraShapes(table, model.config()));
  const int depth = table.begin()->first.first;  // the lowest: the table is ordered by layer
  if (depth < 1) {
    return Damaged(weights_path,
                   "it adapts layer 0, but experts share at least the first layer of their base; "
                   "train it with \"layers_to_transform\" from layer 1 or higher on");
  }
  const ExpertBase base = {model.config().name, model.digest(), ""};
  if (!options.proceed(0.5)) return absl::CancelledError("interrupted");
  CCOE_ASSIGN_OR_RETURN(const auto folder, StagedFolder::Create(options.expert.out));
  CCOE_RETURN_IF_ERROR(Copy(*config_file, kAdapterConfig, *folder));
  CCOE_RETURN_IF_ERROR(Copy(*weights, kAdapterWeights, *folder));
  if (!options.proceed(1)) return absl::CancelledError("interrupted");
  return FinishExpert(options.expert, ExpertKind::kLora, depth, base, kAdapterWeights, model,
                      *folder);
}

}  // namespace ccoe::model
