// Ranks to GPUs.
#include "app/gpu_choice.h"

#include "core/error.h"

#include <map>

namespace lockstep {

std::vector<int> choose_gpus(const std::vector<std::vector<std::string>>& visible, bool share_gpu,
                             const std::string& host) {
  const int ranks = static_cast<int>(visible.size());
  std::vector<int> ordinals;
  std::map<std::string, int> owners;
  for (int rank = 0; rank < ranks; ++rank) {
    const auto& gpus = visible[static_cast<std::size_t>(rank)];
    const int count = static_cast<int>(gpus.size());
    if (count == 0) {
      fail(ExitCode::kConfig,
           "no GPU is visible to local rank {} on {}; check "
           "CUDA_VISIBLE_DEVICES and the job's GPU request, or use run.device=cpu",
           rank, host);
    }
    int ordinal = count == 1 ? 0 : rank;
    if (share_gpu) ordinal = rank % count;
    if (ordinal >= count) {
      fail(ExitCode::kConfig,
           "{} ranks on {} but {} GPUs: start {} ranks per node, or set "
           "comm.share_gpu=true to put several ranks on one GPU",
           ranks, host, count, count);
    }
    const std::string& uuid = gpus[static_cast<std::size_t>(ordinal)];
    const auto [owner, fresh] = owners.emplace(uuid, rank);
    if (!fresh && !share_gpu) {
      fail(ExitCode::kConfig,
           "local ranks {} and {} on {} both got GPU {}: give each its own "
           "(one GPU per task), or set comm.share_gpu=true",
           owner->second, rank, host, uuid);
    }
    ordinals.push_back(ordinal);
  }
  return ordinals;
}

}  // namespace lockstep
