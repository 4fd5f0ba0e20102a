// Waiting for MPI without blocking in it: a test loop that yields, then naps, so that ranks which
// share a core let each other work, and that gives up at a deadline.
#include "comm/mpi_channel.h"

#include "core/error.h"

#include <sched.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

namespace lockstep {
namespace {

using Clock = std::chrono::steady_clock;

// Yielding gives latencies of microseconds and the bandwidth of a large transfer, whose fragments
// move only while some rank tests. Past this, the peer is busy elsewhere and deserves the core.
constexpr auto kYieldTime = std::chrono::milliseconds(2);
constexpr auto kNap = std::chrono::microseconds(50);

std::string error_text(int code) {
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(code, text, &length);
  return std::string(text, static_cast<std::size_t>(length));
}

// The first real error of a failed MPI_Testall.
int first_error(int code, std::span<const MPI_Status> statuses) {
  if (code != MPI_ERR_IN_STATUS) return code;
  for (const MPI_Status& status : statuses) {
    if (status.MPI_ERROR != MPI_SUCCESS && status.MPI_ERROR != MPI_ERR_PENDING) {
      return status.MPI_ERROR;
    }
  }
  return code;
}

}  // namespace

MpiChannel::MpiChannel(double timeout_seconds) : timeout_seconds_(timeout_seconds) {
  CHECK(timeout_seconds > 0, "timeout_seconds {}", timeout_seconds);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
  MPI_Comm_size(MPI_COMM_WORLD, &size_);
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Comm_idup(MPI_COMM_WORLD, &comm_, &request), "start-up");
  wait(request, "start-up");
  check(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "start-up");
}

MpiChannel::~MpiChannel() {
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (!abandoned_ && finalized == 0) MPI_Comm_free(&comm_);
}

void MpiChannel::abandon(std::string_view text) {
  abandoned_ = true;
  fail(ExitCode::kPeer, "rank {}: {}", rank_, text);
}

void MpiChannel::check(int code, std::string_view call) {
  if (code == MPI_SUCCESS) [[likely]]
    return;
  abandon(fmt::format("{} over MPI failed: {}", call, error_text(code)));
}

void MpiChannel::wait(std::span<MPI_Request> requests, std::string_view call) {
  ++waits_;
  std::vector<MPI_Status> statuses(requests.size());
  const auto start = Clock::now();
  const auto deadline = start + std::chrono::duration<double>(timeout_seconds_);
  while (true) {
    int done = 0;
    const int code =
        MPI_Testall(static_cast<int>(requests.size()), requests.data(), &done, statuses.data());
    if (code != MPI_SUCCESS) check(first_error(code, statuses), call);
    if (done != 0) return;
    const auto now = Clock::now();
    if (now > deadline) {
      abandon(
          fmt::format("{} over MPI did not complete within {:g} s (comm.timeout_seconds): "
                      "a peer is gone or stuck; see the other ranks' output, then resume",
                      call, timeout_seconds_));
    }
    if (now - start < kYieldTime) {
      sched_yield();
    } else {
      std::this_thread::sleep_for(kNap);
    }
  }
}

}  // namespace lockstep
