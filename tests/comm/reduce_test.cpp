// Reduction in rank order: the documented order, fp32 accumulation of 16-bit floats, wrap-around of
// integers, and NaN in any place.
#include "comm/reduce.h"

#include "comm/reference.h"

namespace lockstep {
namespace {

template <typename T>
std::vector<T> reduce(const std::vector<std::vector<T>>& inputs, ReduceOp op) {
  std::vector<const void*> pointers;
  for (const auto& input : inputs) pointers.push_back(input.data());
  std::vector<T> out(inputs[0].size());
  reduce_in_rank_order(out.data(), pointers, static_cast<std::int64_t>(out.size()), dtype_of<T>,
                       op);
  return out;
}

TEST(ReduceInRankOrder, TheOrderOfTheSumIsTheOrderOfTheRanks) {
  // (1e8 + 1) loses the 1 in fp32; only (1e8 - 1e8) + 1 keeps it.
  EXPECT_EQ(reduce<float>({{1e8f}, {-1e8f}, {1.0f}}, ReduceOp::kSum)[0], 1.0f);
  EXPECT_EQ(reduce<float>({{1e8f}, {1.0f}, {-1e8f}}, ReduceOp::kSum)[0], 0.0f);
  EXPECT_EQ(reduce<float>({{1.0f}, {-1e8f}, {1e8f}}, ReduceOp::kSum)[0], 0.0f);
}

TEST(ReduceInRankOrder, SixteenBitFloatsAreRoundedOnce) {
  // 256 + 1 + 1 = 258 is a bf16 number; rounding after each addition would stay at 256.
  const auto b = [](float x) { return std::vector<bf16>{to_bf16(x)}; };
  EXPECT_EQ(to_float(reduce<bf16>({b(256), b(1), b(1)}, ReduceOp::kSum)[0]), 258.0f);
  const auto h = [](float x) { return std::vector<f16>{to_f16(x)}; };
  EXPECT_EQ(to_float(reduce<f16>({h(2048), h(1), h(1)}, ReduceOp::kSum)[0]), 2050.0f);
}

TEST(ReduceInRankOrder, IntegerSumsWrap) {
  constexpr auto kMax = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(reduce<std::int64_t>({{kMax}, {1}, {5}}, ReduceOp::kSum)[0],
            std::numeric_limits<std::int64_t>::min() + 5);
  EXPECT_EQ(reduce<std::uint8_t>({{200}, {100}}, ReduceOp::kSum)[0], 44);
}

TEST(ReduceInRankOrder, NanInAnyPlaceWins) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (ReduceOp op : {ReduceOp::kSum, ReduceOp::kMax, ReduceOp::kMin}) {
    for (std::size_t place = 0; place < 3; ++place) {
      std::vector<std::vector<float>> inputs = {{1.0f}, {2.0f}, {3.0f}};
      inputs[place][0] = nan;
      EXPECT_TRUE(std::isnan(reduce<float>(inputs, op)[0])) << "place " << place;
    }
  }
}

TEST(ReduceInRankOrder, EveryTileBoundary) {
  for (std::int64_t count : {1, 1023, 1024, 1025, 4097}) {
    std::vector<std::vector<float>> inputs(3);
    for (int r = 0; r < 3; ++r) {
      for (std::int64_t i = 0; i < count; ++i) {
        inputs[static_cast<std::size_t>(r)].push_back(value_of<float>(r, i));
      }
    }
    const auto out = reduce<float>(inputs, ReduceOp::kSum);
    for (std::int64_t i = 0; i < count; ++i) {
      ASSERT_TRUE(same_bits(out[static_cast<std::size_t>(i)], reduced<float>(3, i, ReduceOp::kSum)))
          << i << " of " << count;
    }
  }
}

TEST(ReduceInRankOrder, OutputMayBeAnInput) {
  std::vector<float> a = {1, 2, 3};
  std::vector<float> b = {10, 20, 30};
  const std::vector<const void*> inputs = {a.data(), b.data()};
  reduce_in_rank_order(b.data(), inputs, 3, DType::kF32, ReduceOp::kSum);
  EXPECT_EQ(b, (std::vector<float>{11, 22, 33}));
  EXPECT_EQ(a, (std::vector<float>{1, 2, 3}));
}

}  // namespace
}  // namespace lockstep
