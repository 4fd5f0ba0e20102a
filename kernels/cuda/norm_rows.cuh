// How a row of C channels is spread over registers: kRowThreads threads hold kVecs 16-byte packs
// each. Five shapes cover C up to 8192 and keep the numbers of registers and instantiations small.
#pragma once

#include "kernels/cuda/vec.cuh"

namespace lockstep::cuda {

inline constexpr int kNormThreads = 256;  // of a block

template <int kThreadsOfRow, int kPacks>
struct RowShape {
  static constexpr int kRowThreads = kThreadsOfRow;
  static constexpr int kVecs = kPacks;
  static constexpr int kGroups = kNormThreads / kThreadsOfRow;  // rows of a block at a time
};

// Calls run(RowShape) for the smallest shape that holds a row of `cols`; false if none does.
// Narrow 16-bit rows stay within a warp, which needs no barrier; the register budget of the
// backward pass (two sums per element held) decides the rest.
template <typename T, typename Run>
bool with_row_shape(std::int64_t cols, Run&& run) {
  constexpr int kWide = static_cast<int>(sizeof(T)) / 2;  // packs of fp32 hold half as much
  if constexpr (kWide == 1) {
    if (cols <= 768) {
      run(RowShape<32, 3>{});
      return true;
    }
  }
  if (cols <= 1024) {
    run(RowShape<128, kWide>{});
  } else if (cols <= 2048) {
    run(RowShape<128, 2 * kWide>{});
  } else if (cols <= 4096) {
    run(RowShape<256, 2 * kWide>{});
  } else if (cols <= 8192) {
    run(RowShape<256, 4 * kWide>{});
  } else {
    return false;
  }
  return true;
}

}  // namespace lockstep::cuda
