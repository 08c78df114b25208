#include "common/model/expert_package.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "common/model/lora_adapter.h"
#include "tests/unit/model/package_copy.h"
#include "tests/unit/model/test_files.h"

namespace ccoe::model {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using test::Base;
using test::PackageCopy;
using test::TempFolder;
using test::TinyFolder;
using testing::EndsWith;
using testing::HasSubstr;

TEST(ExpertPackage, LoadsALoraAdapter) {
  const auto package = PackageCopy("llama_lora").Load();
  ASSERT_TRUE(package.ok()) << package.status();
  EXPECT_TRUE((*package)->CheckAgainst(*Base()).ok());
  const ExpertManifest& manifest = (*package)->manifest();
  EXPECT_EQ(manifest.name, "tiny-lora");
  EXPECT_EQ(manifest.kind, ExpertKind::kLora);
  EXPECT_EQ(manifest.attach_depth, 2);
  EXPECT_EQ(manifest.rules.keywords.at(0).text, "tiny-lora");
  const auto pair = (*package)->Lora(2, "down_proj");
  ASSERT_TRUE(pair.has_value());
  EXPECT_EQ(pair->a.rows, 4);
  EXPECT_EQ(pair->a.cols, 96);
  EXPECT_EQ(pair->b.rows, 64);
  EXPECT_EQ(pair->scale, 2);  // alpha 8 / rank 4
  EXPECT_FALSE((*package)->Lora(1, "down_proj").has_value());
  EXPECT_FALSE((*package)->Lora(2, "lm_head").has_value());
  EXPECT_FALSE((*package)->Tensor("model.norm.weight").has_value());
}

TEST(ExpertPackage, LoadsFullLayers) {
  const auto package = PackageCopy("llama_full").Load();
  ASSERT_TRUE(package.ok()) << package.status();
  EXPECT_TRUE((*package)->CheckAgainst(*Base()).ok());
  EXPECT_EQ((*package)->manifest().kind, ExpertKind::kFull);
  EXPECT_TRUE((*package)->Tensor("model.layers.3.mlp.up_proj.weight").has_value());
  EXPECT_FALSE((*package)->Tensor("model.layers.1.mlp.up_proj.weight").has_value());
  EXPECT_FALSE((*package)->Lora(2, "q_proj").has_value());
}

TEST(ExpertPackage, DigestFollowsEveryFile) {
  PackageCopy copy("llama_lora");
  const std::string digest = (*copy.Load())->digest();
  EXPECT_EQ((*copy.Load())->digest(), digest);
  copy.manifest()["description"] = "another";
  EXPECT_NE((*copy.Load())->digest(), digest);
  const std::string other = (*copy.Load())->digest();
  Json config = Json::parse(test::ReadFile(copy.File("adapter_config.json")));
  config["lora_alpha"] = 16;
  test::WriteFile(copy.File("adapter_config.json"), config.dump());
  EXPECT_NE((*copy.Load())->digest(), other);
}

TEST(ExpertPackage, RefusesAnotherBase) {
  PackageCopy copy("llama_lora");
  copy.manifest()["base"]["digest"] = "sha256:" + std::string(64, '0');
  const absl::Status other = copy.CheckStatus();
  EXPECT_EQ(other.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(other.message()), HasSubstr(Base()->digest()));
  copy.manifest()["base"]["digest"] = nullptr;
  EXPECT_THAT(std::string(copy.CheckStatus().message()), HasSubstr("pins no base.digest"));
  copy.manifest()["base"]["digest"] = "sha256:xyz";
  EXPECT_EQ(copy.LoadStatus().code(), absl::StatusCode::kInvalidArgument);
}

TEST(ExpertPackage, AFullPackageWithItsOwnEndMayPinThePrefixAlone) {
  PackageCopy copy("llama_full");
  copy.manifest()["base"]["digest"] = nullptr;
  copy.manifest()["base"]["prefix_digest"] = Base()->PrefixDigest(2);
  // The head is the base's: the prefix does not hold it.
  EXPECT_EQ(copy.CheckStatus().code(), absl::StatusCode::kFailedPrecondition);
  std::string weights = test::ReadFile(copy.File("model.safetensors"));
  uint64_t header_bytes;
  std::memcpy(&header_bytes, weights.data(), sizeof(header_bytes));
  Json header = Json::parse(weights.substr(8, header_bytes));
  std::string data = weights.substr(8 + header_bytes);
  const size_t begin = data.size();
  data += std::string(320 * 64 * 2, '\0');
  header["lm_head.weight"] = {
      {"dtype", "F16"}, {"shape", {320, 64}}, {"data_offsets", {begin, data.size()}}};
  test::WriteFile(copy.File("model.safetensors"), test::Safetensors(header.dump(), data));
  EXPECT_TRUE(copy.CheckStatus().ok()) << copy.CheckStatus();
  copy.manifest()["base"]["prefix_digest"] = Base()->PrefixDigest(1);
  EXPECT_EQ(copy.CheckStatus().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(ExpertPackage, RefusesWhatDoesNotFitTheModel) {
  PackageCopy row("llama_lora");
  row.manifest()["gate"]["row"] = {
      {"routing_layer", 1}, {"weights", {1.0, 2.0}}, {"bias", 0}, {"threshold", 0.5}};
  EXPECT_THAT(std::string(row.CheckStatus().message()), HasSubstr("2 weights"));
  PackageCopy example("llama_lora");
  example.manifest()["examples"] = {
      {{"prompt", "x"}, {"arithmetic", "exact"}, {"max_tokens", 4}, {"token_ids", {320}}}};
  EXPECT_THAT(std::string(example.CheckStatus().message()), HasSubstr("token 320"));
  PackageCopy depth("llama_full");
  depth.manifest()["attach_depth"] = 1;
  EXPECT_THAT(std::string(depth.CheckStatus().message()),
              HasSubstr("\"model.layers.1.input_layernorm.weight\" is missing"));
  depth.manifest()["attach_depth"] = 3;
  EXPECT_THAT(std::string(depth.CheckStatus().message()), HasSubstr("is not one of layers 3 to 3"));
  depth.manifest()["attach_depth"] = 4;
  EXPECT_THAT(std::string(depth.CheckStatus().message()), HasSubstr("depth 4 of 4 layers"));
}

TEST(ExpertPackage, RefusesAdaptersOutsideItsLayers) {
  PackageCopy copy("llama_lora");
  copy.manifest()["attach_depth"] = 3;
  EXPECT_THAT(std::string(copy.LoadStatus().message()), HasSubstr("below the attach depth 3"));
}

TEST(ExpertPackage, RefusesUnsupportedAdapters) {
  const auto status = [](std::string_view key, const Json& value) {
    PackageCopy copy("llama_lora");
    Json config = Json::parse(test::ReadFile(copy.File("adapter_config.json")));
    config[std::string(key)] = value;
    test::WriteFile(copy.File("adapter_config.json"), config.dump());
    return copy.LoadStatus();
  };
  EXPECT_TRUE(absl::IsUnimplemented(status("use_dora", true)));
  EXPECT_TRUE(absl::IsUnimplemented(status("bias", "all")));
  EXPECT_TRUE(absl::IsUnimplemented(status("peft_type", "IA3")));
  EXPECT_TRUE(absl::IsUnimplemented(status("rank_pattern", {{"q_proj", 8}})));
  EXPECT_TRUE(absl::IsUnimplemented(status("modules_to_save", {"lm_head"})));
  EXPECT_EQ(status("r", 8).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status("r", 0).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status("lora_alpha", "x").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(status("use_rslora", true).ok());
}

TEST(LoraConfig, ScalesByRankOrItsRoot) {
  const auto scale = [](std::string_view more) {
    return ParseLoraConfig(R"({"peft_type":"LORA","r":4,"lora_alpha":8)" + std::string(more) + "}",
                           "adapter_config.json")
        ->scale;
  };
  EXPECT_EQ(scale(""), 2);
  EXPECT_EQ(scale(R"(,"use_rslora":true)"), 4);
}

// What is wrong with a manifest in which `pointer` has the value `value`.
absl::Status ManifestStatus(std::string_view pointer, const Json& value) {
  PackageCopy copy("llama_lora");
  copy.manifest()[Json::json_pointer(std::string(pointer))] = value;
  return ParseExpertManifest(copy.manifest().dump(), "expert.json").status();
}

TEST(ExpertManifest, BoundsNames) {
  for (const char* pointer : {"/name", "/version", "/domain"}) {
    EXPECT_TRUE(ManifestStatus(pointer, std::string(63, 'a')).ok());
    for (const char* name : {"", "A", "-a", ".a", "a b", "a/b", "ä", "../a"}) {
      EXPECT_EQ(ManifestStatus(pointer, name).code(), absl::StatusCode::kInvalidArgument) << name;
    }
    EXPECT_FALSE(ManifestStatus(pointer, std::string(64, 'a')).ok());
    EXPECT_FALSE(ManifestStatus(pointer, 7).ok());
  }
}

TEST(ExpertManifest, LeavesGeneralToTheBaseModel) {
  for (const char* pointer : {"/name", "/domain"}) {
    const absl::Status status = ManifestStatus(pointer, "general");
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << pointer;
    EXPECT_THAT(std::string(status.message()), HasSubstr("the base model's own layers"));
  }
  EXPECT_TRUE(ManifestStatus("/version", "general").ok());
}

TEST(ExpertManifest, KeepsPathsInsideTheFolder) {
  for (const char* path : {"../w.safetensors", "/etc/passwd", "a/b.safetensors", ".", "..", ""}) {
    EXPECT_EQ(ManifestStatus("/weights", path).code(), absl::StatusCode::kInvalidArgument) << path;
  }
}

TEST(ExpertManifest, RefusesUnknownKeysAtEveryLevel) {
  for (const char* pointer : {"/extra", "/base/extra", "/gate/extra", "/gate/rules/extra",
                              "/gate/rules/keywords/0/extra"}) {
    const absl::Status status = ManifestStatus(pointer, 1);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << pointer;
    EXPECT_THAT(std::string(status.message()), HasSubstr("\"extra\" is unknown"));
  }
}

TEST(ExpertManifest, ChecksGateRules) {
  EXPECT_TRUE(
      ManifestStatus("/gate/rules/patterns/0", {{"regex", "(?i)create table"}, {"weight", 1.0}})
          .ok());
  const absl::Status regex =
      ManifestStatus("/gate/rules/patterns/0", {{"regex", "("}, {"weight", 1}});
  EXPECT_THAT(std::string(regex.message()), HasSubstr("patterns[0]: the regular expression"));
  EXPECT_FALSE(ManifestStatus("/gate/rules/threshold", 0).ok());
  EXPECT_FALSE(ManifestStatus("/gate/rules/threshold", 1e300).ok());
  EXPECT_FALSE(ManifestStatus("/gate/rules/keywords/0/weight", "x").ok());
  EXPECT_FALSE(ManifestStatus("/gate/rules/keywords/0/text", "").ok());
  EXPECT_FALSE(ManifestStatus("/gate/rules/keywords", 7).ok());
}

TEST(ExpertManifest, ChecksTheRest) {
  EXPECT_TRUE(absl::IsUnimplemented(ManifestStatus("/format", "ccoe.expert.v2")));
  EXPECT_FALSE(ManifestStatus("/kind", "merged").ok());
  EXPECT_FALSE(ManifestStatus("/attach_depth", -1).ok());
  EXPECT_FALSE(ManifestStatus("/attach_depth", 2.5).ok());
  EXPECT_FALSE(ManifestStatus("/attach_depth", 1u << 31).ok());
  EXPECT_FALSE(ManifestStatus("/base", nullptr).ok());
  EXPECT_FALSE(
      ManifestStatus("/gate/row",
                     {{"routing_layer", 3}, {"weights", {1.0}}, {"bias", 0}, {"threshold", 0.5}})
          .ok());  // deeper than the attach depth
  EXPECT_FALSE(
      ManifestStatus("/gate/row",
                     {{"routing_layer", 0}, {"weights", {1.0}}, {"bias", 0}, {"threshold", 0.5}})
          .ok());  // before the first layer
  EXPECT_FALSE(
      ManifestStatus("/gate/row",
                     {{"routing_layer", 1}, {"weights", {1.0}}, {"bias", 0}, {"threshold", 0}})
          .ok());  // not a probability
  EXPECT_FALSE(
      ManifestStatus("/gate/row",
                     {{"routing_layer", 1}, {"weights", {1.0}}, {"bias", 0}, {"threshold", 1}})
          .ok());  // nor that
  EXPECT_FALSE(
      ManifestStatus(
          "/examples/0",
          {{"prompt", "x"}, {"arithmetic", "exact"}, {"max_tokens", 1}, {"token_ids", {1, 2}}})
          .ok());
  EXPECT_FALSE(ParseExpertManifest("{\"format\":", "expert.json").ok());
  EXPECT_FALSE(ParseExpertManifest("[]", "expert.json").ok());
}

TEST(LoadExpertFolder, SortsAndRefusesTwins) {
  const TempFolder folder;
  const auto add = [&](const char* path, const char* name, const char* version) {
    fs::copy(TinyFolder("llama_lora"), folder / path);
    Json manifest = Json::parse(test::ReadFile(folder / path + "/expert.json"));
    manifest["name"] = name;
    manifest["version"] = version;
    test::WriteFile(folder / path + "/expert.json", manifest.dump());
  };
  EXPECT_TRUE(LoadExpertFolder(folder.path().string())->empty());
  add("x", "b", "1");
  add("y", "a", "2");
  add("z", "a", "1");
  fs::create_directory(folder / "empty");
  const auto packages = LoadExpertFolder(folder.path().string());
  ASSERT_TRUE(packages.ok()) << packages.status();
  ASSERT_EQ(packages->size(), 3u);
  EXPECT_EQ((*packages)[0]->manifest().version, "1");
  EXPECT_EQ((*packages)[2]->manifest().name, "b");
  add("w", "b", "1");
  EXPECT_THAT(std::string(LoadExpertFolder(folder.path().string()).status().message()),
              HasSubstr("the same name and version"));
  EXPECT_TRUE(absl::IsNotFound(LoadExpertFolder(folder / "nowhere").status()));
  EXPECT_TRUE(absl::IsNotFound(LoadExpertFolder(folder / "a/expert.json").status()));
}

TEST(ExpertPackage, TellsWhatItLoadsAndHowFarItIs) {
  std::vector<std::string> told;
  ExpertLoadOptions options;
  options.on_manifest = [&](const ExpertManifest& manifest) { told.push_back(manifest.name); };
  options.progress = [&](double part) { told.push_back(std::to_string(part)); };
  ASSERT_TRUE(ExpertPackage::Load(TinyFolder("llama_full"), options).ok());
  EXPECT_THAT(told, ::testing::ElementsAre("tiny-full", "1.000000"));
}

TEST(LoadExpertFolder, RefusesAPackageAndNamesItsParent) {
  const TempFolder folder;
  fs::copy(TinyFolder("llama_lora"), folder.path() / "sql", fs::copy_options::recursive);
  for (const char* path : {"sql", "sql/", "sql/."}) {
    const absl::Status status = LoadExpertFolder(folder / path).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << path;
    EXPECT_THAT(std::string(status.message()), EndsWith(": " + folder.path().string())) << path;
  }
}

}  // namespace
}  // namespace ccoe::model
