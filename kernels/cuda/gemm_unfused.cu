// The gemm op where cuBLASLt has no kernel for an epilogue, a dtype mix or an alignment: the
// product in fp32 into spill memory, a chunk of rows at a time, then the epilogue as a kernel of
// its own. If even the plain product is refused, a tiled kernel computes it. Slow, complete,
// deterministic.
#include "kernels/cuda/check.cuh"
#include "kernels/cuda/context.cuh"
#include "kernels/cuda/gemm_parts.cuh"
#include "kernels/cuda/vec.cuh"

#include <algorithm>

namespace lockstep::cuda {
namespace {

constexpr int kTile = 16;
constexpr int kThreads = 256;

// op(x)[i, j] = data[i * row + j * col].
template <typename T>
struct Strided {
  const T* data;
  std::int64_t row, col;
};

template <typename T>
Strided<T> strided(const Tensor& tensor, bool transpose) {
  if (transpose) return {data_of<const T>(tensor), 1, tensor.row_stride};
  return {data_of<const T>(tensor), tensor.row_stride, 1};
}

// Formula: out[i, j] = scale * sum_k a[i, k] b[k, j], k ascending. Block: 16 x 16 threads, one
// output each, operands through shared tiles. Grid: columns / 16, rows / 16 (walked by stride).
template <typename T>
__global__ void product_kernel(float* out, Strided<T> a, Strided<T> b, std::int64_t rows,
                               std::int64_t cols, std::int64_t depth, float scale) {
  __shared__ float tile_a[kTile][kTile + 1];
  __shared__ float tile_b[kTile][kTile + 1];
  const int x = threadIdx.x;
  const int y = threadIdx.y;
  const std::int64_t j = blockIdx.x * std::int64_t{kTile} + x;
  for (std::int64_t i0 = blockIdx.y * std::int64_t{kTile}; i0 < rows; i0 += gridDim.y * kTile) {
    const std::int64_t i = i0 + y;
    float sum = 0.0f;
    for (std::int64_t k0 = 0; k0 < depth; k0 += kTile) {
      const bool in_a = i < rows && k0 + x < depth;
      const bool in_b = j < cols && k0 + y < depth;
      tile_a[y][x] = in_a ? widen(a.data[i * a.row + (k0 + x) * a.col]) : 0.0f;
      tile_b[y][x] = in_b ? widen(b.data[(k0 + y) * b.row + j * b.col]) : 0.0f;
      __syncthreads();
#pragma unroll
      for (int k = 0; k < kTile; ++k) sum += tile_a[y][k] * tile_b[k][x];
      __syncthreads();
    }
    if (i < rows && j < cols) out[i * cols + j] = scale * sum;
  }
}

// GELU, tanh form: x (1 + tanh u) / 2 with u = sqrt(2 / pi) (x + 0.044715 x^3).
constexpr float kGeluScale = 0.7978845608028654f;
constexpr float kGeluCubic = 0.044715f;

__device__ float gelu(float x) {
  const float u = kGeluScale * (x + kGeluCubic * x * x * x);
  return 0.5f * x * (1.0f + tanhf(u));
}

__device__ float gelu_grad(float x) {
  const float t = tanhf(kGeluScale * (x + kGeluCubic * x * x * x));
  const float du = kGeluScale * (1.0f + 3.0f * kGeluCubic * x * x);
  return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * du;
}

// A (rows, cols) matrix with rows `stride` apart, or null.
template <typename T>
struct Matrix {
  T* data;
  std::int64_t stride;

  __device__ T& at(std::int64_t row, std::int64_t col) const { return data[row * stride + col]; }
};

template <typename T, typename Out>
struct Epilogue {
  Matrix<Out> out;
  Matrix<const Out> residual;
  Matrix<Out> preactivation_out;
  Matrix<const Out> preactivation;
  const T* bias;
  bool activate;
  bool accumulate;
};

// Formula: the epilogue of GemmArgs on an fp32 product (rows, cols). Block: 256 consecutive
// elements. Bytes: 4 per element read, and each matrix of the epilogue once.
template <typename T, typename Out>
__global__ void finish_kernel(Epilogue<T, Out> e, const float* product, std::int64_t rows,
                              std::int64_t cols) {
  const std::int64_t index = blockIdx.x * std::int64_t{kThreads} + threadIdx.x;
  if (index >= rows * cols) return;
  const std::int64_t r = index / cols;
  const std::int64_t c = index % cols;
  float value = product[index];
  if (e.preactivation.data != nullptr) value *= gelu_grad(widen(e.preactivation.at(r, c)));
  if (e.bias != nullptr) value += widen(e.bias[c]);
  if (e.preactivation_out.data != nullptr) e.preactivation_out.at(r, c) = narrow<Out>(value);
  if (e.activate) value = gelu(value);
  if (e.residual.data != nullptr) value += widen(e.residual.at(r, c));
  if (e.accumulate) value += widen(e.out.at(r, c));
  e.out.at(r, c) = narrow<Out>(value);
}

// Formula: out *= GELU'(preactivation), both (rows, 4 quads). Block: 256 consecutive quads of a
// row. Grid: quads / 256, rows (walked by stride). Bytes: 12 per element.
__global__ void gelu_grad_kernel(Matrix<float> out, Matrix<const float> preactivation,
                                 std::int64_t rows, std::int64_t quads) {
  const std::int64_t column = 4 * (blockIdx.x * std::int64_t{kThreads} + threadIdx.x);
  if (column >= 4 * quads) return;
  for (std::int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    float values[4], slopes[4];
    Pack<float, 4>::load(&out.at(row, column)).unpack(values);
    Pack<float, 4>::load(&preactivation.at(row, column)).unpack(slopes);
#pragma unroll
    for (int i = 0; i < 4; ++i) values[i] *= gelu_grad(slopes[i]);
    Pack<float, 4>::from(values).store(&out.at(row, column));
  }
}

template <typename T>
void product(float* out, const GemmArgs& args, std::int64_t rows, Stream& stream) {
  const std::int64_t cols = args.out.cols();
  const std::int64_t depth = args.transpose_a ? args.a.rows() : args.a.cols();
  const dim3 grid(static_cast<unsigned>(ceil_div(cols, kTile)),
                  static_cast<unsigned>(std::min<std::int64_t>(ceil_div(rows, kTile), 65535)));
  product_kernel<T><<<grid, dim3(kTile, kTile), 0, native(stream)>>>(
      out, strided<T>(args.a, args.transpose_a), strided<T>(args.b.data, args.transpose_b), rows,
      cols, depth, args.scale);
  check_launch("gemm product");
}

template <typename T>
Matrix<T> matrix(const Tensor& tensor) {
  return {data_of<T>(tensor), tensor.row_stride};
}

template <typename T, typename Out>
void finish(const GemmArgs& args, const float* product, Stream& stream) {
  const bool derivative = args.activation_grad != Activation::kNone;
  const Epilogue<T, Out> epilogue{
      .out = matrix<Out>(args.out),
      .residual = matrix<const Out>(args.residual),
      .preactivation_out = matrix<Out>(args.preactivation_out),
      .preactivation = matrix<const Out>(derivative ? args.preactivation : Tensor{}),
      .bias = data_of<const T>(args.bias),
      .activate = args.activation == Activation::kGelu,
      .accumulate = args.accumulate};
  const auto blocks = static_cast<unsigned>(ceil_div(args.out.count(), kThreads));
  finish_kernel<<<blocks, kThreads, 0, native(stream)>>>(epilogue, product, args.out.rows(),
                                                         args.out.cols());
  check_launch("gemm epilogue");
}

// The same call for rows [begin, begin + count) of the output.
GemmArgs row_chunk(const GemmArgs& args, std::int64_t begin, std::int64_t count) {
  GemmArgs chunk = args;
  chunk.a = args.transpose_a ? args.a.columns(begin, count) : args.a.row_range(begin, count);
  for (Tensor* tensor :
       {&chunk.out, &chunk.residual, &chunk.preactivation_out, &chunk.preactivation}) {
    if (*tensor) *tensor = tensor->row_range(begin, count);
  }
  return chunk;
}

void gemm_chunk(const GemmArgs& args, float* spill, Stream& stream) {
  const Tensor product_out(spill, args.out.shape, DType::kF32, args.out.device);
  Context& context = context_of(stream);
  const Matmul call = as_matmul(product_out, args, context.tf32);
  const bool done = call.key.k > 0 && context.gemm.run(call, native(stream));
  with_type(args.a.dtype, [&](auto type) {
    using T = decltype(type);
    if (!done) product<T>(spill, args, args.out.rows(), stream);
    if (args.out.dtype == DType::kF32) {
      finish<T, float>(args, spill, stream);
    } else {
      finish<T, T>(args, spill, stream);
    }
  });
}

}  // namespace

bool gemm_gelu_grad(const GemmArgs& args, Stream& stream) {
  const bool alone = args.activation_grad == Activation::kGelu && !args.bias && !args.residual &&
                     !args.accumulate && args.out.dtype == DType::kF32 &&
                     args.out.data != args.preactivation.data;
  if (!alone || !fits_vectors(args.out) || !fits_vectors(args.preactivation)) return false;
  Context& context = context_of(stream);
  const Matmul call = as_matmul(args.out, args, context.tf32);
  if (call.key.k == 0 || !context.gemm.run(call, native(stream))) return false;
  const std::int64_t quads = args.out.cols() / 4;
  const dim3 grid(static_cast<unsigned>(ceil_div(quads, kThreads)),
                  static_cast<unsigned>(std::min<std::int64_t>(args.out.rows(), 65535)));
  gelu_grad_kernel<<<grid, kThreads, 0, native(stream)>>>(
      matrix<float>(args.out), matrix<const float>(args.preactivation), args.out.rows(), quads);
  check_launch("gelu_grad");
  return true;
}

void gemm_unfused(const GemmArgs& args, Stream& stream) {
  float* spill = context_of(stream).gemm.spill();
  const std::int64_t floats = GemmPlanner::kSpillBytes / sizeof(float);
  const std::int64_t rows = args.out.rows();
  CHECK(args.out.cols() <= floats, "gemm output rows of {} columns", args.out.cols());
  const std::int64_t step = std::min(rows, floats / args.out.cols());
  for (std::int64_t begin = 0; begin < rows; begin += step) {
    gemm_chunk(row_chunk(args, begin, std::min(step, rows - begin)), spill, stream);
  }
}

}  // namespace lockstep::cuda
