// Conversion between every pair of storage dtypes: exact, for ties, overflow, subnormals,
// infinities and NaN, at sizes around the pieces that kernels work in.
#include "ops/cast.h"

#include "support/perf.h"
#include "support/support.h"

#include <cmath>
#include <limits>

namespace lockstep {
namespace {

using namespace lockstep::test;

// Random values over many magnitudes, then the special ones.
std::vector<double> values_of(std::int64_t count, DType dtype) {
  std::vector<double> values = random_values(count, 1);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = std::ldexp(values[i], static_cast<int>(i % 60) - 35);
  }
  const double special[] = {0.0,
                            -0.0,
                            1.0 + 0x1p-8,
                            1.0 + 0x1p-11,
                            1.0 + 3 * 0x1p-11,
                            65504.0,
                            65519.9,
                            65520.0,
                            0x1p-24,
                            0x1p-25,
                            0x1.8p-25,
                            0x1p-14,
                            0x1.ffcp-15,
                            0x1p-130,
                            0x1p-149,
                            3.38e38,
                            3.4e38,
                            std::numeric_limits<double>::infinity(),
                            -std::numeric_limits<double>::infinity(),
                            std::nan("")};
  for (std::size_t i = 0; i < std::size(special) && i < values.size(); ++i) {
    values[i] = special[i];
  }
  return rounded(values, dtype);
}

std::vector<double> run(Machine& machine, const std::vector<double>& values, DType to, DType from) {
  Buffers buffers(machine);
  const auto count = static_cast<std::int64_t>(values.size());
  const Tensor dst = buffers.output({count}, to);
  ops::cast(dst, buffers.input({count}, from, values), *machine.stream);
  buffers.check();
  return buffers.read(dst);
}

// Equal values, signs of zero included; NaN for NaN, whatever its payload.
void expect_exact(Machine& machine) {
  for (const DType from : kStorageTypes) {
    for (const DType to : kStorageTypes) {
      for (const std::int64_t count : {1, 7, 8, 9, 4095, 4096, 4097, 20003}) {
        SCOPED_TRACE(fmt::format("{} {} to {}", count, name_of(from), name_of(to)));
        const std::vector<double> values = values_of(count, from);
        const std::vector<double> expected = rounded(values, to);
        const std::vector<double> out = run(machine, values, to, from);
        for (std::size_t i = 0; i < out.size(); ++i) {
          const bool same =
              out[i] == expected[i] && std::signbit(out[i]) == std::signbit(expected[i]);
          ASSERT_TRUE(same || (std::isnan(out[i]) && std::isnan(expected[i])))
              << values[i] << " became " << out[i] << ", not " << expected[i];
        }
      }
    }
  }
}

TEST(Cast, IsExact) {
  Machine cpu = open_cpu();
  expect_exact(cpu);
}

TEST(Cast, IsExactOnCuda) {
  LOCKSTEP_OPEN_CUDA(cuda);
  at_any_alignment(cuda, [&] { expect_exact(cuda); });
}

LOCKSTEP_PERF(Cast) {
  const Tensor masters = perf.values({std::int64_t{124} << 20}, DType::kF32);
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    const Tensor weights = perf.values(masters.shape, dtype);
    perf.measure(fmt::format("cast 124 Mi fp32 to {}", name_of(dtype)),
                 {.bytes = static_cast<double>(masters.bytes() + weights.bytes())},
                 [&] { ops::cast(weights, masters, perf.stream()); });
  }
}

}  // namespace
}  // namespace lockstep
