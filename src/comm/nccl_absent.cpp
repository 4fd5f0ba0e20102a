// Stands in for nccl.cpp in a build without NCCL: an error that says how to get it.
#include "comm/communicator.h"

namespace lockstep {

std::unique_ptr<Communicator> make_nccl_communicator(World&, Device&, const NcclOptions&) {
  fail(ExitCode::kConfig,
       "comm.backend=nccl, but this build has no NCCL; configure it with CUDA and libnccl-dev "
       "(or CMAKE_PREFIX_PATH pointing at NCCL), or use comm.backend=mpi");
}

std::string nccl_version() { return ""; }

}  // namespace lockstep
