// Text to shards: splits, pipes, refusals, interruption at its worst moments, bounded memory.
#include "data/prepare.h"

#include "core/rng.h"
#include "data/loader.h"
#include "data/prepared.h"
#include "data/tokenizer.h"
#include "fixture.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <thread>

namespace lockstep {
namespace {

using test::expect_error;
using test::read_file;
using test::TempDir;
using test::tokens_of;
using test::write_file;

using Names = std::vector<std::string>;

class PrepareTest : public ::testing::Test {
 protected:
  PrepareOptions options(const std::vector<std::string>& inputs) const {
    PrepareOptions result;
    result.inputs = inputs;
    result.out = dir / "out";
    return result;
  }
  std::string text_file(const std::string& name, const std::string& text) const {
    write_file(dir / name, text);
    return dir / name;
  }
  // The text in all shards of a split.
  std::string text_of(const std::string& split) const {
    std::string text;
    const auto byte = open_tokenizer("byte");
    for (const std::string& path : prepared_shards(dir / "out", split)) {
      text += byte->decode(tokens_of(path));
    }
    return text;
  }
  Names names() const { return names_in(dir / "out"); }
  static std::string letters(std::size_t count, std::uint64_t key = 1) {
    std::string text;
    for (std::size_t i = 0; i < count; ++i) {
      text += static_cast<char>('a' + philox(key, i)[0] % 26);
    }
    return text;
  }
  // Runs prepare in a child process; returns its wait status.
  template <typename Change>
  int run_in_child(PrepareOptions prepared, Change&& change) const {
    const pid_t child = ::fork();
    if (child == 0) {
      change(prepared);
      try {
        prepare(prepared);
      } catch (const std::exception& error) {
        std::fprintf(stderr, "child: %s\n", error.what());
        ::_exit(1);
      }
      ::_exit(0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return status;
  }
  TempDir dir;
};

TEST_F(PrepareTest, OneDocumentGivesItsTailToValidation) {
  const std::string text = letters(1000);
  const PrepareResult result = prepare(options({text_file("a.txt", text)}));
  EXPECT_EQ(result.documents, 1);
  EXPECT_EQ(result.bytes, 1000);
  EXPECT_EQ(result.train_tokens, 900);
  EXPECT_EQ(result.val_tokens, 100);
  EXPECT_EQ(result.vocab, 256);
  EXPECT_EQ(result.shards, (Names{dir / "out/train_000000.bin", dir / "out/val_000000.bin"}));
  EXPECT_EQ(names(), (Names{"tokenizer", "train_000000.bin", "val_000000.bin"}));
  EXPECT_EQ(text_of("train"), text.substr(0, 900));
  EXPECT_EQ(text_of("val"), text.substr(900));
  EXPECT_EQ(Shard(dir / "out/train_000000.bin").info().bytes_per_token, 2);
  EXPECT_EQ(open_tokenizer(dir / "out")->name(), "byte");
}

TEST_F(PrepareTest, ShardsAreFilledOneAfterTheOther) {
  const std::string text = letters(1000);
  auto wanted = options({text_file("a.txt", text)});
  wanted.shard_tokens = 300;
  EXPECT_EQ(prepare(wanted).shards.size(), 4u);
  EXPECT_EQ(text_of("train"), text.substr(0, 900));
  EXPECT_EQ(prepared_shards(dir / "out", "train").size(), 3u);  // 3 x 300, no empty fourth
  for (const std::string& path : prepared_shards(dir / "out", "train")) {
    EXPECT_EQ(Shard(path).info().tokens, 300);
  }
}

TEST_F(PrepareTest, SeveralDocumentsStayWhole) {
  std::vector<std::string> inputs;
  std::vector<std::string> texts;
  for (std::uint64_t i = 0; i < 20; ++i) {
    texts.push_back(fmt::format("<{}>", letters(100 + i, i)));
    inputs.push_back(text_file(std::to_string(i) + ".txt", texts.back()));
  }
  const PrepareResult result = prepare(options(inputs));
  EXPECT_EQ(result.documents, 20);
  const std::string train = text_of("train");
  const std::string val = text_of("val");
  EXPECT_EQ(static_cast<std::int64_t>(train.size() + val.size()), result.bytes);
  EXPECT_NEAR(static_cast<double>(val.size()) / static_cast<double>(result.bytes), 0.1, 0.05);
  for (const std::string& text : texts) {
    EXPECT_NE(train.find(text) == std::string::npos, val.find(text) == std::string::npos);
  }
}

TEST_F(PrepareTest, NoValidationAtZero) {
  auto wanted = options({text_file("a.txt", "hello"), text_file("b.txt", "world")});
  wanted.val_fraction = 0.0;
  EXPECT_EQ(prepare(wanted).val_tokens, 0);
  EXPECT_EQ(names(), (Names{"tokenizer", "train_000000.bin"}));
  EXPECT_EQ(text_of("train"), "helloworld");
  expect_error(ExitCode::kData, {dir / "out", "no val_*.bin", "--val-fraction"},
               [&] { Dataset({dir / "out"}, "val", 2, 256, 1); });
}

TEST_F(PrepareTest, StandardInputAndPipesAreSpooled) {
  const std::string text = letters(100000);
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const int old_stdin = ::dup(STDIN_FILENO);
  ::dup2(ends[0], STDIN_FILENO);
  ::close(ends[0]);
  std::thread feeder([&] {
    std::size_t at = 0;
    while (at < text.size()) {
      const ssize_t put = ::write(ends[1], text.data() + at, text.size() - at);
      if (put <= 0) break;
      at += static_cast<std::size_t>(put);
    }
    ::close(ends[1]);
  });
  const PrepareResult result = prepare(options({"-"}));
  feeder.join();
  ::dup2(old_stdin, STDIN_FILENO);
  ::close(old_stdin);
  EXPECT_EQ(result.train_tokens, 90000);
  EXPECT_EQ(text_of("train") + text_of("val"), text);
  EXPECT_EQ(names(), (Names{"tokenizer", "train_000000.bin", "val_000000.bin"}));
}

TEST_F(PrepareTest, ANamedPipeIsRead) {
  const std::string fifo = dir / "fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  std::thread feeder([&] { std::ofstream(fifo) << "hello pipe"; });
  auto wanted = options({fifo});
  wanted.val_fraction = 0.0;
  prepare(wanted);
  feeder.join();
  EXPECT_EQ(text_of("train"), "hello pipe");
}

TEST_F(PrepareTest, EmptyInputLeavesNothing) {
  const std::string empty = text_file("empty.txt", "");
  expect_error(ExitCode::kData, {empty, "empty"}, [&] { prepare(options({empty})); });
  EXPECT_FALSE(std::filesystem::exists(dir / "out"));
  const int old_stdin = ::dup(STDIN_FILENO);
  const int nothing = ::open("/dev/null", O_RDONLY);
  ::dup2(nothing, STDIN_FILENO);
  ::close(nothing);
  expect_error(ExitCode::kData, {"standard input: empty"}, [&] { prepare(options({"-"})); });
  ::dup2(old_stdin, STDIN_FILENO);
  ::close(old_stdin);
  EXPECT_FALSE(std::filesystem::exists(dir / "out"));
}

TEST_F(PrepareTest, BadOptionsAreNamed) {
  const std::string text = text_file("a.txt", "text");
  const auto expect_bad = [&](const std::vector<std::string>& parts, auto&& change) {
    auto wanted = options({text});
    change(wanted);
    expect_error(ExitCode::kUsage, parts, [&] { prepare(wanted); });
  };
  for (const double fraction : {-0.1, 1.0, 7.0, std::nan("")}) {
    expect_bad({"--val-fraction", "below 1"}, [&](auto& o) { o.val_fraction = fraction; });
  }
  expect_bad({"--shard-tokens 0"}, [](auto& o) { o.shard_tokens = 0; });
  expect_bad({"--out"}, [](auto& o) { o.out = ""; });
  expect_bad({"unknown tokenizer 'bite'"}, [](auto& o) { o.tokenizer = "bite"; });
  expect_bad({"a.txt", "not a directory"}, [&](auto& o) { o.out = text; });
  auto wanted = options({text});
  wanted.out = text + "/out";
  expect_error(ExitCode::kIo, {"a.txt: is a file where a directory"}, [&] { prepare(wanted); });
  EXPECT_EQ(names_in(dir.path()), Names{"a.txt"});
}

TEST_F(PrepareTest, ExistingOutputsAreRefused) {
  const std::string first = letters(1000);
  prepare(options({text_file("a.txt", first)}));
  expect_error(ExitCode::kUsage, {dir / "out", "already holds tokenizer and 2 more", "--overwrite"},
               [&] { prepare(options({text_file("b.txt", "other")})); });
  EXPECT_EQ(text_of("train"), first.substr(0, 900));
  EXPECT_EQ(names(), (Names{"tokenizer", "train_000000.bin", "val_000000.bin"}));
}

TEST_F(PrepareTest, OverwriteRemovesWhatIsNotWrittenAgain) {
  auto wanted = options({text_file("a.txt", letters(1000))});
  wanted.shard_tokens = 100;
  prepare(wanted);
  write_file(dir / "out/train_000000.mask", std::string(100, '\1'));
  write_file(dir / "out/notes.txt", "mine");
  write_file(dir / "out/tokenizer/old.json", "old");
  wanted = options({text_file("b.txt", "hello")});
  wanted.overwrite = true;
  wanted.val_fraction = 0.0;
  prepare(wanted);
  EXPECT_EQ(names(), (Names{"notes.txt", "tokenizer", "train_000000.bin"}));
  EXPECT_EQ(names_in(dir / "out/tokenizer"), Names{"meta.json"});
  EXPECT_EQ(text_of("train"), "hello");
}

TEST_F(PrepareTest, OtherFilesInTheDirectoryDoNotMatter) {
  write_file(dir / "out/mine.txt", letters(100));
  prepare(options({dir / "out/mine.txt"}));
  EXPECT_EQ(names(), (Names{"mine.txt", "tokenizer", "train_000000.bin", "val_000000.bin"}));
}

TEST_F(PrepareTest, AFailureHalfwayLeavesNothingNew) {
  auto wanted = options({text_file("a.txt", letters(1000))});
  wanted.on_progress = [](std::int64_t, std::int64_t) { throw std::runtime_error("stop"); };
  EXPECT_THROW(prepare(wanted), std::runtime_error);
  EXPECT_FALSE(std::filesystem::exists(dir / "out"));
}

TEST_F(PrepareTest, ProgressGoesFromNothingToAll) {
  auto wanted = options({text_file("a.txt", letters(1000)), text_file("b.txt", letters(500))});
  std::vector<std::pair<std::int64_t, std::int64_t>> calls;
  wanted.on_progress = [&](std::int64_t done, std::int64_t total) {
    calls.push_back({done, total});
  };
  prepare(wanted);
  ASSERT_GE(calls.size(), 2u);
  EXPECT_EQ(calls.front(), (std::pair<std::int64_t, std::int64_t>{0, 1500}));
  EXPECT_EQ(calls.back(), (std::pair<std::int64_t, std::int64_t>{1500, 1500}));
  EXPECT_TRUE(std::is_sorted(calls.begin(), calls.end()));
}

// Killed before the first token, and when everything is written but nothing published.
TEST_F(PrepareTest, KilledRunsLeaveNothingUnderTheFinalNames) {
  const std::string text = letters(5000);
  const auto wanted = options({text_file("a.txt", text)});
  for (const std::int64_t moment : {0, 5000}) {
    const int status = run_in_child(wanted, [&](PrepareOptions& changed) {
      changed.on_progress = [moment](std::int64_t done, std::int64_t) {
        if (done == moment) ::raise(SIGKILL);
      };
    });
    ASSERT_TRUE(WIFSIGNALED(status)) << status;
    EXPECT_EQ(names(), Names{kStagingDirectory});
    EXPECT_TRUE(prepared_shards(dir / "out", "train").empty());
  }
  prepare(wanted);  // no --overwrite needed, and the leftovers are gone
  EXPECT_EQ(names(), (Names{"tokenizer", "train_000000.bin", "val_000000.bin"}));
  EXPECT_EQ(text_of("train") + text_of("val"), text);
}

TEST_F(PrepareTest, KilledOverwriteKeepsTheOldCorpus) {
  const std::string text = letters(1000);
  prepare(options({text_file("a.txt", text)}));
  const int status =
      run_in_child(options({text_file("b.txt", letters(3000, 2))}), [](PrepareOptions& changed) {
        changed.overwrite = true;
        changed.on_progress = [](std::int64_t done, std::int64_t) {
          if (done == 3000) ::raise(SIGKILL);
        };
      });
  ASSERT_TRUE(WIFSIGNALED(status)) << status;
  EXPECT_EQ(text_of("train") + text_of("val"), text);
}

TEST_F(PrepareTest, AnInterruptedPublicationIsClearedByTheNextRun) {
  write_file(dir / "out/train_000000.bin", "half of something");
  write_file(dir / "out/.prepare.tmp/publishing", "");
  write_file(dir / "out/.prepare.tmp/val_000000.bin", "rest");
  auto wanted = options({text_file("a.txt", "hello")});
  wanted.val_fraction = 0.0;
  prepare(wanted);
  EXPECT_EQ(names(), (Names{"tokenizer", "train_000000.bin"}));
  EXPECT_EQ(text_of("train"), "hello");
}

TEST_F(PrepareTest, TwoRunsOnOneDirectoryAreRefused) {
  auto wanted = options({text_file("a.txt", letters(1000))});
  bool tried = false;
  wanted.on_progress = [&](std::int64_t, std::int64_t) {
    if (std::exchange(tried, true)) return;
    expect_error(ExitCode::kUsage, {dir / "out", "another `lockstep` is writing"},
                 [&] { prepare(options({dir / "a.txt"})); });
  };
  prepare(wanted);
  EXPECT_TRUE(tried);
  EXPECT_EQ(names(), (Names{"tokenizer", "train_000000.bin", "val_000000.bin"}));
}

TEST_F(PrepareTest, AFullDiskIsOneLineAndLeavesNothing) {
  const auto wanted = options({text_file("a.txt", letters(100000))});
  rlimit old{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old), 0);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{50000, old.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  expect_error(ExitCode::kIo, {"train_000000.bin", "File too large", "ulimit -f"},
               [&] { prepare(wanted); });
  ::setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_FALSE(std::filesystem::exists(dir / "out"));
}

// The second of three renames fails: a directory stands where the shard should go.
TEST_F(PrepareTest, AFailedPublicationLeavesNoMixture) {
  write_file(dir / "out/val_000000.bin/in_the_way", "x");
  auto wanted = options({text_file("a.txt", letters(1000))});
  wanted.overwrite = true;
  expect_error(ExitCode::kIo, {"val_000000.bin", "cannot publish"}, [&] { prepare(wanted); });
  EXPECT_TRUE(names().empty());
}

// 200 MB of holes; the child reports how far its peak memory rose.
TEST_F(PrepareTest, MemoryDoesNotGrowWithTheText) {
  const std::string path = text_file("big.txt", "x");
  std::filesystem::resize_file(path, 200'000'000);
  constexpr std::int64_t kLimitKiB = 64 * 1024;
  const int status = run_in_child(options({path}), [](PrepareOptions& changed) {
    rusage before{};
    ::getrusage(RUSAGE_SELF, &before);
    changed.on_progress = [start = before.ru_maxrss](std::int64_t done, std::int64_t total) {
      rusage now{};
      ::getrusage(RUSAGE_SELF, &now);
      if (now.ru_maxrss - start > kLimitKiB) ::_exit(3);
      if (done == total) ::_exit(total == 200'000'000 ? 42 : 4);
    };
  });
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 42);  // 3: more than the limit
}

}  // namespace
}  // namespace lockstep
