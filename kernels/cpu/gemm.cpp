// Matrix product with its epilogue, tile by tile: op(a) op(b) accumulates in fp32 in a thread's own
// buffer through single-threaded OpenBLAS, then the epilogue runs over the tile while it is in
// cache. The tile grid is a function of (M, N) alone, and every tile is one thread's work, so the
// result does not depend on the number of threads. 16-bit operands are converted block by block.
#include "kernels/cpu/context.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/vector_math.h"

#include <cblas.h>

#include <algorithm>

namespace lockstep::cpu {
namespace {

constexpr std::int64_t kMaxTileRows = 192;
constexpr std::int64_t kMaxTileCols = 512;
constexpr std::int64_t kBlockDepth = 1024;  // K elements converted at a time
constexpr std::int64_t kEnoughTiles = 8;
constexpr std::int64_t kSumRows = 64;  // rows of op(a) in one partial sum of bias_grad

std::int64_t pieces(std::int64_t total, std::int64_t size) { return (total + size - 1) / size; }

struct TileGrid {
  std::int64_t rows = 0;  // of a tile
  std::int64_t cols = 0;
  std::int64_t down = 0;  // tiles
  std::int64_t across = 0;
};

// OpenBLAS is fastest on wide tiles; small products get smaller tiles, for the sake of the cores.
TileGrid tile_grid(std::int64_t M, std::int64_t N) {
  TileGrid grid;
  for (const std::int64_t cols : {kMaxTileCols, kMaxTileCols / 2, kMaxTileCols / 4}) {
    for (const std::int64_t rows : {kMaxTileRows, std::int64_t{96}, std::int64_t{64}}) {
      grid = {rows, cols, pieces(M, rows), pieces(N, cols)};
      if (grid.down * grid.across >= kEnoughTiles) return grid;
    }
  }
  return grid;
}

struct Tile {
  std::int64_t row = 0;
  std::int64_t col = 0;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
};

Tile tile_at(const TileGrid& grid, std::int64_t index, std::int64_t M, std::int64_t N) {
  Tile tile;
  tile.row = index / grid.across * grid.rows;
  tile.col = index % grid.across * grid.cols;
  tile.rows = std::min(grid.rows, M - tile.row);
  tile.cols = std::min(grid.cols, N - tile.col);
  return tile;
}

// Where a thread's buffer is divided.
struct Workspace {
  float* sums;  // (tile rows, tile cols)
  float* row;   // (tile cols)
  float* bias;  // (tile cols)
  float* a;     // a block of a, as floats
  float* b;     // a block of b, as floats
};

std::int64_t workspace_floats(const TileGrid& grid, std::int64_t depth) {
  return grid.rows * grid.cols + 2 * grid.cols + (grid.rows + grid.cols) * depth;
}

Workspace divide(float* buffer, const TileGrid& grid, std::int64_t depth) {
  Workspace space{};
  space.sums = buffer;
  space.row = space.sums + grid.rows * grid.cols;
  space.bias = space.row + grid.cols;
  space.a = space.bias + grid.cols;
  space.b = space.a + grid.rows * depth;
  return space;
}

// space.sums = scale * op(a) op(b) for one tile.
void multiply(const GemmArgs& args, const Tile& tile, std::int64_t K, const Workspace& space) {
  for (std::int64_t k = 0; k < K; k += kBlockDepth) {
    const std::int64_t depth = std::min(kBlockDepth, K - k);
    const Matrix a = args.transpose_a ? matrix_of(args.a, k, depth, tile.row, tile.rows, space.a)
                                      : matrix_of(args.a, tile.row, tile.rows, k, depth, space.a);
    const Matrix b = args.transpose_b
                         ? matrix_of(args.b.data, tile.col, tile.cols, k, depth, space.b)
                         : matrix_of(args.b.data, k, depth, tile.col, tile.cols, space.b);
    cblas_sgemm(CblasRowMajor, args.transpose_a ? CblasTrans : CblasNoTrans,
                args.transpose_b ? CblasTrans : CblasNoTrans, static_cast<blasint>(tile.rows),
                static_cast<blasint>(tile.cols), static_cast<blasint>(depth), args.scale, a.data,
                static_cast<blasint>(a.stride), b.data, static_cast<blasint>(b.stride),
                k == 0 ? 0.0f : 1.0f, space.sums, static_cast<blasint>(tile.cols));
  }
}

void apply_activation_grad(const GemmArgs& args, std::int64_t row, const Tile& tile, float* values,
                           float* buffer) {
  const float* x = row_of(args.preactivation, row, tile.col, tile.cols, buffer);
  for (std::int64_t j = 0; j < tile.cols; ++j) values[j] *= gelu_derivative(x[j]);
}

// One row of the tile: values = the products' sums, in place, then out.
void finish_row(const GemmArgs& args, std::int64_t row, const Tile& tile, float* values,
                const Workspace& space) {
  if (args.bias) {
    for (std::int64_t j = 0; j < tile.cols; ++j) values[j] += space.bias[j];
  }
  if (args.preactivation_out) {
    store_row(element(args.preactivation_out, row, tile.col), values, args.out.dtype, tile.cols);
  }
  if (args.activation == Activation::kGelu) {
    for (std::int64_t j = 0; j < tile.cols; ++j) values[j] = gelu(values[j]);
  }
  if (args.activation_grad == Activation::kGelu) {
    apply_activation_grad(args, row, tile, values, space.row);
  }
  if (args.residual) {
    const float* residual = row_of(args.residual, row, tile.col, tile.cols, space.row);
    for (std::int64_t j = 0; j < tile.cols; ++j) values[j] += residual[j];
  }
  void* out = element(args.out, row, tile.col);
  if (args.accumulate) {
    add_to_row(out, values, args.out.dtype, tile.cols);
  } else {
    store_row(out, values, args.out.dtype, tile.cols);
  }
}

void run_tile(const GemmArgs& args, const Tile& tile, std::int64_t K, const Workspace& space) {
  if (K > 0) {
    multiply(args, tile, K, space);
  } else {
    std::fill_n(space.sums, tile.rows * tile.cols, 0.0f);
  }
  if (args.bias) {
    load_row(space.bias, element(args.bias, 0, tile.col), args.bias.dtype, tile.cols);
  }
  for (std::int64_t i = 0; i < tile.rows; ++i) {
    finish_row(args, tile.row + i, tile, space.sums + i * tile.cols, space);
  }
}

// sums[0, width) += columns [begin, begin + width) of a, which is stored (K, M): partial sums of
// kSumRows rows keep the error of a long sum near that of a short one.
void add_column_sums(const Tensor& a, std::int64_t begin, std::int64_t width, float* sums,
                     float* partial, float* buffer) {
  const std::int64_t K = a.rows();
  for (std::int64_t k0 = 0; k0 < K; k0 += kSumRows) {
    std::fill_n(partial, width, 0.0f);
    for (std::int64_t k = k0; k < std::min(k0 + kSumRows, K); ++k) {
      const float* row = row_of(a, k, begin, width, buffer);
      for (std::int64_t j = 0; j < width; ++j) partial[j] += row[j];
    }
    for (std::int64_t j = 0; j < width; ++j) sums[j] += partial[j];
  }
}

// The sum of one row of a, which is stored (M, K).
float row_sum(const Tensor& a, std::int64_t row, float* buffer) {
  double sum = 0.0;
  for (std::int64_t k = 0; k < a.cols(); k += kBlockDepth) {
    const std::int64_t depth = std::min(kBlockDepth, a.cols() - k);
    const float* values = row_of(a, row, k, depth, buffer);
    for (std::int64_t j = 0; j < depth; ++j) sum += static_cast<double>(values[j]);
  }
  return static_cast<float>(sum);
}

void add_bias_grad(const GemmArgs& args, std::int64_t M, CpuContext& context) {
  constexpr std::int64_t kWidth = 64;
  auto* bias_grad = static_cast<float*>(args.bias_grad.data);
  context.reserve_per_thread(std::max(kBlockDepth, 3 * kWidth));
#pragma omp parallel for schedule(static)
  for (std::int64_t begin = 0; begin < M; begin += kWidth) {
    float* buffer = context.thread_buffer();
    const std::int64_t width = std::min(kWidth, M - begin);
    if (args.transpose_a) {
      float* sums = buffer + 2 * kWidth;
      std::fill_n(sums, width, 0.0f);
      add_column_sums(args.a, begin, width, sums, buffer + kWidth, buffer);
      for (std::int64_t j = 0; j < width; ++j) bias_grad[begin + j] += sums[j];
    } else {
      for (std::int64_t j = 0; j < width; ++j) {
        bias_grad[begin + j] += row_sum(args.a, begin + j, buffer);
      }
    }
  }
}

}  // namespace

void gemm(const GemmArgs& args, Stream& stream) {
  const std::int64_t M = args.out.rows();
  const std::int64_t N = args.out.cols();
  const std::int64_t K = args.transpose_a ? args.a.rows() : args.a.cols();
  CpuContext& context = context_of(stream);
  const TileGrid grid = tile_grid(M, N);
  const std::int64_t depth =
      args.a.dtype == DType::kF32 ? 0 : std::min(kBlockDepth, std::max<std::int64_t>(K, 1));
  context.reserve_per_thread(workspace_floats(grid, depth));
#pragma omp parallel for schedule(dynamic)
  for (std::int64_t index = 0; index < grid.down * grid.across; ++index) {
    const Workspace space = divide(context.thread_buffer(), grid, depth);
    run_tile(args, tile_at(grid, index, M, N), K, space);
  }
  if (args.bias_grad) add_bias_grad(args, M, context);
}

}  // namespace lockstep::cpu
