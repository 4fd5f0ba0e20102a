// One struct per type states its bytes in their order; one function turns a block into values. What
// several types share is where a value's bits lie.
#include "formats/gguf_decode.h"

#include "core/dtype.h"

#include <array>
#include <cstring>

namespace lockstep {
namespace {

constexpr int kSmall = 32, kLarge = 256;

struct BlockQ4_0 {
  f16 d;
  std::uint8_t low[16];  // values j and j + 16
};
struct BlockQ4_1 {
  f16 d, m;
  std::uint8_t low[16];
};
struct BlockQ5_0 {
  f16 d;
  std::uint8_t high[4];  // bit j: the fifth bit of value j
  std::uint8_t low[16];
};
struct BlockQ5_1 {
  f16 d, m;
  std::uint8_t high[4];
  std::uint8_t low[16];
};
struct BlockQ2K {
  std::uint8_t scales[16];  // low half: of d, high half: of m
  std::uint8_t low[64];
  f16 d, m;
};
struct BlockQ3K {
  std::uint8_t high[32];
  std::uint8_t low[64];
  std::uint8_t scales[12];  // sixteen of 6 bits, less 32
  f16 d;
};
struct BlockQ4K {
  f16 d, m;
  std::uint8_t scales[12];  // eight pairs of 6 bits
  std::uint8_t low[128];
};
struct BlockQ5K {
  f16 d, m;
  std::uint8_t scales[12];
  std::uint8_t high[32];
  std::uint8_t low[128];
};
struct BlockQ6K {
  std::uint8_t low[128];
  std::uint8_t high[64];
  std::int8_t scales[16];
  f16 d;
};
struct BlockIq4Xs {
  f16 d;
  std::uint8_t scales_high[2];
  std::uint8_t scales_low[4];
  std::uint8_t low[128];
};
static_assert(sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20);
static_assert(sizeof(BlockQ5_0) == 22 && sizeof(BlockQ5_1) == 24);
static_assert(sizeof(BlockQ2K) == 84 && sizeof(BlockQ3K) == 110 && sizeof(BlockQ4K) == 144);
static_assert(sizeof(BlockQ5K) == 176 && sizeof(BlockQ6K) == 210 && sizeof(BlockIq4Xs) == 136);

// What the nibbles of IQ4_NL and IQ4_XS stand for: steps that are finer near zero.
constexpr std::array<std::int8_t, 16> kSteps = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                1,    13,   25,  38,  53,  69,  89,  113};

template <typename Block, typename DecodeOne>
void each_block(float* out, const std::byte* bytes, std::int64_t blocks, int values,
                DecodeOne decode_one) {
  for (std::int64_t i = 0; i < blocks; ++i) {
    Block block;
    std::memcpy(&block, bytes, sizeof(block));
    decode_one(out, block);
    bytes += sizeof(block);
    out += values;
  }
}

int bit(const std::uint8_t* bits, int index) { return bits[index / 8] >> (index % 8) & 1; }

// Value j of 32 nibbles in halves: the low ones first.
int nibble(const std::uint8_t* low, int j) { return j < 16 ? low[j] & 15 : low[j - 16] >> 4; }

struct ScaleAndMin {
  int scale, min;
};
// Pair j of eight, 6 bits each, in 12 bytes: of the last four, the two upper bits lie above those
// of the first four.
ScaleAndMin pair_of(const std::uint8_t* bytes, int j) {
  if (j < 4) return {bytes[j] & 63, bytes[j + 4] & 63};
  return {(bytes[j + 4] & 15) | (bytes[j - 4] >> 6 << 4),
          (bytes[j + 4] >> 4) | (bytes[j] >> 6 << 4)};
}

// Scale i of sixteen, 6 bits each, in 12 bytes: nibbles in the first eight, upper bits in the rest.
int scale_of_16(const std::uint8_t* bytes, int i) {
  const int low = i < 8 ? bytes[i] & 15 : bytes[i - 8] >> 4;
  return (low | (bytes[8 + i % 4] >> (i / 4 * 2) & 3) << 4) - 32;
}

// Value i of 256 in two bits: each half has 32 bytes, four values apart by 32 in a byte.
int two_bits(const std::uint8_t* low, int i) {
  return low[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
}

// Value i of 256 in four bits: each quarter has 32 bytes, two values apart by 32 in a byte.
int four_bits(const std::uint8_t* low, int i) {
  return low[i / 64 * 32 + i % 32] >> (i % 64 / 32 * 4) & 15;
}

}  // namespace

void decode_q4_0(float* out, const std::byte* bytes, std::int64_t blocks) {
  each_block<BlockQ4_0>(out, bytes, blocks, kSmall, [](float* values, const BlockQ4_0& block) {
    const float d = to_float(block.d);
    for (int j = 0; j < kSmall; ++j) values[j] = static_cast<float>(nibble(block.low, j) - 8) * d;
  });
}

void decode_q4_1(float* out, const std::byte* bytes, std::int64_t blocks) {
  each_block<BlockQ4_1>(out, bytes, blocks, kSmall, [](float* values, const BlockQ4_1& block) {
    const float d = to_float(block.d), m = to_float(block.m);
    for (int j = 0; j < kSmall; ++j) values[j] = static_cast<float>(nibble(block.low, j)) * d + m;
  });
}

void decode_q5_0(float* out, const std::byte* bytes, std::int64_t blocks) {
  each_block<BlockQ5_0>(out, bytes, blocks, kSmall, [](float* values, const BlockQ5_0& block) {
    const float d = to_float(block.d);
    for (int j = 0; j < kSmall; ++j) {
      const int q = (nibble(block.low, j) | bit(block.high, j) << 4) - 16;
      values[j] = static_cast<float>(q) * d;
    }
  });
}

void decode_q5_1(float* out, const std::byte* bytes, std::int64_t blocks) {
  each_block<BlockQ5_1>(out, bytes, blocks, kSmall, [](float* values, const BlockQ5_1& block) {
    const float d = to_float(block.d), m = to_float(block.m);
    for (int j = 0; j < kSmall; ++j) {
      const int q = nibble(block.low, j) | bit(block.high, j) << 4;
      values[j] = static_cast<float>(q) * d + m;
    }
  });
}

void decode_iq4_nl(float* out, const std::byte* bytes, std::int64_t blocks) {
  each_block<BlockQ4_0>(out, bytes, blocks, kSmall, [](float* values, const BlockQ4_0& block) {
    const float d = to_float(block.d);
    for (int j = 0; j < kSmall; ++j) {
      values[j] = d * static_cast<float>(kSteps[static_cast<std::size_t>(nibble(block.low, j))]);
    }
  });
}

void decode_q2_k(float* out, const std::byte* bytes, std::int64_t blocks) {
  each_block<BlockQ2K>(out, bytes, blocks, kLarge, [](float* values, const BlockQ2K& block) {
    const float d = to_float(block.d), m = to_float(block.m);
    for (int i = 0; i < kLarge; ++i) {
      const int scales = block.scales[i / 16];
      const float scale = d * static_cast<float>(scales & 15);
      const float min = m * static_cast<float>(scales >> 4);
      values[i] = scale * static_cast<float>(two_bits(block.low, i)) - min;
    }
  });
}

void decode_q3_k(float* out, const std::byte* bytes, std::int64_t blocks) {
  each_block<BlockQ3K>(out, bytes, blocks, kLarge, [](float* values, const BlockQ3K& block) {
    const float d = to_float(block.d);
    for (int i = 0; i < kLarge; ++i) {
      const float scale = d * static_cast<float>(scale_of_16(block.scales, i / 16));
      const int high = block.high[i % 32] >> (i / 32) & 1;
      values[i] = scale * static_cast<float>(two_bits(block.low, i) + 4 * high - 4);
    }
  });
}

void decode_q4_k(float* out, const std::byte* bytes, std::int64_t blocks) {
  each_block<BlockQ4K>(out, bytes, blocks, kLarge, [](float* values, const BlockQ4K& block) {
    const float d = to_float(block.d), m = to_float(block.m);
    for (int i = 0; i < kLarge; ++i) {
      const ScaleAndMin pair = pair_of(block.scales, i / 32);
      const float scale = d * static_cast<float>(pair.scale);
      const float min = m * static_cast<float>(pair.min);
      values[i] = scale * static_cast<float>(four_bits(block.low, i)) - min;
    }
  });
}

void decode_q5_k(float* out, const std::byte* bytes, std::int64_t blocks) {
  each_block<BlockQ5K>(out, bytes, blocks, kLarge, [](float* values, const BlockQ5K& block) {
    const float d = to_float(block.d), m = to_float(block.m);
    for (int i = 0; i < kLarge; ++i) {
      const ScaleAndMin pair = pair_of(block.scales, i / 32);
      const float scale = d * static_cast<float>(pair.scale);
      const float min = m * static_cast<float>(pair.min);
      const int high = block.high[i % 32] >> (i / 32) & 1;
      values[i] = scale * static_cast<float>(four_bits(block.low, i) + 16 * high) - min;
    }
  });
}

void decode_q6_k(float* out, const std::byte* bytes, std::int64_t blocks) {
  each_block<BlockQ6K>(out, bytes, blocks, kLarge, [](float* values, const BlockQ6K& block) {
    const float d = to_float(block.d);
    for (int i = 0; i < kLarge; ++i) {
      // Halves of 128; in each the nibbles of values 64 apart share a byte.
      const int low = block.low[i / 128 * 64 + i % 64] >> (i % 128 / 64 * 4) & 15;
      const int q = (low | two_bits(block.high, i) << 4) - 32;
      values[i] = d * static_cast<float>(block.scales[i / 16]) * static_cast<float>(q);
    }
  });
}

void decode_iq4_xs(float* out, const std::byte* bytes, std::int64_t blocks) {
  each_block<BlockIq4Xs>(out, bytes, blocks, kLarge, [](float* values, const BlockIq4Xs& block) {
    const float d = to_float(block.d);
    for (int i = 0; i < kLarge; ++i) {
      const int part = i / 32;
      const int low = block.scales_low[part / 2] >> (part % 2 * 4) & 15;
      const int high = block.scales_high[part / 4] >> (part % 4 * 2) & 3;
      const float scale = d * static_cast<float>((low | high << 4) - 32);
      const auto step = static_cast<std::size_t>(nibble(block.low + part * 16, i % 32));
      values[i] = scale * static_cast<float>(kSteps[step]);
    }
  });
}

}  // namespace lockstep
