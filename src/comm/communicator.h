// Communicator: collectives over typed spans, in the order they are called, on every rank alike.
// Implementations: self.cpp (world of 1, identity in the stream's order), mpi.cpp (host memory;
// device memory is staged through pinned buffers), nccl.cpp (device memory, asynchronous on its
// stream). All of them throw UserError(kPeer) when a peer is gone or a deadline passes.
#pragma once

#include "core/error.h"
#include "core/tensor.h"
#include "device/stream.h"

#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace lockstep {

// A typed run of elements on one device; never bytes.
struct TypedSpan {
  void* data = nullptr;
  std::int64_t count = 0;
  DType dtype = DType::kF32;
  DeviceKind device = DeviceKind::kCpu;

  TypedSpan() = default;
  template <typename T>
  TypedSpan(std::span<T> host)  // NOLINT: implicit on purpose, a host span is a TypedSpan
      : data(host.data()), count(static_cast<std::int64_t>(host.size())), dtype(dtype_of<T>) {}
  explicit TypedSpan(const Tensor& tensor)
      : data(tensor.data), count(tensor.count()), dtype(tensor.dtype), device(tensor.device) {}
  TypedSpan slice(std::int64_t begin, std::int64_t length) const;
};

enum class ReduceOp { kSum, kMax, kMin };

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual std::string_view name() const = 0;  // "self", "mpi", "nccl"
  // True if collectives on device memory are only enqueued.
  virtual bool asynchronous() const { return false; }

  // In place, same count and dtype on every rank. nccl and self: complete when the stream is there.
  // mpi: complete on return; a device span is read after the stream's earlier work.
  virtual void all_reduce(TypedSpan inout, ReduceOp op, Stream& stream) = 0;
  // in.count = size * out.count; rank r receives the reduction of piece r.
  virtual void reduce_scatter(TypedSpan out, TypedSpan in, ReduceOp op, Stream& stream) = 0;
  // out.count = size * in.count; piece r of out is rank r's in.
  virtual void all_gather(TypedSpan out, TypedSpan in, Stream& stream) = 0;
  virtual void broadcast(TypedSpan inout, int root, Stream& stream) = 0;
  // Throws UserError(kPeer) if the library has noticed a failure since the last call.
  virtual void check_async_error() = 0;
  // Collective calls entered so far, for comparison over the ranks: of ranks that all stand still,
  // those that have entered fewest are waited for by the others. Any thread.
  virtual std::uint64_t calls() const { return 0; }
  // Gives up collectives under way, which may never complete, and all later ones: whoever owns
  // their buffers calls it before freeing them when a run ends with an error, since a device waits
  // for its work before it frees. Returns within seconds; harmless when there is nothing to abort.
  virtual void abort() noexcept {}
};

// Declared after the buffers that collectives use: when an exception passes, the collectives are
// given up before the buffers are freed.
class AbortOnError {
 public:
  explicit AbortOnError(Communicator& communicator) : communicator_(communicator) {}
  ~AbortOnError() {
    if (std::uncaught_exceptions() > before_) communicator_.abort();
  }
  AbortOnError(const AbortOnError&) = delete;
  AbortOnError& operator=(const AbortOnError&) = delete;

 private:
  Communicator& communicator_;
  int before_ = std::uncaught_exceptions();
};

// Where this process stands among the ranks of the job.
struct Placement {
  int rank = 0;
  int size = 1;
  int local_rank = 0;  // among the ranks of this host
  int local_size = 1;
  int node = 0;
  int nodes = 1;
  std::string host;
};

// The ranks of the job on the host side: start-up, agreement and shut-down. Every call is
// collective, blocking, and must come from the main thread. Deadline: `timeout_seconds`.
class World {
 public:
  virtual ~World() = default;
  virtual const Placement& placement() const = 0;
  int rank() const { return placement().rank; }
  int size() const { return placement().size; }

  virtual void barrier() = 0;
  virtual std::string broadcast(const std::string& text, int root) = 0;
  // Everyone receives everyone's text, by rank.
  virtual std::vector<std::string> all_gather(const std::string& text) = 0;
  // The same for a number or a plain struct of numbers, whose bytes travel as they are.
  template <typename T>
  requires std::is_trivially_copyable_v<T> std::vector<T> all_gather_values(const T& mine) {
    std::vector<T> all;
    for (const std::string& bytes : all_gather(std::string(bytes_of(mine)))) {
      CHECK(bytes.size() == sizeof(T), "{} bytes where {} were expected", bytes.size(), sizeof(T));
      std::memcpy(&all.emplace_back(), bytes.data(), sizeof(T));
    }
    return all;
  }
  virtual std::vector<std::int64_t> all_reduce(std::vector<std::int64_t> values, ReduceOp op) = 0;
  virtual std::uint64_t calls() const { return 0; }  // as Communicator's
  // True only if `ok` is true on every rank.
  bool all_agree(bool ok) { return all_reduce({ok ? 1 : 0}, ReduceOp::kMin)[0] != 0; }

 private:
  template <typename T>
  static std::string_view bytes_of(const T& value) {
    return {reinterpret_cast<const char*>(&value), sizeof(T)};
  }
};

std::unique_ptr<World> make_self_world();
// Over MPI_COMM_WORLD; MPI must be initialised and must outlive the result.
std::unique_ptr<World> make_mpi_world(double timeout_seconds);

std::unique_ptr<Communicator> make_self_communicator();
std::unique_ptr<Communicator> make_mpi_communicator(double timeout_seconds);
struct NcclOptions {
  bool share_gpu = false;  // several ranks on one GPU: each sets its own NCCL_HOSTID
  double timeout_seconds = 600.0;
};
// Collective; the NCCL id travels over `world`. Throws UserError(kConfig) without NCCL in the
// build.
std::unique_ptr<Communicator> make_nccl_communicator(World& world, Device& device,
                                                     const NcclOptions& options);
std::string nccl_version();  // "2.28.3", or "" without NCCL
std::string mpi_version();   // the library's own first line
// True if a launcher (mpirun, srun with PMI) started this process, from its environment.
bool launched_by_mpi();

}  // namespace lockstep
