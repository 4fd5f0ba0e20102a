// LayerNorm (arXiv 1607.06450) and RMSNorm (arXiv 1910.07467), row by row in fp32; the variance is
// taken about the mean in a second pass over the row, which is in cache.
//   xhat = (x - mean) rstd     dx = rstd (g - mean(g) - xhat mean(g xhat)), g = dy weight
// (RMSNorm: mean = 0 and no mean(g) term.) dweight and dbias: rows are cut into at most
// kMaxRowBlocks blocks by N alone; each block sums its rows, then blocks are added in order.
#include "kernels/cpu/context.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/rows.h"

#include <algorithm>
#include <cmath>

namespace lockstep::cpu {
namespace {

constexpr std::int64_t kMaxRowBlocks = 64;
constexpr std::int64_t kMinBlockRows = 16;

std::int64_t rows_per_block(std::int64_t N) {
  return std::max(kMinBlockRows, (N + kMaxRowBlocks - 1) / kMaxRowBlocks);
}

float sum_of(const float* x, std::int64_t count) {
  float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < count; ++i) sum += x[i];
  return sum;
}

float squares_about(const float* x, std::int64_t count, float center) {
  float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < count; ++i) sum += (x[i] - center) * (x[i] - center);
  return sum;
}

// Weight and bias as floats, once per call.
const float* vector_of(const Tensor& tensor, float* buffer) {
  return tensor ? row_of(tensor, 0, 0, tensor.count(), buffer) : nullptr;
}

void normalize_row(const NormForward& args, std::int64_t row, const float* weight,
                   const float* bias, float* buffer) {
  const std::int64_t C = args.x.cols();
  const float* x = row_of(args.x, row, 0, C, buffer);
  const bool centered = static_cast<bool>(args.mean);
  const float mean = centered ? sum_of(x, C) / static_cast<float>(C) : 0.0f;
  const float variance = squares_about(x, C, mean) / static_cast<float>(C);
  const float rstd = 1.0f / std::sqrt(variance + args.eps);
  float* out = output_row(args.out, row, buffer + C);
  for (std::int64_t i = 0; i < C; ++i) out[i] = (x[i] - mean) * rstd * weight[i];
  if (bias != nullptr) {
    for (std::int64_t i = 0; i < C; ++i) out[i] += bias[i];
  }
  store_output(args.out, row, out);
  static_cast<float*>(args.rstd.data)[row] = rstd;
  if (args.mean) static_cast<float*>(args.mean.data)[row] = mean;
}

// What backward reads of one row, as floats.
struct BackwardRow {
  const float* dy;
  const float* x;
  float mean;
  float rstd;
};

BackwardRow load_backward(const NormBackward& args, std::int64_t row, float* buffer) {
  const std::int64_t C = args.x.cols();
  BackwardRow in{};
  in.dy = row_of(args.dy, row, 0, C, buffer);
  in.x = row_of(args.x, row, 0, C, buffer + C);
  in.mean = args.mean ? static_cast<const float*>(args.mean.data)[row] : 0;
  in.rstd = static_cast<const float*>(args.rstd.data)[row];
  return in;
}

void input_gradient(const NormBackward& args, std::int64_t row, const BackwardRow& in,
                    const float* weight, float* buffer) {
  const std::int64_t C = args.x.cols();
  float sum = 0.0f;
  float dot = 0.0f;
#pragma omp simd reduction(+ : sum, dot)
  for (std::int64_t i = 0; i < C; ++i) {
    const float g = in.dy[i] * weight[i];
    sum += g;
    dot += g * ((in.x[i] - in.mean) * in.rstd);
  }
  const float scale = 1.0f / static_cast<float>(C);
  const float mean_g = args.mean ? sum * scale : 0.0f;
  const float mean_dot = dot * scale;
  const float* residual =
      args.residual_grad ? row_of(args.residual_grad, row, 0, C, buffer) : nullptr;
  float* dx = output_row(args.dx, row, buffer + C);
  if (residual == nullptr) {
    residual = buffer;
    std::fill_n(buffer, C, 0.0f);
  }
  for (std::int64_t i = 0; i < C; ++i) {
    const float xhat = (in.x[i] - in.mean) * in.rstd;
    dx[i] = residual[i] + (in.dy[i] * weight[i] - mean_g - xhat * mean_dot) * in.rstd;
  }
  store_output(args.dx, row, dx);
}

void backward_block(const NormBackward& args, std::int64_t begin, std::int64_t end,
                    const float* weight, float* sums, float* buffer) {
  const std::int64_t C = args.x.cols();
  float* dweight = sums;
  float* dbias = sums + C;
  std::fill_n(sums, 2 * C, 0.0f);
  for (std::int64_t row = begin; row < end; ++row) {
    const BackwardRow in = load_backward(args, row, buffer);
    for (std::int64_t i = 0; i < C; ++i) {
      dweight[i] += in.dy[i] * ((in.x[i] - in.mean) * in.rstd);
      dbias[i] += in.dy[i];
    }
    input_gradient(args, row, in, weight, buffer + 2 * C);
  }
}

// target[i] += the blocks' sums, in block order. The first block's slot collects the total, so that
// target is rounded into once.
void add_blocks(const Tensor& target, float* sums, std::int64_t blocks, std::int64_t C) {
  for (std::int64_t block = 1; block < blocks; ++block) {
    for (std::int64_t i = 0; i < C; ++i) sums[i] += sums[block * 2 * C + i];
  }
  auto* out = static_cast<float*>(target.data);
  for (std::int64_t i = 0; i < C; ++i) out[i] += sums[i];
}

}  // namespace

std::size_t norm_scratch_bytes(std::int64_t rows, std::int64_t channels) {
  if (rows == 0 || channels == 0) return 0;
  const std::int64_t blocks = std::min(kMaxRowBlocks, (rows + kMinBlockRows - 1) / kMinBlockRows);
  return static_cast<std::size_t>(blocks * 2 * channels) * sizeof(float);
}

void norm_forward(const NormForward& args, Stream& stream) {
  const std::int64_t N = args.x.rows();
  const std::int64_t C = args.x.cols();
  CpuContext& context = context_of(stream);
  context.reserve_per_thread(4 * C);
#pragma omp parallel
  {
    float* buffer = context.thread_buffer();
    const float* weight = vector_of(args.weight, buffer + 2 * C);
    const float* bias = vector_of(args.bias, buffer + 3 * C);
#pragma omp for schedule(static)
    for (std::int64_t row = 0; row < N; ++row) normalize_row(args, row, weight, bias, buffer);
  }
}

void norm_backward(const NormBackward& args, Stream& stream) {
  const std::int64_t N = args.x.rows();
  const std::int64_t C = args.x.cols();
  const std::int64_t block_rows = rows_per_block(N);
  const std::int64_t blocks = (N + block_rows - 1) / block_rows;
  auto* sums = static_cast<float*>(args.scratch.data);
  CpuContext& context = context_of(stream);
  context.reserve_per_thread(5 * C);
#pragma omp parallel
  {
    float* buffer = context.thread_buffer();
    const float* weight = vector_of(args.weight, buffer + 4 * C);
#pragma omp for schedule(static)
    for (std::int64_t block = 0; block < blocks; ++block) {
      backward_block(args, block * block_rows, std::min((block + 1) * block_rows, N), weight,
                     sums + block * 2 * C, buffer);
    }
  }
  add_blocks(args.dweight, sums, blocks, C);
  if (args.dbias) add_blocks(args.dbias, sums + C, blocks, C);
}

}  // namespace lockstep::cpu
