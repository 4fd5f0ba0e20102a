// Values to blocks and back: ggml's Q8_0 arithmetic, and rows that no block divides.
#include "core/error.h"
#include "formats/gguf_sample.h"

#include <cmath>

namespace lockstep {
namespace {

using testing::expect_data_error;
using testing::values_of;

TEST(Gguf, Q8FollowsTheReference) {
  EXPECT_EQ(gguf_row_bytes(GgufType::kQ8_0, 64), 68);
  std::vector<float> values(32, 0.0f);
  values[0] = 127.0f;  // scale 1: halves are rounded away from zero
  values[1] = 0.5f;
  values[2] = -0.5f;
  values[3] = 1.5f;
  values[4] = 2.4999f;
  values[5] = -127.0f;
  std::array<std::byte, 34> out;
  gguf_encode(GgufType::kQ8_0, values, out);
  const auto code = [&](std::size_t i) {
    return static_cast<int>(static_cast<std::int8_t>(out[i]));
  };
  EXPECT_EQ(code(0), 0x00);
  EXPECT_EQ(code(1), 0x3c);  // 1.0 in fp16
  EXPECT_EQ(code(2), 127);
  EXPECT_EQ(code(3), 1);
  EXPECT_EQ(code(4), -1);
  EXPECT_EQ(code(5), 2);
  EXPECT_EQ(code(6), 2);
  EXPECT_EQ(code(7), -127);
  // Nothing but zeros, and values so small that the scale's inverse is no number.
  for (const float tiny : {0.0f, 1e-38f, 1e-45f}) {
    gguf_encode(GgufType::kQ8_0, std::vector<float>(32, tiny), out);
    for (const std::byte byte : out) EXPECT_EQ(byte, std::byte{0}) << tiny;
  }
  std::vector<float> half(8);
  gguf_encode(GgufType::kQ8_0, values, out);
  gguf_decode(half, GgufType::kQ8_0, out.data(), 3);
  EXPECT_EQ(half[0], 2.0f);
  EXPECT_EQ(half[2], -127.0f);
}

TEST(Gguf, RowsThatBlocksDoNotDivide) {
  expect_data_error([] { gguf_row_bytes(GgufType::kQ8_0, 40); },
                    "rows of 40 values cannot be Q8_0");
}

}  // namespace
}  // namespace lockstep
