// Which world sizes a batch admits.
#include "trainer/accumulation.h"

#include "core/error.h"

#include <string>

namespace lockstep {

std::int64_t derive_accumulation(std::int64_t global_batch, std::int64_t micro_batch, int world) {
  const std::int64_t per_pass = micro_batch * world;
  if (global_batch % per_pass == 0) return global_batch / per_pass;
  if (global_batch % micro_batch != 0) {
    fail(ExitCode::kConfig,
         "train.global_batch_size = {} is not a multiple of train.micro_batch_size = {}; change "
         "either",
         global_batch, micro_batch);
  }
  std::string worlds;
  const std::int64_t parts = global_batch / micro_batch;
  for (std::int64_t w = 1; w <= parts; ++w) {
    if (parts % w == 0) worlds += fmt::format("{}{}", worlds.empty() ? "" : ", ", w);
  }
  fail(ExitCode::kConfig,
       "world size {} does not divide the batch: global_batch_size {} = micro_batch_size {} x "
       "accumulation x world size; with these sizes the world size can be {}",
       world, global_batch, micro_batch, worlds);
}

}  // namespace lockstep
