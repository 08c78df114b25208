#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>

#include "common/model/expert_extract.h"
#include "common/model/expert_writer.h"
#include "common/model/safetensors.h"
#include "common/model/staged_folder.h"
#include "common/model/tensor_compare.h"
#include "tests/unit/model/package_copy.h"

namespace ccoe::model {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::Base;
using test::TempFolder;
using test::TensorFile;
using test::TinyFolder;
using testing::HasSubstr;

constexpr char kUpperNorm[] = "model.layers.2.input_layernorm.weight";

// No file may grow beyond `bytes` while it lives: what a full disk does, of another errno.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit = {bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  void (*const handler_)(int);
  rlimit before_;
};

// The entries of a folder, hidden ones included.
std::vector<std::string> Entries(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  return names;
}

// A place for a new package, and copies of a tiny folder to make it of.
class Workshop {
 public:
  explicit Workshop(std::string_view source) {
    fs::create_directory(folder_.path() / "out");
    fs::copy(TinyFolder(source), folder_ / "source");
  }
  std::string File(std::string_view name) const { return Source() + "/" + std::string(name); }
  std::string Source() const { return folder_ / "source"; }
  std::string Out() const { return folder_ / "out/expert"; }
  // Whether nothing was made, not even aside.
  bool NothingMade() const { return Entries(folder_.path() / "out").empty(); }
  void ChangeJson(std::string_view name, std::string_view key, const json& value) const {
    json object = json::parse(test::ReadFile(File(name)));
    object[std::string(key)] = value;
    test::WriteFile(File(name), object.dump());
  }
  NewExpert Expert() const { return {"law", "1.0.0", "law", "Knows the law.", "MIT", Out()}; }

  absl::StatusOr<WrittenExpert> Extract(
      const Model& base = *Base(), const Proceed& proceed = [](double) { return true; }) const {
    return ExtractExpert({Source(), Expert(), proceed}, base);
  }
  // Why no package is made of it; checks that none was.
  std::string RefusedExtract() const {
    const auto written = Extract();
    EXPECT_FALSE(written.ok());
    EXPECT_TRUE(NothingMade());
    return std::string(written.status().message());
  }
  absl::StatusOr<WrittenExpert> Pack(const Model& base = *Base()) const {
    return PackAdapter({Source(), Expert(), [](double) { return true; }}, base);
  }
  std::string RefusedPack() const {
    const auto written = Pack();
    EXPECT_FALSE(written.ok());
    EXPECT_TRUE(NothingMade());
    return std::string(written.status().message());
  }
  // Changes the least of a tensor of the checkpoint.
  void Touch(std::string_view tensor) const {
    TensorFile file(File("model.safetensors"));
    file.Touch(tensor);
    file.Save();
  }

 private:
  TempFolder folder_;
};

std::shared_ptr<const ExpertPackage> LoadAndCheck(const std::string& folder) {
  auto package = ExpertPackage::Load(folder);
  EXPECT_TRUE(package.ok()) << package.status();
  if (!package.ok()) return nullptr;
  EXPECT_TRUE((*package)->CheckAgainst(*Base()).ok()) << (*package)->CheckAgainst(*Base());
  return *std::move(package);
}

TEST(StagedFolder, AppearsWholeOrNotAtAll) {
  const TempFolder parent;
  const std::string path = parent / "new/";
  {
    const auto folder = StagedFolder::Create(path);
    ASSERT_TRUE(folder.ok()) << folder.status();
    EXPECT_TRUE((*folder)->Write("a", "1").ok());
    EXPECT_FALSE((*folder)->Write("a", "again").ok());
    EXPECT_FALSE(fs::exists(path));
  }
  EXPECT_TRUE(Entries(parent.path()).empty());
  {
    const auto folder = StagedFolder::Create(path);
    EXPECT_TRUE((*folder)->Write("a", "1").ok());
    EXPECT_TRUE((*folder)->Publish().ok());
  }
  EXPECT_EQ(Entries(parent.path()), std::vector<std::string>{"new"});
  EXPECT_EQ(test::ReadFile(parent / "new/a"), "1");
}

TEST(StagedFolder, RefusesWhatIsThereAndWhatHasNoParent) {
  const TempFolder parent;
  EXPECT_TRUE(absl::IsAlreadyExists(CheckNewFolder(parent.path().string())));
  EXPECT_TRUE(absl::IsNotFound(CheckNewFolder(parent / "x/y")));
  EXPECT_TRUE(absl::IsNotFound(CheckNewFolder("/dev/full/y")));
  EXPECT_FALSE(StagedFolder::Create("/dev/full/y").ok());
  fs::create_symlink("nowhere", parent.path() / "link");
  EXPECT_TRUE(absl::IsAlreadyExists(CheckNewFolder(parent / "link")));
  const auto folder = StagedFolder::Create(parent / "new");
  fs::create_directory(parent.path() / "new");
  EXPECT_TRUE(absl::IsAlreadyExists((*folder)->Publish()));
  EXPECT_TRUE(fs::is_empty(parent.path() / "new"));
}

TEST(StagedFolder, TellsOfAFullDisk) {
  const TempFolder parent;
  const auto folder = StagedFolder::Create(parent / "new");
  fs::create_symlink("/dev/full", (*folder)->staging() + "/full");
  EXPECT_FALSE((*folder)->Write("full", "1").ok());  // does not follow links
  const FileSizeLimit limit(100);
  const absl::Status status = (*folder)->Write("big", std::string(200, 'x'));
  EXPECT_THAT(std::string(status.message()), HasSubstr("cannot write " + (parent / "new/big")));
}

TEST(WriteSafetensors, IsReadBack) {
  const std::string odd("\x01\x3C\x00\xC0\x00\x00", 6), wide = test::FloatBytes({1, 2, 3, 4});
  const TensorTable table = {{"a", {base::DType::kBF16, 1, 3, test::AsBytes(odd)}},
                             {"b", {base::DType::kF32, 2, 2, test::AsBytes(wide)}},
                             {"c", {base::DType::kF16, 3, 1, test::AsBytes(odd)}}};
  std::string file;
  ASSERT_TRUE(WriteSafetensors(table, [&](absl::Span<const std::byte> bytes) {
                file.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
                return absl::OkStatus();
              }).ok());
  const auto read = ParseSafetensors(test::AsBytes(file), "file");
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->size(), 3u);
  for (const auto& [name, view] : table) {
    EXPECT_EQ(read->at(name).dtype, view.dtype);
    EXPECT_TRUE(SameValues(read->at(name), view)) << name;
  }
  EXPECT_THAT(file, HasSubstr(R"("shape":[3]})"));
}

TEST(WriteSafetensors, StopsAtTheFirstError) {
  int calls = 0;
  const std::string bytes(8, '\0');
  const TensorTable table = {{"a", {base::DType::kF32, 1, 2, test::AsBytes(bytes)}}};
  const absl::Status status = WriteSafetensors(table, [&](absl::Span<const std::byte>) {
    return ++calls == 2 ? absl::ResourceExhaustedError("full") : absl::OkStatus();
  });
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_EQ(calls, 2);
}

TEST(ExtractExpert, TakesTheLayersThatDiffer) {
  const Workshop shop("llama");
  fs::remove(shop.File("tokenizer.json"));  // the base's is served
  shop.Touch(kUpperNorm);
  const auto written = shop.Extract();
  ASSERT_TRUE(written.ok()) << written.status();
  EXPECT_EQ(written->attach_depth, 2);
  EXPECT_EQ(written->tensors, 18u);
  const auto package = LoadAndCheck(shop.Out());
  ASSERT_NE(package, nullptr);
  EXPECT_EQ(package->digest(), written->digest);
  const ExpertManifest& manifest = package->manifest();
  EXPECT_EQ(manifest.kind, ExpertKind::kFull);
  EXPECT_EQ(manifest.licence, "MIT");
  EXPECT_EQ(manifest.base.digest, Base()->digest());
  EXPECT_EQ(manifest.base.prefix_digest, Base()->PrefixDigest(2));
  EXPECT_EQ(manifest.rules.threshold, 1);
  EXPECT_TRUE(manifest.rules.keywords.empty());
  EXPECT_FALSE(package->Tensor("model.norm.weight").has_value());
  EXPECT_FALSE(SameValues(*package->Tensor(kUpperNorm), *Base()->Tensor(kUpperNorm)));
  const std::string same = "model.layers.3.mlp.up_proj.weight";
  EXPECT_TRUE(SameValues(*package->Tensor(same), *Base()->Tensor(same)));
  EXPECT_EQ(Entries(fs::path(shop.Out()).parent_path()), std::vector<std::string>{"expert"});
}

TEST(ExtractExpert, TakesNormAndHeadWhereTheyDiffer) {
  const Workshop shop("llama");
  TensorFile file(shop.File("model.safetensors"));
  file.Touch("model.norm.weight");
  file.Add("lm_head.weight", "F16", {320, 64}, std::string(320 * 64 * 2, '\0'));
  file.Save();
  shop.ChangeJson("config.json", "tie_word_embeddings", false);
  const auto written = shop.Extract();
  ASSERT_TRUE(written.ok()) << written.status();
  EXPECT_EQ(written->attach_depth, 3);  // all layers are shared, and one has to be its own
  EXPECT_EQ(written->tensors, 9u + 2u);
  EXPECT_EQ(written->base.digest, "");  // needs nothing of the base above the prefix
  const auto package = LoadAndCheck(shop.Out());
  ASSERT_NE(package, nullptr);
  EXPECT_EQ(package->Tensor("lm_head.weight")->dtype, base::DType::kF16);
}

TEST(ExtractExpert, ReadsShards) {
  const Workshop shop("llama_untied");
  const auto base = Model::Load(TinyFolder("llama_untied"));
  const json index = json::parse(test::ReadFile(shop.File("model.safetensors.index.json")));
  const std::string name = "model.layers.1.mlp.down_proj.weight";
  const std::string shard = shop.File(index["weight_map"][name].get<std::string>());
  TensorFile file(shard);
  file.Touch(name);
  file.Save();
  const auto written = shop.Extract(**base);
  ASSERT_TRUE(written.ok()) << written.status();
  EXPECT_EQ(written->attach_depth, 1);
  fs::remove_all(shop.Out());
  fs::remove(shard);
  const auto missing = shop.Extract(**base);
  EXPECT_TRUE(absl::IsNotFound(missing.status()));
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr(shard));
  EXPECT_TRUE(shop.NothingMade());
}

TEST(ExtractExpert, ComparesValuesOfOtherTypes) {
  const std::string norm = "model.layers.0.input_layernorm.weight";
  const Workshop shop("llama"), base("llama");
  TensorFile file(shop.File("model.safetensors")), base_file(base.File("model.safetensors"));
  std::string bf16;
  const std::string f32 = file.Bytes(norm);
  for (size_t i = 0; i < f32.size(); i += 4) bf16 += f32.substr(i + 2, 2);
  file.header().erase(norm);
  file.Add(norm, "BF16", {64}, bf16);
  file.Touch(kUpperNorm);
  file.Save();
  EXPECT_THAT(shop.RefusedExtract(), HasSubstr(norm + " (bf16 here, f32 in the base"));
  for (size_t i = 0; i < f32.size(); ++i) {
    if (i % 4 < 2) base_file.Data(norm)[i] = 0;  // what bfloat16 has no room for
  }
  base_file.Save();
  const auto written = shop.Extract(**Model::Load(base.Source()));
  ASSERT_TRUE(written.ok()) << written.status();
  EXPECT_EQ(written->attach_depth, 2);
}

TEST(ExtractExpert, RefusesWhatSharesNoLayer) {
  for (const std::string tensor :
       {"model.embed_tokens.weight", "model.layers.0.self_attn.o_proj.weight"}) {
    const Workshop shop("llama");
    shop.Touch(tensor);
    shop.Touch(kUpperNorm);
    EXPECT_THAT(shop.RefusedExtract(), HasSubstr("differs from the base in " + tensor));
  }
}

TEST(ExtractExpert, RefusesTheBaseItself) {
  EXPECT_THAT(Workshop("llama").RefusedExtract(), HasSubstr("nothing to extract"));
}

TEST(ExtractExpert, RefusesAnotherArchitectureOrShape) {
  EXPECT_THAT(Workshop("qwen2").RefusedExtract(), HasSubstr("architecture is qwen2"));
  const Workshop theta("llama");
  theta.ChangeJson("config.json", "rope_theta", 5000.0);
  EXPECT_THAT(theta.RefusedExtract(), HasSubstr("computes otherwise"));
  const Workshop layers("llama");
  layers.ChangeJson("config.json", "num_hidden_layers", 3);
  EXPECT_THAT(layers.RefusedExtract(), HasSubstr("layers 3, the base's 4"));
  const Workshop shape("llama");
  TensorFile file(shape.File("model.safetensors"));
  file.header()["model.layers.3.mlp.up_proj.weight"]["shape"] = {64, 96};
  file.Save();
  EXPECT_THAT(shape.RefusedExtract(), HasSubstr("up_proj.weight\" is 64x96; expected 96x64"));
}

TEST(ExtractExpert, RefusesDamagedFiles) {
  const Workshop shop("llama");
  const std::string weights = shop.File("model.safetensors");
  fs::resize_file(weights, fs::file_size(weights) - 1);
  EXPECT_THAT(shop.RefusedExtract(), HasSubstr("beyond the end of the file"));
  fs::resize_file(weights, 20);
  EXPECT_THAT(shop.RefusedExtract(), HasSubstr("truncated"));
  fs::remove(weights);
  EXPECT_THAT(shop.RefusedExtract(), HasSubstr(weights));
  fs::remove(shop.File("config.json"));
  EXPECT_THAT(shop.RefusedExtract(), HasSubstr("config.json"));
}

TEST(ExtractExpert, LeavesNothingOfAFailedWrite) {
  const Workshop shop("llama");
  shop.Touch(kUpperNorm);
  {
    const FileSizeLimit limit(10000);
    EXPECT_THAT(shop.RefusedExtract(), HasSubstr("cannot write " + shop.Out()));
  }
  int calls = 0;
  const auto interrupted = shop.Extract(*Base(), [&](double part) {
    EXPECT_GE(part, 0);
    EXPECT_LE(part, 1);
    return ++calls < 30;  // while it writes
  });
  EXPECT_TRUE(absl::IsCancelled(interrupted.status())) << interrupted.status();
  EXPECT_TRUE(shop.NothingMade());
  EXPECT_TRUE(shop.Extract().ok());
  EXPECT_TRUE(absl::IsAlreadyExists(shop.Extract().status()));
}

TEST(NewExpert, IsCheckedBeforeTheWork) {
  const Workshop shop("llama");
  const auto why = [&](std::string NewExpert::*member, const std::string& value) {
    NewExpert expert = shop.Expert();
    expert.*member = value;
    return std::string(CheckNewExpert(expert).message());
  };
  EXPECT_TRUE(CheckNewExpert(shop.Expert()).ok());
  EXPECT_THAT(why(&NewExpert::name, "Law"), HasSubstr("\"name\" has to match"));
  EXPECT_THAT(why(&NewExpert::domain, "general"), HasSubstr("\"domain\" may not be"));
  EXPECT_THAT(why(&NewExpert::version, "1 0"), HasSubstr("\"version\" has to match"));
  EXPECT_THAT(why(&NewExpert::licence, "\xFF"), HasSubstr("not UTF-8"));
  EXPECT_THAT(why(&NewExpert::out, shop.Source()), HasSubstr("is there already"));
}

TEST(PackAdapter, PinsTheBaseAndFindsTheDepth) {
  const Workshop shop("llama_lora");
  const auto written = shop.Pack();
  ASSERT_TRUE(written.ok()) << written.status();
  EXPECT_EQ(written->attach_depth, 2);
  const auto package = LoadAndCheck(shop.Out());
  ASSERT_NE(package, nullptr);
  EXPECT_EQ(package->manifest().base.digest, Base()->digest());
  EXPECT_EQ(package->manifest().kind, ExpertKind::kLora);
  EXPECT_EQ(test::ReadFile(shop.Out() + "/adapter_model.safetensors"),
            test::ReadFile(shop.File("adapter_model.safetensors")));
  EXPECT_TRUE(absl::IsAlreadyExists(shop.Pack().status()));
}

// Renames the adapter's tensors: `from` in a name becomes `to`.
void Rename(const Workshop& shop, const std::string& from, const std::string& to) {
  TensorFile file(shop.File("adapter_model.safetensors"));
  json header = json::object();
  for (const auto& [name, entry] : file.header().items()) {
    std::string renamed = name;
    if (const size_t at = renamed.find(from); at != std::string::npos) {
      renamed.replace(at, from.size(), to);
    }
    header[renamed] = entry;
  }
  file.header() = header;
  file.Save();
}

TEST(PackAdapter, RefusesWhatTheLoaderWould) {
  const Workshop lowest("llama_lora");
  Rename(lowest, "layers.2.", "layers.0.");
  EXPECT_THAT(lowest.RefusedPack(), HasSubstr("it adapts layer 0"));
  const Workshop module("llama_lora");
  Rename(module, "layers.2.mlp.up_proj", "layers.2.mlp.router");
  EXPECT_THAT(module.RefusedPack(), HasSubstr("not lora_A or lora_B of a layer's projection"));
  const Workshop deep("llama_lora");
  Rename(deep, "layers.3.", "layers.7.");
  EXPECT_THAT(deep.RefusedPack(), HasSubstr("layer 7 of a model that has 4"));
  for (const auto& [key, value] : std::vector<std::pair<std::string, json>>{
           {"use_dora", true}, {"bias", "all"}, {"modules_to_save", {"lm_head"}}}) {
    const Workshop shop("llama_lora");
    shop.ChangeJson("adapter_config.json", key, value);
    EXPECT_THAT(shop.RefusedPack(), HasSubstr("\"" + key + "\" is not supported"));
  }
}

TEST(PackAdapter, RefusesAnotherHiddenSize) {
  const Workshop shop("llama_lora");
  TensorFile file(shop.File("adapter_model.safetensors"));
  for (auto& [name, entry] : file.header().items()) {
    if (!name.ends_with("q_proj.lora_A.weight")) continue;
    file.Add(name, "F32", {4, 32}, std::string(4 * 32 * 4, '\0'));
  }
  file.Save();
  EXPECT_THAT(shop.RefusedPack(), HasSubstr("is for a 64x32 projection; the model's is 64x64"));
}

TEST(PackAdapter, RefusesDamagedAndMissingFiles) {
  const Workshop shop("llama_lora");
  const std::string weights = shop.File("adapter_model.safetensors");
  fs::resize_file(weights, 100);
  EXPECT_THAT(shop.RefusedPack(), HasSubstr("truncated"));
  fs::remove(weights);
  EXPECT_THAT(shop.RefusedPack(), HasSubstr(weights));
  test::WriteFile(shop.File("adapter_config.json"), "{");
  EXPECT_THAT(shop.RefusedPack(), HasSubstr("adapter_config.json"));
}

}  // namespace
}  // namespace ccoe::model
