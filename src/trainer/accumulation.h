// The batch identity: global_batch_size = micro_batch_size x accumulation x world size.
#pragma once

#include <cstdint>

namespace lockstep {

// Micro-batches per step and rank; throws UserError(kConfig) listing the world sizes that divide
// the global batch.
std::int64_t derive_accumulation(std::int64_t global_batch, std::int64_t micro_batch, int world);

}  // namespace lockstep
