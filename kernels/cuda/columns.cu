// The second stage of column sums: adds partial rows in index order onto the gradient.
#include "kernels/cuda/columns.cuh"

#include "kernels/cuda/check.cuh"
#include "kernels/cuda/context.cuh"
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/vec.cuh"

namespace lockstep::cuda {
namespace {

constexpr int kLanes = 32;   // columns of a block
constexpr int kSlices = 32;  // threads that share a column

// Formula: out[c] += sum_r partials[r, c]. Block: 32 columns x 32 slices; slice s adds rows
// s, s + 32, ... and the slices are then added in order. Grid: columns / 32, number of outputs.
// Bytes: 4 * partial_rows * columns read, from L2 as a rule.
__global__ void add_partial_rows_kernel(float* first, float* second, const float* partials,
                                        std::int64_t partial_rows, std::int64_t columns,
                                        std::int64_t stride) {
  __shared__ float slices[kSlices][kLanes + 1];
  const std::int64_t column = blockIdx.x * std::int64_t{kLanes} + threadIdx.x;
  float sum = 0.0f;
  if (column < columns) {
    const float* from = partials + blockIdx.y * columns + column;
#pragma unroll 4
    for (std::int64_t r = threadIdx.y; r < partial_rows; r += kSlices) sum += from[r * stride];
  }
  slices[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= columns) return;
  float total = 0.0f;
#pragma unroll
  for (int s = 0; s < kSlices; ++s) total += slices[s][threadIdx.x];
  float* out = blockIdx.y == 0 ? first : second;
  out[column] += total;
}

}  // namespace

void add_partial_rows(float* first, float* second, const float* partials, std::int64_t partial_rows,
                      std::int64_t columns, std::int64_t stride, Stream& stream) {
  const dim3 grid(static_cast<unsigned>(ceil_div(columns, kLanes)), second != nullptr ? 2 : 1);
  add_partial_rows_kernel<<<grid, dim3(kLanes, kSlices), 0, native(stream)>>>(
      first, second, partials, partial_rows, columns, stride);
  check_launch("add_partial_rows");
}

float* scratch_floats(const Tensor& scratch, std::int64_t floats) {
  CHECK(scratch.bytes() >= static_cast<std::size_t>(floats) * sizeof(float),
        "scratch of {} bytes, {} needed", scratch.bytes(),
        static_cast<std::size_t>(floats) * sizeof(float));
  return static_cast<float*>(scratch.data);
}

std::size_t column_scratch_bytes(std::int64_t columns) {
  return static_cast<std::size_t>(2 * kMaxPartialRows * columns) * sizeof(float);
}

}  // namespace lockstep::cuda
