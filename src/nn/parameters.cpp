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

std::int64_t cols_of(const Parameter& parameter) { return parameter.count() / parameter.shape[0]; }

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

void ParameterSet::allocate(Arena& arena, DType compute, bool training,
                            const WeightFormats& formats) {
  compute_ = compute;
  if (formats) {
    CHECK(!training, "weights of several formats are for inference");
    place_packed(arena, formats);
    return;
  }
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

// Joined parameters stay neighbours; the others begin on 128 bytes.
void ParameterSet::place_packed(Arena& arena, const WeightFormats& formats) {
  constexpr std::int64_t kBytes = 128;
  std::int64_t bytes = 0, rows = 0;
  for (const Parameter& parameter : parameters_) {
    const bool vector = parameter.kind == ParameterKind::kVector;
    const WeightFormat format = vector ? plain_format(compute_) : formats(parameter);
    if (!parameter.joined) bytes = round_up(bytes, kBytes);
    places_.push_back({format, bytes, rows});
    bytes += parameter.padded_rows * row_bytes(format, cols_of(parameter));
    if (geometry_of(format).row_scales) rows += parameter.padded_rows;
  }
  packed_ = arena.allocate("weights", {round_up(bytes, kBytes)}, DType::kU8, MemoryGroup::kWeights);
  if (rows > 0) {
    scales_ = arena.allocate("weight scales", {rows}, DType::kF32, MemoryGroup::kWeights);
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
  const std::int64_t cols = cols_of(head), rows = group_rows(first, n);
  const Shape shape = head.shape.rank() == 1 ? Shape{rows} : Shape{rows, cols};
  auto* data = static_cast<std::byte*>(flat.data);
  if (data != nullptr) data += static_cast<std::size_t>(head.offset) * size_of(flat.dtype);
  return {data, shape, flat.dtype, flat.device};
}

std::int64_t ParameterSet::group_rows(std::size_t first, std::size_t n) const {
  const Parameter& head = parameters_[first];
  std::int64_t rows = 0;
  for (std::size_t i = first; i < first + n; ++i) {
    CHECK(parameters_[i].offset == head.offset + rows * cols_of(head), "{} is not joined to {}",
          parameters_[i].name, head.name);
    rows += parameters_[i].padded_rows;
  }
  return rows;
}

Weight ParameterSet::group_weight(std::size_t first, std::size_t n) const {
  if (places_.empty()) return group(weights_, first, n);
  const Packed& place = places_[first];
  for (std::size_t i = first; i < first + n; ++i) {
    CHECK(places_[i].format == place.format, "{} is {}, {} is {}", parameters_[first].name,
          name_of(place.format), parameters_[i].name, name_of(places_[i].format));
  }
  const std::int64_t cols = cols_of(parameters_[first]), rows = group_rows(first, n);
  const bool plain = is_plain(place.format);
  const Shape matrix{rows, plain ? cols : row_bytes(place.format, cols)};
  const Shape shape = parameters_[first].shape.rank() == 1 ? Shape{rows} : matrix;
  auto* data = static_cast<std::byte*>(packed_.data);
  if (data != nullptr) data += place.offset;
  Tensor scales;
  if (geometry_of(place.format).row_scales) scales = scales_.elements(place.scale, rows);
  return {place.format, Tensor(data, shape, element_type(place.format), packed_.device), scales};
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
  CHECK(masters_, "initial weights are drawn into masters");
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
  std::vector<float> values;
  for (std::size_t p = 0; p < parameters_.size(); ++p) {
    const Parameter& parameter = parameters_[p];
    const std::int64_t cols = cols_of(parameter);
    const std::int64_t step = std::max<std::int64_t>(1, kPieceElements / cols);
    for (std::int64_t row = 0; row < parameter.shape[0]; row += step) {
      const std::int64_t rows = std::min(step, parameter.shape[0] - row);
      values.resize(static_cast<std::size_t>(rows * cols));
      read(parameter.name, row, values);
      write_rows(p, row, values, stream);
    }
  }
}

void ParameterSet::check_rows(const Parameter& parameter, std::int64_t row_begin,
                              std::size_t values) const {
  const auto count = static_cast<std::int64_t>(values);
  CHECK(row_begin >= 0 && count % cols_of(parameter) == 0 &&
            row_begin + count / cols_of(parameter) <= parameter.shape[0],
        "{} values from row {} of {} {}", count, row_begin, parameter.name, parameter.shape.str());
}

void ParameterSet::write_rows(std::size_t index, std::int64_t row_begin,
                              std::span<const float> rows, Stream& stream) {
  const Parameter& parameter = parameters_[index];
  check_rows(parameter, row_begin, rows.size());
  const std::int64_t cols = cols_of(parameter);
  const auto count = static_cast<std::int64_t>(rows.size()) / cols;
  if (masters_) {
    stream.copy(masters_.as<float>() + parameter.offset + row_begin * cols, rows.data(),
                rows.size_bytes());
    if (compute_ == DType::kF32) {
      stream.synchronize();
      return;
    }
  }
  const Weight target = weight(index);
  std::vector<std::byte> encoded(static_cast<std::size_t>(count * row_bytes(target.format, cols)));
  std::vector<float> scales(target.scales ? static_cast<std::size_t>(count) : 0);
  encode_rows(target.format, rows, cols, encoded, scales);
  stream.copy(
      static_cast<std::byte*>(target.data.data) + row_begin * row_bytes(target.format, cols),
      encoded.data(), encoded.size());
  if (target.scales) {
    stream.copy(target.scales.as<float>() + row_begin, scales.data(),
                scales.size() * sizeof(float));
  }
  stream.synchronize();
}

void ParameterSet::read_rows(std::size_t index, std::int64_t row_begin, std::span<float> out,
                             Stream& stream) {
  const Parameter& parameter = parameters_[index];
  check_rows(parameter, row_begin, out.size());
  const std::int64_t cols = cols_of(parameter);
  const auto count = static_cast<std::int64_t>(out.size()) / cols;
  const Weight source = weight(index);
  const std::int64_t stride = row_bytes(source.format, cols);
  std::vector<std::byte> encoded(static_cast<std::size_t>(count * stride));
  std::vector<float> scales(source.scales ? static_cast<std::size_t>(count) : 0);
  stream.copy(encoded.data(), static_cast<const std::byte*>(source.data.data) + row_begin * stride,
              encoded.size());
  if (source.scales) {
    stream.copy(scales.data(), source.scales.as<float>() + row_begin,
                scales.size() * sizeof(float));
  }
  stream.synchronize();
  decode_values(out, source.format, encoded.data(), scales.data(), cols, /*first=*/0);
}

void ParameterSet::refresh_weights(Stream& stream) {
  if (compute_ != DType::kF32 && masters_) ops::cast(weights_, masters_, stream);
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

std::int64_t ParameterSet::work_item_count() const {
  const auto items_of = [](std::int64_t count) {
    return (count + kWorkItemElements - 1) / kWorkItemElements;
  };
  std::int64_t items = 0, logical = 0;
  for (const Parameter& parameter : parameters_) {
    // Up to the next chunk, whole chunks, and the rest.
    const std::int64_t to_chunk = kChunkElements - logical % kChunkElements;
    const std::int64_t first = std::min(parameter.count(), to_chunk);
    const std::int64_t behind = parameter.count() - first;
    items += items_of(first) + behind / kChunkElements * items_of(kChunkElements) +
             items_of(behind % kChunkElements);
    logical = (logical + parameter.count()) % kChunkElements;
  }
  return items;
}

}  // namespace lockstep
