// SwiGLU (Shazeer, arXiv 2002.05202): out = silu(gate) * up, with silu(x) = x sigmoid(x).
//
// Legend: N rows, F ffn width; a row of gate_up is gate (F), then up (F).
// Bytes: forward 3 sizeof(T) N F; backward 5 sizeof(T) N F (read dout, gate, up; write two halves).
#include "kernels/cuda/check.cuh"
#include "kernels/cuda/context.cuh"
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/vec.cuh"

#include <algorithm>

namespace lockstep::cuda {
namespace {

constexpr int kThreads = 256;

__device__ float sigmoid(float x) { return 1.0f / (1.0f + __expf(-x)); }

// Block: up to 256 threads over the packs of one row. Grid: N.
template <typename T, int W>
__global__ __launch_bounds__(kThreads) void swiglu_kernel(T* out, const T* gate_up,
                                                          std::int64_t width) {
  const T* gate_row = gate_up + blockIdx.x * 2 * width;
  const T* up_row = gate_row + width;
  for (std::int64_t c = threadIdx.x * W; c < width; c += blockDim.x * W) {
    float gate[W], up[W];
    Pack<T, W>::load_once(gate_row + c).unpack(gate);
    Pack<T, W>::load_once(up_row + c).unpack(up);
#pragma unroll
    for (int i = 0; i < W; ++i) up[i] *= gate[i] * sigmoid(gate[i]);
    Pack<T, W>::from(up).store(out + blockIdx.x * width + c);
  }
}

// Formula, with s = sigmoid(gate): dup = dout gate s; dgate = dout up s (1 + gate (1 - s)).
// Block: up to 256 threads over the packs of one row. Grid: N. Each thread reads before it writes,
// so dgate_up may be gate_up.
template <typename T, int W>
__global__ __launch_bounds__(kThreads) void swiglu_grad_kernel(T* dgate_up, const T* dout,
                                                               const T* gate_up,
                                                               std::int64_t width) {
  const std::int64_t base = blockIdx.x * 2 * width;
  for (std::int64_t c = threadIdx.x * W; c < width; c += blockDim.x * W) {
    float gate[W], up[W], d[W], dgate[W];
    Pack<T, W>::load(gate_up + base + c).unpack(gate);
    Pack<T, W>::load(gate_up + base + width + c).unpack(up);
    Pack<T, W>::load_once(dout + blockIdx.x * width + c).unpack(d);
#pragma unroll
    for (int i = 0; i < W; ++i) {
      const float s = sigmoid(gate[i]);
      dgate[i] = d[i] * up[i] * s * (1.0f + gate[i] * (1.0f - s));
      up[i] = d[i] * gate[i] * s;
    }
    Pack<T, W>::from(dgate).store(dgate_up + base + c);
    Pack<T, W>::from(up).store(dgate_up + base + width + c);
  }
}

unsigned threads_for(std::int64_t width, int pack) {
  return static_cast<unsigned>(std::min<std::int64_t>(kThreads, ceil_div(width, 32 * pack) * 32));
}

template <typename T, int W>
void launch(const SwigluForward& args, Stream& stream) {
  const std::int64_t width = args.out.cols();
  swiglu_kernel<T, W>
      <<<static_cast<unsigned>(args.out.rows()), threads_for(width, W), 0, native(stream)>>>(
          data_of<T>(args.out), data_of<const T>(args.gate_up), width);
  check_launch("swiglu_forward");
}

template <typename T, int W>
void launch(const SwigluBackward& args, Stream& stream) {
  const std::int64_t width = args.dout.cols();
  swiglu_grad_kernel<T, W>
      <<<static_cast<unsigned>(args.dout.rows()), threads_for(width, W), 0, native(stream)>>>(
          data_of<T>(args.dgate_up), data_of<const T>(args.dout), data_of<const T>(args.gate_up),
          width);
  check_launch("swiglu_backward");
}

}  // namespace

// Halves of a row start on a pack only if F does, which is what fits_vectors asks of (N, F).
void swiglu_forward(const SwigluForward& args, Stream& stream) {
  if (args.out.count() == 0) return;
  const bool vectors = fits_vectors(args.out) && fits_vectors(args.gate_up);
  with_type(args.out.dtype, [&](auto type) {
    using T = decltype(type);
    if (vectors) {
      launch<T, kVec<T>>(args, stream);
    } else {
      launch<T, 1>(args, stream);
    }
  });
}

void swiglu_backward(const SwigluBackward& args, Stream& stream) {
  if (args.dout.count() == 0) return;
  const bool vectors =
      fits_vectors(args.dout) && fits_vectors(args.gate_up) && fits_vectors(args.dgate_up);
  with_type(args.dout.dtype, [&](auto type) {
    using T = decltype(type);
    if (vectors) {
      launch<T, kVec<T>>(args, stream);
    } else {
      launch<T, 1>(args, stream);
    }
  });
}

}  // namespace lockstep::cuda
