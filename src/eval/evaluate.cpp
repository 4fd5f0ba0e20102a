// Micro-batches are the chunks of an ordered sum; each rank judges its own.
#include "eval/evaluate.h"

#include "comm/ordered_sum.h"

#include <algorithm>
#include <vector>

namespace lockstep {
namespace {

constexpr std::int64_t kTotals = 3;  // loss sum, targets judged, correct ones

}  // namespace

EvalBuffers::EvalBuffers(Arena& arena, std::int64_t batch, std::int64_t seq_len)
    : tokens(
          arena.allocate("eval tokens", {batch, seq_len}, DType::kI32, MemoryGroup::kActivations)),
      targets(
          arena.allocate("eval targets", {batch, seq_len}, DType::kI32, MemoryGroup::kActivations)),
      totals(arena.allocate("eval totals", {kTotals}, DType::kF64, MemoryGroup::kActivations)) {}

Evaluator::Evaluator(EvalBuffers buffers, Device& device)
    : totals_(buffers.totals),
      device_(device),
      upload_(std::move(buffers.tokens), std::move(buffers.targets), device) {}

std::optional<Evaluation> Evaluator::run(Model& model, const Dataset& dataset, std::int64_t samples,
                                         World& world, const std::function<bool()>& stop,
                                         Stream& stream) {
  const EvalBatches batches(dataset, samples, upload_.batch(), world);
  const auto numbers = static_cast<std::size_t>(batches.own().count() * kTotals);
  const PinnedBuffer totals(device_, std::max<std::size_t>(1, numbers) * sizeof(double));
  const bool whole = batches.each(stop, [&](std::int64_t index, const Batch& batch) {
    const DeviceBatch on_device = upload_.upload(batch, stream);
    stream.zero(totals_.data, totals_.bytes());
    model.evaluate(on_device, totals_, stream);
    stream.copy(totals.as<double>() + index * kTotals, totals_.data, totals_.bytes());
  });
  if (!whole) return std::nullopt;
  stream.synchronize();
  const std::vector<double> sum =
      ordered_sum(std::span(totals.as<const double>(), numbers), batches.chunks(), kTotals, world);
  if (sum[1] == 0.0) {
    fail_together(ExitCode::kData,
                  "no target to judge: every token of the evaluation data is masked");
  }
  return Evaluation{sum[0] / sum[1], sum[2] / sum[1], static_cast<std::int64_t>(sum[1])};
}

}  // namespace lockstep
