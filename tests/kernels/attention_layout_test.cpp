// Proves the index arithmetic of the tensor-core attention kernels without a GPU: emulates
// ldmatrix.x4 and mma.sync.m16n8k16 as the PTX manual lays out their fragments, drives them with
// the mappings of attention_layout.cuh, and compares products of small integers exactly.
#include "kernels/cuda/attention_layout.cuh"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <set>
#include <utility>
#include <vector>

namespace lockstep::cuda {
namespace {

constexpr int kLanes = 32;

// Shared memory that holds one integer per 16-bit element.
using Shared = std::vector<int>;
// One register of 16-bit pairs, for all lanes.
struct Pair {
  int low, high;
};
using Register = std::array<Pair, kLanes>;
using FourRegisters = std::array<Register, 4>;
// accumulator[lane][r]
using Accumulator = std::array<std::array<int, 4>, kLanes>;

// PTX, ldmatrix .x4: lane 8 i + r names row r of matrix i; every lane receives from each matrix the
// elements (lane / 4, 2 (lane % 4)) and the one to its right; .trans transposes the matrix first.
FourRegisters load_matrices(const Shared& shared, const std::array<std::uint32_t, kLanes>& address,
                            bool transposed) {
  FourRegisters result{};
  for (int matrix = 0; matrix < 4; ++matrix) {
    const auto element = [&](int row, int column) {
      if (transposed) std::swap(row, column);
      const std::uint32_t row_address = address[static_cast<std::size_t>(8 * matrix + row)];
      return shared.at(row_address / 2 + static_cast<std::uint32_t>(column));
    };
    for (int lane = 0; lane < kLanes; ++lane) {
      const int column = 2 * (lane % 4);
      result[static_cast<std::size_t>(matrix)][static_cast<std::size_t>(lane)] = {
          element(lane / 4, column), element(lane / 4, column + 1)};
    }
  }
  return result;
}

// PTX, mma.m16n8k16 for 16-bit types. A: registers 0..3 hold rows g, g + 8, g, g + 8 and columns
// 2 t.. and, from register 2 on, 2 t + 8..; B: registers 0, 1 hold rows 2 t.. and 2 t + 8.. of
// column g; C: 0, 1 row g, 2, 3 row g + 8, columns 2 t and 2 t + 1. g = lane / 4, t = lane % 4.
void multiply(Accumulator& d, const FourRegisters& a, const Register& b0, const Register& b1) {
  int full_a[16][16];
  int full_b[16][8];
  for (int lane = 0; lane < kLanes; ++lane) {
    const auto at = static_cast<std::size_t>(lane);
    const int g = lane / 4;
    const int t = lane % 4;
    for (int r = 0; r < 4; ++r) {
      const Pair& pair = a[static_cast<std::size_t>(r)][at];
      full_a[g + 8 * (r % 2)][2 * t + 8 * (r / 2)] = pair.low;
      full_a[g + 8 * (r % 2)][2 * t + 8 * (r / 2) + 1] = pair.high;
    }
    full_b[2 * t][g] = b0[at].low;
    full_b[2 * t + 1][g] = b0[at].high;
    full_b[2 * t + 8][g] = b1[at].low;
    full_b[2 * t + 9][g] = b1[at].high;
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int r = 0; r < 4; ++r) {
      int& sum = d[static_cast<std::size_t>(lane)][static_cast<std::size_t>(r)];
      for (int k = 0; k < 16; ++k) {
        sum += full_a[lane / 4 + 8 * (r / 2)][k] * full_b[k][2 * (lane % 4) + r % 2];
      }
    }
  }
}

struct Matrix {
  int rows, columns;
  std::vector<int> values;

  Matrix(int r, int c) : rows(r), columns(c), values(static_cast<std::size_t>(r * c)) {}
  int& at(int r, int c) { return values[static_cast<std::size_t>(r * columns + c)]; }
  int at(int r, int c) const { return values[static_cast<std::size_t>(r * columns + c)]; }
  Matrix transposed() const {
    Matrix result(columns, rows);
    for (int r = 0; r < rows; ++r) {
      for (int c = 0; c < columns; ++c) result.at(c, r) = at(r, c);
    }
    return result;
  }
};

Matrix random_matrix(int rows, int columns, unsigned seed) {
  Matrix result(rows, columns);
  for (int& value : result.values) {
    seed = seed * 1664525u + 1013904223u;
    value = static_cast<int>(seed >> 24) % 7 - 3;
  }
  return result;
}

Matrix product(const Matrix& a, const Matrix& b) {
  Matrix result(a.rows, b.columns);
  for (int r = 0; r < a.rows; ++r) {
    for (int c = 0; c < b.columns; ++c) {
      for (int k = 0; k < a.columns; ++k) result.at(r, c) += a.at(r, k) * b.at(k, c);
    }
  }
  return result;
}

template <int kChunks>
Shared tile_of(const Matrix& x) {
  EXPECT_EQ(x.columns, kChunks * 8);
  Shared shared(static_cast<std::size_t>(x.rows * x.columns), 1 << 20);
  for (int r = 0; r < x.rows; ++r) {
    for (int c = 0; c < x.columns; ++c) {
      shared.at(TileLayout<kChunks>::offset({r, c / 8}) / 2 + static_cast<unsigned>(c % 8)) =
          x.at(r, c);
    }
  }
  return shared;
}

template <int kChunks>
std::array<std::uint32_t, kLanes> addresses(TileCoord (*mapping)(int), int rows, int chunks) {
  std::array<std::uint32_t, kLanes> result{};
  for (int lane = 0; lane < kLanes; ++lane) {
    result[static_cast<std::size_t>(lane)] =
        TileLayout<kChunks>::moved(TileLayout<kChunks>::offset(mapping(lane)), rows, chunks);
  }
  return result;
}

// The fragment at (16 m, 16 k16) of operand A.
template <int kChunks>
FourRegisters fragment_a(const Shared& tile, bool stored_transposed, int m, int k16) {
  return stored_transposed
             ? load_matrices(tile, addresses<kChunks>(operand_a_transposed, 16 * k16, 2 * m), true)
             : load_matrices(tile, addresses<kChunks>(operand_a, 16 * m, 2 * k16), false);
}

// The two fragments at (16 k16, 8 n) and (16 k16, 8 n + 8) of operand B; n is even.
template <int kChunks>
FourRegisters fragments_b(const Shared& tile, bool stored_transposed, int n, int k16) {
  return stored_transposed
             ? load_matrices(tile, addresses<kChunks>(operand_b, 8 * n, 2 * k16), false)
             : load_matrices(tile, addresses<kChunks>(operand_b_transposed, 16 * k16, n), true);
}

void expect_block(const Accumulator& d, const Matrix& expected, int row, int column) {
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int r = 0; r < 4; ++r) {
      EXPECT_EQ(d[static_cast<std::size_t>(lane)][static_cast<std::size_t>(r)],
                expected.at(row + accumulator_row(lane, r), column + accumulator_column(lane, r)))
          << "lane " << lane << " register " << r << " block " << row << ", " << column;
    }
  }
}

// c = a b with a (kSize x kSize) and b (kSize x kSize), each stored as is or transposed.
template <int kChunks>
void check_product(bool a_transposed, bool b_transposed) {
  constexpr int kSize = kChunks * 8;
  const Matrix a = random_matrix(kSize, kSize, 1);
  const Matrix b = random_matrix(kSize, kSize, 2);
  const Matrix expected = product(a, b);
  const Shared a_tile = tile_of<kChunks>(a_transposed ? a.transposed() : a);
  const Shared b_tile = tile_of<kChunks>(b_transposed ? b.transposed() : b);
  for (int m = 0; m < kSize / 16; ++m) {
    for (int n = 0; n < kChunks; n += 2) {
      Accumulator left{};
      Accumulator right{};
      for (int k16 = 0; k16 < kSize / 16; ++k16) {
        const FourRegisters fa = fragment_a<kChunks>(a_tile, a_transposed, m, k16);
        const FourRegisters fb = fragments_b<kChunks>(b_tile, b_transposed, n, k16);
        multiply(left, fa, fb[0], fb[1]);
        multiply(right, fa, fb[2], fb[3]);
      }
      expect_block(left, expected, 16 * m, 8 * n);
      expect_block(right, expected, 16 * m, 8 * n + 8);
    }
  }
}

template <int kChunks>
void check_all_products() {
  for (const bool a_transposed : {false, true}) {
    for (const bool b_transposed : {false, true}) {
      SCOPED_TRACE(testing::Message() << kChunks << " chunks, a transposed " << a_transposed
                                      << ", b transposed " << b_transposed);
      check_product<kChunks>(a_transposed, b_transposed);
    }
  }
}

template <int kChunks>
void check_tile() {
  using Layout = TileLayout<kChunks>;
  constexpr int kRows = 128;
  std::set<std::uint32_t> seen;
  for (int row = 0; row < kRows; ++row) {
    for (int chunk = 0; chunk < kChunks; ++chunk) {
      const std::uint32_t offset = Layout::offset({row, chunk});
      EXPECT_EQ(offset % 16, 0u);
      EXPECT_LT(offset, static_cast<std::uint32_t>(kRows * Layout::kRowBytes));
      EXPECT_TRUE(seen.insert(offset).second) << "row " << row << " chunk " << chunk;
    }
  }
  for (int row = 0; row < kRows; row += 8) {  // what one phase of ldmatrix reads
    for (int chunk = 0; chunk < kChunks; ++chunk) {
      std::set<std::uint32_t> groups;
      for (int r = 0; r < 8; ++r) groups.insert(Layout::offset({row + r, chunk}) / 16 % 8);
      EXPECT_EQ(groups.size(), 8u) << "bank conflict at row " << row << " chunk " << chunk;
    }
  }
}

template <int kChunks>
void check_moves() {
  using Layout = TileLayout<kChunks>;
  constexpr std::uint32_t kBase = 128 * 5;  // any multiple of 128
  for (int row = 0; row < 16; ++row) {
    for (int chunk = 0; chunk < 2; ++chunk) {
      const std::uint32_t from = kBase + Layout::offset({row, chunk});
      for (int rows = 0; rows < 64; rows += 8) {
        // Loads start at chunk 0 or 1 and move by even steps; stores start at 0 and move by any.
        for (int chunks = 0; chunks + chunk < kChunks; chunks += chunk == 0 ? 1 : 2) {
          EXPECT_EQ(Layout::moved(from, rows, chunks),
                    kBase + Layout::offset({row + rows, chunk + chunks}))
              << row << ", " << chunk << " moved by " << rows << ", " << chunks;
        }
      }
    }
  }
}

TEST(AttentionLayout, TilesAreBijectiveAndConflictFree) {
  check_tile<4>();
  check_tile<8>();
  check_tile<12>();
  check_tile<16>();
}

TEST(AttentionLayout, MovedEqualsOffset) {
  check_moves<4>();
  check_moves<8>();
  check_moves<12>();
  check_moves<16>();
}

TEST(AttentionLayout, FragmentsOfEveryStorageOrderMultiply) {
  check_all_products<4>();
  check_all_products<8>();
  check_all_products<12>();
  check_all_products<16>();
}

// s = q k^T in accumulators, packed, is the A operand of s v.
TEST(AttentionLayout, AccumulatorsBecomeOperands) {
  constexpr int kChunks = 8;
  constexpr int kSize = kChunks * 8;
  const Matrix q = random_matrix(16, kSize, 3);
  const Matrix k = random_matrix(kSize, kSize, 4);
  const Matrix v = random_matrix(kSize, kSize, 5);
  const Matrix expected = product(product(q, k.transposed()), v);
  const Shared q_tile = tile_of<kChunks>(q);
  const Shared k_tile = tile_of<kChunks>(k);
  const Shared v_tile = tile_of<kChunks>(v);
  std::array<Accumulator, kChunks> s{};
  for (std::size_t n = 0; n < kChunks; n += 2) {
    for (int k16 = 0; k16 < kSize / 16; ++k16) {
      const FourRegisters a = fragment_a<kChunks>(q_tile, false, 0, k16);
      const FourRegisters b = fragments_b<kChunks>(k_tile, true, static_cast<int>(n), k16);
      multiply(s[n], a, b[0], b[1]);
      multiply(s[n + 1], a, b[2], b[3]);
    }
  }
  std::array<FourRegisters, kSize / 16> weights{};
  for (int n = 0; n < kChunks; ++n) {
    for (int half = 0; half < 2; ++half) {
      for (std::size_t lane = 0; lane < kLanes; ++lane) {
        const auto& from = s[static_cast<std::size_t>(n)][lane];
        weights[static_cast<std::size_t>(n / 2)][static_cast<std::size_t>(a_register(n, half))]
               [lane] = {from[static_cast<std::size_t>(2 * half)],
                         from[static_cast<std::size_t>(2 * half + 1)]};
      }
    }
  }
  for (int n = 0; n < kChunks; n += 2) {
    Accumulator left{};
    Accumulator right{};
    for (int k16 = 0; k16 < kSize / 16; ++k16) {
      const FourRegisters b = fragments_b<kChunks>(v_tile, false, n, k16);
      multiply(left, weights[static_cast<std::size_t>(k16)], b[0], b[1]);
      multiply(right, weights[static_cast<std::size_t>(k16)], b[2], b[3]);
    }
    expect_block(left, expected, 0, 8 * n);
    expect_block(right, expected, 0, 8 * n + 8);
  }
}

// A warp's 4-byte stores of one accumulator register pair fall into 32 different banks.
template <int kChunks>
void check_accumulator_stores() {
  for (int chunk = 0; chunk < kChunks; ++chunk) {
    for (int half = 0; half < 2; ++half) {
      std::set<std::uint32_t> banks;
      for (int lane = 0; lane < kLanes; ++lane) {
        const std::uint32_t offset =
            TileLayout<kChunks>::offset({accumulator_row(lane, 2 * half), chunk}) +
            static_cast<std::uint32_t>(accumulator_column(lane, 0)) * 2;
        banks.insert(offset / 4 % 32);
      }
      EXPECT_EQ(banks.size(), 32u) << "chunk " << chunk << " half " << half;
    }
  }
}

TEST(AttentionLayout, AccumulatorStoresAreConflictFree) {
  check_accumulator_stores<4>();
  check_accumulator_stores<8>();
  check_accumulator_stores<12>();
  check_accumulator_stores<16>();
}

}  // namespace
}  // namespace lockstep::cuda
