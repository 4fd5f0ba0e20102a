// Shards on disk: round trips, masks, files above 2^31 tokens, and one clear line for each way a
// file can be wrong.
#include "data/shard.h"

#include "data/shard_format.h"
#include "fixture.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>

namespace lockstep {
namespace {

using test::counting;
using test::expect_error;
using test::read_file;
using test::TempDir;
using test::tokens_of;
using test::write_file;
using test::write_shard;

constexpr std::int64_t kVocab = 1 << 20;

class ShardTest : public ::testing::Test {
 protected:
  void expect_bad(const std::string& path, const std::vector<std::string>& parts) {
    expect_error(ExitCode::kData, parts, [&] { Shard shard(path); });
  }
  TempDir dir;
};

TEST_F(ShardTest, RoundTripsBothWidths) {
  const std::vector<std::int32_t> narrow = {0, 1, 65535, 256, 7};
  const std::vector<std::int32_t> wide = {0, 65536, 1000000, 3, 0x7fffffff};
  write_shard(dir / "n.bin", narrow, 2);
  write_shard(dir / "w.bin", wide, 4);
  const Shard n(dir / "n.bin");
  const Shard w(dir / "w.bin");
  EXPECT_EQ(n.info().format, "llm.c uint16");
  EXPECT_EQ(w.info().format, "llm.c uint32");
  EXPECT_EQ(n.info().tokens, 5);
  EXPECT_EQ(w.info().bytes_per_token, 4);
  EXPECT_EQ(n.max_token(), 65535);
  EXPECT_EQ(w.max_token(), 0x7fffffff);
  EXPECT_EQ(tokens_of(dir / "n.bin"), narrow);
  std::vector<std::int32_t> middle(3);
  w.read(1, middle, kVocab);
  EXPECT_EQ(middle, (std::vector<std::int32_t>{65536, 1000000, 3}));
  EXPECT_EQ(std::filesystem::file_size(dir / "n.bin"), 1024u + 10u);
  EXPECT_FALSE(std::filesystem::exists(dir / "n.bin.tmp"));
}

TEST_F(ShardTest, BytesOnDiskAreLittleEndianAfterTheHeader) {
  write_shard(dir / "a.bin", {0x0102, 0x0304}, 2);
  const std::string bytes = read_file(dir / "a.bin");
  EXPECT_EQ(bytes.substr(1024), std::string("\x02\x01\x04\x03", 4));
  EXPECT_EQ(bytes.substr(0, 4), std::string("\x88\xd8\x34\x01", 4));  // 20240520
}

TEST_F(ShardTest, TokensOutsideTheVocabularyAreNamed) {
  write_shard(dir / "a.bin", {5, 9, 300, 2}, 2);
  const Shard shard(dir / "a.bin");
  std::vector<std::int32_t> out(4);
  expect_error(ExitCode::kData, {"a.bin", "token 300 at position 2", "vocabulary of 256"},
               [&] { shard.read(0, out, 256); });
  shard.read(0, std::span(out).first(2), 10);
  EXPECT_EQ(out[1], 9);
  expect_error(ExitCode::kData, {"token 9 at position 1"},
               [&] { shard.read(0, std::span(out).first(2), 9); });
}

TEST_F(ShardTest, IdsAbove31BitsAreOutsideAnyVocabulary) {
  write_shard(dir / "a.bin", {1, 2}, 4);
  std::string bytes = read_file(dir / "a.bin");
  bytes.replace(1028, 4, "\xff\xff\xff\xff");
  write_file(dir / "a.bin", bytes);
  const Shard shard(dir / "a.bin");
  std::vector<std::int32_t> out(2);
  expect_error(ExitCode::kData, {"token 4294967295 at position 1"},
               [&] { shard.read(0, out, 0x7fffffff); });
  expect_error(ExitCode::kData, {"a.bin", "4294967295"}, [&] { shard.max_token(); });
}

TEST_F(ShardTest, ReadingPastTheEndIsOurOwnMistake) {
  const Shard shard(write_shard(dir / "a.bin", counting(4)));
  std::vector<std::int32_t> out(3);
  EXPECT_THROW(shard.read(2, out, kVocab), CheckError);
  EXPECT_THROW(shard.read(-1, out, kVocab), CheckError);
  EXPECT_NO_THROW(shard.read(1, out, kVocab));
}

TEST_F(ShardTest, MasksRoundTrip) {
  const std::vector<std::uint8_t> mask = {1, 0, 0, 1};
  ShardWriter writer(dir / "a.bin", 2, /*with_mask=*/true);
  writer.append(counting(2), std::span(mask).first(2));
  writer.append(counting(2), std::span(mask).last(2));
  writer.close();
  const Shard shard(dir / "a.bin");
  EXPECT_TRUE(shard.info().has_mask);
  std::vector<std::uint8_t> out(3);
  shard.read_mask(1, out);
  EXPECT_EQ(out, (std::vector<std::uint8_t>{0, 0, 1}));

  const Shard plain(write_shard(dir / "plain.bin", counting(4)));
  EXPECT_FALSE(plain.info().has_mask);
  plain.read_mask(1, out);
  EXPECT_EQ(out, (std::vector<std::uint8_t>{1, 1, 1}));
}

TEST_F(ShardTest, BadMasksAreNamed) {
  write_shard(dir / "a.bin", counting(4));
  write_file(dir / "a.mask", "\1\1\1");
  expect_bad(dir / "a.bin", {"a.mask", "3 bytes", "4 tokens", "one byte per token"});
  write_file(dir / "a.mask", "");
  expect_bad(dir / "a.bin", {"a.mask", "0 bytes"});
  write_file(dir / "a.mask", "1111");
  const Shard shard(dir / "a.bin");
  std::vector<std::uint8_t> out(2);
  expect_error(ExitCode::kData, {"a.mask", "byte 49 at position 1", "only 0 and 1"},
               [&] { shard.read_mask(1, out); });
  std::filesystem::remove(dir / "a.mask");
  std::filesystem::create_directory(dir / "a.mask");
  expect_bad(dir / "a.bin", {"a.mask", "is a directory"});
}

TEST_F(ShardTest, EveryMalformedFileGetsOneClearLine) {
  expect_bad(dir / "none.bin", {"none.bin", "No such file", "token shard"});
  expect_bad(dir.path(), {dir.path(), "is a directory"});
  write_file(dir / "empty.bin", "");
  expect_bad(dir / "empty.bin", {"empty.bin", "empty file", "lockstep prepare"});
  write_file(dir / "short.bin", std::string("\x88\xd8\x34\x01", 4));
  expect_bad(dir / "short.bin", {"short.bin", "4 bytes", "1024"});
  write_file(dir / "text.bin", std::string(2000, 'x'));
  expect_bad(dir / "text.bin", {"text.bin", "looks like text", "lockstep prepare"});
  write_file(dir / "other.bin", std::string(2000, '\3'));
  expect_bad(dir / "other.bin", {"other.bin", "not a token shard", "50529027", "20240520"});
  expect_bad("/dev/null", {"/dev/null", "not a regular file"});
}

TEST_F(ShardTest, UnreadableFilesGetOneClearLine) {
  std::filesystem::create_symlink("loop.bin", dir / "loop.bin");  // fails for root too
  expect_bad(dir / "loop.bin", {"loop.bin", "cannot open"});
  if (::geteuid() == 0) GTEST_SKIP() << "root may read everything: permissions not tested";
  write_shard(dir / "secret.bin", counting(4));
  std::filesystem::permissions(dir / "secret.bin", std::filesystem::perms::none);
  expect_bad(dir / "secret.bin", {"secret.bin", "Permission denied"});
}

TEST_F(ShardTest, WrongSizesSayWhatWasFoundAndExpected) {
  const std::string whole = read_file(write_shard(dir / "a.bin", counting(100)));
  for (const std::size_t cut : {std::size_t{1}, std::size_t{2}, std::size_t{200}}) {
    write_file(dir / "cut.bin", std::string_view(whole).substr(0, whole.size() - cut));
    expect_bad(dir / "cut.bin", {"cut.bin: truncated", "100 tokens", "1224 bytes",
                                 std::to_string(1224 - cut), "again"});
  }
  write_file(dir / "long.bin", whole + "abc");
  expect_bad(dir / "long.bin", {"long.bin: trailing bytes", "100 tokens", "1227"});
}

// A file of more than 2^31 tokens that occupies almost nothing: holes read as zeros.
TEST_F(ShardTest, MoreThan2To31Tokens) {
  const std::int64_t tokens = (std::int64_t{1} << 31) + 1000;
  const std::string path = dir / "huge.bin";
  const ShardHeader header = make_shard_header(2, tokens);
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT, 0600);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(::pwrite(fd, header.data(), sizeof header, 0), 1024);
  ASSERT_EQ(::ftruncate(fd, kShardHeaderBytes + 2 * tokens), 0);
  const std::uint16_t last[2] = {4711, 42};
  ASSERT_EQ(::pwrite(fd, last, 4, kShardHeaderBytes + 2 * (tokens - 2)), 4);
  ::close(fd);

  const Shard shard(path);
  EXPECT_EQ(shard.info().tokens, tokens);
  std::vector<std::int32_t> out(3);
  shard.read(tokens - 3, out, 50000);
  EXPECT_EQ(out, (std::vector<std::int32_t>{0, 4711, 42}));
  EXPECT_EQ(shard.fingerprint().size(), 32u);
}

TEST_F(ShardTest, FingerprintFollowsContentNotPath) {
  const auto tokens = counting(5000);
  const std::string a = Shard(write_shard(dir / "a.bin", tokens)).fingerprint();
  EXPECT_EQ(Shard(write_shard(dir / "b.bin", tokens)).fingerprint(), a);
  auto other = tokens;
  other[2500] += 1;
  EXPECT_NE(Shard(write_shard(dir / "c.bin", other)).fingerprint(), a);
  EXPECT_NE(Shard(write_shard(dir / "d.bin", tokens, 4)).fingerprint(), a);
  EXPECT_NE(Shard(write_shard(dir / "e.bin", counting(4999))).fingerprint(), a);
  write_file(dir / "b.mask", std::string(5000, '\1'));
  EXPECT_NE(Shard(dir / "b.bin").fingerprint(), a);
}

TEST_F(ShardTest, FingerprintOfALargeShardSamplesBothEnds) {
  std::vector<std::int32_t> tokens(3'000'000, 7);
  const std::string a = Shard(write_shard(dir / "a.bin", tokens)).fingerprint();
  for (const std::size_t at : {std::size_t{0}, tokens.size() - 1}) {
    auto changed = tokens;
    changed[at] = 8;
    EXPECT_NE(Shard(write_shard(dir / "b.bin", changed)).fingerprint(), a) << at;
  }
}

TEST_F(ShardTest, AnUnfinishedShardLeavesNothing) {
  {
    ShardWriter writer(dir / "a.bin", 2, /*with_mask=*/true);
    writer.append(counting(3), std::vector<std::uint8_t>{1, 1, 1});
    EXPECT_EQ(writer.tokens(), 3);
    EXPECT_FALSE(std::filesystem::exists(dir / "a.bin"));
  }
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

TEST_F(ShardTest, WriterRefusesWhatTheFormatCannotHold) {
  ShardWriter writer(dir / "a.bin", 2, /*with_mask=*/false);
  EXPECT_THROW(writer.append(std::vector<std::int32_t>{65536}), CheckError);
  EXPECT_THROW(writer.append(std::vector<std::int32_t>{-1}), CheckError);
  EXPECT_THROW(writer.append(counting(1), std::vector<std::uint8_t>{1}), CheckError);
}

// A mapping would end the process with a signal here.
TEST_F(ShardTest, AShardCutShortInUseIsAnErrorWithItsName) {
  const std::string path = write_shard(dir / "a.bin", counting(60000));
  const Shard shard(path);
  std::filesystem::resize_file(path, 4096);
  std::vector<std::int32_t> tokens(1000);
  shard.read(0, tokens, 60000);
  expect_error(ExitCode::kData, {path, "was cut short while in use"},
               [&] { shard.read(50000, tokens, 60000); });
}

TEST_F(ShardTest, WriteFailuresNamePathReasonAndRemedy) {
  expect_error(ExitCode::kIo, {"no_dir/a.bin", "No such file", "check the path"},
               [&] { ShardWriter writer(dir / "no_dir/a.bin", 2, /*with_mask=*/false); });
  rlimit old{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old), 0);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{4096, old.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  expect_error(ExitCode::kIo, {"big.bin", "File too large", "ulimit -f"}, [&] {
    ShardWriter writer(dir / "big.bin", 2, /*with_mask=*/false);
    for (int i = 0; i < 10; ++i) writer.append(counting(1000));
    writer.close();
  });
  ::setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

}  // namespace
}  // namespace lockstep
