// Elementary functions that the compiler can vectorise: no branches, no calls, no tables.
// libm's expf and tanhf cost 10 to 20 times as much in these loops because they stay scalar.
//
// exp(x): n = round(x / ln 2), r = x - n ln 2 (|r| <= 0.347), then 2^n times the Taylor polynomial
// of degree 7. Error, with u = 2^-24: truncation |r|^8/8! = 5e-9 = 0.1 u; r itself: n * kLn2High is
// exact (9-bit constant) and so is its subtraction, n * kLn2Low and the last subtraction add 0.4 u;
// Horner: the last addition rounds by at most 1.5 u of the result (which may be as small as 0.7),
// the steps inside count |r| times: 0.6 u. Together below 3 u = 1.8e-7 relative.
#pragma once

#include <bit>
#include <cstdint>

namespace lockstep::cpu {

// 0 below -87.3 (where the result would be subnormal), infinity above 88.0, NaN for NaN.
inline float fast_exp(float x) {
  constexpr float kLowest = -87.3f;
  constexpr float kHighest = 88.0f;
  constexpr float kInvLn2 = 1.44269504f;
  constexpr float kLn2High = 0.693359375f;
  constexpr float kLn2Low = -2.12194440e-4f;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer

  const float above = x < kLowest ? kLowest : x;
  const float clamped = above > kHighest ? kHighest : above;
  const float shifted = clamped * kInvLn2 + kRound;
  const float n = shifted - kRound;
  const float r = (clamped - n * kLn2High) - n * kLn2Low;
  float p = 1.0f / 5040.0f;
  p = p * r + 1.0f / 720.0f;
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  // The low bits of `shifted` are n; moved to the exponent field they make 2^n.
  const std::uint32_t exponent = (std::bit_cast<std::uint32_t>(shifted) << 23) + 0x3f800000u;
  const float result = p * std::bit_cast<float>(exponent);
  const float finite = x > kHighest ? std::bit_cast<float>(0x7f800000u) : result;
  return x < kLowest ? 0.0f : finite;
}

inline float sigmoid(float x) { return 1.0f / (1.0f + fast_exp(-x)); }

// sqrt(2 / pi) and the cubic term of the tanh form (Hendrycks & Gimpel, arXiv 1606.08415).
inline constexpr float kGeluScale = 0.79788456080286536f;
inline constexpr float kGeluCubic = 0.044715f;

// 0.5 x (1 + tanh(w)) = x sigmoid(2 w): one exponential and no cancellation.
inline float gelu(float x) {
  const float w = kGeluScale * x * (1.0f + kGeluCubic * x * x);
  return x * sigmoid(2.0f * w);
}

// s + 2 x w'(x) s (1 - s) with s = sigmoid(2 w). s (1 - s) = e / (1 + e)^2, e = exp(-|2 w|), is
// computed without the subtraction, which x w'(x) would magnify.
inline float gelu_derivative(float x) {
  const float w = kGeluScale * x * (1.0f + kGeluCubic * x * x);
  const float dw = kGeluScale * (1.0f + 3.0f * kGeluCubic * x * x);
  const float e = fast_exp(-2.0f * (w < 0.0f ? -w : w));
  const float inverse = 1.0f / (1.0f + e);
  const float s = (w < 0.0f ? e : 1.0f) * inverse;
  return s + 2.0f * x * dw * (e * inverse * inverse);
}

}  // namespace lockstep::cpu
