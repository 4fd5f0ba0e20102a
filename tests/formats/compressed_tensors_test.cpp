// Compressed tensors as we write them: the bytes of the format, names, types and shapes.
#include "formats/compressed_tensors_fixture.h"

namespace lockstep {
namespace {

using nlohmann::json;
using test::bytes_of;
using test::CompressedTensors;
using test::Files;
using test::put;

TEST_F(CompressedTensors, WritesTheBytesOfTheFormat) {
  const std::vector<float> row = {127.5f, -127.5f, 1.0f, 0.0f, -3.0f};
  EXPECT_EQ(int8_bytes(Int8Part::kValues, row, 5, Int8Scheme::kW8A8, DType::kF32),
            bytes_of(std::vector<std::int8_t>{127, -128, 1, 0, -3}));
  // Value + 128, the first in the lowest byte; the last word is filled with zeros.
  EXPECT_EQ(int8_bytes(Int8Part::kValues, row, 5, Int8Scheme::kW8A16, DType::kF32),
            bytes_of(std::vector<std::uint32_t>{0x808100ffu, 0x0000007du}));
  EXPECT_EQ(int8_bytes(Int8Part::kScale, row, 5, Int8Scheme::kW8A16, DType::kBF16),
            bytes_of(std::vector<std::uint16_t>{0x3f80}));
}

TEST_F(CompressedTensors, NamesTypesAndShapes) {
  const auto packed = int8_tensors("x.weight", 8, 9, Int8Scheme::kW8A16, DType::kF16);
  ASSERT_EQ(packed.size(), 3u);
  EXPECT_EQ(packed[0].stored.name, "x.weight_packed");
  EXPECT_EQ(packed[0].stored.dtype, "I32");
  EXPECT_EQ(packed[0].stored.shape, (std::vector<std::int64_t>{8, 3}));
  EXPECT_EQ(packed[1].stored.name, "x.weight_scale");
  EXPECT_EQ(packed[1].stored.dtype, "F16");
  EXPECT_EQ(packed[1].stored.shape, (std::vector<std::int64_t>{8, 1}));
  EXPECT_EQ(packed[2].stored.name, "x.weight_shape");
  EXPECT_EQ(packed[2].stored.dtype, "I64");
  const auto plain = int8_tensors("x.weight", 8, 9, Int8Scheme::kW8A8, DType::kBF16);
  ASSERT_EQ(plain.size(), 2u);
  EXPECT_EQ(plain[0].stored.name, "x.weight");
  EXPECT_EQ(plain[0].stored.dtype, "I8");
  EXPECT_EQ(plain[0].stored.shape, (std::vector<std::int64_t>{8, 9}));
}

}  // namespace
}  // namespace lockstep
