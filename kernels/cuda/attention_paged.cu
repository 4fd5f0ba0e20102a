// Attention over pages of keys and values, and their filling, for sequences of different lengths.
// A block of 8 warps owns one head of one new row: warp w takes keys 4 w .. 4 w + 3 of every 32,
// its lanes the elements of the head, with an online softmax of its own; the warps' parts are then
// added in order. What a row gets depends on its own sequence alone.
//
// Legend: N new rows, S sequences, D head size. Formula: out = softmax(q k^T / sqrt(D)) v over the
// keys up to the row's position. Bytes: k and v of the row's sequence once per row and head.
#include "kernels/cuda/check.cuh"
#include "kernels/cuda/context.cuh"
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"

#include <algorithm>
#include <cmath>

namespace lockstep::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;
constexpr int kKeys = 4;  // in flight per warp
constexpr int kMaxHeadDim = 256;
constexpr float kLog2e = 1.4426950408889634f;

// A PagedBatch as kernels read it.
struct Batch {
  const std::int32_t* page_table;    // (S, pages)
  const std::int32_t* query_starts;  // (S + 1)
  const std::int32_t* kv_lens;       // (S)
  int sequences, pages, page_size;

  // The sequence that a new row belongs to, or -1. The last one that begins at or before the row:
  // empty ones begin where the next does.
  __device__ int sequence_of(int row) const {
    if (row >= query_starts[sequences]) return -1;
    int low = 0;
    int high = sequences;  // query_starts[low] <= row < query_starts[high]
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      if (query_starts[middle] <= row) {
        low = middle;
      } else {
        high = middle;
      }
    }
    return low;
  }
  __device__ int position_of(int row, int sequence) const {
    return kv_lens[sequence] - query_starts[sequence + 1] + row;
  }
  __device__ std::int64_t row_of(int sequence, int token) const {
    const std::int64_t at = static_cast<std::int64_t>(sequence) * pages + token / page_size;
    return static_cast<std::int64_t>(page_table[at]) * page_size + token % page_size;
  }
};

Batch batch_of(const PagedBatch& batch) {
  return {data_of<const std::int32_t>(batch.page_table),
          data_of<const std::int32_t>(batch.query_starts),
          data_of<const std::int32_t>(batch.kv_lens),
          static_cast<int>(batch.kv_lens.count()),
          static_cast<int>(batch.page_table.cols()),
          static_cast<int>(batch.page_size)};
}

template <typename T>
struct PagedView {
  T* out;          // (N, H*D)
  const T* q;      // (N, H*D)
  const T *k, *v;  // (rows of pages, G*D)
  std::int64_t out_stride, q_stride, k_stride, v_stride;
  Batch batch;
  int heads_per_kv, head_dim;
  float scale_log2;  // log2(e) / sqrt(D): scores are kept in powers of two
};

// One warp's keys: weights are 2^(score - largest); lane l holds elements l, l + 32, ...
template <typename T, int kParts>
struct WarpSoftmax {
  float largest = -INFINITY;
  float sum = 0.0f;
  float out[kParts] = {};

  __device__ void add(const PagedView<T>& view, const float (&q)[kParts], int sequence, int column,
                      int first, int keys) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    std::int64_t rows[kKeys];
    float scores[kKeys];
    float now = largest;
#pragma unroll
    for (int j = 0; j < kKeys; ++j) {
      rows[j] = view.batch.row_of(sequence, min(first + j, keys - 1));
      const T* key = view.k + rows[j] * view.k_stride + column;
      float dot = 0.0f;
#pragma unroll
      for (int i = 0; i < kParts; ++i) {
        const int d = lane + 32 * i;
        if (d < view.head_dim) dot = fmaf(q[i], widen(key[d]), dot);
      }
      scores[j] = first + j < keys ? warp_sum(dot) * view.scale_log2 : -INFINITY;
      now = fmaxf(now, scores[j]);
    }
    rescale(exp2f(largest - now));
    largest = now;
#pragma unroll
    for (int j = 0; j < kKeys; ++j) {
      const float weight = exp2f(scores[j] - now);
      const T* value = view.v + rows[j] * view.v_stride + column;
      sum += weight;
#pragma unroll
      for (int i = 0; i < kParts; ++i) {
        const int d = lane + 32 * i;
        if (d < view.head_dim) out[i] = fmaf(weight, widen(value[d]), out[i]);
      }
    }
  }

  __device__ void rescale(float factor) {
    sum *= factor;
#pragma unroll
    for (int i = 0; i < kParts; ++i) out[i] *= factor;
  }
};

// grid: (N, H).
template <typename T, int kParts>
__global__ __launch_bounds__(kThreads) void paged_kernel(PagedView<T> view) {
  __shared__ float outs[kWarps][kParts * 32];
  __shared__ float largests[kWarps];
  __shared__ float sums[kWarps];
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int row = static_cast<int>(blockIdx.x);
  const int head_column = static_cast<int>(blockIdx.y) * view.head_dim;
  T* out = view.out + row * view.out_stride + head_column;
  const int sequence = view.batch.sequence_of(row);
  if (sequence < 0) {
    for (int d = static_cast<int>(threadIdx.x); d < view.head_dim; d += kThreads) {
      out[d] = narrow<T>(0.0f);
    }
    return;
  }
  float q[kParts];
#pragma unroll
  for (int i = 0; i < kParts; ++i) {
    const int d = lane + 32 * i;
    q[i] = d < view.head_dim ? widen(view.q[row * view.q_stride + head_column + d]) : 0.0f;
  }
  const int keys = view.batch.position_of(row, sequence) + 1;
  const int column = static_cast<int>(blockIdx.y) / view.heads_per_kv * view.head_dim;
  WarpSoftmax<T, kParts> part;
  for (int first = warp * kKeys; first < keys; first += kWarps * kKeys) {
    part.add(view, q, sequence, column, first, keys);
  }
#pragma unroll
  for (int i = 0; i < kParts; ++i) outs[warp][lane + 32 * i] = part.out[i];
  if (lane == 0) largests[warp] = part.largest;
  if (lane == 0) sums[warp] = part.sum;
  __syncthreads();
  float largest = largests[0];
#pragma unroll
  for (int w = 1; w < kWarps; ++w) largest = fmaxf(largest, largests[w]);
  for (int d = static_cast<int>(threadIdx.x); d < view.head_dim; d += kThreads) {
    float value = 0.0f;
    float sum = 0.0f;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      const float share = exp2f(largests[w] - largest);
      sum = fmaf(share, sums[w], sum);
      value = fmaf(share, outs[w][d], value);
    }
    out[d] = narrow<T>(value / sum);
  }
}

// Block: up to 256 threads over the elements of one new row. Grid: N.
template <typename T>
struct AppendView {
  T *k_pages, *v_pages;  // (rows of pages, C)
  const T *k, *v;        // (N, C)
  std::int64_t k_pages_stride, v_pages_stride, k_stride, v_stride;
  Batch batch;
  int cols;
};

template <typename T>
__global__ __launch_bounds__(kThreads) void append_kernel(AppendView<T> view) {
  const int row = static_cast<int>(blockIdx.x);
  const int sequence = view.batch.sequence_of(row);
  if (sequence < 0) return;
  const std::int64_t to = view.batch.row_of(sequence, view.batch.position_of(row, sequence));
  for (int c = static_cast<int>(threadIdx.x); c < view.cols; c += static_cast<int>(blockDim.x)) {
    view.k_pages[to * view.k_pages_stride + c] = view.k[row * view.k_stride + c];
    view.v_pages[to * view.v_pages_stride + c] = view.v[row * view.v_stride + c];
  }
}

template <typename T, int kParts>
void launch(const PagedAttention& args, Stream& stream) {
  const PagedView<T> view{.out = data_of<T>(args.out),
                          .q = data_of<const T>(args.q),
                          .k = data_of<const T>(args.k_pages),
                          .v = data_of<const T>(args.v_pages),
                          .out_stride = args.out.row_stride,
                          .q_stride = args.q.row_stride,
                          .k_stride = args.k_pages.row_stride,
                          .v_stride = args.v_pages.row_stride,
                          .batch = batch_of(args.batch),
                          .heads_per_kv = static_cast<int>(args.heads / args.kv_heads),
                          .head_dim = static_cast<int>(args.head_dim),
                          .scale_log2 = kLog2e / std::sqrt(static_cast<float>(args.head_dim))};
  const dim3 grid(static_cast<unsigned>(args.q.rows()), static_cast<unsigned>(args.heads));
  paged_kernel<T, kParts><<<grid, kThreads, 0, native(stream)>>>(view);
  check_launch("paged_attention");
}

}  // namespace

void paged_attention(const PagedAttention& args, Stream& stream) {
  CHECK(args.heads <= 65535 && args.head_dim <= kMaxHeadDim, "{} heads of {}", args.heads,
        args.head_dim);
  with_type(args.q.dtype, [&](auto type) {
    using T = decltype(type);
    if (args.head_dim <= 64) {
      launch<T, 2>(args, stream);
    } else if (args.head_dim <= 128) {
      launch<T, 4>(args, stream);
    } else {
      launch<T, kMaxHeadDim / 32>(args, stream);
    }
  });
}

void paged_append(const PagedAppend& args, Stream& stream) {
  with_type(args.k.dtype, [&](auto type) {
    using T = decltype(type);
    const AppendView<T> view{.k_pages = data_of<T>(args.k_pages),
                             .v_pages = data_of<T>(args.v_pages),
                             .k = data_of<const T>(args.k),
                             .v = data_of<const T>(args.v),
                             .k_pages_stride = args.k_pages.row_stride,
                             .v_pages_stride = args.v_pages.row_stride,
                             .k_stride = args.k.row_stride,
                             .v_stride = args.v.row_stride,
                             .batch = batch_of(args.batch),
                             .cols = static_cast<int>(args.k.cols())};
    const auto threads = std::min<std::int64_t>(kThreads, ceil_div(args.k.cols(), 32) * 32);
    append_kernel<<<static_cast<unsigned>(args.k.rows()), static_cast<unsigned>(threads), 0,
                    native(stream)>>>(view);
  });
  check_launch("paged_append");
}

}  // namespace lockstep::cuda
