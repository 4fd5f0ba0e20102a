// Flat layout, views, and the host-side draw of initial weights.
#include "nn/parameters.h"

#include "core/rng.h"
#include "ops/cast.h"

#include <algorithm>
#include <thread>

namespace lockstep {
namespace {

// Offsets are multiples of this many elements: 128 bytes of the narrowest dtype.
constexpr std::int64_t kAlignment = 64;
constexpr std::int64_t kChunkElements = std::int64_t{1} << 20;
constexpr std::int64_t kPieceElements = std::int64_t{2} << 20;  // of fp32, 8 MiB

std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

template <typename T>
void round_as(std::vector<std::byte>& bytes, const std::vector<float>& values) {
  bytes.resize(values.size() * sizeof(T));
  auto* out = reinterpret_cast<T*>(bytes.data());
  for (std::size_t i = 0; i < values.size(); ++i) out[i] = from_float<T>(values[i]);
}

void round_into(std::vector<std::byte>& bytes, const std::vector<float>& values, DType dtype) {
  switch (dtype) {
    case DType::kBF16: round_as<bf16>(bytes, values); return;
    case DType::kF16: round_as<f16>(bytes, values); return;
    default: round_as<float>(bytes, values); return;
  }
}

}  // namespace

std::size_t ParameterSet::add(Parameter parameter) {
  CHECK(parameter.shape.rank() >= 1, "{} has no dimension", parameter.name);
  const std::int64_t rows = parameter.shape[0];
  parameter.padded_rows = parameter.pad_rows ? padded_vocabulary(rows) : rows;
  const std::int64_t end = parameters_.empty() ? 0 : parameters_.back().end();
  parameter.offset = parameter.joined ? end : round_up(end, kAlignment);
  parameters_.push_back(std::move(parameter));
  flat_count_ = round_up(parameters_.back().end(), kAlignment);
  return parameters_.size() - 1;
}

void ParameterSet::allocate(Arena& arena, DType compute, bool training) {
  compute_ = compute;
  if (training || compute == DType::kF32) {
    masters_ = arena.allocate("masters", {flat_count_}, DType::kF32, MemoryGroup::kWeights);
  }
  weights_ = compute == DType::kF32
                 ? masters_
                 : arena.allocate("weights", {flat_count_}, compute, MemoryGroup::kWeights);
  if (training) {
    grads_ = arena.allocate("gradients", {flat_count_}, DType::kF32, MemoryGroup::kGradients);
  }
}

std::size_t ParameterSet::find(const std::string& name) const {
  const auto it = std::find_if(parameters_.begin(), parameters_.end(),
                               [&](const Parameter& parameter) { return parameter.name == name; });
  CHECK(it != parameters_.end(), "no parameter {}", name);
  return static_cast<std::size_t>(it - parameters_.begin());
}

std::int64_t ParameterSet::logical_count() const {
  std::int64_t sum = 0;
  for (const Parameter& parameter : parameters_) sum += parameter.count();
  return sum;
}

Tensor ParameterSet::group(const Tensor& flat, std::size_t first, std::size_t n) const {
  const Parameter& head = parameters_[first];
  const std::int64_t cols = head.count() / head.shape[0];
  std::int64_t rows = 0;
  for (std::size_t i = first; i < first + n; ++i) {
    CHECK(parameters_[i].offset == head.offset + rows * cols, "{} is not joined to {}",
          parameters_[i].name, head.name);
    rows += parameters_[i].padded_rows;
  }
  const Shape shape = head.shape.rank() == 1 ? Shape{rows} : Shape{rows, cols};
  auto* data = static_cast<std::byte*>(flat.data);
  if (data != nullptr) data += static_cast<std::size_t>(head.offset) * size_of(flat.dtype);
  return {data, shape, flat.dtype, flat.device};
}

void ParameterSet::draw(const Parameter& parameter, std::uint64_t seed, std::int64_t first,
                        std::span<float> out) {
  if (parameter.init == Init::kNormal) {
    fill_normal(out, key_from(seed, parameter.name), static_cast<std::uint64_t>(first),
                parameter.init_std);
  } else {
    std::fill(out.begin(), out.end(), parameter.init == Init::kOnes ? 1.0f : 0.0f);
  }
}

void ParameterSet::initialize(std::uint64_t seed, int threads, Stream& stream) {
  std::vector<float> values;
  for (const Parameter& parameter : parameters_) {
    values.assign(static_cast<std::size_t>(parameter.count()), 0.0f);
    const std::int64_t share = round_up((parameter.count() + threads - 1) / threads, kAlignment);
    std::vector<std::jthread> workers;
    for (std::int64_t begin = 0; begin < parameter.count(); begin += share) {
      const std::int64_t length = std::min(share, parameter.count() - begin);
      const std::span<float> part(values.data() + begin, static_cast<std::size_t>(length));
      if (length == parameter.count()) {
        draw(parameter, seed, begin, part);
      } else {
        workers.emplace_back(
            [&parameter, seed, begin, part] { draw(parameter, seed, begin, part); });
      }
    }
    workers.clear();  // joins
    stream.copy(masters_.as<float>() + parameter.offset, values.data(),
                values.size() * sizeof(float));
    stream.synchronize();
  }
  refresh_weights(stream);
  stream.synchronize();
}

void ParameterSet::load(const ReadRows& read, Stream& stream) {
  const Tensor& target = masters_ ? masters_ : weights_;
  std::vector<float> values;
  std::vector<std::byte> rounded;
  for (const Parameter& parameter : parameters_) {
    const std::int64_t cols = parameter.count() / parameter.shape[0];
    const std::int64_t step = std::max<std::int64_t>(1, kPieceElements / cols);
    for (std::int64_t row = 0; row < parameter.shape[0]; row += step) {
      const std::int64_t rows = std::min(step, parameter.shape[0] - row);
      values.resize(static_cast<std::size_t>(rows * cols));
      read(parameter.name, row, values);
      round_into(rounded, values, target.dtype);
      const auto at = static_cast<std::size_t>(parameter.offset + row * cols);
      stream.copy(static_cast<std::byte*>(target.data) + at * size_of(target.dtype), rounded.data(),
                  rounded.size());
      stream.synchronize();
    }
  }
  if (masters_) refresh_weights(stream);
  stream.synchronize();
}

void ParameterSet::refresh_weights(Stream& stream) {
  if (compute_ != DType::kF32) ops::cast(weights_, masters_, stream);
}

ParameterSet::Work ParameterSet::work() const {
  Work work;
  std::int64_t logical = 0;
  for (std::size_t p = 0; p < parameters_.size(); ++p) {
    const Parameter& parameter = parameters_[p];
    std::int64_t done = 0;
    while (done < parameter.count()) {
      const std::int64_t chunk_left = kChunkElements - logical % kChunkElements;
      const std::int64_t part = std::min(parameter.count() - done, chunk_left);
      const auto segment = static_cast<std::int32_t>(work.segment_parameter.size());
      work.segment_parameter.push_back(p);
      for (std::int64_t begin = 0; begin < part; begin += kWorkItemElements) {
        const std::int64_t count = std::min(kWorkItemElements, part - begin);
        work.items.push_back({parameter.offset + done + begin, static_cast<std::int32_t>(count),
                              segment, parameter.decay ? 1 : 0, 0});
      }
      done += part;
      logical += part;
    }
  }
  return work;
}

}  // namespace lockstep
