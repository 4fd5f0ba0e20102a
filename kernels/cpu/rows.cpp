// Conversions between fp32 and the 16-bit storage types, eight elements at a time where the
// processor has F16C; everywhere else plain loops over the functions of core/dtype.h.
#include "kernels/cpu/rows.h"

#include <bit>
#include <cstring>

#ifdef __F16C__
#include <immintrin.h>
#endif

namespace lockstep::cpu {
namespace {

void load_bf16(float* dst, const bf16* src, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) dst[i] = to_float(src[i]);
}

// to_bf16 without its branch, so that the loop vectorises.
void store_bf16(bf16* dst, const float* src, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    const auto bits = std::bit_cast<std::uint32_t>(src[i]);
    const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const std::uint32_t quiet = (bits >> 16) | 0x40u;
    const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    dst[i].bits = static_cast<std::uint16_t>(nan ? quiet : rounded);
  }
}

void load_f16(float* dst, const f16* src, std::int64_t count) {
  std::int64_t i = 0;
#ifdef __F16C__
  for (; i + 8 <= count; i += 8) {
    const __m128i packed = _mm_loadu_si128(reinterpret_cast<const __m128i*>(src + i));
    _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(packed));
  }
#endif
  for (; i < count; ++i) dst[i] = to_float(src[i]);
}

void store_f16(f16* dst, const float* src, std::int64_t count) {
  std::int64_t i = 0;
#ifdef __F16C__
  for (; i + 8 <= count; i += 8) {
    const __m256 values = _mm256_loadu_ps(src + i);
    const __m128i packed = _mm256_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(dst + i), packed);
  }
#endif
  for (; i < count; ++i) dst[i] = to_f16(src[i]);
}

}  // namespace

void load_row(float* dst, const void* src, DType dtype, std::int64_t count) {
  switch (dtype) {
    case DType::kBF16: return load_bf16(dst, static_cast<const bf16*>(src), count);
    case DType::kF16: return load_f16(dst, static_cast<const f16*>(src), count);
    default: std::memcpy(dst, src, static_cast<std::size_t>(count) * sizeof(float));
  }
}

void store_row(void* dst, const float* src, DType dtype, std::int64_t count) {
  switch (dtype) {
    case DType::kBF16: return store_bf16(static_cast<bf16*>(dst), src, count);
    case DType::kF16: return store_f16(static_cast<f16*>(dst), src, count);
    default: std::memcpy(dst, src, static_cast<std::size_t>(count) * sizeof(float));
  }
}

void add_to_row(void* dst, const float* src, DType dtype, std::int64_t count) {
  constexpr std::int64_t kBlock = 256;
  float sums[kBlock];
  const auto size = static_cast<std::int64_t>(size_of(dtype));
  for (std::int64_t begin = 0; begin < count; begin += kBlock) {
    const std::int64_t n = count - begin < kBlock ? count - begin : kBlock;
    void* target = static_cast<std::byte*>(dst) + begin * size;
    load_row(sums, target, dtype, n);
    for (std::int64_t i = 0; i < n; ++i) sums[i] += src[begin + i];
    store_row(target, sums, dtype, n);
  }
}

Matrix matrix_of(const Tensor& tensor, std::int64_t row, std::int64_t rows, std::int64_t column,
                 std::int64_t columns, float* buffer) {
  if (tensor.dtype == DType::kF32) {
    return {static_cast<const float*>(element(tensor, row, column)), tensor.row_stride};
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    load_row(buffer + r * columns, element(tensor, row + r, column), tensor.dtype, columns);
  }
  return {buffer, columns};
}

}  // namespace lockstep::cpu
