// Foreign names and layouts turned into ours, a range of rows at a time.
#include "core/error.h"
#include "formats/foreign_family.h"
#include "formats/foreign_model.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

namespace lockstep {
namespace {

// The name without the prefix of the model that has an output: base models are stored so.
std::string bare_name(const std::string& name) {
  for (const std::string_view prefix : {"transformer.", "model."}) {
    if (name.starts_with(prefix)) return name.substr(prefix.size());
  }
  return name;
}

class RenamedSource final : public WeightSource {
 public:
  RenamedSource(std::unique_ptr<WeightSource> source, const ModelConfig& config, bool gguf,
                const std::string& origin)
      : source_(std::move(source)), config_(config) {
    std::map<std::string, const SourceTensor*> stored;
    for (const SourceTensor& tensor : source_->tensors()) stored[tensor.name] = &tensor;
    std::set<std::string> used;
    const ForeignFamily& family = foreign_family(config);
    for (const Parameter& parameter : declared_parameters(config)) {
      ForeignTensor foreign =
          foreign_tensor(config, parameter, gguf ? Naming::kGguf : Naming::kHuggingFace);
      const std::string bare = bare_name(foreign.name);
      if (!stored.contains(foreign.name) && stored.contains(bare)) foreign.name = bare;
      const auto found = stored.find(foreign.name);
      if (found == stored.end()) fail_missing(foreign.name, origin);
      check_shape(parameter, foreign, *found->second, origin);
      used.insert(foreign.name);
      tensors_.push_back({parameter.name, parameter.shape, found->second->stored});
      foreign_[parameter.name] = foreign;
    }
    for (const auto& [name, tensor] : stored) {
      if (used.contains(name) || family.is_buffer(config, name)) continue;
      const std::string original = family.repeats(config, name);
      if (!original.empty()) {
        check_repeated(*tensor, original, origin);
        continue;
      }
      fail(ExitCode::kData, "{}: tensor {} has no place in a {} of this shape", origin, name,
           config.architecture);
    }
  }

  const std::vector<SourceTensor>& tensors() const override { return tensors_; }

  void read(const std::string& name, std::int64_t row_begin, std::span<float> out) override {
    const SourceTensor* tensor = find(name);
    CHECK(tensor != nullptr, "no tensor {}", name);
    const ForeignTensor& foreign = foreign_.at(name);
    switch (foreign.layout) {
      case RowLayout::kSame: source_->read(foreign.name, row_begin, out); return;
      case RowLayout::kTransposed: read_transposed(*tensor, foreign, row_begin, out); return;
      case RowLayout::kRotaryPairs: read_pairs(*tensor, foreign, row_begin, out); return;
    }
  }

 private:
  [[noreturn]] static void fail_missing(const std::string& name, const std::string& origin) {
    fail(ExitCode::kData, "{}: tensor {} is missing{}", origin, name,
         name == "lm_head.weight"
             ? "; these are the files of a base model: save the one with an output "
               "(...ForCausalLM), or set tie_word_embeddings to true if it shares the embedding"
             : "");
  }

  // An output beside a configuration that says there is none of its own: programs differ in which
  // of the two they take, so only the embedding once more may stand there.
  void check_repeated(const SourceTensor& tensor, const std::string& original,
                      const std::string& origin) {
    const SourceTensor* first = source_->find(foreign_.at(original).name);
    if (first->shape == tensor.shape && same_values(*first, tensor)) return;
    fail(ExitCode::kData,
         "{}: tie_word_embeddings is true, but tensor {} {} is not the embedding {}; set it to "
         "false to use {}, or remove that tensor",
         origin, tensor.name, tensor.shape.str(), first->name, tensor.name);
  }

  // Of two tensors of one shape.
  bool same_values(const SourceTensor& a, const SourceTensor& b) {
    const std::int64_t rows = a.shape[0], cols = a.shape.count() / rows;
    const std::int64_t step = std::max<std::int64_t>(1, (std::int64_t{1} << 18) / cols);
    std::vector<float> left, right;
    for (std::int64_t row = 0; row < rows; row += step) {
      left.resize(static_cast<std::size_t>(std::min(step, rows - row) * cols));
      right.resize(left.size());
      source_->read(a.name, row, left);
      source_->read(b.name, row, right);
      if (std::memcmp(left.data(), right.data(), left.size() * sizeof(float)) != 0) return false;
    }
    return true;
  }

  // The position table may be longer than the context asked for; its first rows count.
  static void check_shape(const Parameter& parameter, const ForeignTensor& foreign,
                          const SourceTensor& stored, const std::string& origin) {
    Shape wanted = parameter.shape;
    if (foreign.layout == RowLayout::kTransposed) wanted = {wanted[1], wanted[0]};
    const bool positions = parameter.kind == ParameterKind::kTable && !parameter.pad_rows;
    const bool longer_table = positions && stored.shape.rank() == 2 &&
                              stored.shape[1] == wanted[1] && stored.shape[0] > wanted[0];
    if (stored.shape == wanted || longer_table) return;
    fail(ExitCode::kData, "{}: tensor {} has shape {}, the configuration asks for {}", origin,
         foreign.name, stored.shape.str(), wanted.str());
  }

  // Our rows are the stored columns.
  void read_transposed(const SourceTensor& tensor, const ForeignTensor& foreign,
                       std::int64_t row_begin, std::span<float> out) {
    const std::int64_t rows = tensor.shape[0], cols = tensor.shape[1];
    const std::int64_t count = static_cast<std::int64_t>(out.size()) / cols;
    const std::int64_t block = std::max<std::int64_t>(1, (std::int64_t{1} << 20) / rows);
    std::vector<float> stored;
    for (std::int64_t in = 0; in < cols; in += block) {
      const std::int64_t n = std::min(block, cols - in);
      stored.resize(static_cast<std::size_t>(n * rows));
      source_->read(foreign.name, in, stored);
      for (std::int64_t r = 0; r < count; ++r) {
        for (std::int64_t i = 0; i < n; ++i) {
          out[static_cast<std::size_t>(r * cols + in + i)] =
              stored[static_cast<std::size_t>(i * rows + row_begin + r)];
        }
      }
    }
  }

  // Ours are halves: row j of a head is the stored row 2j, row j + D/2 the stored row 2j + 1.
  void read_pairs(const SourceTensor& tensor, const ForeignTensor& foreign, std::int64_t row_begin,
                  std::span<float> out) {
    const std::int64_t cols = tensor.shape.rank() == 1 ? 1 : tensor.shape[1];
    const std::int64_t dim = config_.head_dim, half = dim / 2;
    const std::int64_t count = static_cast<std::int64_t>(out.size()) / cols;
    for (std::int64_t r = 0; r < count; ++r) {
      const std::int64_t row = row_begin + r, head = row / dim, j = row % dim;
      const std::int64_t stored = head * dim + (j < half ? 2 * j : 2 * (j - half) + 1);
      source_->read(
          foreign.name, stored,
          out.subspan(static_cast<std::size_t>(r * cols), static_cast<std::size_t>(cols)));
    }
  }

  std::unique_ptr<WeightSource> source_;
  ModelConfig config_;
  std::vector<SourceTensor> tensors_;
  std::map<std::string, ForeignTensor> foreign_;
};

}  // namespace

std::unique_ptr<WeightSource> under_our_names(std::unique_ptr<WeightSource> source,
                                              const ModelConfig& config, bool gguf,
                                              const std::string& origin) {
  return std::make_unique<RenamedSource>(std::move(source), config, gguf, origin);
}

}  // namespace lockstep
