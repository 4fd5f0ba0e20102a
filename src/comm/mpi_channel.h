// MpiChannel: a private duplicate of MPI_COMM_WORLD whose waits have a deadline and whose errors
// are UserError(kPeer). World and the mpi communicator each own one, so their messages never mix.
// Calls come from the main thread only (MPI_THREAD_FUNNELED is enough).
#pragma once

#include <mpi.h>

#include <atomic>
#include <cstdint>
#include <span>
#include <string_view>

namespace lockstep {

class MpiChannel {
 public:
  // Collective over MPI_COMM_WORLD.
  explicit MpiChannel(double timeout_seconds);
  ~MpiChannel();
  MpiChannel(const MpiChannel&) = delete;
  MpiChannel& operator=(const MpiChannel&) = delete;

  MPI_Comm comm() const { return comm_; }
  int rank() const { return rank_; }
  int size() const { return size_; }
  std::uint64_t waits() const { return waits_; }  // begun so far; the same on every rank in step

  // Throws UserError(kPeer) with MPI's text unless `code` is MPI_SUCCESS. `call` names the
  // collective for the user.
  void check(int code, std::string_view call);
  // Returns when all requests are complete; throws UserError(kPeer) naming call, rank and seconds
  // when the deadline passes first. Then buffers may still be written to: the job must end.
  void wait(std::span<MPI_Request> requests, std::string_view call);
  void wait(MPI_Request& request, std::string_view call) { wait(std::span(&request, 1), call); }

 private:
  void abandon(std::string_view text);

  double timeout_seconds_;
  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0;
  int size_ = 1;
  std::atomic<std::uint64_t> waits_{0};
  bool abandoned_ = false;  // a request may be pending: the communicator is not freed
};

}  // namespace lockstep
