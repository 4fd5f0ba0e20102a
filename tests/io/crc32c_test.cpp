// CRC-32C against the published check values, and the two implementations against each other.
#include "io/crc32c.h"

#include <gtest/gtest.h>

#include <string_view>
#include <vector>

namespace lockstep {
namespace {

std::span<const std::byte> bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

TEST(Crc32c, PublishedValues) {
  EXPECT_EQ(crc32c(0, bytes("123456789")), 0xe3069283u);
  EXPECT_EQ(crc32c_portable(0, bytes("123456789")), 0xe3069283u);
  // RFC 3720, appendix B.4: 32 bytes of zeros, and of ones.
  EXPECT_EQ(crc32c(0, std::vector<std::byte>(32, std::byte{0})), 0x8a9136aau);
  EXPECT_EQ(crc32c_portable(0, std::vector<std::byte>(32, std::byte{0xff})), 0x62a8ab43u);
  EXPECT_EQ(crc32c(0, {}), 0u);
}

TEST(Crc32c, AllLengthsAndSplitsAgree) {
  std::vector<std::byte> data(200);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i * 37 + 11);
  for (std::size_t size = 0; size <= data.size(); ++size) {
    const std::span all = std::span(data).first(size);
    const std::uint32_t expected = crc32c_portable(0, all);
    ASSERT_EQ(crc32c(0, all), expected) << size;
    const std::size_t cut = size / 3;
    ASSERT_EQ(crc32c(crc32c(0, all.first(cut)), all.subspan(cut)), expected) << size;
  }
}

}  // namespace
}  // namespace lockstep
