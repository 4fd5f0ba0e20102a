// CRC-32C of each part on each rank, gathered, and the ranks outvoted by a majority named.
#include "trainer/replicas.h"

#include "io/crc32c.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>

namespace lockstep {
namespace {

constexpr std::size_t kHashPiece = std::size_t{64} << 20;

std::uint32_t checksum(const Tensor& tensor, Stream& stream, const Progress& progress) {
  std::vector<std::byte> piece(std::min(kHashPiece, tensor.bytes()));
  std::uint32_t crc = 0;
  for (std::size_t done = 0; done < tensor.bytes(); done += piece.size()) {
    const std::size_t size = std::min(piece.size(), tensor.bytes() - done);
    stream.copy(piece.data(), static_cast<const std::byte*>(tensor.data) + done, size);
    stream.synchronize();
    crc = crc32c(crc, std::span(piece.data(), size));
    report(progress);
  }
  return crc;
}

// Of what a checkpoint keeps of it.
std::uint32_t checksum(const StepState& state) {
  const std::array<double, 5> kept = {
      static_cast<double>(state.loss_scale), static_cast<double>(state.good_steps),
      static_cast<double>(state.skips_in_row), static_cast<double>(state.updates),
      static_cast<double>(state.skipped)};
  return crc32c(0, std::as_bytes(std::span(kept)));
}

std::string list(const std::vector<std::size_t>& ranks, const std::vector<std::string>& hosts) {
  std::string text;
  for (const std::size_t rank : ranks) {
    text += fmt::format("{}rank {} on {}", text.empty() ? "" : ", ", rank, hosts[rank]);
  }
  return text;
}

}  // namespace

std::string replica_difference(const std::vector<ReplicaChecksums>& by_rank,
                               const std::vector<std::string>& hosts) {
  for (std::size_t part = 0; part < kReplicaParts.size(); ++part) {
    std::vector<std::uint32_t> sorted;
    for (const ReplicaChecksums& checksums : by_rank) sorted.push_back(checksums[part]);
    std::sort(sorted.begin(), sorted.end());
    if (sorted.front() == sorted.back()) continue;
    const std::uint32_t middle = sorted[sorted.size() / 2];  // the majority's, if there is one
    std::vector<std::size_t> all, outvoted;
    for (std::size_t rank = 0; rank < by_rank.size(); ++rank) {
      all.push_back(rank);
      if (by_rank[rank][part] != middle) outvoted.push_back(rank);
    }
    if (2 * outvoted.size() < by_rank.size()) {
      return fmt::format("the {} of {} differ from the other ranks'; suspect that host's hardware",
                         kReplicaParts[part], list(outvoted, hosts));
    }
    return fmt::format(
        "the {} differ between the ranks, and no majority tells which are right ({}); suspect the "
        "hardware of each of these hosts",
        kReplicaParts[part], list(all, hosts));
  }
  return "";
}

void require_equal_replicas(TrainingState& state, World& world, Stream& stream,
                            const Progress& progress) {
  if (world.size() == 1) return;
  const std::vector<ReplicaChecksums> by_rank = world.all_gather_values(
      ReplicaChecksums{checksum(state.parameters().masters(), stream, progress),
                       checksum(state.moment(0), stream, progress),
                       checksum(state.moment(1), stream, progress), checksum(state.get(stream))});
  const auto same = [&](const ReplicaChecksums& row) { return row == by_rank.front(); };
  if (std::all_of(by_rank.begin(), by_rank.end(), same)) return;
  const std::vector<std::string> hosts = world.all_gather(world.placement().host);
  fail_together(ExitCode::kDiverged, "{}; nothing was saved: resume from the newest checkpoint",
                replica_difference(by_rank, hosts));
}

}  // namespace lockstep
