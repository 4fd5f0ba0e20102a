// What write_gguf() puts into a file: keys, names, types, row order, vocabulary; and what it
// refuses.
#include "formats/gguf_export.h"

#include "formats/gguf.h"
#include "formats/gguf_fixture.h"
#include "formats/gguf_vocabulary.h"
#include "formats/rope_factors.h"

#include <cmath>

namespace lockstep {
namespace {

using testing::catch_user_error;
using testing::Caught;
using testing::export_small;
using testing::read_all;
using testing::ScratchDirectory;
using testing::slurp;
using testing::small_config;
using testing::small_table;
using testing::TableTokenizer;
using testing::value_of;

template <typename T>
T value(const GgufReader& reader, const std::string& key) {
  const auto at = reader.metadata().find(key);
  CHECK(at != reader.metadata().end(), "{}", key);
  CHECK(std::holds_alternative<T>(at->second), "{} has another type", key);
  return std::get<T>(at->second);
}

class GgufExportTest : public ::testing::Test {
 protected:
  GgufSummary write(ModelConfig config, GgufType type = GgufType::kF32) {
    std::filesystem::remove(path_);
    return export_small(path_, std::move(config), type, tokenizer_);
  }
  void expect_error(const std::function<void()>& call, ExitCode code, const std::string& part) {
    const Caught caught = catch_user_error(call);
    EXPECT_EQ(caught.code, code) << caught.message;
    EXPECT_NE(caught.message.find(part), std::string::npos) << caught.message;
    EXPECT_EQ(caught.message.find('\n'), std::string::npos) << caught.message;
    EXPECT_FALSE(std::filesystem::exists(path_) && code == ExitCode::kUsage);
  }

  ScratchDirectory scratch_;
  std::string path_ = scratch_ / "m.gguf";
  TableTokenizer tokenizer_{small_table()};
};

TEST_F(GgufExportTest, KeysOfEachArchitecture) {
  for (const std::string arch : {"gpt2", "llama", "qwen2"}) {
    SCOPED_TRACE(arch);
    const GgufSummary summary = write(small_config(arch), GgufType::kF16);
    EXPECT_EQ(summary.architecture, arch);
    EXPECT_EQ(summary.bytes, static_cast<std::int64_t>(std::filesystem::file_size(path_)));
    const GgufReader reader(path_);
    EXPECT_EQ(value<std::string>(reader, "general.architecture"), arch);
    EXPECT_EQ(value<std::string>(reader, "general.name"), "small");
    EXPECT_EQ(value<std::uint32_t>(reader, "general.file_type"), 1u);
    EXPECT_EQ(value<std::uint32_t>(reader, "general.quantization_version"), 2u);
    EXPECT_EQ(value<std::uint32_t>(reader, arch + ".context_length"), 48u);
    EXPECT_EQ(value<std::uint32_t>(reader, arch + ".embedding_length"), 64u);
    EXPECT_EQ(value<std::uint32_t>(reader, arch + ".block_count"), 2u);
    EXPECT_EQ(value<std::uint32_t>(reader, arch + ".feed_forward_length"), 96u);
    EXPECT_EQ(value<std::uint32_t>(reader, arch + ".attention.head_count"), 4u);
    EXPECT_EQ(value<std::uint32_t>(reader, arch + ".attention.head_count_kv"),
              arch == "gpt2" ? 4u : 2u);
    EXPECT_FALSE(reader.metadata().contains(arch + ".attention.key_length"));
    EXPECT_FALSE(reader.metadata().contains(arch + ".rope.scaling.type"));
    if (arch == "gpt2") {
      EXPECT_EQ(value<float>(reader, "gpt2.attention.layer_norm_epsilon"), 1e-5f);
      EXPECT_FALSE(reader.metadata().contains("gpt2.rope.freq_base"));
    } else {
      EXPECT_EQ(value<float>(reader, arch + ".attention.layer_norm_rms_epsilon"),
                arch == "llama" ? 1e-5f : 1e-6f);
      EXPECT_EQ(value<float>(reader, arch + ".rope.freq_base"), arch == "llama" ? 1e4f : 1e6f);
      EXPECT_EQ(value<std::uint32_t>(reader, arch + ".rope.dimension_count"), 16u);
    }
  }
}

TEST_F(GgufExportTest, TypesOfTensors) {
  for (const auto& [type, name, file_type] :
       {std::tuple(GgufType::kF32, "F32", 0u), std::tuple(GgufType::kF16, "F16", 1u),
        std::tuple(GgufType::kQ8_0, "Q8_0", 7u), std::tuple(GgufType::kBF16, "BF16", 32u)}) {
    write(small_config("gpt2"), type);
    GgufReader reader(path_);
    EXPECT_EQ(value<std::uint32_t>(reader, "general.file_type"), file_type);
    EXPECT_EQ(reader.find("output.weight"), nullptr);
    for (const SourceTensor& tensor : reader.tensors()) {
      const bool small = tensor.shape.rank() == 1 || tensor.name == "position_embd.weight";
      EXPECT_EQ(tensor.stored, small ? "F32" : name) << tensor.name;
    }
  }
}

TEST_F(GgufExportTest, RowsThatBlocksDoNotDivideStayF16AndAreReported) {
  ModelConfig config = small_config("llama");
  config.ffn = 72;
  const GgufSummary summary = write(config, GgufType::kQ8_0);
  EXPECT_EQ(summary.as_f16,
            (std::vector<std::string>{"blk.0.ffn_down.weight", "blk.1.ffn_down.weight"}));
  const GgufReader reader(path_);
  EXPECT_EQ(reader.find("blk.0.ffn_down.weight")->stored, "F16");
  EXPECT_EQ(reader.find("blk.0.ffn_up.weight")->stored, "Q8_0");
  EXPECT_EQ(reader.find("output.weight")->stored, "Q8_0");
}

// Row 2j of a head is ours j, row 2j + 1 ours j + D/2; of weights and of biases.
TEST_F(GgufExportTest, RotaryRowsBecomePairsInLlamaOnly) {
  for (const std::string arch : {"llama", "qwen2"}) {
    ModelConfig config = small_config(arch);
    config.attention_bias = "true";
    write(config);
    GgufReader reader(path_);
    for (const auto& [theirs, ours] : {std::pair("attn_q", "q_proj"), std::pair("attn_k", "k_proj"),
                                       std::pair("attn_v", "v_proj")}) {
      for (const auto& [suffix, cols] : {std::pair("weight", 64), std::pair("bias", 1)}) {
        const std::string name = fmt::format("model.layers.1.self_attn.{}.{}", ours, suffix);
        const std::vector<float> rows =
            read_all(reader, fmt::format("blk.1.{}.{}", theirs, suffix));
        const bool paired = arch == "llama" && std::string(theirs) != "attn_v";
        for (std::size_t i = 0; i < rows.size(); ++i) {
          const auto row = static_cast<std::int64_t>(i) / cols, j = row % 16;
          const std::int64_t from = paired ? row - j + (j % 2 == 0 ? j / 2 : 8 + j / 2) : row;
          ASSERT_EQ(rows[i], value_of(name, from * cols + static_cast<std::int64_t>(i) % cols))
              << name << " " << i;
        }
      }
    }
  }
}

TEST_F(GgufExportTest, ScaledRotaryFrequencies) {
  ModelConfig config = small_config("llama");
  config.rope_scaling = "linear:4";
  write(config);
  {
    const GgufReader reader(path_);
    EXPECT_EQ(value<std::string>(reader, "llama.rope.scaling.type"), "linear");
    EXPECT_EQ(value<float>(reader, "llama.rope.scaling.factor"), 4.0f);
    EXPECT_EQ(reader.find(kRopeFactorsName), nullptr);
  }
  config.rope_scaling = "llama3:8,1,4,8192";
  config.rope_theta = 500000.0;
  config.head_dim = 128;
  write(config);
  GgufReader reader(path_);
  EXPECT_EQ(value<std::string>(reader, kRopeScalingKey), "llama3:8,1,4,8192");
  EXPECT_FALSE(reader.metadata().contains("llama.rope.scaling.type"));
  EXPECT_EQ(value<std::uint32_t>(reader, "llama.attention.key_length"), 128u);
  EXPECT_EQ(value<std::uint32_t>(reader, "llama.attention.value_length"), 128u);
  const std::vector<float> factors = read_all(reader, kRopeFactorsName);
  ASSERT_EQ(factors.size(), 64u);
  for (std::size_t i = 0; i < factors.size(); ++i) {
    const double frequency = std::pow(500000.0, -2.0 * static_cast<double>(i) / 128.0);
    const double wavelength = 2.0 * 3.14159265358979 / frequency;
    double wanted = 8.0;
    if (wavelength < 8192.0 / 4.0) wanted = 1.0;
    if (wavelength >= 8192.0 / 4.0 && wavelength <= 8192.0) {
      const double smooth = (8192.0 / wavelength - 1.0) / 3.0;
      wanted = 1.0 / ((1.0 - smooth) / 8.0 + smooth);
    }
    EXPECT_NEAR(factors[i], wanted, 1e-5 * wanted) << i;
  }
}

// llama.cpp's qwen2 wants heads that fill the width; its llama does not.
TEST_F(GgufExportTest, Qwen2WithFewerHeadsBecomesLlama) {
  ModelConfig config = small_config("qwen2");
  config.head_dim = 8;
  const GgufSummary summary = write(config);
  EXPECT_EQ(summary.architecture, "llama");
  GgufReader reader(path_);
  EXPECT_EQ(value<std::uint32_t>(reader, "llama.attention.key_length"), 8u);
  EXPECT_EQ(reader.find("blk.0.attn_q.weight")->shape, (Shape{32, 64}));
  const std::vector<float> bias = read_all(reader, "blk.0.attn_q.bias");
  EXPECT_EQ(bias[1], value_of("model.layers.0.self_attn.q_proj.bias", 4));
  for (const float zero : read_all(reader, "blk.0.attn_output.bias")) EXPECT_EQ(zero, 0.0f);
  EXPECT_FALSE(reader.metadata().contains("qwen2.block_count"));
  for (const char* scaling : {"llama3:8,1,4,8192", "linear:2"}) {
    ModelConfig scaled = small_config("qwen2");
    scaled.rope_scaling = scaling;
    EXPECT_EQ(write(scaled).architecture, scaling[1] == 'l' ? "llama" : "qwen2");
  }
  ModelConfig without = small_config("qwen2");
  without.attention_bias = "false";
  EXPECT_EQ(write(without).architecture, "llama");
}

TEST_F(GgufExportTest, Gpt2WithoutBiasesGetsZeros) {
  ModelConfig config = small_config("gpt2");
  config.attention_bias = "false";
  config.mlp_bias = "false";
  write(config);
  GgufReader reader(path_);
  for (const char* name : {"attn_qkv", "attn_output", "ffn_up", "ffn_down"}) {
    for (const float zero : read_all(reader, fmt::format("blk.1.{}.bias", name))) {
      EXPECT_EQ(zero, 0.0f);
    }
  }
}

TEST_F(GgufExportTest, Vocabulary) {
  write(small_config("llama"));
  const GgufReader reader(path_);
  const auto texts = value<std::vector<std::string>>(reader, "tokenizer.ggml.tokens");
  const auto types = value<std::vector<std::int32_t>>(reader, "tokenizer.ggml.token_type");
  ASSERT_EQ(texts.size(), 272u);  // the embedding's rows
  ASSERT_EQ(types.size(), 272u);
  EXPECT_EQ(texts[257], "abc");
  EXPECT_EQ(types[257], 1);
  EXPECT_EQ(texts[258], "[PAD258]");
  EXPECT_EQ(types[258], 5);
  EXPECT_EQ(texts[259], "<added>");
  EXPECT_EQ(types[259], 4);
  EXPECT_EQ(texts[260], "<|endoftext|>");
  EXPECT_EQ(types[260], 3);
  EXPECT_EQ(texts[271], "[PAD271]");
  EXPECT_EQ(types[271], 5);
  EXPECT_EQ(value<std::vector<std::string>>(reader, "tokenizer.ggml.merges"),
            (std::vector<std::string>{"a b", "ab c"}));
  EXPECT_EQ(value<std::string>(reader, "tokenizer.ggml.model"), "gpt2");
  EXPECT_EQ(value<std::string>(reader, "tokenizer.ggml.pre"), "gpt-2");
  EXPECT_EQ(value<std::uint32_t>(reader, "tokenizer.ggml.eos_token_id"), 260u);
  EXPECT_EQ(value<std::uint32_t>(reader, "tokenizer.ggml.bos_token_id"), 260u);
  EXPECT_TRUE(value<bool>(reader, "tokenizer.ggml.add_bos_token"));
  EXPECT_EQ(value<std::string>(reader, "tokenizer.chat_template"), "{{ messages }}");
  EXPECT_EQ(value<std::string>(reader, "tokenizer.chat_template.tool_use"), "{{ tools }}");
  EXPECT_EQ(value<std::vector<std::string>>(reader, "tokenizer.chat_templates"),
            std::vector<std::string>{"tool_use"});
}

TEST_F(GgufExportTest, PreTokenizersHaveLlamaCppsNames) {
  for (const auto& [ours, theirs] :
       {std::pair("gpt2", "gpt-2"), std::pair("qwen2", "qwen2"), std::pair("llama3", "llama-bpe"),
        std::pair("deepseek", "deepseek-v3"), std::pair("smollm", "smollm"),
        std::pair("bloom", "bloom")}) {
    TokenTable table = small_table();
    table.pre_tokenizer = ours;
    table.ignore_merges = table.pre_tokenizer == "llama3";
    const std::string path = scratch_ / ours;
    export_small(path, small_config("llama"), GgufType::kF32, TableTokenizer(table));
    EXPECT_EQ(value<std::string>(GgufReader(path), "tokenizer.ggml.pre"), theirs);
  }
}

// Without an end of text llama.cpp would take id 11, which is text.
TEST_F(GgufExportTest, EndTokenOfATokenizerWithoutOne) {
  TokenTable table = small_table();
  table.eos = table.bos = -1;
  export_small(scratch_ / "a", small_config("llama"), GgufType::kF32, TableTokenizer(table));
  EXPECT_EQ(value<std::uint32_t>(GgufReader(scratch_ / "a"), "tokenizer.ggml.eos_token_id"), 258u);
  ModelConfig full = small_config("llama");
  full.vocab = 256;
  table.entries.resize(256);
  table.merges.clear();
  table.pre_tokenizer.clear();  // without merges any will do
  export_small(scratch_ / "b", full, GgufType::kF32, TableTokenizer(table));
  EXPECT_EQ(value<std::uint32_t>(GgufReader(scratch_ / "b"), "tokenizer.ggml.eos_token_id"), 0u);
  EXPECT_EQ(value<std::string>(GgufReader(scratch_ / "b"), "tokenizer.ggml.pre"), "gpt-2");
}

TEST_F(GgufExportTest, SameInputSameBytes) {
  write(small_config("llama"), GgufType::kQ8_0);
  const std::string first = slurp(path_);
  write(small_config("llama"), GgufType::kQ8_0);
  EXPECT_TRUE(slurp(path_) == first);
}

TEST_F(GgufExportTest, PiecesStayBelow8MiBAndProgressEnds) {
  ModelConfig config = small_config("llama");
  config.vocab = 40000;
  config.layers = 1;
  resolve(config, 0);
  testing::SyntheticWeights weights(config);
  GgufExport model{config, "small", GgufType::kQ8_0, "", &tokenizer_};
  std::int64_t last = 0, total = 0;
  write_gguf(path_, model, weights, [&](std::int64_t done, std::int64_t all) {
    EXPECT_GT(done, last);
    last = done;
    total = all;
  });
  EXPECT_EQ(last, total);
  EXPECT_EQ(total, parameter_count(config));
  EXPECT_LE(weights.largest_read * sizeof(float), std::size_t{8} << 20);
  EXPECT_LT(weights.largest_read, static_cast<std::size_t>(config.vocab * config.hidden));
}

TEST_F(GgufExportTest, ShapesThatLlamaCppDoesNotRun) {
  ModelConfig config = small_config("gpt2");
  config.kv_heads = 2;
  expect_error([&] { write(config); }, ExitCode::kConfig,
               "model.kv_heads = 2: llama.cpp runs a gpt2 with as many as model.heads = 4 only");
}

TEST_F(GgufExportTest, WhatIsRefused) {
  ModelConfig config = small_config("llama");
  resolve(config, 0);
  testing::SyntheticWeights weights(config);
  GgufExport model{config, "small", GgufType::kF16, "", nullptr};
  model.origin = "runs/small";
  const auto run = [&] { write_gguf(path_, model, weights); };
  expect_error(run, ExitCode::kUsage, "--tokenizer: a GGUF file carries its tokenizer");
  TokenTable unknown = small_table();
  unknown.pre_tokenizer.clear();
  const TableTokenizer odd(unknown);
  model.tokenizer = &odd;
  expect_error(run, ExitCode::kUsage, "--tokenizer-pre: ");
  expect_error([] { check_pre_tokenizer("smollmm"); }, ExitCode::kUsage,
               "--tokenizer-pre smollmm: ");
  model.tokenizer_pre = "smaug-bpe";
  run();
  EXPECT_EQ(value<std::string>(GgufReader(path_), "tokenizer.ggml.pre"), "smaug-bpe");
  std::filesystem::remove(path_);

  TokenTable twice = small_table();
  twice.entries[259].text = "abc";
  const TableTokenizer doubled(twice);
  model.tokenizer = &doubled;
  expect_error(run, ExitCode::kData, "gives token 'abc' two ids, 257 and 259");
  TokenTable many = small_table();
  many.entries.resize(273);
  const TableTokenizer larger(many);
  model.tokenizer = &larger;
  expect_error(run, ExitCode::kUsage, "--tokenizer: it has 273 entries, the model only 272");

  model.tokenizer = &tokenizer_;
  weights.overrides["model.layers.0.mlp.up_proj.weight"] = 65520.0f;
  expect_error(
      run, ExitCode::kData,
      "runs/small: tensor model.layers.0.mlp.up_proj.weight holds 65520, which F16 cannot; export "
      "with --dtype bf16 or fp32");
  std::filesystem::remove(path_);
  model.type = GgufType::kQ8_0;
  run();
  std::filesystem::remove(path_);
  weights.overrides["model.layers.0.mlp.up_proj.weight"] = std::nanf("");
  expect_error(
      run, ExitCode::kData,
      "runs/small: tensor model.layers.0.mlp.up_proj.weight holds NaN: the model is broken");
  std::filesystem::remove(path_);
  weights.overrides.clear();
  testing::spill(path_, "here already");
  expect_error(run, ExitCode::kIo, path_);
}

}  // namespace
}  // namespace lockstep
