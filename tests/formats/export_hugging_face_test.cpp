// What an export holds: every architecture reads back, in each type and scheme, whole or in several
// files, the same bytes every time; weights that cannot be written are refused by name.
#include "formats/export.h"
#include "formats/export_report.h"

#include "core/weight_format.h"
#include "formats/foreign_model.h"
#include "formats/memory_source.h"
#include "formats/safetensors.h"
#include "io/fixture.h"
#include "nn/small_model.h"
#include "support/support.h"

#include <nlohmann/json.hpp>

#include <cmath>
#include <limits>
#include <set>

namespace lockstep {
namespace {

using nlohmann::json;
using testing::ScratchDirectory;
using testing::slurp;

ModelConfig tiny(const std::string& architecture) {
  ModelConfig config =
      test::small_model(architecture, {.heads = 2,
                                       .hidden = 16,
                                       .ffn = 40,
                                       .vocab = 300,  // padded to 384 rows on devices
                                       .seq_len = 24});
  resolve(config, 0);
  return config;
}

test::MemorySource random_weights(const ModelConfig& config) {
  test::MemorySource source;
  std::uint64_t seed = 1;
  for (const Parameter& parameter : declared_parameters(config)) {
    const auto values = test::random_values(parameter.count(), seed++, 0.1);
    source.add(parameter.name, parameter.shape, {values.begin(), values.end()});
  }
  return source;
}

std::vector<float> all_of(WeightSource& source, const Parameter& parameter) {
  std::vector<float> values(static_cast<std::size_t>(parameter.count()));
  source.read(parameter.name, 0, values);
  return values;
}

WeightFormat int8_linear_maps(const Parameter& parameter) {
  const bool linear = parameter.kind == ParameterKind::kLinear;
  return linear ? WeightFormat::kInt8Rows : WeightFormat::kF32;
}

std::string export_to(const ScratchDirectory& scratch, const std::string& name,
                      const ModelConfig& config, WeightSource& weights, HuggingFaceOptions options,
                      const Tokenizer* tokenizer = nullptr) {
  if (options.quantize != "none") options.formats = int8_linear_maps;
  const std::string directory = scratch / name;
  std::filesystem::create_directory(directory);
  write_hugging_face(
      directory, {.config = config, .weights = &weights, .tokenizer = tokenizer, .origin = "small"},
      options);
  return directory;
}

TEST(Export, EveryArchitectureReadsBackInEveryType) {
  for (const char* architecture : {"gpt2", "llama", "qwen2"}) {
    const ModelConfig config = tiny(architecture);
    test::MemorySource weights = random_weights(config);
    for (const char* dtype : {"fp32", "bf16", "fp16"}) {
      SCOPED_TRACE(fmt::format("{} {}", architecture, dtype));
      const ScratchDirectory scratch;
      ForeignModel model =
          open_hugging_face(export_to(scratch, "x", config, weights, {.dtype = dtype}));
      EXPECT_EQ(model.config.architecture, architecture);
      EXPECT_EQ(model.config.vocab, 300);
      EXPECT_EQ(model.dtype, dtype);
      EXPECT_EQ(model.tokenizer, nullptr);
      for (const Parameter& parameter : declared_parameters(config)) {
        std::vector<float> wanted = all_of(weights, parameter);
        for (float& x : wanted) x = rounded_to(x, dtype_named(dtype).value());
        EXPECT_EQ(all_of(*model.weights, parameter), wanted) << parameter.name;
      }
    }
  }
}

// Conv1D: [in, out]; a tied head is left out; padded rows do not get out.
TEST(Export, TensorsAreThoseOfHuggingFace) {
  const ScratchDirectory scratch;
  const ModelConfig gpt2 = tiny("gpt2");
  test::MemorySource weights = random_weights(gpt2);
  const SafetensorsReader files(export_to(scratch, "gpt2", gpt2, weights, {}));
  const auto shape = [](const SafetensorsReader& reader, const std::string& name) {
    const SourceTensor* tensor = reader.find(name);
    return tensor == nullptr ? std::string("none") : tensor->shape.str();
  };
  EXPECT_EQ(shape(files, "transformer.h.0.attn.c_attn.weight"), "[16, 48]");
  EXPECT_EQ(shape(files, "transformer.h.1.mlp.c_fc.weight"), "[16, 40]");
  EXPECT_EQ(shape(files, "transformer.h.1.mlp.c_proj.weight"), "[40, 16]");
  EXPECT_EQ(shape(files, "transformer.wte.weight"), "[300, 16]");
  EXPECT_EQ(shape(files, "lm_head.weight"), "none");
  const ModelConfig llama = tiny("llama");
  test::MemorySource llama_weights = random_weights(llama);
  const SafetensorsReader others(export_to(scratch, "llama", llama, llama_weights, {}));
  EXPECT_EQ(shape(others, "model.layers.0.self_attn.k_proj.weight"), "[8, 16]");
  EXPECT_EQ(shape(others, "lm_head.weight"), "[300, 16]");
}

// More than a piece in both directions of a Conv1D, and rows and columns that no piece divides.
TEST(Export, PiecesFitTogether) {
  ModelConfig config = tiny("gpt2");
  config.layers = 1;
  config.ffn = 140008;
  test::MemorySource weights = random_weights(config);
  const ScratchDirectory scratch;
  ForeignModel model = open_hugging_face(export_to(scratch, "x", config, weights, {}));
  for (const Parameter& parameter : declared_parameters(config)) {
    EXPECT_TRUE(all_of(*model.weights, parameter) == all_of(weights, parameter)) << parameter.name;
  }
}

TEST(Export, SeveralFilesAndAnIndex) {
  const ScratchDirectory scratch;
  const ModelConfig config = tiny("qwen2");
  test::MemorySource weights = random_weights(config);
  const std::string directory = export_to(scratch, "x", config, weights, {.max_file_bytes = 20000});
  EXPECT_FALSE(std::filesystem::exists(directory + "/model.safetensors"));
  const json index = json::parse(slurp(directory + "/model.safetensors.index.json"));
  std::set<std::string> files;
  for (const auto& [tensor, file] : index["weight_map"].items()) files.insert(file);
  EXPECT_GE(files.size(), 3u);
  for (const std::string& file : files) {
    EXPECT_LE(std::filesystem::file_size(directory + "/" + file), 25000u) << "with its header";
  }
  EXPECT_EQ(index["metadata"]["total_size"], hugging_face_bytes(config, {}));
  ForeignModel model = open_hugging_face(directory);
  for (const Parameter& parameter : declared_parameters(config)) {
    EXPECT_EQ(all_of(*model.weights, parameter), all_of(weights, parameter)) << parameter.name;
  }
}

TEST(Export, SameBytesEveryTime) {
  const ScratchDirectory scratch;
  const ModelConfig config = tiny("llama");
  test::MemorySource weights = random_weights(config);
  const auto tokenizer = open_tokenizer("byte");
  for (const char* scheme : {"none", "w8a16", "w8a8"}) {
    const HuggingFaceOptions options{
        .dtype = "bf16", .quantize = scheme, .formats = int8_linear_maps};
    const auto first =
        hash_files(export_to(scratch, "1", config, weights, options, tokenizer.get()));
    const auto second =
        hash_files(export_to(scratch, "2", config, weights, options, tokenizer.get()));
    ASSERT_EQ(first.size(), second.size());
    for (std::size_t i = 0; i < first.size(); ++i) {
      EXPECT_EQ(first[i].name, second[i].name);
      EXPECT_EQ(first[i].sha256, second[i].sha256) << first[i].name;
    }
    std::filesystem::remove_all(scratch / "1");
    std::filesystem::remove_all(scratch / "2");
  }
}

// Linear maps become int8 within half a step (a whole one at the upper end), the rest stays.
TEST(Export, Int8) {
  for (const char* architecture : {"llama", "qwen2"}) {
    const ModelConfig config = tiny(architecture);
    test::MemorySource weights = random_weights(config);
    for (const char* scheme : {"w8a16", "w8a8"}) {
      SCOPED_TRACE(fmt::format("{} {}", architecture, scheme));
      const ScratchDirectory scratch;
      const std::string directory =
          export_to(scratch, "x", config, weights, {.dtype = "fp32", .quantize = scheme});
      ForeignModel model = open_hugging_face(directory);
      EXPECT_EQ(model.int8_activations, std::string(scheme) == "w8a8");
      EXPECT_EQ(json::parse(slurp(directory + "/config.json"))["quantization_config"]["ignore"],
                json({"lm_head"}));
      for (const Parameter& parameter : declared_parameters(config)) {
        const std::vector<float> wanted = all_of(weights, parameter);
        const std::vector<float> found = all_of(*model.weights, parameter);
        if (!parameter.name.ends_with("_proj.weight")) {
          EXPECT_EQ(found, wanted) << parameter.name;
          continue;
        }
        // |w| < 0.1, so a step is at most 0.1 / 127.5.
        EXPECT_NE(found, wanted) << parameter.name;
        for (std::size_t i = 0; i < found.size(); ++i) {
          ASSERT_LE(std::fabs(found[i] - wanted[i]), 0.1f / 127.5f) << parameter.name;
        }
      }
    }
  }
}

TEST(Export, TokenizerFilesAndIds) {
  const ScratchDirectory scratch;
  const ModelConfig config = tiny("gpt2");
  test::MemorySource weights = random_weights(config);
  const auto tokenizer = open_tokenizer("byte");
  const std::string directory = export_to(scratch, "x", config, weights, {}, tokenizer.get());
  EXPECT_TRUE(std::filesystem::exists(directory + "/tokenizer.json"));
  EXPECT_TRUE(std::filesystem::exists(directory + "/generation_config.json"));
  ForeignModel model = open_hugging_face(directory);
  ASSERT_NE(model.tokenizer, nullptr) << model.tokenizer_error;
  EXPECT_EQ(model.tokenizer->vocab_size(), 256);
}

void expect_error(ExitCode code, const std::string& message, const std::function<void()>& run) {
  try {
    run();
    ADD_FAILURE() << "no error: " << message;
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), code);
    EXPECT_NE(std::string(error.what()).find(message), std::string::npos) << error.what();
  }
}

TEST(Export, RefusesWeightsThatCannotBeWritten) {
  const ScratchDirectory scratch;
  const ModelConfig config = tiny("llama");
  test::MemorySource weights = random_weights(config);
  const std::string name = "model.layers.1.mlp.up_proj.weight";
  const auto with = [&](float value) {
    weights.remove(name);
    std::vector<float> values(40 * 16, 0.5f);
    values[77] = value;
    weights.add(name, {40, 16}, values);
  };
  int count = 0;
  const auto run = [&](const HuggingFaceOptions& options) {
    export_to(scratch, fmt::format("{}", count++), config, weights, options);
  };
  for (const char* scheme : {"none", "w8a16", "w8a8"}) {
    with(std::numeric_limits<float>::quiet_NaN());
    expect_error(ExitCode::kData, "small: tensor " + name + " holds NaN: the model is broken",
                 [&] { run({.quantize = scheme}); });
    with(-std::numeric_limits<float>::infinity());
    expect_error(ExitCode::kData, "small: tensor " + name + " holds infinity: the model is broken",
                 [&] { run({.quantize = scheme}); });
  }
  with(-70000.0f);
  expect_error(ExitCode::kUsage, "--dtype fp16: tensor " + name + " holds -70000",
               [&] { run({.dtype = "fp16"}); });
  run({.dtype = "bf16"});
}

TEST(Export, RefusesInt8ForConv1D) {
  const ScratchDirectory scratch;
  const ModelConfig config = tiny("gpt2");
  test::MemorySource weights = random_weights(config);
  expect_error(ExitCode::kUsage,
               "--quantize w8a8: this is a gpt2, and its projections are Conv1D, which "
               "compressed-tensors cannot hold: export --format gguf",
               [&] { export_to(scratch, "x", config, weights, {.quantize = "w8a8"}); });
}

// What a model says of generating text goes into both files, and comes back.
TEST(Export, KeepsTheGenerationConfig) {
  const ScratchDirectory scratch;
  const ModelConfig config = tiny("llama");
  test::MemorySource weights = random_weights(config);
  const GenerationConfig generation = parse_generation_config(
      R"({"eos_token_id": [7, 9], "bos_token_id": 3, "temperature": 0.6})", "x", config.vocab);
  const std::string directory = scratch / "x";
  std::filesystem::create_directory(directory);
  write_hugging_face(directory, {.config = config, .weights = &weights, .generation = generation},
                     {});
  const json hf = json::parse(slurp(directory + "/config.json"));
  EXPECT_EQ(hf["eos_token_id"], json::array({7, 9}));
  EXPECT_EQ(hf["bos_token_id"], 3);
  EXPECT_EQ(json::parse(slurp(directory + "/generation_config.json")),
            json::parse(generation.text));
  const ForeignModel back = open_hugging_face(directory);
  EXPECT_EQ(back.generation.text, generation.text);
  EXPECT_EQ(back.generation.eos, generation.eos);
}

TEST(Export, ProgressCountsToTheEndAndMayStop) {
  const ScratchDirectory scratch;
  const ModelConfig config = tiny("llama");
  test::MemorySource weights = random_weights(config);
  std::int64_t last = 0, all = 0;
  HuggingFaceOptions options{.quantize = "w8a16", .formats = int8_linear_maps};
  options.progress = [&](std::int64_t done, std::int64_t total) {
    EXPECT_GT(done, last);
    last = done;
    all = total;
  };
  export_to(scratch, "x", config, weights, options);
  EXPECT_EQ(last, all);
  EXPECT_EQ(all, hugging_face_bytes(config, options));
  options.progress = [](std::int64_t, std::int64_t) { fail(ExitCode::kInterrupted, "stop"); };
  expect_error(ExitCode::kInterrupted, "stop",
               [&] { export_to(scratch, "y", config, weights, options); });
}

}  // namespace
}  // namespace lockstep
