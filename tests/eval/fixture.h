// What the tests of the judging room share: a tiny model with drawn weights, as a source too, and a
// shard of random tokens.
#pragma once

#include "core/error.h"
#include "core/weight_source.h"
#include "data/fixture.h"
#include "data/loader.h"
#include "nn/model.h"
#include "support/support.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace lockstep::test {

inline constexpr std::int64_t kSeqLen = 16, kVocab = 61;

inline ModelConfig tiny_model() {
  ModelConfig config;
  config.preset = "qwen2-tiny";
  config.layers = 1;
  config.seq_len = kSeqLen;
  resolve(config, kVocab);
  return config;
}

// `samples` windows of random tokens.
inline Dataset tiny_data(const TempDir& folder, std::int64_t samples, std::uint64_t seed = 1) {
  const std::string path = folder / (std::to_string(seed) + ".bin");
  write_shard(path, random_ints(samples * kSeqLen + 1, seed, kVocab));
  return Dataset({path}, "val", kSeqLen, kVocab, /*seed=*/0);
}

inline std::unique_ptr<Model> open_model(Machine& machine, Arena& arena, std::int64_t batch = 1,
                                         std::int64_t sequences = 0) {
  return make_model(tiny_model(),
                    {.mode = ModelPlan::Mode::kInference,
                     .batch = batch,
                     .seq_len = kSeqLen,
                     .sequences = sequences,
                     .sequence_tokens = kSeqLen},
                    arena, &machine.device->kernels().scratch_bytes);
}

// The weights that initialize(seed) draws, as files would hold them. One value may be spoilt.
class DrawnWeights final : public WeightSource {
 public:
  explicit DrawnWeights(std::uint64_t seed) : seed_(seed) {
    Machine machine = open_cpu();
    Arena arena(*machine.device);
    const auto model = open_model(machine, arena);
    for (const Parameter& parameter : model->parameters().all()) {
      tensors_.push_back({parameter.name, parameter.shape, "F32"});
      parameters_[parameter.name] = parameter;
    }
  }
  void spoil(const std::string& name, std::int64_t row, float value) {
    CHECK(parameters_.contains(name));
    spoilt_ = name;
    row_ = row;
    value_ = value;
  }
  const std::vector<SourceTensor>& tensors() const override { return tensors_; }
  void read(const std::string& name, std::int64_t row_begin, std::span<float> out) override {
    const Parameter& parameter = parameters_.at(name);
    const std::int64_t cols = parameter.count() / parameter.shape[0];
    ParameterSet::draw(parameter, seed_, row_begin * cols, out);
    const std::int64_t at = (row_ - row_begin) * cols;
    if (name != spoilt_ || at < 0 || at >= static_cast<std::int64_t>(out.size())) return;
    out[static_cast<std::size_t>(at)] = value_;
  }

 private:
  std::uint64_t seed_;
  std::vector<SourceTensor> tensors_;
  std::map<std::string, Parameter> parameters_;
  std::string spoilt_;
  std::int64_t row_ = 0;
  float value_ = 0.0f;
};

}  // namespace lockstep::test
