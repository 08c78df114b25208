#include "common/model/model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>

#include "common/model/byte_alphabet.h"
#include "common/model/digest.h"
#include "common/model/tensor_table.h"
#include "tests/unit/model/test_files.h"

namespace ccoe::model {
namespace {

namespace fs = std::filesystem;
using test::TempFolder;
using test::TinyFolder;
using testing::HasSubstr;

std::shared_ptr<const Model> LoadOrDie(const std::string& path) {
  auto model = Model::Load(path);
  EXPECT_TRUE(model.ok()) << model.status();
  return *model;
}

// GGUF's name of a tensor.
std::string GgufName(std::string name) {
  static const std::map<std::string, std::string> kNames = {
      {"model.embed_tokens.weight", "token_embd.weight"},
      {"model.norm.weight", "output_norm.weight"},
      {"lm_head.weight", "output.weight"},
      {"input_layernorm", "attn_norm"},
      {"self_attn.q_proj", "attn_q"},
      {"self_attn.k_proj", "attn_k"},
      {"self_attn.v_proj", "attn_v"},
      {"self_attn.o_proj", "attn_output"},
      {"self_attn.q_norm", "attn_q_norm"},
      {"self_attn.k_norm", "attn_k_norm"},
      {"post_attention_layernorm", "ffn_norm"},
      {"mlp.gate_proj", "ffn_gate"},
      {"mlp.up_proj", "ffn_up"},
      {"mlp.down_proj", "ffn_down"},
  };
  if (const auto whole = kNames.find(name); whole != kNames.end()) return whole->second;
  name = name.substr(std::string("model.layers.").size());
  const size_t dot = name.find('.'), last = name.rfind('.');
  return "blk." + name.substr(0, dot) + "." + kNames.at(name.substr(dot + 1, last - dot - 1)) +
         name.substr(last);
}

// Rows as llama.cpp's converter orders those of Llama's q and k projections.
std::string Interleaved(const base::TensorView& view, int head_dim) {
  std::string bytes;
  for (int64_t row = 0; row < view.rows; ++row) {
    const int64_t in_head = row % head_dim;
    const int64_t source = row - in_head + in_head % 2 * (head_dim / 2) + in_head / 2;
    const auto data = view.Row(source);
    bytes.append(reinterpret_cast<const char*>(data.data()), data.size());
  }
  return bytes;
}

void AddTokenizer(const Tokenizer& tokenizer, const std::string& folder, std::string_view pre,
                  test::GgufWriter* writer) {
  std::vector<std::string> tokens;
  std::vector<int32_t> types;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const bool special = tokenizer.IsSpecial(id);
    tokens.push_back(special ? std::string(tokenizer.TokenText(id))
                             : ByteLevelTextOf(tokenizer.TokenBytes(id)));
    types.push_back(special ? 3 : 1);
  }
  const auto json = nlohmann::json::parse(test::ReadFile(folder + "/tokenizer.json"));
  std::vector<std::string> merges;
  for (const auto& merge : json["model"]["merges"]) {
    merges.push_back(merge.is_string()
                         ? merge.get<std::string>()
                         : merge[0].get<std::string>() + " " + merge[1].get<std::string>());
  }
  writer->String("tokenizer.ggml.model", "gpt2");
  writer->String("tokenizer.ggml.pre", pre);
  writer->Strings("tokenizer.ggml.tokens", tokens);
  writer->Ints("tokenizer.ggml.token_type", types);
  writer->Strings("tokenizer.ggml.merges", merges);
}

// A GGUF file with the weights and the tokenizer of a tiny model.
test::GgufWriter ToGguf(const Model& model, std::string_view pre) {
  const ModelConfig& config = model.config();
  test::GgufWriter writer;
  const std::string family(FamilyName(config.family));
  writer.String("general.architecture", family);
  const auto set = [&](std::string_view key, int value) {
    writer.U32(family + "." + std::string(key), static_cast<uint32_t>(value));
  };
  set("block_count", config.layers);
  set("embedding_length", config.hidden);
  set("attention.head_count", config.heads);
  set("attention.head_count_kv", config.kv_heads);
  set("attention.key_length", config.head_dim);
  set("attention.value_length", config.head_dim);
  set("feed_forward_length", config.ffn);
  set("context_length", config.context);
  writer.F32(family + ".rope.freq_base", config.rope.theta);
  writer.F32(family + ".attention.layer_norm_rms_epsilon", config.rms_epsilon);
  AddTokenizer(model.tokenizer(), model.path(), pre, &writer);
  const std::map<base::DType, uint32_t> types = {
      {base::DType::kF32, 0}, {base::DType::kF16, 1}, {base::DType::kBF16, 30}};
  for (const TensorShape& shape : ModelTensors(config)) {
    const base::TensorView view = *model.Tensor(shape.name);
    std::string bytes(reinterpret_cast<const char*>(view.data.data()), view.data.size());
    const bool rotated =
        shape.name.ends_with("q_proj.weight") || shape.name.ends_with("k_proj.weight");
    if (config.family == Family::kLlama && rotated) bytes = Interleaved(view, config.head_dim);
    std::vector<uint64_t> dimensions = {static_cast<uint64_t>(view.cols)};
    if (view.rows > 1) dimensions.push_back(static_cast<uint64_t>(view.rows));
    writer.Tensor(GgufName(shape.name), dimensions, types.at(view.dtype), bytes);
  }
  return writer;
}

class TinyModel : public testing::TestWithParam<std::string> {};

TEST_P(TinyModel, LoadsFromItsFolder) {
  const auto model = LoadOrDie(TinyFolder(GetParam()));
  const ModelConfig& config = model->config();
  EXPECT_EQ(config.name, GetParam());
  EXPECT_EQ(config.layers, 4);
  EXPECT_EQ(model->Tensor("model.embed_tokens.weight")->rows, config.vocab);
  EXPECT_EQ(model->Tensor("lm_head.weight")->rows, config.vocab);
  EXPECT_EQ(config.tied_embeddings, model->Tensor("lm_head.weight")->data.data() ==
                                        model->Tensor("model.embed_tokens.weight")->data.data());
  EXPECT_FALSE(model->HasTensor("model.layers.4.input_layernorm.weight"));
  EXPECT_EQ(model->HasTensor("model.layers.0.self_attn.q_proj.bias"), config.qkv_bias);
  EXPECT_EQ(model->HasTensor("model.layers.0.self_attn.q_norm.weight"), config.qk_norm);
  EXPECT_EQ(config.InverseFrequencies().size(), static_cast<size_t>(config.head_dim) / 2);
  EXPECT_NE(model->chat_template().kind(), ChatTemplate::Kind::kUnknown);
}

TEST_P(TinyModel, GgufGivesTheSameTensors) {
  const auto model = LoadOrDie(TinyFolder(GetParam()));
  if (model->config().rope.scaling != RopeScaling::kNone) GTEST_SKIP() << "no such GGUF key";
  const TempFolder folder;
  const std::string path = folder / "tiny.gguf";
  const bool llama = model->config().family == Family::kLlama;
  test::WriteFile(path, ToGguf(*model, llama ? "smollm" : "qwen2").Finish());
  const auto same = LoadOrDie(path);
  EXPECT_EQ(same->config().CanonicalJson(), model->config().CanonicalJson());
  EXPECT_EQ(same->tokenizer().digest(), model->tokenizer().digest());
  for (const TensorShape& shape : ModelTensors(model->config())) {
    EXPECT_EQ(same->Tensor(shape.name)->data, model->Tensor(shape.name)->data) << shape.name;
  }
  EXPECT_EQ(same->digest(), model->digest());
  EXPECT_EQ(same->config().name, "tiny");
}

INSTANTIATE_TEST_SUITE_P(All, TinyModel,
                         testing::Values("llama", "llama_untied", "llama3_rope", "qwen2",
                                         "qwen2_untied", "qwen3"));

TEST(Model, DigestFollowsTheManifest) {
  const auto model = LoadOrDie(TinyFolder("llama"));
  std::string manifest = "ccoe.model.v1 model\n" + model->config().CanonicalJson() + "\n" +
                         model->tokenizer().digest() + "\n";
  for (const TensorShape& shape : ModelTensors(model->config())) {
    const base::TensorView view = *model->Tensor(shape.name);
    manifest += shape.name + " f32 " + std::to_string(view.rows) + "x" + std::to_string(view.cols) +
                " " + Sha256Hex(view.data) + "\n";
  }
  EXPECT_EQ(model->digest(), "sha256:" + Sha256Hex(std::string_view(manifest)));
  EXPECT_TRUE(IsDigest(model->digest()));
}

TEST(Model, PrefixDigestPinsTheLowerLayersOnly) {
  const TempFolder folder;
  fs::copy(TinyFolder("llama"), folder.path(), fs::copy_options::recursive);
  const auto before = LoadOrDie(folder.path().string());
  std::string weights = test::ReadFile(folder / "model.safetensors");
  const base::TensorView view = *before->Tensor("model.layers.2.mlp.up_proj.weight");
  const size_t at = weights.find(
      std::string_view(reinterpret_cast<const char*>(view.data.data()), view.data.size()));
  const std::string whole = before->digest(), lower = before->PrefixDigest(2),
                    upper = before->PrefixDigest(3);
  weights[at] = static_cast<char>(weights[at] ^ 1);
  const std::string changed = folder / "changed";
  fs::create_directory(changed);
  for (const char* name : {"config.json", "tokenizer.json"}) {
    fs::copy(folder / name, changed + "/" + name);
  }
  test::WriteFile(changed + "/model.safetensors", weights);
  const auto after = LoadOrDie(changed);
  EXPECT_NE(after->digest(), whole);
  EXPECT_NE(after->PrefixDigest(3), upper);
  EXPECT_EQ(after->PrefixDigest(2), lower);
  EXPECT_NE(after->PrefixDigest(2), after->PrefixDigest(1));
}

TEST(Model, DigestsFromManyThreadsAgree) {
  const auto model = LoadOrDie(TinyFolder("llama"));
  std::vector<std::string> digests(8);
  std::vector<std::thread> threads;
  for (std::string& digest : digests) threads.emplace_back([&] { digest = model->digest(); });
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(digests, testing::Each(model->digest()));
}

TEST(Model, GgufRopeFactorsScaleFrequencies) {
  const auto plain = LoadOrDie(TinyFolder("llama"));
  test::GgufWriter writer = ToGguf(*plain, "smollm");
  writer.Tensor("rope_freqs.weight", {8}, 0, test::FloatBytes({1, 1, 1, 2, 4, 8, 8, 8}));
  const TempFolder folder;
  test::WriteFile(folder / "m.gguf", writer.Finish());
  const auto model = LoadOrDie(folder / "m.gguf");
  EXPECT_EQ(model->config().InverseFrequencies()[4], plain->config().InverseFrequencies()[4] / 4);
  EXPECT_NE(model->digest(), plain->digest());
}

TEST(Model, RefusesWrongGgufFiles) {
  const auto model = LoadOrDie(TinyFolder("llama"));
  const TempFolder folder;
  const auto status = [&](auto change) {
    test::GgufWriter writer = ToGguf(*model, "smollm");
    change(&writer);
    test::WriteFile(folder / "m.gguf", writer.Finish());
    return Model::Load(folder / "m.gguf").status();
  };
  EXPECT_TRUE(
      absl::IsUnimplemented(status([](test::GgufWriter* w) { w->U32("llama.expert_count", 8); })));
  EXPECT_TRUE(absl::IsUnimplemented(
      status([](test::GgufWriter* w) { w->String("llama.rope.scaling.type", "yarn"); })));
  EXPECT_TRUE(absl::IsUnimplemented(
      status([](test::GgufWriter* w) { w->U32("llama.attention.sliding_window", 64); })));
  EXPECT_TRUE(absl::IsUnimplemented(status([](test::GgufWriter* w) {
    w->Tensor("blk.0.attn_q.bias", {64}, 0, std::string(256, 'x'));
  })));
  EXPECT_TRUE(absl::IsUnimplemented(status([](test::GgufWriter* w) {
    w->Tensor("blk.0.ffn_gate_inp.weight", {64}, 0, std::string(256, 'x'));
  })));
  EXPECT_EQ(status([](test::GgufWriter* w) { w->U32("tokenizer.ggml.eos_token_id", 320); }).code(),
            absl::StatusCode::kInvalidArgument);
  // An own head of another shape.
  EXPECT_EQ(status([](test::GgufWriter* w) {
              w->Tensor("output.weight", {64, 2}, 0, std::string(512, 'x'));
            }).code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(Model, RefusesSentencePiece) {
  const TempFolder folder;
  test::GgufWriter writer;
  writer.String("general.architecture", "llama");
  for (const char* key : {"block_count", "embedding_length", "attention.head_count",
                          "feed_forward_length", "context_length"}) {
    writer.U32("llama." + std::string(key), 1);
  }
  writer.Tensor("token_embd.weight", {1, 1}, 0, test::FloatBytes({1}));
  writer.String("tokenizer.ggml.model", "llama");
  test::WriteFile(folder / "m.gguf", writer.Finish());
  const absl::Status status = Model::Load(folder / "m.gguf").status();
  EXPECT_TRUE(absl::IsUnimplemented(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("supported: gpt2 (byte-level BPE)"));
}

TEST(Model, NamesMissingFilesAndTensors) {
  EXPECT_TRUE(absl::IsNotFound(Model::Load("/nonexistent.gguf").status()));
  const TempFolder folder;
  EXPECT_TRUE(absl::IsNotFound(Model::Load(folder.path().string()).status()));
  for (const char* name : {"config.json", "tokenizer.json"}) {
    fs::copy(TinyFolder("llama") + "/" + name, folder / name);
  }
  test::WriteFile(folder / "model.safetensors",
                  test::Safetensors(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                                    test::FloatBytes({1})));
  const absl::Status status = Model::Load(folder.path().string()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("the tensor \"model.embed_tokens.weight\" is missing"));
}

TEST(Model, ShardNamesStayInTheFolder) {
  const TempFolder folder;
  for (const char* name : {"config.json", "tokenizer.json"}) {
    fs::copy(TinyFolder("llama") + "/" + name, folder / name);
  }
  for (const char* name : {"../x.safetensors", "/etc/passwd", "a/b", ".hidden", ""}) {
    test::WriteFile(folder / "model.safetensors.index.json",
                    R"({"weight_map":{"model.norm.weight":")" + std::string(name) + "\"}}");
    EXPECT_EQ(Model::Load(folder.path().string()).status().code(),
              absl::StatusCode::kInvalidArgument)
        << name;
  }
}

TEST(Model, TakesAnotherChatTemplateByName) {
  std::vector<double> progress;
  LoadOptions options;
  options.chat_template = "qwen2.5";
  options.progress = [&](double done) { progress.push_back(done); };
  const auto model = Model::Load(TinyFolder("llama"), options);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->chat_template().kind(), ChatTemplate::Kind::kQwen25);
  EXPECT_EQ(progress.back(), 1);
  EXPECT_TRUE(std::is_sorted(progress.begin(), progress.end()));
  options.chat_template = "nothing";
  EXPECT_EQ(Model::Load(TinyFolder("llama"), options).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(Model, StaysReadableAfterItsPagesWereReleased) {
  const auto model = LoadOrDie(TinyFolder("llama"));
  const std::string digest = model->digest();
  model->ReleasePages();
  const base::TensorView view = *model->Tensor("model.norm.weight");
  EXPECT_EQ(Sha256Hex(view.data).size(), 64u);
}

}  // namespace
}  // namespace ccoe::model
