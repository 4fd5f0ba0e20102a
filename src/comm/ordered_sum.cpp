// Ranks own consecutive chunks, so gathering by rank is gathering in chunk order.
#include "comm/ordered_sum.h"

#include "core/error.h"

#include <cstring>
#include <string>

namespace lockstep {

ChunkRange own_chunks(std::int64_t chunks, int rank, int world) {
  CHECK(chunks >= 0 && rank >= 0 && rank < world, "{} chunks, rank {} of {}", chunks, rank, world);
  return {chunks * rank / world, chunks * (rank + 1) / world};
}

std::vector<double> ordered_sum(std::span<const double> mine, std::int64_t chunks,
                                std::size_t width, World& world) {
  const std::int64_t own = own_chunks(chunks, world.rank(), world.size()).count();
  CHECK(mine.size() == static_cast<std::size_t>(own) * width, "{} numbers for {} chunks of {}",
        mine.size(), own, width);
  const auto bytes = std::as_bytes(mine);
  const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  std::vector<double> sums(width, 0.0);
  std::vector<double> chunk(width);
  for (const std::string& part : world.all_gather(text)) {
    for (std::size_t at = 0; at < part.size(); at += width * sizeof(double)) {
      std::memcpy(chunk.data(), part.data() + at, width * sizeof(double));
      for (std::size_t i = 0; i < width; ++i) sums[i] += chunk[i];
    }
  }
  return sums;
}

}  // namespace lockstep
