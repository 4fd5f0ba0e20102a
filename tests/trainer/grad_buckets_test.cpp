// Buckets cover the flat gradient exactly once, close at their size, and wait for finalize() when
// overlap is off.
#include "trainer/grad_buckets.h"

#include "device/arena.h"
#include "support/support.h"

namespace lockstep {
namespace {

// Two ranks of which the other holds the same values: every sum doubles. Notes what it was asked.
class Doubling final : public Communicator {
 public:
  struct Call {
    const void* data;
    std::int64_t count;
  };
  int rank() const override { return 0; }
  int size() const override { return 2; }
  std::string_view name() const override { return "doubling"; }
  void all_reduce(TypedSpan inout, ReduceOp op, Stream&) override {
    EXPECT_EQ(op, ReduceOp::kSum);
    auto* values = static_cast<float*>(inout.data);
    for (std::int64_t i = 0; i < inout.count; ++i) values[i] *= 2.0f;
    calls.push_back({inout.data, inout.count});
  }
  void reduce_scatter(TypedSpan, TypedSpan, ReduceOp, Stream&) override { FAIL(); }
  void all_gather(TypedSpan, TypedSpan, Stream&) override { FAIL(); }
  void broadcast(TypedSpan, int, Stream&) override { FAIL(); }
  void check_async_error() override {}

  std::vector<Call> calls;
};

struct Bench {
  Bench(std::int64_t elements, std::int64_t bucket_bytes, bool overlap)
      : arena(*machine.device),
        grads(arena.allocate("g", {elements}, DType::kF32, MemoryGroup::kGradients)),
        buckets(grads, bucket_bytes, overlap, communicator, *machine.device) {
    for (std::int64_t i = 0; i < elements; ++i) grads.as<float>()[i] = static_cast<float>(i);
  }
  void expect_doubled() const {
    for (std::int64_t i = 0; i < grads.count(); ++i) {
      ASSERT_EQ(grads.as<float>()[i], 2.0f * static_cast<float>(i)) << i;
    }
  }

  test::Machine machine = test::open_cpu();
  Arena arena;
  Tensor grads;
  Doubling communicator;
  GradBuckets buckets;
};

TEST(GradBuckets, ReducesWhileRangesArrive) {
  Bench bench(1000, 300 * 4, /*overlap=*/true);
  Stream& stream = *bench.machine.stream;
  bench.buckets.add(0, 200, stream);
  EXPECT_EQ(bench.communicator.calls.size(), 0u);  // below the bucket's size
  bench.buckets.add(200, 700, stream);
  // 700 pending elements in pieces of at most 300.
  ASSERT_EQ(bench.communicator.calls.size(), 3u);
  EXPECT_EQ(bench.communicator.calls[2].count, 100);
  bench.buckets.add(700, 1000, stream);
  EXPECT_EQ(bench.communicator.calls.size(), 4u);
  bench.buckets.finalize(stream);
  EXPECT_EQ(bench.communicator.calls.size(), 4u);
  bench.expect_doubled();
  EXPECT_GE(bench.buckets.exposed_ms(), 0.0);
}

TEST(GradBuckets, WithoutOverlapEverythingWaitsForFinalize) {
  Bench bench(1000, 400 * 4, /*overlap=*/false);
  Stream& stream = *bench.machine.stream;
  bench.buckets.add(0, 1000, stream);
  EXPECT_EQ(bench.communicator.calls.size(), 0u);
  bench.buckets.finalize(stream);
  EXPECT_EQ(bench.communicator.calls.size(), 3u);
  bench.expect_doubled();
}

TEST(GradBuckets, RefusesGapsAndMissingRanges) {
  Bench bench(100, 40, /*overlap=*/true);
  Stream& stream = *bench.machine.stream;
  bench.buckets.add(0, 50, stream);
  EXPECT_THROW(bench.buckets.add(60, 100, stream), CheckError);
  EXPECT_THROW(bench.buckets.finalize(stream), CheckError);
}

TEST(GradBuckets, ServesStepAfterStep) {
  Bench bench(10, 1 << 20, /*overlap=*/true);
  Stream& stream = *bench.machine.stream;
  for (int step = 0; step < 5; ++step) {
    bench.buckets.add(0, 10, stream);
    bench.buckets.finalize(stream);
    bench.buckets.exposed_ms();
  }
  EXPECT_EQ(bench.communicator.calls.size(), 5u);
  EXPECT_THROW(bench.buckets.exposed_ms(), CheckError);  // no step is left to ask for
}

}  // namespace
}  // namespace lockstep
