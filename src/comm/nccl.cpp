// The nccl communicator: collectives on device memory, enqueued on the caller's stream. NCCL runs
// non-blocking, so that start-up, first connections and shut-down are polled with a deadline.
// NCCL has no timeout of its own for a collective under way: the watchdog owns that.
#include "comm/span.h"
#include "device/device.h"

#include <cuda_runtime.h>
#include <nccl.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <future>
#include <thread>
#include <utility>

namespace lockstep {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kPoll = std::chrono::microseconds(100);
constexpr double kLeaveSeconds = 30.0;
constexpr auto kAbortLimit = std::chrono::seconds(5);

ncclDataType_t nccl_type(DType dtype) {
  switch (dtype) {
    case DType::kF32: return ncclFloat32;
    case DType::kF64: return ncclFloat64;
    case DType::kBF16: return ncclBfloat16;
    case DType::kF16: return ncclFloat16;
    case DType::kI32: return ncclInt32;
    case DType::kI64: return ncclInt64;
    case DType::kU8: return ncclUint8;
  }
  return ncclNumTypes;
}

ncclRedOp_t nccl_op(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum: return ncclSum;
    case ReduceOp::kMax: return ncclMax;
    case ReduceOp::kMin: return ncclMin;
  }
  return ncclNumOps;
}

std::string error_text(ncclResult_t result, ncclComm_t comm) {
  std::string text = ncclGetErrorString(result);
  const char* last = ncclGetLastError(comm);
  if (last != nullptr && *last != '\0') text += fmt::format(" ({})", last);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

// The unique id travels as text; an empty one says that rank 0 could not make it.
ncclUniqueId share_id(World& world) {
  ncclUniqueId id{};
  std::string bytes;
  ncclResult_t made = ncclSuccess;
  if (world.rank() == 0) {
    made = ncclGetUniqueId(&id);
    if (made == ncclSuccess) bytes.assign(id.internal, sizeof(id.internal));
  }
  bytes = world.broadcast(bytes, /*root=*/0);
  if (bytes.size() != sizeof(id.internal)) {
    fail(ExitCode::kPeer, "NCCL cannot start: {}",
         world.rank() == 0 ? error_text(made, nullptr) : "see rank 0's message");
  }
  std::memcpy(id.internal, bytes.data(), bytes.size());
  return id;
}

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(World& world, Device& device, double timeout_seconds);
  ~NcclCommunicator() override;

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::string_view name() const override { return "nccl"; }
  bool asynchronous() const override { return true; }

  void all_reduce(TypedSpan inout, ReduceOp op, Stream& stream) override {
    check_span(inout, "all_reduce");
    enqueue("all_reduce", inout, stream, [&](cudaStream_t native) {
      return ncclAllReduce(inout.data, inout.data, static_cast<std::size_t>(inout.count),
                           nccl_type(inout.dtype), nccl_op(op), comm_, native);
    });
  }
  void reduce_scatter(TypedSpan out, TypedSpan in, ReduceOp op, Stream& stream) override {
    check_scatter(out, in, size_, "reduce_scatter");
    enqueue("reduce_scatter", out, stream, [&](cudaStream_t native) {
      return ncclReduceScatter(in.data, out.data, static_cast<std::size_t>(out.count),
                               nccl_type(out.dtype), nccl_op(op), comm_, native);
    });
  }
  void all_gather(TypedSpan out, TypedSpan in, Stream& stream) override {
    check_gather(out, in, size_, "all_gather");
    enqueue("all_gather", in, stream, [&](cudaStream_t native) {
      return ncclAllGather(in.data, out.data, static_cast<std::size_t>(in.count),
                           nccl_type(in.dtype), comm_, native);
    });
  }
  void broadcast(TypedSpan inout, int root, Stream& stream) override {
    check_span(inout, "broadcast");
    CHECK(root >= 0 && root < size_, "root {} of {} ranks", root, size_);
    enqueue("broadcast", inout, stream, [&](cudaStream_t native) {
      return ncclBroadcast(inout.data, inout.data, static_cast<std::size_t>(inout.count),
                           nccl_type(inout.dtype), root, comm_, native);
    });
  }
  void check_async_error() override {
    CHECK(comm_ != nullptr, "abort() was called");
    ncclResult_t state = ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(comm_, &state);
    if (asked != ncclSuccess) state = asked;
    if (state != ncclSuccess && state != ncclInProgress) fail_call("communication", state);
  }
  void abort() noexcept override;
  std::uint64_t calls() const override { return calls_; }

 private:
  // The one way in: every collective passes here.
  template <typename Call>
  void enqueue(std::string_view name, const TypedSpan& span, Stream& stream, Call call) {
    if (span.count == 0) return;
    CHECK(span.device == stream.device().kind(), "{}: span on {}", name, span.device.name());
    CHECK(comm_ != nullptr, "{} after abort()", name);
    ++calls_;
    settle(name, call(static_cast<cudaStream_t>(stream.native())), timeout_seconds_);
  }

  // Waits while NCCL is still at it (it connects on first use); throws UserError(kPeer) on failure.
  void settle(std::string_view call, ncclResult_t result, double seconds);
  [[noreturn]] void fail_call(std::string_view call, ncclResult_t result);
  bool leave() noexcept;

  int rank_;
  int size_;
  int ordinal_;
  double timeout_seconds_;
  int unwinding_ = std::uncaught_exceptions();
  bool failed_ = false;
  std::atomic<std::uint64_t> calls_{0};
  ncclComm_t comm_ = nullptr;  // null once aborted
};

NcclCommunicator::NcclCommunicator(World& world, Device& device, double timeout_seconds)
    : rank_(world.rank()),
      size_(world.size()),
      ordinal_(device.info().ordinal),
      timeout_seconds_(timeout_seconds) {
  const ncclUniqueId id = share_id(world);
  CHECK(cudaSetDevice(ordinal_) == cudaSuccess, "GPU {}", ordinal_);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  try {
    settle("start-up", ncclCommInitRankConfig(&comm_, size_, id, rank_, &config), timeout_seconds);
  } catch (...) {
    abort();  // the destructor does not run for an object that was never complete
    throw;
  }
}

void NcclCommunicator::settle(std::string_view call, ncclResult_t result, double seconds) {
  const auto deadline = Clock::now() + std::chrono::duration<double>(seconds);
  while (result == ncclInProgress) {
    const ncclResult_t asked = ncclCommGetAsyncError(comm_, &result);
    if (asked != ncclSuccess) result = asked;
    if (result != ncclInProgress) break;
    if (Clock::now() > deadline) {
      failed_ = true;
      fail(ExitCode::kPeer,
           "rank {}: {} over NCCL did not complete within {:g} s (comm.timeout_seconds): a peer is "
           "gone or stuck; see the other ranks' output, then resume",
           rank_, call, seconds);
    }
    std::this_thread::sleep_for(kPoll);
  }
  if (result != ncclSuccess) fail_call(call, result);
}

void NcclCommunicator::fail_call(std::string_view call, ncclResult_t result) {
  failed_ = true;
  const std::string text = error_text(result, comm_);
  if (result == ncclInvalidUsage) {
    fail(ExitCode::kConfig,
         "rank {}: {} over NCCL refused: {}; ranks that share a GPU need comm.share_gpu=true",
         rank_, call, text);
  }
  fail(ExitCode::kPeer, "rank {}: {} over NCCL failed: {}; NCCL_DEBUG=INFO tells more", rank_, call,
       text);
}

// Takes leave of the peers, which do the same; false if they do not answer.
bool NcclCommunicator::leave() noexcept {
  if (comm_ == nullptr) return true;
  try {
    settle("shut-down", ncclCommFinalize(comm_), std::min(timeout_seconds_, kLeaveSeconds));
    ncclCommDestroy(comm_);
    return true;
  } catch (...) {
    return false;
  }
}

// Ends collectives under way, so that memory can be freed. It may hang by itself, hence the thread,
// which is left behind at the limit: the process is about to end.
void NcclCommunicator::abort() noexcept {
  if (comm_ == nullptr) return;
  try {
    std::promise<void> promise;
    std::future<void> done = promise.get_future();
    std::thread([comm = std::exchange(comm_, nullptr), ordinal = ordinal_,
                 promise = std::move(promise)]() mutable {
      cudaSetDevice(ordinal);
      ncclCommAbort(comm);
      promise.set_value();
    }).detach();
    done.wait_for(kAbortLimit);
  } catch (...) {
    return;  // no thread to be had: leave the communicator to the end of the process
  }
}

NcclCommunicator::~NcclCommunicator() {
  cudaSetDevice(ordinal_);
  const bool unwinding = std::uncaught_exceptions() > unwinding_;
  if (failed_ || unwinding || !leave()) abort();
}

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(World& world, Device& device,
                                                     const NcclOptions& options) {
  if (!device.info().nccl) {
    fail(ExitCode::kConfig, "comm.backend=nccl needs run.device=cuda; use comm.backend=mpi");
  }
  if (options.share_gpu) {
    // NCCL refuses two ranks of one host on one GPU; with host ids of their own they pass for
    // ranks of different hosts and talk through sockets. A user's own setting is kept.
    const Placement& place = world.placement();
    const std::string id = fmt::format("{}-{}", place.host, place.rank);
    setenv("NCCL_HOSTID", id.c_str(), /*overwrite=*/0);
  }
  return std::make_unique<NcclCommunicator>(world, device, options.timeout_seconds);
}

std::string nccl_version() {
  int version = 0;
  if (ncclGetVersion(&version) != ncclSuccess) return "";
  return fmt::format("{}.{}.{}", version / 10000, version % 10000 / 100, version % 100);
}

}  // namespace lockstep
