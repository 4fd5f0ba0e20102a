// Storage types and 16-byte accesses: a Pack is W neighbouring elements that travel in one load or
// store; arithmetic happens in float. W = kVec<T> is the wide path; W = 1 is the same code for
// tensors whose width or address does not allow it.
#pragma once

#include "core/tensor.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <cstring>

namespace lockstep::cuda {

template <typename T>
inline constexpr int kVec = 16 / static_cast<int>(sizeof(T));

inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

__device__ inline float widen(float x) { return x; }
__device__ inline float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline float widen(__half x) { return __half2float(x); }

template <typename T>
__device__ inline T narrow(float x);
template <>
__device__ inline float narrow<float>(float x) {
  return x;
}
template <>
__device__ inline __nv_bfloat16 narrow<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}
template <>
__device__ inline __half narrow<__half>(float x) {
  return __float2half_rn(x);
}

namespace detail {
template <int kBytes>
struct Raw;
template <>
struct Raw<16> {
  using Type = uint4;
};
template <>
struct Raw<8> {
  using Type = uint2;
};
template <>
struct Raw<4> {
  using Type = std::uint32_t;
};
template <>
struct Raw<2> {
  using Type = std::uint16_t;
};

__device__ inline void narrow_pair(__nv_bfloat16* out, float a, float b) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(a, b);
  out[0] = pair.x;
  out[1] = pair.y;
}
__device__ inline void narrow_pair(__half* out, float a, float b) {
  const __half2 pair = __floats2half2_rn(a, b);
  out[0] = pair.x;
  out[1] = pair.y;
}
__device__ inline void narrow_pair(float* out, float a, float b) {
  out[0] = a;
  out[1] = b;
}
}  // namespace detail

template <typename T, int W>
struct Pack {
  using Raw = typename detail::Raw<W* static_cast<int>(sizeof(T))>::Type;
  Raw raw;

  __device__ static Pack load(const T* from) { return {*reinterpret_cast<const Raw*>(from)}; }
  // Data that is not read again soon: first to leave the cache.
  __device__ static Pack load_once(const T* from) {
    return {__ldcs(reinterpret_cast<const Raw*>(from))};
  }
  __device__ void store(T* to) const { *reinterpret_cast<Raw*>(to) = raw; }

  __device__ void unpack(float (&out)[W]) const {
    T values[W];
    memcpy(values, &raw, sizeof(raw));
#pragma unroll
    for (int i = 0; i < W; ++i) out[i] = widen(values[i]);
  }
  __device__ static Pack from(const float (&in)[W]) {
    T values[W];
    if constexpr (W == 1) {
      values[0] = narrow<T>(in[0]);
    } else {
#pragma unroll
      for (int i = 0; i < W; i += 2) detail::narrow_pair(values + i, in[i], in[i + 1]);
    }
    Pack pack;
    memcpy(&pack.raw, values, sizeof(pack.raw));
    return pack;
  }
};

inline bool starts_on_16(const Tensor& tensor) {
  return reinterpret_cast<std::uintptr_t>(tensor.data) % 16 == 0;
}

// Whether every row of the tensor can be read and written in 16-byte pieces. Absent tensors can.
inline bool fits_vectors(const Tensor& tensor) {
  if (!tensor) return true;
  const auto bytes = static_cast<std::int64_t>(size_of(tensor.dtype));
  return starts_on_16(tensor) && tensor.row_stride * bytes % 16 == 0 &&
         tensor.cols() * bytes % 16 == 0;
}

// Calls run(T{}) with the storage type T of a floating-point dtype.
template <typename Run>
void with_type(DType dtype, Run&& run) {
  switch (dtype) {
    case DType::kF32: return run(float{});
    case DType::kBF16: return run(__nv_bfloat16{});
    case DType::kF16: return run(__half{});
    default: CHECK(false, "kernels take fp32, bf16 and fp16, not {}", name_of(dtype));
  }
}

template <typename T>
T* data_of(const Tensor& tensor) {
  return static_cast<T*>(tensor.data);
}

}  // namespace lockstep::cuda
