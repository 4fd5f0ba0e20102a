// The names of the state and where each one lies.
#include "trainer/state_rows.h"

#include "core/finite.h"

#include <algorithm>

namespace lockstep {
namespace {

constexpr const char* kMomentNames[] = {"exp_avg", "exp_avg_sq"};

}  // namespace

std::vector<StateTensor> state_tensors(const ParameterSet& parameters) {
  std::vector<StateTensor> tensors;
  for (const Parameter& parameter : parameters.all()) {
    tensors.push_back({"model/" + parameter.name, parameter.shape, DType::kF32});
  }
  for (const char* moment : kMomentNames) {
    for (const Parameter& parameter : parameters.all()) {
      tensors.push_back(
          {fmt::format("optimizer/{}/{}", moment, parameter.name), parameter.shape, DType::kF32});
    }
  }
  return tensors;
}

StateRows::Place StateRows::place(std::size_t index) const {
  const std::size_t parameters = state_.parameters().all().size();
  const std::size_t parameter = index % parameters;
  if (index < parameters) return {&state_.parameters().masters(), parameter};
  return {&state_.moment(static_cast<int>(index / parameters) - 1), parameter};
}

void StateRows::read(std::size_t index, std::int64_t row, std::span<std::byte> out,
                     Stream& stream) const {
  const Place at = place(index);
  const Parameter& parameter = state_.parameters()[at.parameter];
  const std::int64_t cols = parameter.count() / parameter.shape[0];
  stream.copy(out.data(), at.flat->as<float>() + parameter.offset + row * cols, out.size());
  stream.synchronize();
}

void StateRows::require_same_tensors(const CheckpointReader& reader) const {
  const std::vector<StateTensor>& stored = reader.tensors();
  for (const StateTensor& wanted : tensors_) {
    const auto it = std::find_if(stored.begin(), stored.end(), [&](const StateTensor& tensor) {
      return tensor.name == wanted.name;
    });
    if (it == stored.end()) {
      fail(ExitCode::kConfig, "{}: holds no {}: it is a checkpoint of another model", reader.path(),
           wanted.name);
    }
    if (!(it->shape == wanted.shape)) {
      fail(ExitCode::kConfig,
           "{}: {} is {}, this model's is {}: it is a checkpoint of another "
           "model",
           reader.path(), wanted.name, it->shape.str(), wanted.shape.str());
    }
  }
  if (stored.size() != tensors_.size()) {
    fail(ExitCode::kConfig,
         "{}: holds {} tensors, this model has {}: it is a checkpoint of "
         "another model",
         reader.path(), stored.size(), tensors_.size());
  }
}

void StateRows::load(CheckpointReader& reader, const Progress& progress, Stream& stream) {
  require_same_tensors(reader);
  std::vector<std::byte> values;
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    const Place at = place(i);
    const Parameter& parameter = state_.parameters()[at.parameter];
    values.resize(static_cast<std::size_t>(parameter.count()) * sizeof(float));
    reader.read(tensors_[i].name, /*row_begin=*/0, values);
    const std::span numbers(reinterpret_cast<const float*>(values.data()),
                            values.size() / sizeof(float));
    if (first_not_finite(numbers) < numbers.size()) {
      fail(ExitCode::kData,
           "{}: {} holds NaN or infinity: it was saved by a run that had failed; resume from an "
           "older checkpoint (checkpoint.resume=PATH in a new run.dir)",
           reader.path(), tensors_[i].name);
    }
    stream.copy(at.flat->as<float>() + parameter.offset, values.data(), values.size());
    stream.synchronize();
    report(progress);
  }
  state_.parameters().refresh_weights(stream);
}

}  // namespace lockstep
