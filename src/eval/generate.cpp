// Prefill the whole prompt at once, then one token per step.
#include "eval/generate.h"

#include "core/error.h"
#include "core/finite.h"
#include "core/rng.h"
#include "ops/cast.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace lockstep {
namespace {

// Probabilities over `order`'s tokens, largest first, cut to top_k and top_p.
std::vector<double> cut_distribution(const std::vector<float>& logits,
                                     const SamplingOptions& options,
                                     std::vector<std::int32_t>& order) {
  order.resize(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    return logits[static_cast<std::size_t>(a)] > logits[static_cast<std::size_t>(b)];
  });
  if (options.top_k > 0 && options.top_k < static_cast<std::int64_t>(order.size())) {
    order.resize(static_cast<std::size_t>(options.top_k));
  }
  const double largest = logits[static_cast<std::size_t>(order[0])];
  std::vector<double> weights;
  double total = 0.0;
  for (const std::int32_t token : order) {
    const double logit = logits[static_cast<std::size_t>(token)];
    weights.push_back(std::exp((logit - largest) / options.temperature));
    total += weights.back();
  }
  double kept = 0.0;
  std::size_t size = 0;
  while (size < weights.size() && (size == 0 || kept < options.top_p * total)) {
    kept += weights[size++];
  }
  weights.resize(size);
  order.resize(size);
  return weights;
}

bool is_stop(const SamplingOptions& options, std::int32_t token) {
  const auto& stops = options.stop_tokens;
  return std::find(stops.begin(), stops.end(), token) != stops.end();
}

std::vector<float> read_logits(const Tensor& logits, const Tensor& widened, std::int64_t vocab,
                               Stream& stream) {
  Tensor source = logits;
  if (logits.dtype != DType::kF32) {
    ops::cast(widened, logits, stream);
    source = widened;
  }
  std::vector<float> host(static_cast<std::size_t>(vocab));
  stream.copy(host.data(), source.data, host.size() * sizeof(float));
  stream.synchronize();
  if (first_not_finite(host) != host.size()) {
    fail(ExitCode::kData,
         "the model's logits are not finite although its weights are: its values grow beyond {}",
         name_of(logits.dtype));
  }
  return host;
}

}  // namespace

std::int32_t sample(const std::vector<float>& logits, const SamplingOptions& options,
                    std::int64_t position) {
  if (options.temperature == 0.0) {
    return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) -
                                     logits.begin());
  }
  std::vector<std::int32_t> order;
  const std::vector<double> weights = cut_distribution(logits, options, order);
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  double left =
      uniform(key_from(options.seed, "sample"), static_cast<std::uint64_t>(position)) * total;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    left -= weights[i];
    if (left < 0.0) return order[i];
  }
  return order.back();
}

void generate(Model& model, Arena& arena, const std::vector<std::int32_t>& prompt,
              const SamplingOptions& options, const std::function<bool(std::int32_t)>& on_token,
              Stream& stream) {
  CHECK(!prompt.empty());
  const ModelConfig& config = model.config();
  const Tensor widened = arena.allocate("logits fp32", {1, padded_vocabulary(config.vocab)},
                                        DType::kF32, MemoryGroup::kLogits);
  std::vector<std::int32_t> text = prompt;
  model.forget(0);
  std::int64_t pending = std::min(static_cast<std::int64_t>(text.size()), config.seq_len);
  for (std::int64_t produced = 0; produced < options.max_tokens; ++produced) {
    if (model.sequence_length(0) + pending > config.seq_len) {
      model.forget(0);
      pending = (config.seq_len + 1) / 2;
    }
    const SequenceInput input{
        .tokens = std::span<const std::int32_t>(text).last(static_cast<std::size_t>(pending))};
    const Tensor logits = model.decode(std::span(&input, 1), stream);
    const std::int32_t next = sample(read_logits(logits, widened, config.vocab, stream), options,
                                     static_cast<std::int64_t>(text.size()));
    if (is_stop(options, next) || !on_token(next)) return;
    text.push_back(next);
    pending = 1;
  }
}

}  // namespace lockstep
