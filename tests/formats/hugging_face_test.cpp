// Small directories as transformers would write them, and every way in which one can be wrong.
#include "formats/foreign_model.h"
#include "formats/hf_config.h"
#include "formats/memory_source.h"
#include "formats/safetensors.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace lockstep {
namespace {

namespace fs = std::filesystem;

class HuggingFace : public ::testing::Test {
 protected:
  HuggingFace()
      : directory_((fs::path(::testing::TempDir()) /
                    ("hugging_face_" +
                     std::string(::testing::UnitTest::GetInstance()->current_test_info()->name())))
                       .string()) {
    fs::remove_all(directory_);
    fs::create_directories(directory_);
  }
  ~HuggingFace() override { fs::remove_all(directory_); }

  static HfConfig shape(const std::string& architecture, std::int64_t vocab = 300) {
    HfConfig config;
    ModelConfig& m = config.model;
    m.architecture = architecture;
    m.layers = 2;
    m.heads = 2;
    m.hidden = 16;
    m.ffn = 24;
    m.vocab = vocab;
    m.seq_len = 12;
    resolve(m, /*tokenizer_vocab=*/0);
    return config;
  }

  void write(const std::string& name, const std::string& text) const {
    std::ofstream(fs::path(directory_) / name, std::ios::binary) << text;
  }

  // config.json and weights in `dtype`, in files of at most `file_bytes`.
  void write_model(const HfConfig& config, const std::string& dtype = "F32",
                   std::int64_t file_bytes = std::int64_t{1} << 30) const {
    write("config.json", hf_config_text(config));
    test::MemorySource source = test::foreign_source(config.model, Naming::kHuggingFace);
    std::vector<StoredTensor> tensors;
    for (const SourceTensor& tensor : source.tensors()) {
      StoredTensor stored{tensor.name, dtype, {}};
      for (int axis = 0; axis < tensor.shape.rank(); ++axis) {
        stored.shape.push_back(tensor.shape[axis]);
      }
      tensors.push_back(stored);
    }
    SafetensorsWriter writer(directory_, tensors, file_bytes);
    for (const StoredTensor& tensor : writer.order()) {
      std::vector<float> values(static_cast<std::size_t>(source.find(tensor.name)->shape.count()));
      source.read(tensor.name, 0, values);
      std::vector<bf16> halves(values.size());
      std::transform(values.begin(), values.end(), halves.begin(), to_bf16);
      writer.append(tensor.name, dtype == "F32" ? std::as_bytes(std::span(values))
                                                : std::as_bytes(std::span(halves)));
    }
    writer.finish();
  }

  std::string refusal() const {
    try {
      open_hugging_face(directory_);
    } catch (const UserError& error) {
      EXPECT_EQ(error.code(), ExitCode::kData) << error.what();
      return error.what();
    }
    return "";
  }
  void expect_refused(const std::string& part) const {
    const std::string message = refusal();
    EXPECT_NE(message.find(part), std::string::npos) << message;
  }

  std::string directory_;
};

TEST_F(HuggingFace, OpensEveryArchitectureFromOneFileOrAnIndex) {
  for (const char* architecture : {"gpt2", "llama", "qwen2"}) {
    for (const std::int64_t file_bytes : {std::int64_t{1} << 30, std::int64_t{8000}}) {
      fs::remove_all(directory_);
      fs::create_directories(directory_);
      EXPECT_FALSE(is_hugging_face(directory_));
      const HfConfig config = shape(architecture);
      write_model(config, "F32", file_bytes);
      EXPECT_TRUE(is_hugging_face(directory_));
      const bool indexed = fs::exists(fs::path(directory_) / "model.safetensors.index.json");
      EXPECT_EQ(indexed, file_bytes == 8000);
      const ForeignModel model = open_hugging_face(directory_);
      EXPECT_EQ(model.config.architecture, architecture);
      EXPECT_EQ(model.dtype, "fp32");
      EXPECT_EQ(model.tokenizer, nullptr);
      EXPECT_EQ(model.tokenizer_error, "");
      EXPECT_FALSE(model.int8_activations);
      EXPECT_EQ(test::first_difference(*model.weights, config.model), "") << architecture;
    }
  }
}

// Model hubs keep a directory of links into a folder of blobs.
TEST_F(HuggingFace, LinksAreFollowed) {
  write_model(shape("llama"));
  open_tokenizer("byte")->save_hugging_face(directory_);
  const fs::path blobs = fs::path(directory_) / "blobs";
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(directory_)) files.push_back(entry.path());
  fs::create_directory(blobs);
  for (const fs::path& file : files) {
    fs::rename(file, blobs / file.filename());
    fs::create_symlink(fs::path("blobs") / file.filename(), file);
  }
  const ForeignModel model = open_hugging_face(directory_);
  EXPECT_EQ(model.config.architecture, "llama");
  ASSERT_NE(model.tokenizer, nullptr) << model.tokenizer_error;
}

TEST_F(HuggingFace, WithoutADtypeTheStoredOneCounts) {
  const HfConfig config = shape("llama");
  write_model(config, "BF16");
  std::string text = hf_config_text(config);
  for (const char* key : {"\"torch_dtype\": \"float32\",", "\"dtype\": \"float32\","}) {
    const std::size_t at = text.find(key);
    ASSERT_NE(at, std::string::npos);
    text.erase(at, std::string(key).size());
  }
  write("config.json", text);
  EXPECT_EQ(open_hugging_face(directory_).dtype, "bf16");
}

TEST_F(HuggingFace, ATokenizerThatIsNotUnderstoodIsReportedNotFatal) {
  write_model(shape("gpt2"));
  write("tokenizer.json", "{\"model\": {\"type\": \"Unigram\"}}");
  const ForeignModel model = open_hugging_face(directory_);
  EXPECT_EQ(model.tokenizer, nullptr);
  EXPECT_NE(model.tokenizer_error, "");
}

TEST_F(HuggingFace, ATokenizerMayHaveFewerEntriesNeverMore) {
  write_model(shape("gpt2"));
  open_tokenizer("byte")->save(directory_);
  EXPECT_EQ(open_hugging_face(directory_).tokenizer->vocab_size(), 256);
  fs::remove(fs::path(directory_) / "model.safetensors");
  write_model(shape("gpt2", /*vocab=*/200));
  expect_refused("the tokenizer has 256 entries, config.json's vocab_size is only 200");
}

TEST_F(HuggingFace, BothFilesSayWhatEndsAText) {
  HfConfig config = shape("llama");
  config.bos_token_id = 1;
  config.eos_token_ids = {5, 6};
  write_model(config);
  EXPECT_EQ(open_hugging_face(directory_).generation.eos, (std::vector<std::int32_t>{5, 6}));
  write("generation_config.json", R"({"eos_token_id": [7, 5], "top_k": 50})");
  const GenerationConfig generation = open_hugging_face(directory_).generation;
  EXPECT_EQ(generation.bos, 1);
  EXPECT_EQ(generation.eos, (std::vector<std::int32_t>{7, 5}));
  EXPECT_NE(generation.text.find("\"top_k\": 50"), std::string::npos);
  write("generation_config.json", "[]");
  expect_refused("generation_config.json: not a JSON object");
}

TEST_F(HuggingFace, NamesWhatIsMissing) {
  expect_refused("config.json");
  write("config.json", hf_config_text(shape("gpt2")));
  expect_refused("model.safetensors");
  write("pytorch_model.bin", "PK");
  expect_refused("safe_serialization=True");
}

TEST_F(HuggingFace, NamesKeyAndTensorThatContradict) {
  write_model(shape("llama"));
  HfConfig other = shape("llama");
  other.model.layers = 3;
  write("config.json", hf_config_text(other));
  expect_refused(directory_ + ": tensor model.layers.2.");
  other.model.layers = 1;
  write("config.json", hf_config_text(other));
  expect_refused("has no place in a llama of this shape");
  other = shape("llama");
  other.model.ffn = 32;
  write("config.json", hf_config_text(other));
  expect_refused("mlp.down_proj.weight has shape [16, 24], the configuration asks for [16, 32]");
  write("config.json", "{\"model_type\": \"mamba\"}");
  expect_refused("/config.json: key 'model_type' = \"mamba\"");
}

TEST_F(HuggingFace, RefusesUnknownQuantizationByItsMethod) {
  HfConfig config = shape("llama");
  write_model(config);
  config.quantization = R"({"quant_method": "awq", "bits": 4})";
  write("config.json", hf_config_text(config));
  expect_refused("quantization_config.quant_method is \"awq\"");
}

}  // namespace
}  // namespace lockstep
