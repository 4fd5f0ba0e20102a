// Every quantized type of GGUF against blocks that are packed here, value by value, as the format
// defines them; the real client's decoder is compared in tests/clients.
#include "core/dtype.h"
#include "core/error.h"
#include "formats/gguf_sample.h"

#include <cmath>
#include <cstring>
#include <functional>

namespace lockstep {
namespace {

using Block = std::vector<std::uint8_t>;

// The largest scale, a negative one, the smallest of fp16's subnormal ones, none.
constexpr std::array<float, 5> kScales = {1.0f, -0.37109375f, 65504.0f, 0x1p-24f, 0.0f};

void put_half(Block& block, std::size_t at, float value) {
  const f16 half = to_f16(value);
  std::memcpy(block.data() + at, &half, sizeof(half));
}

void put_bits(Block& block, std::size_t at, int shift, int bits) {
  block[at] = static_cast<std::uint8_t>(block[at] | bits << shift);
}

// Numbers that are all seen in a block, in no order of the layout's.
int code(int i, int values) { return (i * 7 + i / values) % values; }

// Each of these blocks after the other, decoded at once, and piecewise from within blocks.
void expect_values(GgufType type, const std::vector<Block>& blocks,
                   const std::vector<float>& wanted) {
  SCOPED_TRACE(name_of(type));
  Block bytes;
  for (const Block& block : blocks) bytes.insert(bytes.end(), block.begin(), block.end());
  const auto count = static_cast<std::int64_t>(wanted.size());
  ASSERT_EQ(gguf_row_bytes(type, count), std::ssize(bytes));
  const auto* data = reinterpret_cast<const std::byte*>(bytes.data());
  for (const std::int64_t first : {std::int64_t{0}, std::int64_t{5}, count / 2 + 3, count - 1}) {
    std::vector<float> got(static_cast<std::size_t>(count - first));
    gguf_decode(got, type, data, first);
    for (std::size_t i = 0; i < got.size(); ++i) {
      const float want = wanted[static_cast<std::size_t>(first) + i];
      ASSERT_EQ(std::memcmp(&got[i], &want, sizeof(want)), 0)
          << "from " << first << " value " << i << ": " << got[i] << ", not " << want;
    }
  }
}

// A block for each of kScales: `pack` fills it and tells the value at an index.
void expect_type(GgufType type,
                 const std::function<std::function<float(int)>(Block&, float)>& pack) {
  std::vector<Block> blocks;
  std::vector<float> wanted;
  const auto values = static_cast<int>(gguf_block_values(type));
  for (const float d : kScales) {
    Block block(static_cast<std::size_t>(gguf_row_bytes(type, values)));
    const auto value = pack(block, d);
    for (int i = 0; i < values; ++i) wanted.push_back(value(i));
    blocks.push_back(block);
  }
  expect_values(type, blocks, wanted);
}

// 32 values of 4 or 5 bits: nibbles j and j + 16 share a byte, fifth bits are a little-endian word.
void put_small(Block& block, std::size_t low, std::size_t high, int values) {
  for (int j = 0; j < 32; ++j) {
    const int q = code(j, values);
    put_bits(block, low + static_cast<std::size_t>(j % 16), j < 16 ? 0 : 4, q & 15);
    if (values > 16) put_bits(block, high + static_cast<std::size_t>(j / 8), j % 8, q >> 4);
  }
}

TEST(GgufDecode, FourAndFiveBits) {
  expect_type(GgufType::kQ4_0, [](Block& block, float d) {
    put_half(block, 0, d);
    put_small(block, 2, 0, 16);
    return [d](int i) { return static_cast<float>(code(i, 16) - 8) * d; };
  });
  expect_type(GgufType::kQ5_0, [](Block& block, float d) {
    put_half(block, 0, d);
    put_small(block, 6, 2, 32);
    return [d](int i) { return static_cast<float>(code(i, 32) - 16) * d; };
  });
  const float m = -0.12109375f;
  expect_type(GgufType::kQ4_1, [m](Block& block, float d) {
    put_half(block, 0, d);
    put_half(block, 2, m);
    put_small(block, 4, 0, 16);
    return [d, m](int i) { return static_cast<float>(code(i, 16)) * d + m; };
  });
  expect_type(GgufType::kQ5_1, [m](Block& block, float d) {
    put_half(block, 0, d);
    put_half(block, 2, m);
    put_small(block, 8, 4, 32);
    return [d, m](int i) { return static_cast<float>(code(i, 32)) * d + m; };
  });
}

// 256 values of `bits` bits from byte `at`: runs of `run` values lie above each other in the same
// bytes until those are full.
void put_runs(Block& block, std::size_t at, int bits, int run, const std::function<int(int)>& q) {
  int i = 0;
  for (; i < 256; at += static_cast<std::size_t>(run)) {
    for (int shift = 0; shift < 8; shift += bits) {
      for (int l = 0; l < run; ++l, ++i) {
        put_bits(block, at + static_cast<std::size_t>(l), shift, q(i));
      }
    }
  }
}

TEST(GgufDecode, TwoAndThreeBitsInLargeBlocks) {
  expect_type(GgufType::kQ2_K, [](Block& block, float d) {
    const float m = 0.031280517578125f;
    for (int s = 0; s < 16; ++s) {
      block[static_cast<std::size_t>(s)] = static_cast<std::uint8_t>(s | (15 - s) << 4);
    }
    put_runs(block, 16, 2, 32, [](int i) { return code(i, 4); });
    put_half(block, 80, d);
    put_half(block, 82, m);
    return [d, m](int i) {
      const float scale = d * static_cast<float>(i / 16);
      const float min = m * static_cast<float>(15 - i / 16);
      return scale * static_cast<float>(code(i, 4)) - min;
    };
  });
  expect_type(GgufType::kQ3_K, [](Block& block, float d) {
    const auto scale_of = [](int s) { return s * 21 % 64; };
    put_runs(block, 0, 1, 32, [](int i) { return code(i, 8) >> 2; });
    put_runs(block, 32, 2, 32, [](int i) { return code(i, 8) & 3; });
    for (int s = 0; s < 16; ++s) {
      put_bits(block, static_cast<std::size_t>(96 + s % 8), s < 8 ? 0 : 4, scale_of(s) & 15);
      put_bits(block, static_cast<std::size_t>(104 + s % 4), s / 4 * 2, scale_of(s) >> 4);
    }
    put_half(block, 108, d);
    return [d, scale_of](int i) {
      const float scale = d * static_cast<float>(scale_of(i / 16) - 32);
      return scale * static_cast<float>(code(i, 8) - 4);
    };
  });
}

// Eight scales and minima of 6 bits in 12 bytes.
int scale_at(int s) { return s * 9; }
int min_at(int s) { return 63 - s * 9; }
void put_pairs(Block& block) {
  for (int s = 0; s < 4; ++s) {
    const auto at = static_cast<std::size_t>(4 + s);
    put_bits(block, at, 0, scale_at(s));
    put_bits(block, at, 6, scale_at(s + 4) >> 4);
    put_bits(block, at + 4, 0, min_at(s));
    put_bits(block, at + 4, 6, min_at(s + 4) >> 4);
    put_bits(block, at + 8, 0, scale_at(s + 4) & 15);
    put_bits(block, at + 8, 4, min_at(s + 4) & 15);
  }
}

std::function<float(int)> paired_values(float d, float m, int values) {
  return [d, m, values](int i) {
    const float scale = d * static_cast<float>(scale_at(i / 32));
    const float min = m * static_cast<float>(min_at(i / 32));
    return scale * static_cast<float>(code(i, values)) - min;
  };
}

TEST(GgufDecode, FourToSixBitsInLargeBlocks) {
  const float m = 0.031280517578125f;
  expect_type(GgufType::kQ4_K, [m](Block& block, float d) {
    put_half(block, 0, d);
    put_half(block, 2, m);
    put_pairs(block);
    put_runs(block, 16, 4, 32, [](int i) { return code(i, 16); });
    return paired_values(d, m, 16);
  });
  expect_type(GgufType::kQ5_K, [m](Block& block, float d) {
    put_half(block, 0, d);
    put_half(block, 2, m);
    put_pairs(block);
    put_runs(block, 16, 1, 32, [](int i) { return code(i, 32) >> 4; });
    put_runs(block, 48, 4, 32, [](int i) { return code(i, 32) & 15; });
    return paired_values(d, m, 32);
  });
  expect_type(GgufType::kQ6_K, [](Block& block, float d) {
    const auto scale_of = [](int s) { return s * 17 - 128; };
    put_runs(block, 0, 4, 64, [](int i) { return code(i, 64) & 15; });
    put_runs(block, 128, 2, 32, [](int i) { return code(i, 64) >> 4; });
    for (int s = 0; s < 16; ++s) {
      block[static_cast<std::size_t>(192 + s)] = static_cast<std::uint8_t>(scale_of(s));
    }
    put_half(block, 208, d);
    return [d, scale_of](int i) {
      const float scale = d * static_cast<float>(scale_of(i / 16));
      return scale * static_cast<float>(code(i, 64) - 32);
    };
  });
}

TEST(GgufDecode, StepsThatAreFinerNearZero) {
  constexpr std::array<int, 16> kSteps = {-127, -104, -83, -65, -49, -35, -22, -10,
                                          1,    13,   25,  38,  53,  69,  89,  113};
  expect_type(GgufType::kIQ4_NL, [&](Block& block, float d) {
    put_half(block, 0, d);
    put_small(block, 2, 0, 16);
    return [d, kSteps](int i) {
      return d * static_cast<float>(kSteps[static_cast<std::size_t>(code(i, 16))]);
    };
  });
  expect_type(GgufType::kIQ4_XS, [&](Block& block, float d) {
    const auto scale_of = [](int s) { return s * 9; };
    put_half(block, 0, d);
    for (int s = 0; s < 8; ++s) {
      put_bits(block, static_cast<std::size_t>(2 + s / 4), s % 4 * 2, scale_of(s) >> 4);
      put_bits(block, static_cast<std::size_t>(4 + s / 2), s % 2 * 4, scale_of(s) & 15);
    }
    put_runs(block, 8, 4, 16, [](int i) { return code(i, 16); });
    return [d, kSteps, scale_of](int i) {
      const float scale = d * static_cast<float>(scale_of(i / 32) - 32);
      return scale * static_cast<float>(kSteps[static_cast<std::size_t>(code(i, 16))]);
    };
  });
}

// A scale or minimum that is no number shows in every value of its block, where the check of
// weights finds it, and in no other block.
TEST(GgufDecode, ScalesThatAreNoNumbers) {
  const std::vector<std::pair<GgufType, std::vector<std::size_t>>> places = {
      {GgufType::kQ4_0, {0}},    {GgufType::kQ4_1, {0, 2}}, {GgufType::kQ5_0, {0}},
      {GgufType::kQ5_1, {0, 2}}, {GgufType::kQ8_0, {0}},    {GgufType::kQ2_K, {80, 82}},
      {GgufType::kQ3_K, {108}},  {GgufType::kQ4_K, {0, 2}}, {GgufType::kQ5_K, {0, 2}},
      {GgufType::kQ6_K, {208}},  {GgufType::kIQ4_NL, {0}},  {GgufType::kIQ4_XS, {0}}};
  for (const auto& [type, halves] : places) {
    const std::int64_t values = gguf_block_values(type);
    for (const std::size_t at : halves) {
      for (const float broken : {HUGE_VALF, -HUGE_VALF, std::nanf("")}) {
        SCOPED_TRACE(fmt::format("{} {} at byte {}", name_of(type), broken, at));
        Block bytes(static_cast<std::size_t>(gguf_row_bytes(type, 3 * values)));
        put_half(bytes, bytes.size() / 3 + at, broken);
        std::vector<float> got(static_cast<std::size_t>(3 * values));
        gguf_decode(got, type, reinterpret_cast<const std::byte*>(bytes.data()), 0);
        for (std::int64_t i = 0; i < std::ssize(got); ++i) {
          EXPECT_EQ(std::isfinite(got[static_cast<std::size_t>(i)]), i / values != 1) << i;
        }
      }
    }
  }
}

// Any bytes are some values: every index that they hold stays within its table.
TEST(GgufDecode, AnyBytes) {
  std::mt19937 random(3);
  for (std::uint32_t type = 0; type < 64; ++type) {
    const auto kind = static_cast<GgufType>(type);
    if (!is_readable(kind)) continue;
    const std::int64_t values = 3 * gguf_block_values(kind);
    std::vector<std::byte> bytes(static_cast<std::size_t>(gguf_row_bytes(kind, values)));
    std::vector<float> got(static_cast<std::size_t>(values));
    for (int round = 0; round < 200; ++round) {
      for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
      gguf_decode(got, kind, bytes.data(), 0);
    }
  }
}

}  // namespace
}  // namespace lockstep
