// What every communicator test compares with: values that differ by rank and position, and the
// reduction of them written as the plainest loop, in rank order.
#pragma once

#include "comm/communicator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

namespace lockstep {

template <typename T>
constexpr bool kIsHalf = std::is_same_v<T, bf16> || std::is_same_v<T, f16>;

// Rank r's element i: over the whole range of the integers (sums wrap), and floats in [-8, 8) with
// every mantissa bit in use, so that a sum in another order gives other bits.
template <typename T>
T value_of(int rank, std::int64_t i) {
  std::uint64_t bits = static_cast<std::uint64_t>(i) * 0x9e3779b97f4a7c15u +
                       static_cast<std::uint64_t>(rank + 1) * 0xbf58476d1ce4e5b9u;
  bits = (bits ^ (bits >> 30)) * 0x94d049bb133111ebu;
  bits ^= bits >> 31;
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(bits);
  } else {
    const double value = static_cast<double>(bits >> 11) / 9007199254740992.0 * 16.0 - 8.0;
    if constexpr (kIsHalf<T>) {
      return from_float<T>(static_cast<float>(value));
    } else {
      return static_cast<T>(value);
    }
  }
}

template <typename A>
A combine(A a, A b, ReduceOp op) {
  if (op == ReduceOp::kMax) return std::max(a, b);
  if (op == ReduceOp::kMin) return std::min(a, b);
  if constexpr (std::is_integral_v<A>) {
    using U = std::make_unsigned_t<A>;
    return static_cast<A>(static_cast<U>(a) + static_cast<U>(b));
  } else {
    return a + b;
  }
}

// Element i reduced over ranks 0 .. size-1 in that order; 16-bit floats in fp32, rounded once.
template <typename T>
T reduced(int size, std::int64_t i, ReduceOp op) {
  if constexpr (kIsHalf<T>) {
    float sum = to_float(value_of<T>(0, i));
    for (int r = 1; r < size; ++r) sum = combine(sum, to_float(value_of<T>(r, i)), op);
    return from_float<T>(sum);
  } else {
    T sum = value_of<T>(0, i);
    for (int r = 1; r < size; ++r) sum = combine(sum, value_of<T>(r, i), op);
    return sum;
  }
}

// A buffer between sentinels: what a collective writes outside its span is found by name.
template <typename T>
class Guarded {
 public:
  explicit Guarded(std::int64_t count) : all_(static_cast<std::size_t>(count + 2 * kGuard)) {
    std::memset(all_.data(), 0x5a, all_.size() * sizeof(T));
  }
  std::span<T> span() { return std::span<T>(all_).subspan(kGuard, all_.size() - 2 * kGuard); }
  T& operator[](std::int64_t i) { return all_[static_cast<std::size_t>(i + kGuard)]; }
  bool intact() const {
    const auto is_guard = [](const T& value) {
      const auto* bytes = reinterpret_cast<const unsigned char*>(&value);
      return std::all_of(bytes, bytes + sizeof(T), [](unsigned char b) { return b == 0x5a; });
    };
    return std::all_of(all_.begin(), all_.begin() + kGuard, is_guard) &&
           std::all_of(all_.end() - kGuard, all_.end(), is_guard);
  }

 private:
  static constexpr int kGuard = 8;
  std::vector<T> all_;
};

template <typename T>
bool same_bits(const T& a, const T& b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}

// Expects buffer[i] to be expected(i), bit for bit; reports the first that is not.
template <typename T, typename Expected>
void expect_bits(Guarded<T>& buffer, std::int64_t count, const std::string& what,
                 Expected expected) {
  EXPECT_TRUE(buffer.intact()) << what << ": written outside the span";
  for (std::int64_t i = 0; i < count; ++i) {
    if (same_bits(buffer[i], expected(i))) continue;
    ADD_FAILURE() << what << ": element " << i << " of " << count << " is wrong";
    return;
  }
}

}  // namespace lockstep
