// Which world sizes and micro-batches a batch admits.
#include "trainer/accumulation.h"

#include "core/error.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

namespace lockstep {

namespace {

// The micro-batches, none above `most`, that `world` ranks can divide the batch into.
std::string micro_batches(std::int64_t global_batch, std::int64_t most, int world) {
  if (global_batch % world != 0) {
    return fmt::format("no train.micro_batch_size makes {} ranks divide train.global_batch_size {}",
                       world, global_batch);
  }
  constexpr std::size_t kShown = 6;
  const std::int64_t share = global_batch / world;
  std::vector<std::string> sizes;
  for (std::int64_t size = std::min(share, most); size >= 1 && sizes.size() < kShown; --size) {
    if (share % size == 0) sizes.push_back(fmt::format("{}", size));
  }
  const std::string first = sizes.front();
  sizes.erase(sizes.begin());
  return fmt::format("for {} rank{} give --train.micro_batch_size={}{}", world,
                     world == 1 ? "" : "s", first,
                     sizes.empty() ? "" : fmt::format(" (or {})", fmt::join(sizes, ", ")));
}

}  // namespace

std::int64_t derive_accumulation(std::int64_t global_batch, std::int64_t micro_batch, int world) {
  const std::int64_t per_pass = micro_batch * world;
  if (global_batch % per_pass == 0) return global_batch / per_pass;
  const std::string advice = micro_batches(global_batch, micro_batch, world);
  if (global_batch % micro_batch != 0) {
    fail(ExitCode::kConfig,
         "train.global_batch_size = {} is not a multiple of train.micro_batch_size = {}; {}",
         global_batch, micro_batch, advice);
  }
  std::string worlds;
  const std::int64_t parts = global_batch / micro_batch;
  for (std::int64_t w = 1; w <= parts; ++w) {
    if (parts % w == 0) worlds += fmt::format("{}{}", worlds.empty() ? "" : ", ", w);
  }
  fail(ExitCode::kConfig,
       "world size {} does not divide the batch: global_batch_size {} = micro_batch_size {} x "
       "accumulation x world size; {}; with these sizes the world size can be {}",
       world, global_batch, micro_batch, advice, worlds);
}

}  // namespace lockstep
