// Session: what a command that computes stands on: the ranks, this rank's device, the communicator
// between the devices, and the log. Opening one starts MPI if a launcher started the process.
#pragma once

#include "comm/agree.h"
#include "comm/communicator.h"
#include "core/error.h"
#include "core/log.h"
#include "device/device.h"
#include "trainer/options.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace lockstep {

// MPI from start() to the destructor; one per process, owned by main(). FUNNELED: only the main
// thread calls MPI.
class MpiSession {
 public:
  MpiSession() = default;
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

  // MPI_Init only when launched_by_mpi(): a process on its own needs no MPI daemon. If a rank does
  // not come within `timeout_seconds`, this process ends: with what `on_timeout` returns, or else
  // with kPeer and a line that names whom it misses. Throws UserError(kConfig), with MPI shut down
  // again, when the launcher announces more tasks than MPI sees.
  void start(double timeout_seconds, std::function<int()> on_timeout = {});
  bool active() const { return active_; }
  bool ended() const { return ended_; }  // MPI cannot be started again
  int rank() const;                      // in MPI_COMM_WORLD; 0 when not active
  // Ends all ranks; mpirun returns `code`. Does not return while active.
  void abort(int code);

 private:
  bool active_ = false;
  bool ended_ = false;
};

struct Session {
  // Members are destroyed in reverse order: the communicator before its device.
  std::unique_ptr<World> world;
  std::unique_ptr<Device> device;
  std::unique_ptr<Communicator> communicator;
  Log log;
  int threads = 1;           // CPU threads of this rank
  std::string threads_note;  // CpuShare::note

  const Placement& placement() const { return world->placement(); }
};

// Collective. Chooses device, threads, CPU binding and communicator as the options say.
Session open_session(MpiSession& mpi, const RunOptions& run, const CommOptions& comm);

// One line per rank, the same on every rank: "rank 0  node7  GPU 0 NVIDIA H100 ...  8 threads".
// Collective.
std::vector<std::string> describe_ranks(Session& session);

}  // namespace lockstep
