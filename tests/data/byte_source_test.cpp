// Plain, gzip and zstd bytes: members and frames in a row, and each way such data can be damaged.
#include "data/byte_source.h"

#include "compress.h"
#include "core/rng.h"
#include "fixture.h"

namespace lockstep {
namespace {

using test::expect_error;
using test::gzip;
using test::TempDir;
using test::write_file;
using test::zstd;

class ByteSourceTest : public ::testing::Test {
 protected:
  // All bytes, asked for in portions of `size`.
  std::string read_all(const std::string& content, Compression compression, std::size_t size) {
    write_file(dir / "data", content);
    const auto source = open_bytes(dir / "data", "data", compression);
    std::string all;
    std::string chunk(size, '\0');
    while (const std::size_t got = source->read(chunk.data(), size)) all.append(chunk, 0, got);
    EXPECT_EQ(source->position(), static_cast<std::int64_t>(content.size()));
    return all;
  }
  static std::string words(std::size_t count) {
    std::string text;
    for (std::size_t i = 0; i < count; ++i) text += fmt::format("word {} ", philox(1, i)[0] % 999);
    return text;
  }
  TempDir dir;
};

TEST_F(ByteSourceTest, WhatWasCompressedComesBackAtAnyRequestSize) {
  const std::string text = words(60000);  // more than an input buffer and a zstd block
  for (const std::size_t size : {std::size_t{1}, std::size_t{1000}, std::size_t{1} << 20}) {
    const std::string part = size == 1 ? text.substr(0, 9000) : text;
    EXPECT_EQ(read_all(part, Compression::kNone, size), part);
    EXPECT_EQ(read_all(gzip(part), Compression::kGzip, size), part);
    EXPECT_EQ(read_all(zstd(part), Compression::kZstd, size), part);
  }
}

TEST_F(ByteSourceTest, MembersAndFramesFollowEachOther) {
  EXPECT_EQ(read_all(gzip("one ") + gzip("") + gzip("two"), Compression::kGzip, 3), "one two");
  EXPECT_EQ(read_all(zstd("one ") + zstd("") + zstd("two"), Compression::kZstd, 3), "one two");
  EXPECT_EQ(read_all(gzip(""), Compression::kGzip, 3), "");
}

TEST_F(ByteSourceTest, ZerosBehindTheEndArePadding) {
  const std::string zeros(10'000, '\0');
  for (const std::size_t size : {std::size_t{3}, std::size_t{1} << 20}) {
    EXPECT_EQ(read_all(gzip("one ") + zeros + gzip("two") + zeros, Compression::kGzip, size),
              "one two");
    EXPECT_EQ(read_all(zstd("one ") + zeros, Compression::kZstd, size), "one ");
  }
  expect_error(ExitCode::kData, {"data: damaged gzip data"},
               [&] { read_all(zeros + gzip("x"), Compression::kGzip, 3); });
  expect_error(ExitCode::kData, {"data: damaged gzip data"},
               [&] { read_all(gzip("x") + "trailing", Compression::kGzip, 3); });
}

TEST_F(ByteSourceTest, EveryTruncationIsNoticed) {
  const std::string text = words(20);
  for (const auto& [whole, compression] :
       {std::pair{gzip(text), Compression::kGzip}, std::pair{zstd(text), Compression::kZstd}}) {
    for (std::size_t size = 1; size < whole.size(); ++size) {
      expect_error(ExitCode::kData, {"data: truncated", fmt::format("at byte {}", size), "again"},
                   [&] { read_all(whole.substr(0, size), compression, 4096); });
    }
  }
}

TEST_F(ByteSourceTest, DamageIsNamedWithItsPlace) {
  const std::string text = words(5000);
  std::string bad = gzip(text);
  bad[bad.size() / 2] = static_cast<char>(bad[bad.size() / 2] ^ 0x55);
  expect_error(ExitCode::kData, {"data: damaged gzip data near byte", "again"},
               [&] { read_all(bad, Compression::kGzip, 4096); });
  bad = zstd(text);
  bad[bad.size() / 2] = static_cast<char>(bad[bad.size() / 2] ^ 0x55);
  expect_error(ExitCode::kData, {"data: damaged zstd data near byte", "again"},
               [&] { read_all(bad, Compression::kZstd, 4096); });
  expect_error(ExitCode::kData, {"data: damaged gzip", "incorrect header"},
               [&] { read_all("plain text", Compression::kGzip, 4096); });
  expect_error(ExitCode::kData, {"data: damaged gzip"},
               [&] { read_all(gzip("a") + "rest", Compression::kGzip, 4096); });
  expect_error(ExitCode::kData, {"data: damaged zstd"},
               [&] { read_all("plain text", Compression::kZstd, 4096); });
}

TEST_F(ByteSourceTest, RandomDamageNeverDoesMoreThanFail) {
  const std::string text = words(300);
  int failed = 0;
  for (std::uint64_t round = 0; round < 500; ++round) {
    const Compression compression = round % 2 == 0 ? Compression::kGzip : Compression::kZstd;
    std::string bytes = round % 2 == 0 ? gzip(text) : zstd(text);
    const auto random = philox(5, round);
    bytes[random[0] % bytes.size()] = static_cast<char>(random[1]);
    if (random[2] % 4 == 0) bytes.resize(random[3] % bytes.size() + 1);
    try {
      read_all(bytes, compression, 1024);
    } catch (const UserError& error) {
      EXPECT_EQ(error.code(), ExitCode::kData);
      ++failed;
    }
  }
  EXPECT_GT(failed, 450);
}

// A frame may demand a window of gigabytes from whoever decodes it.
TEST_F(ByteSourceTest, WindowsAreLimited) {
  const std::string text = words(1000);
  EXPECT_EQ(read_all(zstd(text, /*window_log=*/27), Compression::kZstd, 4096), text);
  expect_error(ExitCode::kData,
               {"data: its zstd window is above 128 MiB", "`zstd -d --long=31 data`"},
               [&] { read_all(zstd(text, /*window_log=*/28), Compression::kZstd, 4096); });
}

TEST_F(ByteSourceTest, MagicNumbersTellCompressions) {
  EXPECT_EQ(compression_of(gzip("x")), Compression::kGzip);
  EXPECT_EQ(compression_of(zstd("x")), Compression::kZstd);
  EXPECT_EQ(compression_of("text"), Compression::kNone);
  EXPECT_EQ(compression_of(""), Compression::kNone);
}

TEST_F(ByteSourceTest, SkippingCountsDecompressedBytes) {
  write_file(dir / "data", gzip("0123456789"));
  const auto source = open_bytes(dir / "data", "data", Compression::kGzip);
  std::int64_t told = 0;
  EXPECT_TRUE(skip_bytes(*source, 7, [&](std::int64_t position) { told = position; }));
  EXPECT_GT(told, 0);
  char next = 0;
  EXPECT_EQ(source->read(&next, 1), 1u);
  EXPECT_EQ(next, '7');
  EXPECT_FALSE(skip_bytes(*source, 3, {}));
}

}  // namespace
}  // namespace lockstep
