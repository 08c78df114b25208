#include "common/model/expert_extract.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "common/base/status_macros.h"
#include "common/model/errors.h"
#include "common/model/hf_folder.h"
#include "common/model/model_parts.h"
#include "common/model/safetensors.h"
#include "common/model/tensor_compare.h"
#include "common/model/text.h"

namespace ccoe::model {
namespace {

constexpr std::string_view kEmbedding = "model.embed_tokens.weight";
constexpr std::string_view kNorm = "model.norm.weight";
constexpr std::string_view kHead = "lm_head.weight";
constexpr std::string_view kWeights = "model.safetensors";
constexpr size_t kPiece = 8 << 20;  // bytes written between two looks whether to go on
constexpr double kComparing = 0.5;  // the part of the work that is comparing

absl::Status Refused(const std::string& checkpoint, std::string_view reason) {
  return absl::FailedPreconditionError(Cat(checkpoint, ": ", reason));
}

// What a fine-tune changes is often less than what quantisation rounds away: against a quantised
// base there is no telling which layers are shared.
absl::Status CheckFloat(const Model& base) {
  for (const TensorShape& shape : ModelTensors(base.config())) {
    CCOE_ASSIGN_OR_RETURN(const base::TensorView view, base.Tensor(shape.name));
    if (IsFloat(view)) continue;
    return absl::FailedPreconditionError(Cat(
        base.path(), ": the base is quantised (", shape.name, " is ", base::InfoOf(view.dtype).name,
        "). What fine-tuning changes is often less than what quantisation rounds away, so it "
        "cannot be told which layers are shared. Give the model that the checkpoint was tuned "
        "from as it was: its Hugging Face folder, or a GGUF file in F32, F16 or BF16"));
  }
  return absl::OkStatus();
}

// GGUF may hold rope's frequencies as factors, which were rounded.
bool SameRope(const ModelConfig& a, const ModelConfig& b) {
  return std::ranges::equal(a.InverseFrequencies(), b.InverseFrequencies(), [](float x, float y) {
    return std::abs(x - y) <= 1e-5f * std::max(std::abs(x), std::abs(y));
  });
}

absl::Status CheckSameArchitecture(const std::string& path, const ModelConfig& checkpoint,
                                   const ModelConfig& base) {
  if (checkpoint.family != base.family) {
    return Refused(path, Cat("its architecture is ", FamilyName(checkpoint.family),
                             ", the base's is ", FamilyName(base.family)));
  }
  const struct {
    std::string_view name;
    int ModelConfig::*member;
  } sizes[] = {
      {"layers", &ModelConfig::layers},      {"hidden size", &ModelConfig::hidden},
      {"heads", &ModelConfig::heads},        {"key and value heads", &ModelConfig::kv_heads},
      {"head size", &ModelConfig::head_dim}, {"FFN size", &ModelConfig::ffn},
      {"vocabulary", &ModelConfig::vocab}};
  for (const auto& [name, member] : sizes) {
    if (checkpoint.*member == base.*member) continue;
    return Refused(path, Cat("it has another shape than the base: ", name, " ", checkpoint.*member,
                             ", the base's ", base.*member));
  }
  const bool same = checkpoint.qkv_bias == base.qkv_bias && checkpoint.qk_norm == base.qk_norm &&
                    checkpoint.rms_epsilon == base.rms_epsilon && SameRope(checkpoint, base);
  if (same) return absl::OkStatus();
  return Refused(path, Cat("its config.json computes otherwise than the base: ",
                           checkpoint.CanonicalJson(), "; the base: ", base.CanonicalJson()));
}

// A checkpoint's tensors against its base's.
class Comparison {
 public:
  Comparison(const ModelParts& checkpoint, const Model& base, const Proceed& proceed)
      : checkpoint_(checkpoint), base_(base), proceed_(proceed) {}

  // The name of the first tensor in which the embedding or a layer differs; nullopt: none does.
  absl::StatusOr<std::optional<std::string>> FirstDifference() {
    const std::vector<TensorShape> shapes = ModelTensors(base_.config());
    for (size_t i = 0; i < shapes.size(); ++i) {
      if (shapes[i].name == kNorm) break;  // after the layers
      if (!proceed_(kComparing * static_cast<double>(i) / static_cast<double>(shapes.size()))) {
        return absl::CancelledError("interrupted");
      }
      CCOE_ASSIGN_OR_RETURN(const bool same, Same(shapes[i].name));
      if (!same) return shapes[i].name;
    }
    return std::nullopt;
  }
  absl::StatusOr<bool> Same(std::string_view name) const {
    CCOE_ASSIGN_OR_RETURN(const base::TensorView of_base, base_.Tensor(name));
    return SameValues(Own(name), of_base);
  }
  // The checkpoint's tensor; its head is its embedding where they are tied.
  base::TensorView Own(std::string_view name) const {
    const bool tied = name == kHead && checkpoint_.config.tied_embeddings;
    return checkpoint_.tensors.find(tied ? kEmbedding : name)->second;
  }
  // Says of a tensor that must not differ how it does.
  std::string Describe(std::string_view name) const {
    const std::string_view own = base::InfoOf(Own(name).dtype).name;
    const std::string_view of_base = base::InfoOf(base_.Tensor(name)->dtype).name;
    if (own == of_base) return std::string(name);
    return Cat(name, " (", own, " here, ", of_base,
               " in the base: rounding alone may be the difference; give the base in the type that "
               "the checkpoint was tuned from)");
  }

 private:
  const ModelParts& checkpoint_;
  const Model& base_;
  const Proceed& proceed_;
};

// The layer of model.layers.N.*, or -1.
int LayerOf(std::string_view name) {
  int layer = -1;
  if (!ConsumePrefix(&name, "model.layers.")) return -1;
  std::from_chars(name.data(), name.data() + name.size(), layer);
  return layer;
}

struct Choice {
  int attach_depth = 0;
  TensorTable tensors;
  bool own_end = false;  // both norm and head
};

absl::StatusOr<Choice> Choose(const std::string& path, const ModelParts& checkpoint,
                              const Model& base, const Proceed& proceed) {
  Comparison comparison(checkpoint, base, proceed);
  CCOE_ASSIGN_OR_RETURN(const std::optional<std::string> first, comparison.FirstDifference());
  CCOE_ASSIGN_OR_RETURN(const bool same_norm, comparison.Same(kNorm));
  const int last = base.config().layers - 1;
  const int layer = first.has_value() ? LayerOf(*first) : last;
  if (layer < 1 && first.has_value()) {
    return Refused(path, Cat("it differs from the base in ", comparison.Describe(*first),
                             ". An expert shares the embedding and at least the first layer; "
                             "freeze them when you fine-tune"));
  }
  CCOE_ASSIGN_OR_RETURN(const bool same_head, comparison.Same(kHead));
  if (!first.has_value() && same_norm && same_head) {
    return Refused(path, Cat("it is equal to ", base.path(), ": there is nothing to extract"));
  }
  if (last < 1) return Refused(path, "a model of one layer has none above a shared one");
  Choice choice;
  choice.attach_depth = layer;
  choice.own_end = !same_norm && !same_head;
  for (int i = layer; i <= last; ++i) {
    for (const TensorShape& shape : LayerTensors(base.config(), i)) {
      choice.tensors.emplace(shape.name, comparison.Own(shape.name));
    }
  }
  if (!same_norm) choice.tensors.emplace(kNorm, comparison.Own(kNorm));
  if (!same_head) choice.tensors.emplace(kHead, comparison.Own(kHead));
  return choice;
}

absl::Status WriteWeights(const TensorTable& tensors, const Proceed& proceed,
                          StagedFolder& folder) {
  double total = 1, done = 0;
  for (const auto& [name, view] : tensors) total += static_cast<double>(view.data.size());
  return folder.Write(kWeights, [&](const ByteSink& sink) {
    return WriteSafetensors(tensors, [&](absl::Span<const std::byte> bytes) {
      while (!bytes.empty()) {
        const double part = kComparing + (1 - kComparing) * std::min(1.0, done / total);
        if (!proceed(part)) return absl::CancelledError("interrupted");
        const absl::Span<const std::byte> piece = bytes.subspan(0, kPiece);
        CCOE_RETURN_IF_ERROR(sink(piece));
        bytes.remove_prefix(piece.size());
        done += static_cast<double>(piece.size());
      }
      return absl::OkStatus();
    });
  });
}

}  // namespace

absl::StatusOr<WrittenExpert> ExtractExpert(const ExtractOptions& options, const Model& base) {
  const std::string& path = options.checkpoint;
  CCOE_RETURN_IF_ERROR(CheckNewExpert(options.expert));
  CCOE_RETURN_IF_ERROR(CheckFloat(base));
  CCOE_ASSIGN_OR_RETURN(const ModelParts checkpoint, ReadHfWeights(path));
  CCOE_RETURN_IF_ERROR(CheckSameArchitecture(path, checkpoint.config, base.config()));
  if (absl::Status status = CheckModelTensors(checkpoint.tensors, checkpoint.config);
      !status.ok()) {
    return At(path, status);
  }
  CCOE_ASSIGN_OR_RETURN(const Choice choice, Choose(path, checkpoint, base, options.proceed));
  ExpertBase pinned = {base.config().name, "", base.PrefixDigest(choice.attach_depth)};
  if (!choice.own_end) pinned.digest = base.digest();
  CCOE_ASSIGN_OR_RETURN(const auto folder, StagedFolder::Create(options.expert.out));
  CCOE_RETURN_IF_ERROR(WriteWeights(choice.tensors, options.proceed, *folder));
  return FinishExpert(options.expert, ExpertKind::kFull, choice.attach_depth, pinned, kWeights,
                      base, *folder);
}

}  // namespace ccoe::model
