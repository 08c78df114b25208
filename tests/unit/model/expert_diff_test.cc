#include "common/model/expert_diff.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "common/model/tensor_compare.h"
#include "tests/unit/model/package_copy.h"

namespace ccoe::model {
namespace {

using test::PackageCopy;
using test::TensorFile;
using testing::ElementsAre;
using testing::Field;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr char kTensor[] = "base_model.model.model.layers.2.mlp.down_proj.lora_A.weight";

ExpertDiff Diff(const PackageCopy& a, const PackageCopy& b) {
  return DiffExperts(**a.Load(), **b.Load(), [](double) {});
}

auto FieldNamed(const char* name) { return Field(&FieldChange::field, name); }

base::TensorView View(base::DType dtype, int64_t cols, std::string_view bytes) {
  return {dtype, 1, cols, test::AsBytes(bytes)};
}

TEST(TensorCompare, ValuesCountNotTypes) {
  const std::string wide = test::FloatBytes({1.0f, -2.0f});
  const std::string half("\x00\x3C\x00\xC0", 4), bf16("\x80\x3F\x00\xC0", 4);
  const auto f32 = View(base::DType::kF32, 2, wide);
  EXPECT_TRUE(SameValues(f32, View(base::DType::kF16, 2, half)));
  EXPECT_TRUE(SameValues(View(base::DType::kBF16, 2, bf16), View(base::DType::kF16, 2, half)));
  EXPECT_FALSE(SameValues(f32, View(base::DType::kF16, 1, half.substr(0, 2))));
  EXPECT_EQ(RelativeDistance(f32, View(base::DType::kBF16, 2, bf16)), 0);
}

TEST(TensorCompare, DistanceIsRelativeToTheLargerNorm) {
  const auto distance = [](const std::vector<float>& a, const std::vector<float>& b) {
    const std::string x = test::FloatBytes(a), y = test::FloatBytes(b);
    const auto size = static_cast<int64_t>(a.size());
    return RelativeDistance(View(base::DType::kF32, size, x), View(base::DType::kF32, size, y));
  };
  EXPECT_DOUBLE_EQ(distance({3, 4}, {0, 0}), 1);
  EXPECT_DOUBLE_EQ(distance({0, 0}, {3, 4}), 1);
  EXPECT_DOUBLE_EQ(distance({3, 4}, {-3, -4}), 2);
  EXPECT_EQ(distance({0}, {-0.0f}), 0);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(distance({nan}, {nan}), 0);
  EXPECT_TRUE(std::isnan(distance({nan}, {1})));
  EXPECT_TRUE(std::isnan(distance({std::numeric_limits<float>::infinity()}, {1})));
  std::vector<float> many(10000, 1);
  std::vector<float> other = many;
  other.back() = 2;
  EXPECT_NEAR(distance(many, other), 1 / std::sqrt(10003.0), 1e-12);
}

TEST(ExpertDiff, SaysNothingOfTheSamePackage) {
  const PackageCopy a("llama_lora"), b("llama_lora");
  const ExpertDiff diff = Diff(a, b);
  EXPECT_TRUE(diff.Same());
  EXPECT_EQ(diff.distances.size(), 2u * 7u * 2u);
  EXPECT_TRUE(Diff(PackageCopy("llama_full"), PackageCopy("llama_full")).Same());
}

TEST(ExpertDiff, NamesWhatDiffersInTheManifest) {
  const PackageCopy a("llama_lora");
  PackageCopy b("llama_lora");
  b.manifest()["version"] = "1.0.1";
  b.manifest()["scores"] = {{"exact", {{"f1", 0.5}}}};
  b.manifest()["gate"]["rules"]["keywords"] = {{{"text", "select"}, {"weight", 1}}};
  b.manifest()["sources"] = {{{"name", "wikisql"}, {"licence", "BSD-3-Clause"}}};
  const ExpertDiff diff = Diff(a, b);
  EXPECT_FALSE(diff.Same());
  EXPECT_THAT(diff.fields, ElementsAre(FieldNamed("scores/exact/f1"), FieldNamed("version")));
  EXPECT_EQ(diff.fields[0].a, "null");
  EXPECT_EQ(diff.fields[1].a, "\"1.0.0\"");
  EXPECT_EQ(diff.fields[1].b, "\"1.0.1\"");
  ASSERT_EQ(diff.lists.size(), 2u);
  EXPECT_EQ(diff.lists[0].list, "gate.rules.keywords");
  EXPECT_THAT(diff.lists[0].only_in_a, ElementsAre(HasSubstr("tiny-lora")));
  EXPECT_THAT(diff.lists[0].only_in_b, ElementsAre(HasSubstr("select")));
  EXPECT_THAT(diff.lists[1].only_in_a, IsEmpty());
}

TEST(ExpertDiff, SeesAChangedGateRow) {
  const auto with_row = [](double weight) {
    auto copy = std::make_unique<PackageCopy>("llama_lora");
    copy->manifest()["gate"]["row"] = {{"routing_layer", 2},
                                       {"weights", std::vector<double>(64, weight)},
                                       {"bias", 0.5},
                                       {"threshold", 0.5}};
    return copy;
  };
  EXPECT_TRUE(Diff(*with_row(1), *with_row(1)).Same());
  EXPECT_THAT(Diff(*with_row(1), *with_row(2)).fields, ElementsAre(FieldNamed("gate.row.weights")));
  EXPECT_THAT(Diff(PackageCopy("llama_lora"), *with_row(2)).fields,
              ElementsAre(FieldNamed("gate.row.bias"), FieldNamed("gate.row.routing_layer"),
                          FieldNamed("gate.row.threshold"), FieldNamed("gate.row.weights")));
}

TEST(ExpertDiff, SeesAnotherScaleOfTheAdapter) {
  const PackageCopy a("llama_lora"), b("llama_lora");
  auto config = nlohmann::json::parse(test::ReadFile(b.File("adapter_config.json")));
  config["lora_alpha"] = 16;
  test::WriteFile(b.File("adapter_config.json"), config.dump());
  EXPECT_THAT(Diff(a, b).fields, ElementsAre(FieldNamed("adapter scale")));
}

TEST(ExpertDiff, PutsTheLargestDistanceFirst) {
  const PackageCopy a("llama_lora"), b("llama_lora");
  TensorFile file(b.File("adapter_model.safetensors"));
  file.Touch(kTensor);
  file.Save();
  const ExpertDiff diff = Diff(a, b);
  EXPECT_FALSE(diff.Same());
  EXPECT_EQ(diff.distances[0].name, kTensor);
  EXPECT_GT(diff.distances[0].distance, 0);
  EXPECT_LT(diff.distances[0].distance, 1e-3);
  EXPECT_EQ(diff.distances[1].distance, 0);
  EXPECT_THAT(diff.tensor_changes, IsEmpty());
}

TEST(ExpertDiff, ToldPackagesOfBothKindsApart) {
  const ExpertDiff diff = Diff(PackageCopy("llama_lora"), PackageCopy("llama_full"));
  EXPECT_EQ(diff.tensors_only_in_a.size(), 28u);
  EXPECT_GE(diff.tensors_only_in_b.size(), 18u);
  EXPECT_THAT(diff.distances, IsEmpty());
}

TEST(ExpertDiff, SeesShapesAndTypes) {
  const PackageCopy a("llama_full"), b("llama_full");
  TensorFile file(b.File("model.safetensors"));
  const std::string norm = "model.layers.2.input_layernorm.weight";
  file.header().erase(norm);
  file.Add(norm, "F32", {64}, std::string(64 * 4, '\0'));
  file.Save();
  const ExpertDiff typed = Diff(a, b);
  ASSERT_EQ(typed.tensor_changes.size(), 1u);
  EXPECT_EQ(typed.tensor_changes[0].b, "f32 1x64");
  EXPECT_EQ(typed.distances[0].name, norm);
  EXPECT_EQ(typed.distances[0].distance, 1);
}

}  // namespace
}  // namespace ccoe::model
