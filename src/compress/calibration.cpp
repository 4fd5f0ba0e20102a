// Chunk by chunk through one layer.
#include "compress/calibration.h"

#include "comm/agree.h"
#include "core/error.h"

#include <algorithm>
#include <utility>

namespace lockstep {
namespace {

// Rows whose products are summed in fp32 on the device; sums of chunks are exact.
constexpr std::int64_t kChunkTokens = 4096;

Tensor int_rows(Arena& arena, const char* name, std::int64_t batch, std::int64_t seq_len) {
  return arena.allocate(name, {batch, seq_len}, DType::kI32, MemoryGroup::kActivations);
}

}  // namespace

CalibrationPlan CalibrationPlan::make(const Dataset& data, std::int64_t tokens) {
  const std::int64_t wanted =
      std::clamp<std::int64_t>((tokens + data.seq_len() - 1) / data.seq_len(), 1, data.samples());
  CalibrationPlan plan;
  plan.sequences = std::clamp<std::int64_t>(kChunkTokens / data.seq_len(), 1, wanted);
  plan.chunks = std::max<std::int64_t>(1, wanted / plan.sequences);
  return plan;
}

Calibration::Calibration(Model& model, const Dataset& data, const CalibrationPlan& plan,
                         World& world, Arena& arena, Stream& stream, std::function<bool()> stop)
    : model_(model),
      plan_(plan),
      world_(world),
      stream_(stream),
      stop_(std::move(stop)),
      own_(own_chunks(plan.chunks, world.rank(), world.size())),
      rows_(plan.sequences * data.seq_len()),
      upload_(int_rows(arena, "calibration tokens", plan.sequences, data.seq_len()),
              int_rows(arena, "calibration targets", plan.sequences, data.seq_len()),
              stream.device()),
      x_(arena.allocate("calibration residual", {rows_, model.config().hidden}, DType::kF32,
                        MemoryGroup::kActivations)),
      staging_(stream.device(), x_.bytes()) {
  agree(world, [&] { read(data); });
}

void Calibration::read(const Dataset& data) {
  for (std::int64_t chunk = own_.begin; chunk < own_.end; ++chunk) {
    Batch& batch = batches_.emplace_back();
    batch.inputs.resize(static_cast<std::size_t>(rows_));
    batch.targets.resize(static_cast<std::size_t>(rows_));
    for (std::int64_t s = 0; s < plan_.sequences; ++s) {
      const std::int64_t at = s * data.seq_len();
      data.train_sample(chunk * plan_.sequences + s, batch.inputs.data() + at,
                        batch.targets.data() + at);
    }
  }
}

void Calibration::fetch(const Tensor& from, std::vector<float>& to) {
  CHECK(from.contiguous() && from.dtype == DType::kF32, "{} with gaps", from.shape.str());
  to.resize(static_cast<std::size_t>(from.count()));
  stream_.copy(to.data(), from.data, from.bytes());
  stream_.synchronize();
}

Residuals Calibration::enter() {
  Residuals first(static_cast<std::size_t>(own_.count()));
  for (std::size_t chunk = 0; chunk < first.size(); ++chunk) {
    model_.enter(x_, upload_.upload(batches_[chunk], stream_), stream_);
    fetch(x_, first[chunk]);
  }
  return first;
}

Residuals Calibration::run(std::int64_t index, const Residuals& in, const Tap& tap) {
  if (stop_ && !world_.all_agree(!stop_())) {
    fail_together(ExitCode::kInterrupted, "interrupted: nothing was written");
  }
  Residuals out(in.size());
  for (std::size_t chunk = 0; chunk < in.size(); ++chunk) {
    const DeviceBatch batch = upload_.upload(batches_[chunk], stream_);
    std::copy(in[chunk].begin(), in[chunk].end(), staging_.as<float>());
    stream_.copy(x_.data, staging_.data(), x_.bytes());
    LayerTap layer_tap;
    if (tap) {
      layer_tap = [&](std::span<const Parameter> weights, const Tensor& x, const Tensor& residual) {
        tap(chunk, weights, x, residual);
      };
    }
    model_.forward_layer(index, x_, x_, batch, layer_tap, stream_);
    fetch(x_, out[chunk]);
  }
  return out;
}

}  // namespace lockstep
