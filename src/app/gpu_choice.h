// Which GPU each rank of a node uses: a pure function of what the ranks see.
#pragma once

#include <string>
#include <vector>

namespace lockstep {

// visible[r] are the UUIDs of the GPUs that local rank r sees, in its order. Returns the ordinal
// for each local rank: 0 where one GPU is visible, else the local rank, with `share_gpu` modulo
// the number visible. Throws UserError(kConfig): too few GPUs, or two ranks on one GPU (naming
// comm.share_gpu).
std::vector<int> choose_gpus(const std::vector<std::vector<std::string>>& visible, bool share_gpu,
                             const std::string& host);

}  // namespace lockstep
