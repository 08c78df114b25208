#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/compute/cpu/block_format.h"
#include "common/model/digest.h"
#include "common/model/safetensors.h"
#include "gtest/gtest.h"
#include "tests/integration/answers.h"

// Whole-layer experts that are quantised at load.
namespace ccoe::testing {
namespace {

using compute::Arithmetic;

// The base model's own upper layers as a full package, in float32.
std::shared_ptr<const model::ExpertPackage> PackageOfBase(const model::Model& model,
                                                          int attach_depth) {
  std::map<std::string, std::vector<float>> floats;
  model::TensorTable tensors;
  for (int layer = attach_depth; layer < model.config().layers; ++layer) {
    for (const model::TensorShape& shape : model::LayerTensors(model.config(), layer)) {
      const base::TensorView from = *model.Tensor(shape.name);
      std::vector<float>& to = floats[shape.name];
      to.resize(static_cast<size_t>(from.rows * from.cols));
      for (int64_t r = 0; r < from.rows; ++r) {
        compute::cpu::DequantizeRow(from.dtype, from.Row(r).data(), from.cols,
                                    &to[static_cast<size_t>(r * from.cols)]);
      }
      const auto bytes = absl::MakeConstSpan(reinterpret_cast<const std::byte*>(to.data()),
                                             to.size() * sizeof(float));
      tensors[shape.name] = {base::DType::kF32, from.rows, from.cols, bytes};
    }
  }
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / absl::StrCat("ccoe_package_of_base_", getpid());
  std::filesystem::create_directory(folder);
  std::ofstream weights(folder / "model.safetensors", std::ios::binary);
  const absl::Status written =
      model::WriteSafetensors(tensors, [&](absl::Span<const std::byte> bytes) {
        weights.write(reinterpret_cast<const char*>(bytes.data()),
                      static_cast<std::streamsize>(bytes.size()));
        return weights ? absl::OkStatus() : absl::DataLossError("cannot write");
      });
  EXPECT_TRUE(written.ok()) << written;
  weights.close();
  std::ofstream(folder / "expert.json") << absl::StrCat(
      R"({"format": "ccoe.expert.v1", "name": "own", "version": "1.0.0", "domain": "own",)",
      R"( "description": "The base model's own upper layers.", "kind": "full",)",
      R"( "attach_depth": )", attach_depth, R"(, "base": {"name": "base", "digest": ")",
      model.digest(), R"("}, "weights": "model.safetensors",)",
      R"( "gate": {"rules": {"threshold": 1, "keywords": [], "patterns": []}, "row": null},)",
      R"( "examples": [], "licence": "Apache-2.0", "sources": [], "scores": {}})");
  auto package = model::ExpertPackage::Load(folder.string());
  std::filesystem::remove_all(folder);
  EXPECT_TRUE(package.ok()) << package.status();
  return package.ok() ? *std::move(package) : nullptr;
}

EngineSetup EngineOf(bool quantize) {
  EngineSetup setup;
  setup.cpu = {Arithmetic::kI8B32, compute::CpuKernels::kAuto, 2};
  setup.quantize_experts = quantize;
  setup.kv_budget_bytes = size_t{64} << 20;
  return setup;
}

// What the model's file was quantised from cannot be told; but its blocks tell their extremes, so
// quantising them again changes nothing, and the expert answers as the base does.
TEST(QuantizedExpertTest, TheBasesOwnLayersAnswerAsTheBaseInAQuarterOfTheMemory) {
  const auto model = RealModel();
  if (model == nullptr) GTEST_SKIP() << "CCOE_MODEL is not set";
  const auto package = PackageOfBase(*model, model->config().layers - 3);
  ASSERT_NE(package, nullptr);
  const auto as_packaged = MakeEngine(model, EngineOf(false));
  const auto quantized = MakeEngine(model, EngineOf(true));
  const size_t base_bytes = quantized->Stats().weights_bytes;
  ASSERT_TRUE(as_packaged->AddExpert(package).ok());
  ASSERT_TRUE(quantized->AddExpert(package).ok());

  const auto specs = MixedSpecs({"own"});
  EXPECT_EQ(RunAll(*quantized, specs), RunAll(*quantized, MixedSpecs({"general"})));
  EXPECT_NE(RunAll(*as_packaged, specs), RunAll(*quantized, specs));

  const size_t own_bytes = quantized->Stats().weights_bytes - base_bytes;
  EXPECT_LT(own_bytes, (as_packaged->Stats().weights_bytes - base_bytes) / 4);
}

TEST(QuantizedExpertTest, CountsAsAnotherPackage) {
  const auto model = TinyModel("llama");
  const auto full = TinyPackage("llama_full");
  const auto lora = TinyPackage("llama_lora");
  const auto plain = MakeEngine(model, EngineOf(false));
  const auto quantized = MakeEngine(model, EngineOf(true));
  EXPECT_EQ(plain->Describe(*full).package_digest, full->digest());
  EXPECT_NE(quantized->Describe(*full).package_digest, full->digest());
  EXPECT_TRUE(model::IsDigest(quantized->Describe(*full).package_digest));
  EXPECT_EQ(quantized->Describe(*lora).package_digest, lora->digest());

  // A backbone takes one or the other as replicas of an expert, not both.
  EngineSetup lower = EngineOf(false);
  lower.layer_end = full->manifest().attach_depth;
  EngineSetup upper = EngineOf(false);
  upper.layer_begin = full->manifest().attach_depth;
  const auto as_packaged_expert = MakeEngine(model, upper);
  upper.quantize_experts = true;
  const auto quantized_expert = MakeEngine(model, upper);
  ASSERT_TRUE(as_packaged_expert->AddExpert(full).ok());
  ASSERT_TRUE(quantized_expert->AddExpert(full).ok());
  LoopbackLink one(8);
  LoopbackLink other(8);
  const auto backbone = MakeEngine(model, lower);
  const std::string name = full->manifest().name;
  const auto info = [&](const runtime::Engine& engine) {
    for (const runtime::ExpertInfo& listed : engine.Experts()) {
      if (listed.key.name == name) return listed;
    }
    return runtime::ExpertInfo{};
  };
  EXPECT_TRUE(
      one.Connect(backbone.get(), as_packaged_expert.get(), info(*as_packaged_expert)).ok());
  EXPECT_EQ(other.Connect(backbone.get(), quantized_expert.get(), info(*quantized_expert)).code(),
            absl::StatusCode::kAlreadyExists);
  one.Cut();
  other.Cut();
}

}  // namespace
}  // namespace ccoe::testing
