// Rank-order reduction in tiles that stay in the first-level cache: inputs are read once, the
// output is written once.
#include "comm/reduce.h"

#include <algorithm>
#include <type_traits>

namespace lockstep {
namespace {

constexpr std::int64_t kTile = 1024;

template <typename T>
constexpr bool kIs16BitFloat = std::is_same_v<T, bf16> || std::is_same_v<T, f16>;

// What T is accumulated in: integers as unsigned, because their overflow is defined.
template <typename T>
auto widen(T value) {
  if constexpr (kIs16BitFloat<T>) {
    return to_float(value);
  } else {
    return value;
  }
}
template <typename T>
using Wide = decltype(widen(T{}));

template <typename A>
A add(A a, A b) {
  if constexpr (std::is_integral_v<A>) {
    using U = std::make_unsigned_t<A>;
    return static_cast<A>(static_cast<U>(a) + static_cast<U>(b));
  } else {
    return a + b;
  }
}
// b != b keeps a NaN that arrives second; one that came first survives the comparison by itself.
template <typename A>
A larger(A a, A b) {
  return b > a || b != b ? b : a;
}
template <typename A>
A smaller(A a, A b) {
  return b < a || b != b ? b : a;
}

template <typename T, typename Combine>
void reduce_as(T* out, std::span<const void* const> inputs, std::int64_t count, Combine combine) {
  Wide<T> sums[kTile];
  for (std::int64_t begin = 0; begin < count; begin += kTile) {
    const std::int64_t length = std::min(kTile, count - begin);
    const T* first = static_cast<const T*>(inputs[0]) + begin;
    for (std::int64_t i = 0; i < length; ++i) sums[i] = widen(first[i]);
    for (const void* input : inputs.subspan(1)) {
      const T* next = static_cast<const T*>(input) + begin;
      for (std::int64_t i = 0; i < length; ++i) sums[i] = combine(sums[i], widen(next[i]));
    }
    for (std::int64_t i = 0; i < length; ++i) {
      if constexpr (kIs16BitFloat<T>) {
        out[begin + i] = from_float<T>(sums[i]);
      } else {
        out[begin + i] = sums[i];
      }
    }
  }
}

template <typename T>
void reduce_typed(void* out, std::span<const void* const> inputs, std::int64_t count, ReduceOp op) {
  auto* typed = static_cast<T*>(out);
  using A = Wide<T>;
  switch (op) {
    case ReduceOp::kSum: return reduce_as(typed, inputs, count, add<A>);
    case ReduceOp::kMax: return reduce_as(typed, inputs, count, larger<A>);
    case ReduceOp::kMin: return reduce_as(typed, inputs, count, smaller<A>);
  }
}

}  // namespace

void reduce_in_rank_order(void* out, std::span<const void* const> inputs, std::int64_t count,
                          DType dtype, ReduceOp op) {
  CHECK(!inputs.empty());
  switch (dtype) {
    case DType::kF32: return reduce_typed<float>(out, inputs, count, op);
    case DType::kF64: return reduce_typed<double>(out, inputs, count, op);
    case DType::kBF16: return reduce_typed<bf16>(out, inputs, count, op);
    case DType::kF16: return reduce_typed<f16>(out, inputs, count, op);
    case DType::kI32: return reduce_typed<std::int32_t>(out, inputs, count, op);
    case DType::kI64: return reduce_typed<std::int64_t>(out, inputs, count, op);
    case DType::kU8: return reduce_typed<std::uint8_t>(out, inputs, count, op);
  }
}

}  // namespace lockstep
