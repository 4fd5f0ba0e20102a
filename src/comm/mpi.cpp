// The mpi communicator: collectives composed of point-to-point messages, so that the order of every
// sum is ours. Each element is reduced once, by one owner, in rank order, then copied to the
// others: all ranks hold the same bits, and all_reduce equals reduce_scatter + all_gather, whatever
// the MPI library, the timing or the sizes. (The MPI standard only recommends reproducibility.)
// Traffic per rank is the minimum, 2 (n-1)/n of the data; scratch is one block.
#include "comm/mpi_channel.h"
#include "comm/reduce.h"
#include "comm/span.h"
#include "device/device.h"

#include <algorithm>
#include <cstddef>
#include <optional>

namespace lockstep {
namespace {

constexpr std::int64_t kBlockBytes = 8 << 20;  // of all ranks' pieces together
constexpr int kTag = 1;

class MpiCommunicator final : public Communicator {
 public:
  explicit MpiCommunicator(double timeout_seconds) : channel_(timeout_seconds) {
    const auto ranks = static_cast<std::size_t>(channel_.size());
    to_.resize(ranks);
    from_.resize(ranks);
  }

  int rank() const override { return channel_.rank(); }
  int size() const override { return channel_.size(); }
  std::string_view name() const override { return "mpi"; }

  void all_reduce(TypedSpan inout, ReduceOp op, Stream& stream) override;
  void reduce_scatter(TypedSpan out, TypedSpan in, ReduceOp op, Stream& stream) override;
  void all_gather(TypedSpan out, TypedSpan in, Stream& stream) override;
  void broadcast(TypedSpan inout, int root, Stream& stream) override;
  void check_async_error() override {}
  std::uint64_t calls() const override { return channel_.waits(); }

 private:
  // Sends to_[r] to every other rank r and receives from_[r] from it; own entries are ignored.
  void exchange(std::string_view call);
  // Reduces from_[0], from_[1], ... into `out`.
  void reduce_received(const TypedSpan& out, ReduceOp op);
  // Points from_ at scratch for as many elements as `own` of every rank; at `own` for this rank.
  void receive_into_scratch(const TypedSpan& own);

  // Host memory for a span: its own on the CPU, else pinned elements from `offset` on.
  TypedSpan host(const TypedSpan& span, std::int64_t offset, Stream& stream);
  // The same with the span's values, once the stream is synchronised.
  TypedSpan host_copy(const TypedSpan& span, std::int64_t offset, Stream& stream);
  void copy_back(const TypedSpan& span, const TypedSpan& from, Stream& stream);

  MpiChannel channel_;
  std::vector<TypedSpan> to_;    // by rank
  std::vector<TypedSpan> from_;  // by rank
  std::unique_ptr<std::byte[]> scratch_;
  std::size_t scratch_bytes_ = 0;
  std::optional<PinnedBuffer> pinned_;  // for device spans: gone before the device is
};

std::size_t bytes_of(const TypedSpan& span) {
  return static_cast<std::size_t>(span.count) * size_of(span.dtype);
}

// Calls body(begin, length) for consecutive runs of at most `longest` of `count` elements.
template <typename Body>
void for_blocks(std::int64_t count, std::int64_t longest, Body body) {
  longest = std::max<std::int64_t>(longest, 1);
  for (std::int64_t begin = 0; begin < count; begin += longest) {
    body(begin, std::min(longest, count - begin));
  }
}

std::int64_t block_elements(DType dtype) {
  return kBlockBytes / static_cast<std::int64_t>(size_of(dtype));
}

void MpiCommunicator::exchange(std::string_view call) {
  std::vector<MPI_Request> requests;
  requests.reserve(2 * to_.size());
  const auto post = [&](const TypedSpan& span, int peer, auto start) {
    if (peer == rank() || span.count == 0) return;
    const int bytes = static_cast<int>(bytes_of(span));
    channel_.check(start(span.data, bytes, MPI_BYTE, peer, kTag, channel_.comm(),
                         &requests.emplace_back(MPI_REQUEST_NULL)),
                   call);
  };
  // Every rank starts with its right-hand neighbour, so that no rank is everyone's first target.
  for (int k = 1; k < size(); ++k) {
    const int peer = (rank() - k + size()) % size();
    post(from_[static_cast<std::size_t>(peer)], peer, MPI_Irecv);
  }
  for (int k = 1; k < size(); ++k) {
    const int peer = (rank() + k) % size();
    post(to_[static_cast<std::size_t>(peer)], peer, MPI_Isend);
  }
  channel_.wait(requests, call);
}

void MpiCommunicator::receive_into_scratch(const TypedSpan& own) {
  const std::size_t wanted = bytes_of(own) * from_.size();
  if (wanted > scratch_bytes_) {
    scratch_ = std::make_unique_for_overwrite<std::byte[]>(wanted);
    scratch_bytes_ = wanted;
  }
  for (std::size_t r = 0; r < from_.size(); ++r) {
    from_[r] = own;
    if (static_cast<int>(r) != rank()) from_[r].data = scratch_.get() + r * bytes_of(own);
  }
}

void MpiCommunicator::reduce_received(const TypedSpan& out, ReduceOp op) {
  std::vector<const void*> inputs;
  for (const TypedSpan& span : from_) inputs.push_back(span.data);
  reduce_in_rank_order(out.data, inputs, out.count, out.dtype, op);
}

TypedSpan MpiCommunicator::host(const TypedSpan& span, std::int64_t offset, Stream& stream) {
  if (span.device == DeviceKind::kCpu) return span;
  CHECK(stream.device().kind() == span.device, "span on {}", span.device.name());
  if (!pinned_) pinned_.emplace(stream.device(), static_cast<std::size_t>(kBlockBytes));
  TypedSpan staged = span;
  staged.device = DeviceKind::kCpu;
  const std::size_t first = static_cast<std::size_t>(offset) * size_of(span.dtype);
  CHECK(first + bytes_of(span) <= pinned_->bytes(), "{} + {} bytes", first, bytes_of(span));
  staged.data = pinned_->as<std::byte>() + first;
  return staged;
}

TypedSpan MpiCommunicator::host_copy(const TypedSpan& span, std::int64_t offset, Stream& stream) {
  const TypedSpan copy = host(span, offset, stream);
  if (copy.data != span.data) stream.copy(copy.data, span.data, bytes_of(span));
  return copy;
}

void MpiCommunicator::copy_back(const TypedSpan& span, const TypedSpan& from, Stream& stream) {
  if (from.data != span.data) stream.copy(span.data, from.data, bytes_of(span));
}

void MpiCommunicator::all_reduce(TypedSpan inout, ReduceOp op, Stream& stream) {
  check_span(inout, "all_reduce");
  for_blocks(inout.count, block_elements(inout.dtype), [&](std::int64_t begin, std::int64_t n) {
    const TypedSpan part = inout.slice(begin, n);
    const TypedSpan block = host_copy(part, 0, stream);
    stream.synchronize();
    const auto piece = [&](std::size_t r) {
      const auto first = [&](std::size_t k) { return n * static_cast<std::int64_t>(k) / size(); };
      return block.slice(first(r), first(r + 1) - first(r));
    };
    const TypedSpan own = piece(static_cast<std::size_t>(rank()));
    for (std::size_t r = 0; r < to_.size(); ++r) to_[r] = piece(r);
    receive_into_scratch(own);
    exchange("all_reduce");
    reduce_received(own, op);
    for (std::size_t r = 0; r < to_.size(); ++r) from_[r] = piece(r);
    std::fill(to_.begin(), to_.end(), own);
    exchange("all_reduce");
    copy_back(part, block, stream);
    stream.synchronize();
  });
}

void MpiCommunicator::reduce_scatter(TypedSpan out, TypedSpan in, ReduceOp op, Stream& stream) {
  check_scatter(out, in, size(), "reduce_scatter");
  const std::int64_t longest = block_elements(out.dtype) / size();
  for_blocks(out.count, longest, [&](std::int64_t begin, std::int64_t n) {
    for (std::size_t r = 0; r < to_.size(); ++r) {
      const auto k = static_cast<std::int64_t>(r);
      to_[r] = host_copy(in.slice(k * out.count + begin, n), k * n, stream);
    }
    stream.synchronize();
    const TypedSpan own = to_[static_cast<std::size_t>(rank())];
    receive_into_scratch(own);
    exchange("reduce_scatter");
    const TypedSpan part = out.slice(begin, n);
    const TypedSpan result = host(part, rank() * n, stream);
    reduce_received(result, op);
    copy_back(part, result, stream);
    stream.synchronize();
  });
}

void MpiCommunicator::all_gather(TypedSpan out, TypedSpan in, Stream& stream) {
  check_gather(out, in, size(), "all_gather");
  const std::int64_t longest = block_elements(in.dtype) / size();
  for_blocks(in.count, longest, [&](std::int64_t begin, std::int64_t n) {
    const auto part = [&](std::size_t r) {
      return out.slice(static_cast<std::int64_t>(r) * in.count + begin, n);
    };
    const TypedSpan own = host_copy(in.slice(begin, n), rank() * n, stream);
    stream.synchronize();
    std::fill(to_.begin(), to_.end(), own);
    for (std::size_t r = 0; r < from_.size(); ++r) {
      from_[r] = host(part(r), static_cast<std::int64_t>(r) * n, stream);
    }
    exchange("all_gather");
    from_[static_cast<std::size_t>(rank())] = own;
    for (std::size_t r = 0; r < from_.size(); ++r) copy_back(part(r), from_[r], stream);
    stream.synchronize();
  });
}

void MpiCommunicator::broadcast(TypedSpan inout, int root, Stream& stream) {
  check_span(inout, "broadcast");
  CHECK(root >= 0 && root < size(), "root {} of {} ranks", root, size());
  for_blocks(inout.count, block_elements(inout.dtype), [&](std::int64_t begin, std::int64_t n) {
    const TypedSpan part = inout.slice(begin, n);
    const TypedSpan block = rank() == root ? host_copy(part, 0, stream) : host(part, 0, stream);
    stream.synchronize();
    MPI_Request request = MPI_REQUEST_NULL;
    channel_.check(MPI_Ibcast(block.data, static_cast<int>(bytes_of(block)), MPI_BYTE, root,
                              channel_.comm(), &request),
                   "broadcast");
    channel_.wait(request, "broadcast");
    if (rank() != root) copy_back(part, block, stream);
    stream.synchronize();
  });
}

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator(double timeout_seconds) {
  return std::make_unique<MpiCommunicator>(timeout_seconds);
}

}  // namespace lockstep
