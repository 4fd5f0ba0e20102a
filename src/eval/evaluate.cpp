// Micro-batches are the chunks of an ordered sum; each rank judges its own.
#include "eval/evaluate.h"

#include "comm/ordered_sum.h"

#include <algorithm>
#include <vector>

namespace lockstep {
namespace {

constexpr std::int64_t kBatchesBetweenVotes = 16;

constexpr std::int64_t kTotals = 3;  // loss sum, targets judged, correct ones

}  // namespace

EvalBuffers::EvalBuffers(Arena& arena, std::int64_t batch, std::int64_t seq_len)
    : tokens(
          arena.allocate("eval tokens", {batch, seq_len}, DType::kI32, MemoryGroup::kActivations)),
      targets(
          arena.allocate("eval targets", {batch, seq_len}, DType::kI32, MemoryGroup::kActivations)),
      totals(arena.allocate("eval totals", {kTotals}, DType::kF64, MemoryGroup::kActivations)) {}

Evaluator::Evaluator(EvalBuffers buffers, Device& device)
    : buffers_(std::move(buffers)),
      device_(device),
      staging_(device, 2 * buffers_.tokens.bytes()) {}

// Enqueues one micro-batch; its totals are in `totals` (pinned) when the stream has passed.
void Evaluator::judge(const Batch& batch, double* totals, Model& model, Stream& stream) {
  stream.synchronize();  // the staging buffer is free again
  const Tensor& tokens = buffers_.tokens;
  auto* staged = staging_.as<std::int32_t>();
  std::copy(batch.inputs.begin(), batch.inputs.end(), staged);
  std::copy(batch.targets.begin(), batch.targets.end(), staged + tokens.count());
  stream.copy(tokens.data, staged, tokens.bytes());
  stream.copy(buffers_.targets.data, staged + tokens.count(), tokens.bytes());
  stream.zero(buffers_.totals.data, buffers_.totals.bytes());
  const std::int64_t rows = tokens.count();
  DeviceBatch device_batch;
  device_batch.tokens = tokens.reshaped({rows});
  device_batch.targets = buffers_.targets.reshaped({rows});
  model.evaluate(device_batch, buffers_.totals, stream);
  stream.copy(totals, buffers_.totals.data, buffers_.totals.bytes());
}

std::optional<Evaluation> Evaluator::run(Model& model, const Dataset& dataset, std::int64_t samples,
                                         World& world, const std::function<bool()>& stop,
                                         Stream& stream) {
  const std::int64_t batch = buffers_.tokens.shape[0];
  const std::int64_t available = dataset.samples();
  const std::int64_t wanted = samples > 0 ? std::min(samples, available) : available;
  const std::int64_t batches = (wanted + batch - 1) / batch;
  const std::int64_t rounds = (batches + world.size() - 1) / world.size();
  const ChunkRange own = own_chunks(batches, world.rank(), world.size());
  const auto numbers = static_cast<std::size_t>(own.count() * kTotals);
  const PinnedBuffer totals(device_, std::max<std::size_t>(1, numbers) * sizeof(double));
  for (std::int64_t round = 0; round < rounds; ++round) {
    if (round % kBatchesBetweenVotes == 0 && stop && !world.all_agree(!stop())) {
      return std::nullopt;
    }
    if (round >= own.count()) continue;
    const std::int64_t first = (own.begin + round) * batch;
    judge(eval_batch(dataset, first, std::min(batch, wanted - first), batch,
                     buffers_.tokens.shape[1]),
          totals.as<double>() + round * kTotals, model, stream);
  }
  stream.synchronize();
  const std::vector<double> sum =
      ordered_sum(std::span(totals.as<const double>(), numbers), batches, kTotals, world);
  if (sum[1] == 0.0) {
    fail_together(ExitCode::kData,
                  "no target to judge: every token of the evaluation data is masked");
  }
  return Evaluation{sum[0] / sum[1], sum[2] / sum[1], static_cast<std::int64_t>(sum[1])};
}

}  // namespace lockstep
