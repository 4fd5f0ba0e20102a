// Every rank holds the whole training state, and by construction the same bits. Before they are
// saved, all of it is compared: parameters, both moments, loss scale and counters.
#pragma once

#include "comm/communicator.h"
#include "core/progress.h"
#include "trainer/training_state.h"

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace lockstep {

// Throws UserError(kDiverged) on every rank if any differs. Collective; copies the state through
// the host.
void require_equal_replicas(TrainingState& state, World& world, Stream& stream,
                            const Progress& progress = {});

// One rank's checksums, one per part of the state, in kReplicaParts' order.
using ReplicaChecksums = std::array<std::uint32_t, 4>;
inline const std::array<std::string, 4> kReplicaParts = {
    "weights", "first moments", "second moments", "loss scale and counters"};
// What to say of the first part that differs, "" if none does. Only a majority can tell which ranks
// are wrong: with two ranks there is none.
std::string replica_difference(const std::vector<ReplicaChecksums>& by_rank,
                               const std::vector<std::string>& hosts);

}  // namespace lockstep
