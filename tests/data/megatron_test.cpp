// Megatron's DATA.bin with its DATA.idx: every type of token, either name, files above 2^31 tokens,
// and everything an index can get wrong.
#include "data/megatron.h"

#include "core/rng.h"
#include "data/loader.h"
#include "fixture.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstring>

namespace lockstep {
namespace {

using test::counting;
using test::expect_error;
using test::read_file;
using test::TempDir;
using test::tokens_of;
using test::write_file;
using test::write_shard;

template <typename T>
void put(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

template <typename T>
std::string raw(const std::vector<std::int64_t>& tokens) {
  std::string bytes;
  for (const std::int64_t token : tokens) put(bytes, static_cast<T>(token));
  return bytes;
}

// The index of sequences with these lengths, each a document.
std::string index_of(int code, int bytes_per_token, const std::vector<std::int32_t>& lengths) {
  std::string bytes("MMIDIDX\0\0", 9);
  put<std::int64_t>(bytes, 1);
  put<std::uint8_t>(bytes, static_cast<std::uint8_t>(code));
  put<std::int64_t>(bytes, static_cast<std::int64_t>(lengths.size()));
  put<std::int64_t>(bytes, static_cast<std::int64_t>(lengths.size()) + 1);
  for (const std::int32_t length : lengths) put(bytes, length);
  std::int64_t offset = 0;
  for (const std::int32_t length : lengths) {
    put(bytes, offset);
    offset += std::int64_t{length} * bytes_per_token;
  }
  for (std::size_t i = 0; i <= lengths.size(); ++i) put(bytes, static_cast<std::int64_t>(i));
  return bytes;
}

class MegatronTest : public ::testing::Test {
 protected:
  void write_corpus(const std::string& name, const std::string& index, const std::string& data) {
    write_file(dir / (name + ".idx"), index);
    write_file(dir / (name + ".bin"), data);
  }
  void expect_bad(const std::vector<std::string>& parts) {
    for (const char* name : {"a.idx", "a.bin"}) {
      expect_error(ExitCode::kData, parts, [&] { Shard shard(dir / name); });
    }
  }
  TempDir dir;
};

TEST_F(MegatronTest, EveryTypeOfTokenIsReadUnderEitherName) {
  const std::vector<std::int64_t> tokens = {5, 0, 127, 33, 2};
  const std::vector<std::int32_t> expected(tokens.begin(), tokens.end());
  const struct {
    int code, bytes;
    const char* dtype;
    std::string data;
  } cases[] = {
      {1, 1, "uint8", raw<std::uint8_t>(tokens)}, {2, 1, "int8", raw<std::int8_t>(tokens)},
      {3, 2, "int16", raw<std::int16_t>(tokens)}, {4, 4, "int32", raw<std::int32_t>(tokens)},
      {5, 8, "int64", raw<std::int64_t>(tokens)}, {8, 2, "uint16", raw<std::uint16_t>(tokens)}};
  for (const auto& one : cases) {
    write_corpus("a", index_of(one.code, one.bytes, {2, 0, 3}), one.data);
    for (const char* name : {"a.idx", "a.bin"}) {
      const Shard shard(dir / name);
      EXPECT_EQ(shard.info().format, std::string("Megatron ") + one.dtype);
      EXPECT_EQ(shard.info().dtype, one.dtype);
      EXPECT_EQ(shard.info().bytes_per_token, one.bytes);
      EXPECT_EQ(shard.info().tokens, 5);
      EXPECT_EQ(shard.max_token(), 127);
      EXPECT_EQ(tokens_of(dir / name), expected);
    }
  }
}

TEST_F(MegatronTest, TokensThatAreNoIdsAreNamed) {
  std::vector<std::int32_t> out(3);
  const auto expect_token = [&](int code, int bytes, const std::string& data,
                                const std::string& token) {
    write_corpus("a", index_of(code, bytes, {3}), data);
    const Shard shard(dir / "a.bin");
    expect_error(ExitCode::kData, {"a.bin: token " + token + " at position 1", "vocabulary"},
                 [&] { shard.read(0, out, 0x7fffffff); });
    expect_error(ExitCode::kData, {"a.bin", token}, [&] { shard.max_token(); });
  };
  expect_token(2, 1, raw<std::int8_t>({1, -1, 2}), "-1");
  expect_token(3, 2, raw<std::int16_t>({1, -300, 2}), "-300");
  expect_token(4, 4, raw<std::int32_t>({1, -7, 2}), "-7");
  expect_token(5, 8, raw<std::int64_t>({1, (std::int64_t{1} << 32) + 5, 2}), "4294967301");
  expect_token(5, 8, raw<std::int64_t>({1, -5, 2}), "-5");
  write_corpus("a", index_of(2, 1, {3}), raw<std::int8_t>({1, -1, 2}));
  expect_error(ExitCode::kData, {"token -1 at position 1", "vocabulary of 256"},
               [&] { Shard(dir / "a.bin").read(0, out, 256); });  // not 255
}

TEST_F(MegatronTest, FoundByMagicNotByName) {
  const std::string index = index_of(8, 2, {4});
  write_corpus("a", index, raw<std::uint16_t>({1, 2, 3, 4}));
  write_file(dir / "a.index", index);
  EXPECT_EQ(Shard(dir / "a.index").info().tokens, 4);
  // Beside a stranger's index an llm.c shard stays what it is.
  write_shard(dir / "b.bin", counting(10));
  write_file(dir / "b.idx", index);
  EXPECT_EQ(Shard(dir / "b.bin").info().format, "llm.c uint16");
  write_file(dir / "c.bin", std::string(2000, '\3'));
  write_file(dir / "c.idx", "no index");
  expect_error(ExitCode::kData, {"c.bin: not a token shard", "no Megatron .idx"},
               [&] { Shard(dir / "c.bin"); });
  expect_error(ExitCode::kData, {"c.idx: truncated or no token shard"},
               [&] { Shard(dir / "c.idx"); });
}

TEST_F(MegatronTest, APairIsFoundOnce) {
  write_corpus("d/a", index_of(8, 2, {4}), raw<std::uint16_t>({1, 2, 3, 4}));
  write_corpus("d/b", index_of(8, 2, {4}), raw<std::uint16_t>({5, 6, 7, 8}));
  write_file(dir / "d/a.mask", "\1\1\1\1");
  using Paths = std::vector<std::string>;
  const Paths both = {dir / "d/a.idx", dir / "d/b.idx"};
  EXPECT_EQ(find_shards({dir / "d/*"}, "train"), both);
  EXPECT_EQ(find_shards({dir / "d/*.idx"}, "train"), both);
  EXPECT_EQ(find_shards({dir / "d/*.bin"}, "train"), (Paths{dir / "d/a.bin", dir / "d/b.bin"}));
  EXPECT_EQ(find_shards({dir / "d/a.bin", dir / "d/a.idx"}, "train"), Paths{dir / "d/a.idx"});
}

TEST_F(MegatronTest, SamplesAndMasksAreThoseOfOneStream) {
  write_corpus("a", index_of(4, 4, {1, 3, 1}), raw<std::int32_t>({10, 11, 12, 13, 14}));
  write_file(dir / "a.mask", std::string("\1\1\0\1\1", 5));
  for (const char* name : {"a.idx", "a.bin"}) {
    const Dataset dataset({dir / name}, "val", /*seq_len=*/2, /*vocab=*/20, /*seed=*/1);
    EXPECT_EQ(dataset.samples(), 2);
    std::vector<std::int32_t> inputs(2), targets(2);
    dataset.file_sample(0, inputs.data(), targets.data());
    EXPECT_EQ(inputs, (std::vector<std::int32_t>{10, 11}));
    EXPECT_EQ(targets, (std::vector<std::int32_t>{11, -1}));
    dataset.file_sample(1, inputs.data(), targets.data());
    EXPECT_EQ(inputs, (std::vector<std::int32_t>{12, 13}));
    EXPECT_EQ(targets, (std::vector<std::int32_t>{13, 14}));
  }
  write_file(dir / "a.mask", "\1");
  expect_bad({"a.mask: mask of 1 bytes", "5 tokens"});
}

TEST_F(MegatronTest, FingerprintFollowsTypeAndTokensNotTheName) {
  const std::string data = raw<std::int32_t>({1, 2, 3, 4});
  write_corpus("a", index_of(4, 4, {4}), data);
  const std::string fingerprint = Shard(dir / "a.idx").fingerprint();
  EXPECT_EQ(Shard(dir / "a.bin").fingerprint(), fingerprint);
  write_corpus("b", index_of(3, 2, {8}), data);
  EXPECT_NE(Shard(dir / "b.idx").fingerprint(), fingerprint);
  write_corpus("c", index_of(4, 4, {4}), raw<std::int32_t>({1, 2, 3, 5}));
  EXPECT_NE(Shard(dir / "c.idx").fingerprint(), fingerprint);
}

TEST_F(MegatronTest, EveryContradictionIsNamed) {
  const std::string data = raw<std::uint16_t>({1, 2, 3, 4, 5});
  const std::string good = index_of(8, 2, {2, 3});
  const auto expect_changed = [&](std::size_t at, const std::string& bytes,
                                  const std::vector<std::string>& parts) {
    std::string bad = good;
    bad.replace(at, bytes.size(), bytes);
    write_corpus("a", bad, data);
    expect_bad(parts);
  };
  expect_changed(9, "\2", {"a.idx: Megatron index of version 2", "version 1"});
  expect_changed(17, std::string("\0", 1), {"a.idx: type code 0", "1 to 8"});
  expect_changed(17, "\x63", {"a.idx: type code 99"});
  expect_changed(17, "\6", {"a.idx: holds float64 numbers"});
  expect_changed(17, "\7", {"a.idx: holds float32 numbers"});
  expect_changed(18, "\3", {"a.idx: truncated", "3 sequences and 3 document bounds"});
  expect_changed(18, "\1", {"a.idx: trailing bytes", "1 sequences"});
  expect_changed(18, std::string(8, '\x7f'), {"a.idx: truncated"});
  expect_changed(18, std::string(8, '\xff'), {"a.idx: truncated", "-1 sequences"});
  expect_changed(26, std::string("\0\0\0\0\0\0\0\x20", 8), {"a.idx: truncated"});
  expect_changed(34, "\1", {"a.idx: sequence 1 has 3 tokens at byte 4; expected at byte 2"});
  expect_changed(34, "\xff\xff\xff\xff", {"a.idx: sequence 0 has -1 tokens"});
  expect_changed(38, "\4", {"a.idx: sequence 1 has 4 tokens", "of the 10 in", "a.bin"});
  expect_changed(38, "\2", {"a.idx: its sequences end at byte 8", "a.bin has 10 bytes"});
  expect_changed(50, "\6", {"a.idx: sequence 1 has 3 tokens at byte 6; expected at byte 4"});
  expect_changed(58, "\2", {"a.idx: a document begins at sequence 1, after one at 2"});
  expect_changed(74, "\3", {"a.idx: a document begins at sequence 3, after one at"});
}

TEST_F(MegatronTest, BrokenPairsAreNamed) {
  const std::string data = raw<std::uint16_t>({1, 2, 3, 4, 5});
  const std::string good = index_of(8, 2, {2, 3});
  write_corpus("a", good.substr(0, 20), data);
  expect_bad({"a.idx: truncated: 20 bytes", "header's 34"});
  write_corpus("a", good + "xx", data);
  expect_bad({"a.idx: a multimodal index"});  // a byte per sequence follows
  write_corpus("a", good + "xxx", data);
  expect_bad({"a.idx: trailing bytes"});
  write_corpus("a", good, data.substr(0, 8));
  expect_bad({"a.idx: sequence 1", "of the 8 in"});
  write_corpus("a", good, data + "x");
  expect_bad({"a.idx: its sequences end at byte 10", "11 bytes"});
  write_corpus("a", good, "");
  expect_error(ExitCode::kData, {"a.bin: empty file"}, [&] { Shard(dir / "a.idx"); });
  std::filesystem::remove(dir / "a.bin");
  expect_error(ExitCode::kData, {"a.bin: cannot open", "the tokens that", "a.idx describes"},
               [&] { Shard(dir / "a.idx"); });
}

// Two sequences that together pass 2^31 tokens; the file is a hole but for its end.
TEST_F(MegatronTest, MoreThan2To31Tokens) {
  constexpr std::int32_t kFirst = 0x7fffffff;
  const std::int64_t tokens = std::int64_t{kFirst} + 1000;
  write_file(dir / "huge.idx", index_of(8, 2, {kFirst, 1000}));
  const std::string path = dir / "huge.bin";
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT, 0600);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(::ftruncate(fd, 2 * tokens), 0);
  const std::uint16_t last[2] = {4711, 42};
  ASSERT_EQ(::pwrite(fd, last, 4, 2 * (tokens - 2)), 4);
  ::close(fd);
  const Shard shard(dir / "huge.idx");
  EXPECT_EQ(shard.info().tokens, tokens);
  std::vector<std::int32_t> out(3);
  shard.read(tokens - 3, out, 50000);
  EXPECT_EQ(out, (std::vector<std::int32_t>{0, 4711, 42}));
  const Dataset dataset({path}, "val", /*seq_len=*/999, /*vocab=*/50000, /*seed=*/1);
  EXPECT_EQ(dataset.samples(), (tokens - 1) / 999);
}

// Whatever stands in an index, a shard or a mask: a shard that can be read whole, or one line.
TEST_F(MegatronTest, RandomDamageNeverDoesMoreThanFail) {
  write_corpus("a", index_of(3, 2, {2, 3, 0, 4}),
               raw<std::int16_t>(std::vector<std::int64_t>(9, 7)));
  write_shard(dir / "b.bin", counting(9));
  write_file(dir / "b.mask", std::string(9, '\1'));
  int opened = 0;
  for (const char* victim : {"a.idx", "a.bin", "b.bin", "b.mask"}) {
    const std::string good = read_file(dir / victim);
    const std::string shard = std::string(victim).substr(0, 1) + ".bin";
    for (std::uint64_t round = 0; round < 500; ++round) {
      std::string bad = good;
      const auto random = philox(9, round);
      // Most of an llm.c header is not looked at.
      const std::size_t within = std::min<std::size_t>(bad.size(), 100);
      bad[random[0] % within] = static_cast<char>(random[1]);
      if (random[2] % 4 == 0) bad.resize(random[3] % bad.size());
      write_file(dir / victim, bad);
      try {
        const Shard damaged(dir / shard);
        std::vector<std::int32_t> all(static_cast<std::size_t>(damaged.info().tokens));
        damaged.read(0, all, 1 << 16);
        std::vector<std::uint8_t> mask(all.size());
        damaged.read_mask(0, mask);
        damaged.fingerprint();
        ++opened;
      } catch (const UserError& error) {
        EXPECT_EQ(error.code(), ExitCode::kData) << error.what();
        EXPECT_EQ(std::string_view(error.what()).find('\n'), std::string_view::npos);
      }
    }
    write_file(dir / victim, good);
  }
  EXPECT_GT(opened, 100);
  EXPECT_LT(opened, 1900);
}

}  // namespace
}  // namespace lockstep
