// Where things are: shared-memory tiles of 16-bit elements, and which lane of a warp holds which
// element of an mma.sync m16n8k16 fragment. Pure constexpr arithmetic without CUDA types, so that
// a host test can prove the mappings; everything the attention kernels index goes through here.
//
// A chunk is 8 elements (16 bytes): what cp.async copies and what one ldmatrix row address names.
#pragma once

#include <cstdint>

namespace lockstep::cuda {

struct TileCoord {
  int row;
  int chunk;
};

// A tile of rows of kChunks chunks. The chunk index is xor-ed with bits of the row so that eight
// consecutive rows of one chunk column fall into eight different 16-byte bank groups. The tile's
// own address must be a multiple of 128 bytes.
template <int kChunks>
struct TileLayout {
  static_assert(kChunks % 4 == 0);
  static constexpr int kMask = kChunks % 8 == 0 ? 7 : 3;
  static constexpr int kRowShift = kChunks % 8 == 0 ? 0 : 1;
  static constexpr int kRowBytes = kChunks * 16;

  static constexpr std::uint32_t offset(TileCoord at) {
    const int swizzled = at.chunk ^ ((at.row >> kRowShift) & kMask);
    return static_cast<std::uint32_t>(at.row * kRowBytes + swizzled * 16);
  }
  // From the address of (row, chunk) to that of (row + rows, chunk + chunks) without redoing the
  // swizzle. rows is a multiple of 8; chunk and chunks have no bit in common and chunk < kMask + 1.
  static constexpr std::uint32_t moved(std::uint32_t address, int rows, int chunks) {
    return (address ^ static_cast<std::uint32_t>((chunks & kMask) * 16)) +
           static_cast<std::uint32_t>(rows * kRowBytes + (chunks & ~kMask) * 16);
  }
};

// The 8x8 block row that `lane` names to ldmatrix.x4 when loading
// - operand A (16 x 16) from a tile stored [m][k]: registers a0..a3 of one fragment;
constexpr TileCoord operand_a(int lane) { return {lane & 15, lane >> 4}; }
// - operand A from a tile stored [k][m], with ldmatrix.trans;
constexpr TileCoord operand_a_transposed(int lane) {
  return {(lane & 7) | ((lane >> 4) << 3), (lane >> 3) & 1};
}
// - two neighbouring operands B (16 x 8 each) from a tile stored [n][k]: registers b0, b1 of the
//   first, then of the second;
constexpr TileCoord operand_b(int lane) {
  return {(lane & 7) | ((lane >> 4) << 3), (lane >> 3) & 1};
}
// - two neighbouring operands B from a tile stored [k][n], with ldmatrix.trans.
constexpr TileCoord operand_b_transposed(int lane) { return {lane & 15, lane >> 4}; }

// Accumulator register r of a 16 x 8 fragment: its row (r and r ^ 1 share one) and its column.
constexpr int accumulator_row(int lane, int r) { return (lane >> 2) + 8 * (r >> 1); }
constexpr int accumulator_column(int lane, int r) { return 2 * (lane & 3) + (r & 1); }

// Two neighbouring accumulators, rounded and packed in pairs, are the A operand of a product over
// their columns. The pair (registers 2 * half, 2 * half + 1) of accumulator n becomes register
// a_register(n, half) of A fragment n / 2.
constexpr int a_register(int n, int half) { return 2 * (n & 1) + half; }

constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }

}  // namespace lockstep::cuda
