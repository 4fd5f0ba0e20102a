// Rank r judges micro-batches r, r + W, r + 2W, ...; the sums meet on the host.
#include "eval/evaluate.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace lockstep {
namespace {

constexpr std::int64_t kBatchesBetweenVotes = 16;

// Sum of the ranks' doubles in rank order, the same bits everywhere.
std::array<double, 3> sum_over_ranks(const std::array<double, 3>& mine, World& world) {
  std::string bytes(sizeof(mine), '\0');
  std::memcpy(bytes.data(), mine.data(), sizeof(mine));
  std::array<double, 3> sum{};
  for (const std::string& text : world.all_gather(bytes)) {
    std::array<double, 3> part{};
    std::memcpy(part.data(), text.data(), sizeof(part));
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += part[i];
  }
  return sum;
}

}  // namespace

Evaluator::Evaluator(Arena& arena, Device& device, std::int64_t batch, std::int64_t seq_len)
    : batch_(batch),
      seq_len_(seq_len),
      tokens_(
          arena.allocate("eval tokens", {batch * seq_len}, DType::kI32, MemoryGroup::kActivations)),
      targets_(arena.allocate("eval targets", {batch * seq_len}, DType::kI32,
                              MemoryGroup::kActivations)),
      totals_(arena.allocate("eval totals", {3}, DType::kF64, MemoryGroup::kActivations)),
      staging_(device, static_cast<std::size_t>(2 * batch * seq_len) * sizeof(std::int32_t)) {}

std::optional<Evaluation> Evaluator::run(Model& model, const Dataset& dataset, std::int64_t samples,
                                         World& world, const std::function<bool()>& stop,
                                         Stream& stream) {
  const std::int64_t available = dataset.samples();
  const std::int64_t wanted = samples > 0 ? std::min(samples, available) : available;
  const std::int64_t batches = (wanted + batch_ - 1) / batch_;
  const std::int64_t rounds = (batches + world.size() - 1) / world.size();
  stream.zero(totals_.data, totals_.bytes());
  for (std::int64_t round = 0; round < rounds; ++round) {
    if (round % kBatchesBetweenVotes == 0 && stop && !world.all_agree(!stop())) {
      return std::nullopt;
    }
    const std::int64_t batch = round * world.size() + world.rank();
    if (batch >= batches) continue;
    const std::int64_t first = batch * batch_;
    const Batch host =
        eval_batch(dataset, first, std::min(batch_, wanted - first), batch_, seq_len_);
    stream.synchronize();  // the staging buffer is free again
    auto* staged = staging_.as<std::int32_t>();
    std::copy(host.inputs.begin(), host.inputs.end(), staged);
    std::copy(host.targets.begin(), host.targets.end(), staged + tokens_.count());
    stream.copy(tokens_.data, staged, tokens_.bytes());
    stream.copy(targets_.data, staged + tokens_.count(), targets_.bytes());
    model.evaluate(tokens_, targets_, totals_, stream);
  }
  std::array<double, 3> mine{};
  stream.copy(mine.data(), totals_.data, totals_.bytes());
  stream.synchronize();
  const std::array<double, 3> sum = sum_over_ranks(mine, world);
  if (sum[1] == 0.0) {
    fail_together(ExitCode::kData,
                  "no target to judge: every token of the evaluation data is masked");
  }
  return Evaluation{sum[0] / sum[1], sum[2] / sum[1], static_cast<std::int64_t>(sum[1])};
}

}  // namespace lockstep
