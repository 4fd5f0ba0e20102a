// GGUF files opened as models: our own exports come back with the same shape and weights; foreign
// files are understood or refused by key and tensor.
#include "formats/gguf_fixture.h"
#include "formats/rope_factors.h"

#include <cmath>
#include <limits>

namespace lockstep {
namespace {

using testing::expect_data_error;
using testing::export_small;
using testing::read_all;
using testing::ScratchDirectory;
using testing::small_config;
using testing::small_table;
using testing::spill;
using testing::TableTokenizer;
using testing::value_of;

// A file's parts, to be changed and written again.
struct Parts {
  GgufMetadata metadata;
  std::vector<GgufTensor> tensors;
  std::map<std::string, std::vector<float>> values;

  explicit Parts(const std::string& path) {
    GgufReader reader(path);
    for (const auto& [key, value] : reader.metadata()) metadata.emplace_back(key, value);
    for (const SourceTensor& tensor : reader.tensors()) {
      tensors.push_back({tensor.name, tensor.shape, GgufType::kF32});
      values[tensor.name] = read_all(reader, tensor.name);
    }
  }
  void set(const std::string& key, GgufValue value) {
    remove(key);
    metadata.emplace_back(key, std::move(value));
  }
  void remove(const std::string& key) {
    std::erase_if(metadata, [&](const auto& pair) { return pair.first == key; });
  }
  void remove_tensor(const std::string& name) {
    std::erase_if(tensors, [&](const GgufTensor& tensor) { return tensor.name == name; });
  }
  void add_tensor(const std::string& name, Shape shape, float value) {
    tensors.push_back({name, shape, GgufType::kF32});
    values[name].assign(static_cast<std::size_t>(shape.count()), value);
  }
  void write(const std::string& path) const {
    std::filesystem::remove(path);
    GgufWriter writer(path, metadata, tensors);
    for (const GgufTensor& tensor : tensors) writer.append(tensor.name, values.at(tensor.name));
    writer.finish();
  }
};

class GgufModelTest : public ::testing::Test {
 protected:
  Parts parts(const std::string& arch) {
    std::filesystem::remove(path_);
    export_small(path_, small_config(arch), GgufType::kF32, tokenizer_);
    return Parts(path_);
  }
  void expect_refused(const Parts& parts, const std::string& message) {
    parts.write(path_);
    SCOPED_TRACE(message);
    expect_data_error([&] { open_gguf(path_); }, message);
    expect_data_error([&] { open_gguf(path_); }, path_ + ": ");
  }

  ScratchDirectory scratch_;
  std::string path_ = scratch_ / "m.gguf";
  TableTokenizer tokenizer_{small_table()};
};

TEST_F(GgufModelTest, ExportsComeBack) {
  for (const std::string arch : {"gpt2", "llama", "qwen2"}) {
    for (const GgufType type : {GgufType::kF32, GgufType::kF16, GgufType::kBF16, GgufType::kQ8_0}) {
      SCOPED_TRACE(arch + " " + std::string(name_of(type)));
      std::filesystem::remove(path_);
      ModelConfig config = small_config(arch);
      export_small(path_, config, type, tokenizer_);
      resolve(config, 0);
      ASSERT_TRUE(is_gguf(path_));
      const ForeignModel model = open_gguf(path_);
      EXPECT_EQ(model.config.architecture, arch);
      EXPECT_EQ(parameter_count(model.config), parameter_count(config));
      EXPECT_EQ(model.config.seq_len, config.seq_len);
      EXPECT_EQ(model.config.norm_eps, config.norm_eps);
      EXPECT_TRUE(arch == "gpt2" || model.config.rope_theta == config.rope_theta);
      EXPECT_EQ(model.config.kv_heads, config.kv_heads);
      EXPECT_EQ(model.dtype, type == GgufType::kBF16  ? "bf16"
                             : type == GgufType::kF16 ? "fp16"
                                                      : "fp32");
      for (const Parameter& parameter : declared_parameters(config)) {
        const std::vector<float> values = read_all(*model.weights, parameter.name);
        for (std::size_t i = 0; i < values.size(); ++i) {
          const double wanted = value_of(parameter.name, static_cast<std::int64_t>(i));
          ASSERT_NEAR(values[i], wanted, type == GgufType::kF32 ? 0.0 : 0.0045)
              << parameter.name << " " << i;
        }
      }
    }
  }
}

TEST_F(GgufModelTest, WhatIsWrittenAsLlamaComesBackAsOne) {
  ModelConfig config = small_config("qwen2");
  config.head_dim = 8;
  config.rope_scaling = "llama3:4,1,3,128";
  export_small(path_, config, GgufType::kF32, tokenizer_);
  const ForeignModel model = open_gguf(path_);
  EXPECT_EQ(model.config.architecture, "llama");
  EXPECT_EQ(model.config.head_dim, 8);
  EXPECT_EQ(model.config.rope_scaling, "llama3:4,1,3,128");
  for (const char* name : {"q_proj.bias", "k_proj.bias", "k_proj.weight"}) {
    const std::string ours = fmt::format("model.layers.1.self_attn.{}", name);
    const std::vector<float> values = read_all(*model.weights, ours);
    for (std::size_t i = 0; i < values.size(); ++i) {
      ASSERT_EQ(values[i], value_of(ours, static_cast<std::int64_t>(i))) << ours << " " << i;
    }
  }
  for (const float zero : read_all(*model.weights, "model.layers.0.self_attn.o_proj.bias")) {
    EXPECT_EQ(zero, 0.0f);
  }
}

TEST_F(GgufModelTest, RotaryScalingOfOtherFiles) {
  for (const char* scaling : {"llama3:8,1,4,8192", "llama3:32,1,4,8192", "linear:2.5"}) {
    std::filesystem::remove(path_);
    ModelConfig config = small_config("llama");
    config.rope_scaling = scaling;
    config.rope_theta = 500000.0;
    config.head_dim = 64;
    export_small(path_, config, GgufType::kF32, tokenizer_);
    Parts file(path_);
    file.remove(kRopeScalingKey);
    file.write(path_);
    EXPECT_EQ(open_gguf(path_).config.rope_scaling, scaling);
  }
  Parts none = parts("llama");
  none.add_tensor(kRopeFactorsName, {8}, 1.0f);
  none.write(path_);
  EXPECT_EQ(open_gguf(path_).config.rope_scaling, "");
  none.values[kRopeFactorsName][5] = 1.5f;
  expect_refused(none, "tensor rope_freqs.weight holds a rotary scaling that is not known");
  none.set(kRopeScalingKey, std::string("llama3:8,1,4,8192"));
  expect_refused(none, "tensor rope_freqs.weight holds a rotary scaling that is not known");
  none.set(kRopeScalingKey, std::string("llama9"));
  expect_refused(none, "key lockstep.rope_scaling: model.rope_scaling = \"llama9\"");
  Parts shape = parts("llama");
  shape.add_tensor(kRopeFactorsName, {4}, 2.0f);
  expect_refused(shape, "tensor rope_freqs.weight has shape [4] instead of [8]");
}

TEST_F(GgufModelTest, Tokenizers) {
  Parts file = parts("llama");
  file.write(path_);
  ForeignModel model = open_gguf(path_);
  EXPECT_EQ(model.tokenizer_error, "");
  ASSERT_NE(model.tokenizer, nullptr);
  EXPECT_EQ(model.tokenizer->vocab_size(), 261);
  std::vector<std::int32_t> ids;
  model.tokenizer->encode("abcab", ids);
  EXPECT_EQ(ids, (std::vector<std::int32_t>{257, 256}));
  EXPECT_EQ(model.tokenizer->end_of_text(), 260);
  EXPECT_EQ(model.tokenizer->table().chat.standard, "{{ messages }}");
  ASSERT_EQ(model.tokenizer->table().chat.named.size(), 1U);
  EXPECT_EQ(model.tokenizer->table().chat.named[0].first, "tool_use");

  const auto expect_none = [&](const Parts& changed, const std::string& why) {
    changed.write(path_);
    const ForeignModel opened = open_gguf(path_);
    EXPECT_EQ(opened.tokenizer, nullptr);
    EXPECT_NE(opened.tokenizer_error.find(why), std::string::npos) << opened.tokenizer_error;
    EXPECT_EQ(opened.tokenizer_error.empty(), why.empty());
  };
  Parts changed = file;
  changed.set("tokenizer.ggml.pre", std::string("gemma4"));
  expect_none(changed, "key tokenizer.ggml.pre = 'gemma4' is not known");
  changed.set("tokenizer.ggml.pre", std::string("smol"));
  expect_none(changed, "did you mean 'smollm'?");
  changed = file;
  changed.set("tokenizer.ggml.model", std::string("llama"));
  expect_none(changed, "key tokenizer.ggml.model = 'llama' is not supported");
  changed.remove("tokenizer.ggml.model");
  expect_none(changed, "");
  changed = file;
  changed.remove("tokenizer.ggml.tokens");
  expect_none(changed, "key tokenizer.ggml.tokens is missing");
  changed = file;
  changed.set("tokenizer.ggml.token_type", std::vector<std::int32_t>{1});
  expect_none(changed, "token_type has 1 items for 272 tokens");
  changed = file;
  changed.set("tokenizer.ggml.merges", std::vector<std::string>{"a b", "abc"});
  expect_none(changed, "item 1 of key tokenizer.ggml.merges is no pair");
  changed.set("tokenizer.ggml.merges", std::vector<std::string>{""});
  expect_none(changed, "item 0 of key tokenizer.ggml.merges is no pair");
  changed.remove("tokenizer.ggml.merges");
  expect_none(changed, "key tokenizer.ggml.merges is missing");
}

TEST_F(GgufModelTest, BytesComeBackAsBytes) {
  ModelConfig config = small_config("gpt2");
  config.vocab = 258;
  const std::unique_ptr<Tokenizer> bytes = open_tokenizer("byte");
  export_small(path_, config, GgufType::kF16, *bytes);
  const ForeignModel model = open_gguf(path_);
  ASSERT_NE(model.tokenizer, nullptr) << model.tokenizer_error;
  EXPECT_EQ(model.tokenizer->name(), "byte");
}

TEST_F(GgufModelTest, KeysThatAreMissingOrWrong) {
  for (const char* key :
       {"context_length", "embedding_length", "block_count", "feed_forward_length",
        "attention.head_count", "attention.layer_norm_rms_epsilon"}) {
    Parts file = parts("llama");
    file.remove(std::string("llama.") + key);
    expect_refused(file, fmt::format("key llama.{} is missing", key));
    file.set(std::string("llama.") + key, std::string("x"));
    expect_refused(file, fmt::format("key llama.{} is no number", key));
  }
  Parts file = parts("llama");
  file.remove("general.architecture");
  expect_refused(file, "key general.architecture is missing");
  file.set("general.architecture", std::uint32_t{1});
  expect_refused(file, "key general.architecture is no string");
  file.set("general.architecture", std::string("mamba"));
  expect_refused(file, "key general.architecture = 'mamba' is not supported");

  const auto refused_with = [&](const std::string& key, GgufValue value, const std::string& why) {
    Parts changed = parts("llama");
    changed.set("llama." + key, std::move(value));
    expect_refused(changed, "key llama." + key + " " + why);
  };
  refused_with("block_count", std::uint32_t{0}, "= 0 is no size");
  refused_with("block_count", 2.5f, "= 2.5 is no size");
  refused_with("block_count", ~std::uint64_t{0}, "= 1.8446744073709552e+19 is no size");
  refused_with("embedding_length", std::int32_t{-64}, "= -64 is no size");
  refused_with("attention.head_count", std::vector<std::uint32_t>{4, 4}, "is no number");
  refused_with("rope.freq_base", std::numeric_limits<float>::quiet_NaN(), "is no number");
  refused_with("expert_count", std::uint32_t{8}, "= 8 is not supported (only 0 is)");
  refused_with("attention.sliding_window", std::uint32_t{64}, "= 64 is not supported");
  refused_with("logit_scale", 0.5f, "= 0.5 is not supported (only 1 is)");
  refused_with("attention.causal", false, "= 0 is not supported");
  refused_with("attention.value_length", std::uint32_t{8}, "= 8 is not supported: it must be 16");
  refused_with("rope.dimension_count", std::uint32_t{8}, "= 8 is not supported: whole heads");
  refused_with("rope.scaling.type", std::string("yarn"), "= 'yarn' is not supported");
}

TEST_F(GgufModelTest, ShapesThatDoNotFit) {
  Parts file = parts("llama");
  file.set("llama.attention.head_count_kv", std::uint32_t{3});
  expect_refused(file, "model.kv_heads = 3 must divide model.heads = 4");
  file = parts("llama");
  file.set("llama.block_count", std::uint32_t{3});
  expect_refused(file, "tensor blk.2.");
  file.set("llama.block_count", std::uint32_t{1000000000});
  expect_refused(file, "model.layers = 1000000000 is too large");
  file.set("llama.block_count", std::uint32_t{1});
  expect_refused(file, "tensor blk.1.attn_k.weight has no place");
  file = parts("llama");
  file.set("llama.feed_forward_length", std::uint32_t{104});
  expect_refused(file, "has shape [64, 96], the configuration asks for [64, 104]");
  file = parts("llama");
  file.remove_tensor("token_embd.weight");
  expect_refused(file, "tensor token_embd.weight is missing");
  file.add_tensor("token_embd.weight", {272}, 1.0f);
  expect_refused(file, "tensor token_embd.weight is missing or no matrix");
  file = parts("llama");
  file.remove_tensor("blk.1.ffn_up.weight");
  expect_refused(file, "tensor blk.1.ffn_up.weight is missing");
  file = parts("llama");
  file.remove_tensor("token_embd.weight");
  file.add_tensor("token_embd.weight", {264, 64}, 1.0f);
  file.remove_tensor("output.weight");
  expect_refused(file, "tokenizer.ggml.tokens has 272 items, tensor token_embd.weight 264 rows");
}

TEST(GgufModel, WhatIsAGgufFile) {
  const ScratchDirectory scratch;
  spill(scratch / "a", "GGUF");
  spill(scratch / "b", "GGU");
  spill(scratch / "c", "GGUX123");
  EXPECT_TRUE(is_gguf(scratch / "a"));
  EXPECT_FALSE(is_gguf(scratch / "b"));
  EXPECT_FALSE(is_gguf(scratch / "c"));
  EXPECT_FALSE(is_gguf(scratch / "none"));
  EXPECT_FALSE(is_gguf(scratch.path()));
  expect_data_error([&] { open_gguf(scratch / "a"); }, "is no GGUF file");
}

}  // namespace
}  // namespace lockstep
