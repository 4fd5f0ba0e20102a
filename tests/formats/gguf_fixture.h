// What the GGUF tests share: tiny models of every architecture with values drawn by name, and a
// tokenizer that is nothing but its table.
#pragma once

#include "core/error.h"
#include "formats/foreign_model.h"
#include "formats/foreign_names.h"
#include "formats/gguf_export.h"
#include "io/fixture.h"
#include "nn/small_model.h"

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace lockstep::testing {

class TableTokenizer final : public Tokenizer {
 public:
  explicit TableTokenizer(TokenTable table) : table_(std::move(table)) {}
  std::string_view name() const override { return "bpe"; }
  std::int64_t vocab_size() const override {
    return static_cast<std::int64_t>(table_.entries.size());
  }
  void encode(std::string_view, std::vector<std::int32_t>&) const override {}
  std::string decode(const std::vector<std::int32_t>&) const override { return {}; }
  std::size_t safe_cut(std::string_view) const override { return 0; }
  std::int32_t end_of_text() const override { return table_.eos; }
  const TokenTable& table() const override { return table_; }
  std::vector<NamedText> files() const override { return {}; }
  std::vector<NamedText> hugging_face_files() const override { return {}; }

 private:
  TokenTable table_;
};

// The bytes, two merges, an id that is not used, an added and a special token.
inline TokenTable small_table() {
  TokenTable table = open_tokenizer("byte")->table();
  table.entries.push_back({"ab"});
  table.entries.push_back({"abc"});
  table.entries.push_back({"", TokenTable::Kind::kUnused});
  table.entries.push_back({"<added>", TokenTable::Kind::kAdded});
  table.entries.push_back({"<|endoftext|>", TokenTable::Kind::kSpecial});
  table.merges = {{"a", "b"}, {"ab", "c"}};
  table.pre_tokenizer = "gpt2";
  table.eos = 260;
  table.bos = 260;
  table.add_bos = true;
  table.chat.add("default", "{{ messages }}");
  table.chat.add("tool_use", "{{ tools }}");
  return table;
}

// Rows of whole Q8_0 blocks.
inline ModelConfig small_config(const std::string& architecture) {
  return test::small_model(architecture);
}

// Values of a parameter at its indices: a function of both, so that no two rows are alike.
inline float value_of(const std::string& name, std::int64_t index) {
  const std::size_t hash = std::hash<std::string>{}(name) % 1000;
  const auto x = static_cast<std::uint64_t>(index) * 2654435761u + hash * 40503u;
  return static_cast<float>(x % 2001) / 1000.0f - 1.0f;
}

class SyntheticWeights final : public WeightSource {
 public:
  explicit SyntheticWeights(const ModelConfig& config) {
    for (const Parameter& parameter : declared_parameters(config)) {
      tensors_.push_back({parameter.name, parameter.shape, "F32"});
    }
  }
  const std::vector<SourceTensor>& tensors() const override { return tensors_; }
  void read(const std::string& name, std::int64_t row_begin, std::span<float> out) override {
    const SourceTensor* tensor = find(name);
    ASSERT_NE(tensor, nullptr) << name;
    const std::int64_t row = tensor->shape.count() / tensor->shape[0];
    largest_read = std::max(largest_read, out.size());
    for (std::size_t i = 0; i < out.size(); ++i) {
      out[i] = value_of(name, row_begin * row + static_cast<std::int64_t>(i));
    }
    if (const auto at = overrides.find(name); at != overrides.end()) out[0] = at->second;
  }

  std::map<std::string, float> overrides;  // of first values
  std::size_t largest_read = 0;

 private:
  std::vector<SourceTensor> tensors_;
};

inline GgufSummary export_small(const std::string& path, ModelConfig config, GgufType type,
                                const Tokenizer& tokenizer) {
  resolve(config, /*tokenizer_vocab=*/0);
  SyntheticWeights weights(config);
  GgufExport model;
  model.config = config;
  model.name = "small";
  model.type = type;
  model.formats = [type](const Parameter& parameter) {
    const bool whole = parameter.shape.cols() % gguf_block_values(type) == 0;
    return whole ? format_of(type) : WeightFormat::kF16;
  };
  model.tokenizer = &tokenizer;
  return write_gguf(path, model, weights);
}

inline std::vector<float> read_all(WeightSource& source, const std::string& name) {
  const SourceTensor* tensor = source.find(name);
  CHECK(tensor != nullptr, "{}", name);
  std::vector<float> values(static_cast<std::size_t>(tensor->shape.count()));
  source.read(name, 0, values);
  return values;
}

}  // namespace lockstep::testing
