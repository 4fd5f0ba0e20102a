// Chunk by chunk of logits, as many rows at once as both models can give.
#include "eval/comparer.h"

#include "ops/divergence.h"

#include <algorithm>

namespace lockstep {

Comparer::Comparer(Arena& arena, Device& device, std::int64_t batch, std::int64_t seq_len)
    : upload_(
          arena.allocate("eval tokens", {batch, seq_len}, DType::kI32, MemoryGroup::kActivations),
          arena.allocate("eval targets", {batch, seq_len}, DType::kI32, MemoryGroup::kActivations),
          device),
      host_(device, static_cast<std::size_t>(batch * seq_len) * (3 * sizeof(float) + 1)) {
  const auto rows = [&](const char* name, DType dtype) {
    return arena.allocate(name, {batch * seq_len}, dtype, MemoryGroup::kActivations);
  };
  losses_ = rows("losses", DType::kF32);
  reference_losses_ = rows("reference losses", DType::kF32);
  divergences_ = rows("divergences", DType::kF32);
  verdicts_ = rows("verdicts", DType::kU8);
}

// Enqueued: the results of all rows are in host_ when the stream has passed.
void Comparer::compare(const DeviceBatch& batch, Model& model, Model& reference, Stream& stream) {
  model.forward(batch, stream);
  reference.forward(batch, stream);
  const std::int64_t step = std::min(model.logit_rows(), reference.logit_rows());
  for (std::int64_t begin = 0; begin < upload_.rows(); begin += step) {
    const std::int64_t count = std::min(step, upload_.rows() - begin);
    ops::divergence({.logits = model.logits(begin, count, stream),
                     .reference = reference.logits(begin, count, stream),
                     .targets = batch.targets.elements(begin, count),
                     .losses = losses_.elements(begin, count),
                     .reference_losses = reference_losses_.elements(begin, count),
                     .divergences = divergences_.elements(begin, count),
                     .verdicts = verdicts_.elements(begin, count),
                     .vocab = model.config().vocab},
                    stream);
  }
  auto* to = host_.as<std::byte>();
  for (const Tensor* from : {&losses_, &reference_losses_, &divergences_, &verdicts_}) {
    stream.copy(to, from->data, from->bytes());
    to += from->bytes();
  }
}

ComparisonSums Comparer::sums_of(const Batch& batch, DivergenceCounts& counts) const {
  const auto rows = static_cast<std::size_t>(upload_.rows());
  const auto seq_len = static_cast<std::size_t>(upload_.seq_len());
  const auto* losses = host_.as<const float>();
  const auto* verdicts = reinterpret_cast<const std::uint8_t*>(losses + 3 * rows);
  ComparisonSums sums;
  std::vector<ComparedToken> sequence;
  for (std::size_t row = 0; row < rows; ++row) {
    if (row % seq_len == 0) sequence.clear();
    if (batch.targets[row] >= 0) {
      const std::uint8_t verdict = verdicts[row];
      sequence.push_back({.loss = losses[row],
                          .reference_loss = losses[rows + row],
                          .divergence = losses[2 * rows + row],
                          .right = (verdict & DivergenceArgs::kRight) != 0,
                          .reference_right = (verdict & DivergenceArgs::kReferenceRight) != 0,
                          .same_top = (verdict & DivergenceArgs::kSameTop) != 0});
      counts.add(sequence.back().divergence);
    }
    if (row % seq_len == seq_len - 1) sums.add_sequence(sequence);
  }
  return sums;
}

std::optional<Comparison> Comparer::run(Model& model, Model& reference, const Dataset& dataset,
                                        std::int64_t samples, World& world,
                                        const std::function<bool()>& stop, Stream& stream) {
  CHECK(model.config().vocab == reference.config().vocab, "vocabularies of {} and {}",
        model.config().vocab, reference.config().vocab);
  const EvalBatches batches(dataset, samples, upload_.batch(), world);
  DivergenceCounts counts;
  std::vector<double> mine;
  const bool whole = batches.each(stop, [&](std::int64_t, const Batch& batch) {
    compare(upload_.upload(batch, stream), model, reference, stream);
    stream.synchronize();
    const ComparisonSums sums = sums_of(batch, counts);
    mine.insert(mine.end(), sums.numbers().begin(), sums.numbers().end());
  });
  if (!whole) return std::nullopt;
  const std::vector<double> sums =
      ordered_sum(mine, batches.chunks(), ComparisonSums::kNumbers, world);
  counts.sum_over(world);
  if (sums[0] == 0.0) {
    fail_together(ExitCode::kData,
                  "no target to judge: every token of the evaluation data is masked");
  }
  return conclude(sums, counts);
}

}  // namespace lockstep
