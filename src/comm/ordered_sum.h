// Sums that do not depend on the number of ranks. The work is cut into chunks that are the same at
// any world size, each chunk is summed by one rank, and the chunks' sums are added in chunk order
// in fp64. The gradient norm does the last step on the device (kernels/step_rules.h), everything on
// the host calls ordered_sum().
#pragma once

#include "comm/communicator.h"

#include <cstdint>
#include <span>
#include <vector>

namespace lockstep {

// The chunks [begin, end) that one rank sums.
struct ChunkRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t count() const { return end - begin; }
};
ChunkRange own_chunks(std::int64_t chunks, int rank, int world);

// `mine`: this rank's chunks, `width` numbers each. Returns the `width` sums over all chunks: the
// same bits on every rank and at any world size. Collective.
std::vector<double> ordered_sum(std::span<const double> mine, std::int64_t chunks,
                                std::size_t width, World& world);

}  // namespace lockstep
