// prepare over JSON lines and compressed inputs: masks, threads, errors by line, bounded memory.
#include "compress.h"
#include "core/rng.h"
#include "data/prepare.h"
#include "data/prepared.h"
#include "data/tokenizer.h"
#include "fixture.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace lockstep {
namespace {

using test::expect_error;
using test::gzip;
using test::read_file;
using test::TempDir;
using test::tokens_of;
using test::write_file;
using test::zstd;

using Names = std::vector<std::string>;

class PrepareFormatsTest : public ::testing::Test {
 protected:
  PrepareOptions options(const Names& inputs, const std::string& out = "out") const {
    PrepareOptions result;
    for (const std::string& input : inputs) result.inputs.push_back(dir / input);
    result.out = dir / out;
    return result;
  }
  std::string text_of(const std::string& split, const std::string& out = "out") const {
    std::string text;
    for (const std::string& path : prepared_shards(dir / out, split)) {
      text += open_tokenizer("byte")->decode(tokens_of(path));
    }
    return text;
  }
  // Every file that a run wrote, by name.
  std::string content(const std::string& out) const {
    std::string all;
    for (const std::string& name : names_in(dir / out)) {
      if (name == kTokenizerDirectory) continue;
      all += name + ":" + read_file(dir / (out + "/" + name)) + "\n";
    }
    return all;
  }
  static std::string letters(std::size_t count, std::uint64_t key) {
    std::string text;
    for (std::size_t i = 0; i < count; ++i) text += static_cast<char>('a' + philox(key, i)[0] % 26);
    return text;
  }
  // Lines of both kinds, some long.
  static std::string lines(int count) {
    std::string all;
    for (int i = 0; i < count; ++i) {
      const std::string text = letters(i % 50 == 0 ? 5000 : 20, static_cast<std::uint64_t>(i));
      all += i % 3 == 0 ? fmt::format("{{\"prompt\": \"<{}\", \"completion\": \"{}>\"}}\n", i, text)
                        : fmt::format("{{\"text\": \"<{} {}>\"}}\n", i, text);
    }
    return all;
  }
  TempDir dir;
};

TEST_F(PrepareFormatsTest, CompressedTextsGiveTheShardsOfPlainOnes) {
  const std::string text = letters(700'000, 1);
  write_file(dir / "a.txt", text);
  write_file(dir / "b.txt.gz", gzip(text));
  write_file(dir / "c.zst", zstd(text.substr(0, 300'000)) + zstd(text.substr(300'000)));
  prepare(options({"a.txt"}, "plain"));
  EXPECT_EQ(prepare(options({"b.txt.gz"}, "gz")).bytes, 700'000);
  prepare(options({"c.zst"}, "zst"));
  EXPECT_EQ(content("gz"), content("plain"));
  EXPECT_EQ(content("zst"), content("plain"));
  EXPECT_EQ(text_of("val", "gz"), text.substr(630'000));
}

TEST_F(PrepareFormatsTest, LinesAreDocumentsAndSplitWhole) {
  write_file(dir / "a.jsonl", lines(1000));
  write_file(dir / "b.jsonl.gz", gzip(lines(1000)));
  write_file(dir / "c.jsonl.zst", zstd(lines(1000)));
  const PrepareResult result = prepare(options({"a.jsonl"}));
  EXPECT_EQ(result.documents, 1000);
  EXPECT_EQ(result.train_tokens + result.val_tokens, result.bytes);
  const std::string train = text_of("train");
  const std::string val = text_of("val");
  int held_out = 0;
  for (int i = 0; i < 1000; ++i) {
    const std::string begin = fmt::format("<{}", i) + (i % 3 == 0 ? "" : " ");
    const std::string text = letters(i % 50 == 0 ? 5000 : 20, static_cast<std::uint64_t>(i)) + ">";
    const bool in_val = val.find(begin + text) != std::string::npos;
    EXPECT_NE(train.find(begin + text) != std::string::npos, in_val) << i;
    held_out += in_val ? 1 : 0;
  }
  EXPECT_NEAR(held_out, 100, 40);
  prepare(options({"b.jsonl.gz"}, "gz"));
  prepare(options({"c.jsonl.zst"}, "zst"));
  EXPECT_EQ(content("gz"), content("out"));
  EXPECT_EQ(content("zst"), content("out"));
}

TEST_F(PrepareFormatsTest, TheNumberOfThreadsDoesNotMatter) {
  write_file(dir / "a.jsonl", lines(6000));
  write_file(dir / "b.txt", letters(900'000, 7));
  write_file(dir / "c.txt.gz", gzip(letters(900'000, 8)));
  auto wanted = options({"a.jsonl", "b.txt", "c.txt.gz"}, "out1");
  wanted.threads = 1;
  wanted.shard_tokens = 100'000;
  prepare(wanted);
  for (const int threads : {2, 5, 16}) {
    wanted.threads = threads;
    wanted.out = dir / fmt::format("out{}", threads);
    prepare(wanted);
    EXPECT_EQ(content(fmt::format("out{}", threads)), content("out1")) << threads;
  }
}

TEST_F(PrepareFormatsTest, MasksStandBesideTheShardsThatNeedThem) {
  write_file(dir / "a.jsonl", R"({"text": "aaaa"}
{"text": "bb"}
{"prompt": "cc", "completion": "dd"}
{"text": "ee"}
{"text": "ffff"}
)");
  auto wanted = options({"a.jsonl"});
  wanted.val_fraction = 0.0;
  wanted.shard_tokens = 6;
  const PrepareResult result = prepare(wanted);
  EXPECT_EQ(result.masked_tokens, 2);
  EXPECT_EQ(names_in(dir / "out"), (Names{"tokenizer", "train_000000.bin", "train_000001.bin",
                                          "train_000001.mask", "train_000002.bin"}));
  EXPECT_EQ(read_file(dir / "out/train_000001.mask"), std::string("\0\0\1\1\1\1", 6));
  EXPECT_EQ(text_of("train"), "aaaabbccddeeffff");
  wanted.shard_tokens = 100;  // the mask begins in the middle of a shard
  wanted.out = dir / "one";
  prepare(wanted);
  EXPECT_EQ(read_file(dir / "one/train_000000.mask"),
            std::string("\1\1\1\1\1\1\0\0\1\1\1\1\1\1\1\1", 16));
  EXPECT_TRUE(Shard(dir / "one/train_000000.bin").info().has_mask);
}

TEST_F(PrepareFormatsTest, OtherFieldsAndEmptyDocuments) {
  write_file(dir / "a.jsonl", "{\"body\": \"x\"}\n{\"body\": \"\"}\n{\"body\": \"y\"}\n");
  auto wanted = options({"a.jsonl"});
  wanted.text_field = "body";
  wanted.val_fraction = 0.0;
  const PrepareResult result = prepare(wanted);
  EXPECT_EQ(result.documents, 2);
  EXPECT_EQ(result.empty_documents, 1);
  EXPECT_EQ(text_of("train"), "xy");
}

TEST_F(PrepareFormatsTest, EmptyFilesAreLeftOutLikeEmptyLines) {
  write_file(dir / "a.jsonl", "\n{\"text\": \"\"}\n");
  expect_error(ExitCode::kData, {"a.jsonl: no document in it"},
               [&] { prepare(options({"a.jsonl"})); });
  write_file(dir / "b.txt", "");
  write_file(dir / "c.txt.gz", gzip(""));
  expect_error(ExitCode::kData, {": empty; there is no text"}, [&] {
    prepare(options({"b.txt", "c.txt.gz"}));
  });
  write_file(dir / "d.txt", "text");
  auto wanted = options({"a.jsonl", "b.txt", "c.txt.gz", "d.txt"});
  const PrepareResult result = prepare(wanted);
  EXPECT_EQ(result.documents, 1);
  EXPECT_EQ(result.empty_documents, 3);
}

TEST_F(PrepareFormatsTest, EncodingsAndHalvesOfCharacters) {
  write_file(dir / "a.jsonl", "{\"text\": \"\\ud83d.\", \"score\": NaN}\n{\"text\": \"b\"}\n");
  auto wanted = options({"a.jsonl"});
  wanted.val_fraction = 0.0;
  EXPECT_EQ(prepare(wanted).replaced, 1);
  EXPECT_EQ(text_of("train"), "\xef\xbf\xbd.b");
  write_file(dir / "latin.txt",
             "Gr\xfc\xdf"
             "e");
  wanted = options({"latin.txt"}, "bytes");
  EXPECT_EQ(prepare(wanted).bytes, 5);  // bytes are bytes
  wanted.tokenizer = "bpe:260";
  wanted.overwrite = true;
  expect_error(ExitCode::kData, {"latin.txt: not UTF-8", "iconv"}, [&] { prepare(wanted); });
}

TEST_F(PrepareFormatsTest, BadInputsAreNamedAndLeaveNothing) {
  const auto expect_bad = [&](const std::string& name, const std::string& bytes,
                              const Names& parts) {
    write_file(dir / name, bytes);
    write_file(dir / "good.jsonl", lines(100));
    for (const int threads : {1, 4}) {
      auto wanted = options({"good.jsonl", name});
      wanted.threads = threads;
      expect_error(ExitCode::kData, parts, [&] { prepare(wanted); });
      EXPECT_FALSE(std::filesystem::exists(dir / "out"));
    }
  };
  expect_bad("a.jsonl", lines(5000) + "{\"txt\": 1}\n" + lines(5000), {dir / "a.jsonl:5001: no"});
  expect_bad("b.jsonl", "{\"text\": \"caf\xe9\"}\n", {"b.jsonl: not UTF-8 but Latin-1"});
  const std::string packed = gzip(lines(20'000));
  expect_bad("e.jsonl.gz", packed.substr(0, packed.size() / 2), {"e.jsonl.gz: truncated"});
  expect_bad("g.txt.zst", "plain", {"g.txt.zst: damaged zstd data"});
}

// The bad line is before the damage, but may well be encoded after the damage was found.
TEST_F(PrepareFormatsTest, TheFirstErrorIsReportedAtAnyNumberOfThreads) {
  std::string packed = gzip(lines(2000) + "bad\n" + lines(40'000));
  packed.resize(packed.size() - 10);
  write_file(dir / "a.jsonl.gz", packed);
  for (const int threads : {1, 2, 8}) {
    auto wanted = options({"a.jsonl.gz"});
    wanted.threads = threads;
    expect_error(ExitCode::kData, {"a.jsonl.gz:2001: not valid JSON"}, [&] { prepare(wanted); });
  }
}

TEST_F(PrepareFormatsTest, BadOptionsAreNamed) {
  write_file(dir / "a.txt", "text");
  const auto expect_bad = [&](const Names& parts, auto&& change) {
    auto wanted = options({"a.txt"});
    change(wanted);
    expect_error(ExitCode::kUsage, parts, [&] { prepare(wanted); });
    EXPECT_FALSE(std::filesystem::exists(dir / "out"));
  };
  expect_bad({"--threads -1"}, [](auto& o) { o.threads = -1; });
  expect_bad({"--threads 100000", "1024"}, [](auto& o) { o.threads = 100'000; });
  expect_bad({"--text-field is empty"}, [](auto& o) { o.text_field = ""; });
  expect_bad({"--pre-tokenizer qwen2", "bpe:N"}, [](auto& o) { o.pre_tokenizer = "qwen2"; });
  expect_bad({"--eos-token <end>", "bytes have no end-of-text"},
             [](auto& o) { o.eos_token = "<end>"; });
  for (const char* spec : {"bpe:", "bpe:many", "bpe:12x", "bpe:99999999999999999999"}) {
    expect_bad({std::string("--tokenizer ") + spec, "no number"},
               [&](auto& o) { o.tokenizer = spec; });
  }
}

TEST_F(PrepareFormatsTest, ProgressCountsStoredBytes) {
  write_file(dir / "a.jsonl.gz", gzip(lines(3000)));
  write_file(dir / "b.txt.gz", gzip(letters(200'000, 3)));
  auto wanted = options({"a.jsonl.gz", "b.txt.gz"});
  std::vector<std::pair<std::int64_t, std::int64_t>> calls;
  wanted.on_progress = [&](std::int64_t done, std::int64_t total) {
    calls.push_back({done, total});
  };
  prepare(wanted);
  const auto a = static_cast<std::int64_t>(std::filesystem::file_size(dir / "a.jsonl.gz"));
  const auto b = static_cast<std::int64_t>(std::filesystem::file_size(dir / "b.txt.gz"));
  EXPECT_EQ(calls.front(), (std::pair<std::int64_t, std::int64_t>{0, a + 2 * b}));  // measured too
  EXPECT_EQ(calls.back().first, a + 2 * b);
  EXPECT_TRUE(std::is_sorted(calls.begin(), calls.end()));
}

// 160 MB of text from 160 KB of file, one document; the child reports how far its peak rose.
TEST_F(PrepareFormatsTest, ADecompressionBombDoesNotFillTheMemory) {
  std::string bomb;
  const std::string member = gzip(std::string(40 << 20, 'x'));
  for (int i = 0; i < 4; ++i) bomb += member;
  write_file(dir / "a.txt.gz", bomb);
  auto wanted = options({"a.txt.gz"});
  wanted.threads = 2;
  const pid_t child = ::fork();
  if (child == 0) {
    rusage before{}, after{};
    ::getrusage(RUSAGE_SELF, &before);
    const PrepareResult result = prepare(wanted);
    ::getrusage(RUSAGE_SELF, &after);
    const bool whole = result.bytes == std::int64_t{160} << 20;
    ::_exit(!whole ? 4 : after.ru_maxrss - before.ru_maxrss > 64 * 1024 ? 3 : 42);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 42);  // 3: more than the limit
}

}  // namespace
}  // namespace lockstep
