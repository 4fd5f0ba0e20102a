// Blocks of GGUF's quantized types to fp32. Each function writes whole blocks, in the order of fp32
// operations that ggml's reference has, so that values are the same to the last bit.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lockstep {

// `out`: the values of `blocks` blocks, overwritten; `bytes`: the blocks, at any alignment.
// Whatever the bytes are, each gives a value; a scale that is no number gives such values.
using GgufDecode = void (*)(float* out, const std::byte* bytes, std::int64_t blocks);

// Blocks of 32: an fp16 scale d (and minimum m), then nibbles, 5-bit values in two parts, or places
// in a table.
void decode_q4_0(float* out, const std::byte* bytes, std::int64_t blocks);
void decode_q4_1(float* out, const std::byte* bytes, std::int64_t blocks);
void decode_q5_0(float* out, const std::byte* bytes, std::int64_t blocks);
void decode_q5_1(float* out, const std::byte* bytes, std::int64_t blocks);
void decode_iq4_nl(float* out, const std::byte* bytes, std::int64_t blocks);

// Blocks of 256: one or two fp16 factors, and small integer scales of 16 or 32 values each.
void decode_q2_k(float* out, const std::byte* bytes, std::int64_t blocks);
void decode_q3_k(float* out, const std::byte* bytes, std::int64_t blocks);
void decode_q4_k(float* out, const std::byte* bytes, std::int64_t blocks);
void decode_q5_k(float* out, const std::byte* bytes, std::int64_t blocks);
void decode_q6_k(float* out, const std::byte* bytes, std::int64_t blocks);
void decode_iq4_xs(float* out, const std::byte* bytes, std::int64_t blocks);

}  // namespace lockstep
