// Every rank makes as many rounds as the one with most batches, so that all of them vote.
#include "eval/eval_batches.h"

#include <algorithm>
#include <utility>

namespace lockstep {
namespace {

constexpr std::int64_t kBatchesBetweenVotes = 16;

std::int64_t wanted_samples(const Dataset& dataset, std::int64_t samples) {
  return samples > 0 ? std::min(samples, dataset.samples()) : dataset.samples();
}

}  // namespace

EvalBatches::EvalBatches(const Dataset& dataset, std::int64_t samples, std::int64_t batch,
                         World& world)
    : dataset_(dataset),
      world_(world),
      batch_(batch),
      samples_(wanted_samples(dataset, samples)),
      chunks_((samples_ + batch - 1) / batch),
      own_(own_chunks(chunks_, world.rank(), world.size())) {}

bool EvalBatches::each(const std::function<bool()>& stop,
                       const std::function<void(std::int64_t, const Batch&)>& visit) const {
  const std::int64_t rounds = (chunks_ + world_.size() - 1) / world_.size();
  for (std::int64_t round = 0; round < rounds; ++round) {
    if (round % kBatchesBetweenVotes == 0 && stop && !world_.all_agree(!stop())) return false;
    if (round >= own_.count()) continue;
    const std::int64_t first = (own_.begin + round) * batch_;
    visit(round, eval_batch(dataset_, first, std::min(batch_, samples_ - first), batch_,
                            dataset_.seq_len()));
  }
  return true;
}

EvalUpload::EvalUpload(Tensor tokens, Tensor targets, Device& device)
    : tokens_(std::move(tokens)),
      targets_(std::move(targets)),
      staging_(device, 2 * tokens_.bytes()) {}

DeviceBatch EvalUpload::upload(const Batch& batch, Stream& stream) {
  stream.synchronize();  // the staging buffer is free again
  auto* staged = staging_.as<std::int32_t>();
  std::copy(batch.inputs.begin(), batch.inputs.end(), staged);
  std::copy(batch.targets.begin(), batch.targets.end(), staged + rows());
  stream.copy(tokens_.data, staged, tokens_.bytes());
  stream.copy(targets_.data, staged + rows(), tokens_.bytes());
  DeviceBatch on_device;
  on_device.tokens = tokens_.reshaped({rows()});
  on_device.targets = targets_.reshaped({rows()});
  return on_device;
}

}  // namespace lockstep
