// Generate: samples text from a model, one token at a time: decoding with a batch of one.
#pragma once

#include "nn/model.h"

#include <functional>
#include <vector>

namespace lockstep {

struct SamplingOptions {
  std::int64_t max_tokens = 128;
  double temperature = 1.0;  // 0: greedy
  std::int64_t top_k = 0;    // 0: off
  double top_p = 1.0;        // 1: off
  std::uint64_t seed = 0;
  std::vector<std::int32_t> stop_tokens;  // any of them ends the text
};

// Picks from logits: the largest when temperature is 0, else by the softmax cut to top_k and top_p.
// The draw is a pure function of (seed, position).
std::int32_t sample(const std::vector<float>& logits, const SamplingOptions& options,
                    std::int64_t position);

// Continues `prompt` (at least one token; of a longer one the last seq_len count). Calls `on_token`
// for each new token; a false return ends. Stops at max_tokens or a stop token. When the context is
// full, generation goes on from its last half, read again from position 0. The model's plan has
// room for one sequence of seq_len tokens, or of all that there will be. Blocking. Throws
// UserError(kData) when the logits are not finite.
void generate(Model& model, Arena& arena, const std::vector<std::int32_t>& prompt,
              const SamplingOptions& options, const std::function<bool(std::int32_t)>& on_token,
              Stream& stream);

}  // namespace lockstep
