// prepare with tokenizers of more than bytes: trained on the corpus or brought along, end-of-text
// between documents, and the same shards at any number of threads.
#include "core/rng.h"
#include "data/bpe_train.h"
#include "data/prepare.h"
#include "data/prepared.h"
#include "data/tokenizer.h"
#include "fixture.h"

namespace lockstep {
namespace {

using test::expect_error;
using test::read_file;
using test::TempDir;
using test::tokens_of;
using test::write_file;

class PrepareTokenizerTest : public ::testing::Test {
 protected:
  PrepareOptions options(const std::vector<std::string>& inputs, const std::string& out) const {
    PrepareOptions result;
    for (const std::string& input : inputs) result.inputs.push_back(dir / input);
    result.out = dir / out;
    result.val_fraction = 0.0;
    return result;
  }
  std::vector<std::int32_t> tokens(const std::string& out) const {
    std::vector<std::int32_t> all;
    for (const std::string& path : prepared_shards(dir / out, "train")) {
      const auto some = tokens_of(path);
      all.insert(all.end(), some.begin(), some.end());
    }
    return all;
  }
  // Words of a small language, with lines, numbers and letters outside ASCII.
  static std::string prose(std::size_t words) {
    const char* const kWords[] = {"the",     "river", "caf\xc3\xa9",
                                  "sings",   "12",    "2048",
                                  "don't",   "over",  "\xe4\xbd\xa0\xe5\xa5\xbd",
                                  "lantern", ".\n",   "  deep"};
    std::string text;
    for (std::size_t i = 0; i < words; ++i) {
      text += std::string(kWords[philox(4, i)[0] % std::size(kWords)]) + " ";
    }
    return text;
  }
  // A tokenizer of 300 entries, saved under `name` with or without the file that names eos.
  void save_tokenizer(const std::string& name, const std::string& eos, bool with_config) const {
    BpeTrainOptions training;
    training.vocab = 300;
    training.eos_token = eos;
    BpeTrainer trainer(training);
    trainer.add(prose(2000));
    write_file(dir / (name + "/tokenizer.json"), trainer.finish([](auto, auto) {}));
    if (with_config) write_file(dir / (name + "/tokenizer_config.json"), trainer.config_text());
  }
  TempDir dir;
};

TEST_F(PrepareTokenizerTest, ATokenizerIsTrainedAndLeftBesideTheShards) {
  const std::string text = prose(20'000);
  write_file(dir / "a.txt", text);
  write_file(dir / "b.jsonl",
             "{\"text\": \"the river\"}\n{\"prompt\": \"the\", \"completion\": \"x\"}\n");
  auto wanted = options({"a.txt", "b.jsonl"}, "out");
  wanted.tokenizer = "bpe:290";
  wanted.pre_tokenizer = "qwen2";
  wanted.eos_token = "<end>";
  std::vector<std::int64_t> done;
  wanted.on_progress = [&](std::int64_t now, std::int64_t) { done.push_back(now); };
  const PrepareResult result = prepare(wanted);
  EXPECT_EQ(result.vocab, 290);
  EXPECT_TRUE(std::is_sorted(done.begin(), done.end()));
  const auto tokenizer = open_tokenizer(dir / "out");
  EXPECT_EQ(tokenizer->name(), "bpe");
  EXPECT_EQ(tokenizer->vocab_size(), result.vocab);
  ASSERT_GE(tokenizer->end_of_text(), 0);
  std::vector<std::int32_t> expected;
  for (const std::string& document : {text, std::string("the river")}) {
    tokenizer->encode(document, expected);
    expected.push_back(tokenizer->end_of_text());
  }
  tokenizer->encode("the", expected);
  const std::size_t prompt = expected.size();
  tokenizer->encode("x", expected);
  expected.push_back(tokenizer->end_of_text());
  EXPECT_EQ(tokens("out"), expected);
  EXPECT_EQ(tokenizer->decode(expected), text + "<end>the river<end>thex<end>");
  EXPECT_LT(expected.size(), text.size() / 2);
  const std::string mask = read_file(dir / "out/train_000000.mask");
  ASSERT_EQ(mask.size(), expected.size());
  EXPECT_EQ(mask[prompt - 1], 0);
  EXPECT_EQ(mask.substr(prompt), std::string(expected.size() - prompt, '\1'));
}

TEST_F(PrepareTokenizerTest, PiecesAndThreadsDoNotShow) {
  const std::string text = prose(150'000);  // several pieces
  write_file(dir / "a.txt", text);
  save_tokenizer("bpe", "<end>", /*with_config=*/true);
  std::vector<std::int32_t> expected;
  const auto tokenizer = open_tokenizer(dir / "bpe");
  tokenizer->encode(text, expected);
  expected.push_back(tokenizer->end_of_text());
  for (const int threads : {1, 3}) {
    auto wanted = options({"a.txt"}, fmt::format("out{}", threads));
    wanted.tokenizer = dir / "bpe";
    wanted.threads = threads;
    prepare(wanted);
    EXPECT_EQ(tokens(fmt::format("out{}", threads)), expected);
  }
  for (const int threads : {1, 3}) {
    auto wanted = options({"a.txt"}, fmt::format("trained{}", threads));
    wanted.tokenizer = "bpe:300";
    wanted.threads = threads;
    prepare(wanted);
  }
  EXPECT_EQ(read_file(dir / "trained1/tokenizer/tokenizer.json"),
            read_file(dir / "trained3/tokenizer/tokenizer.json"));
  EXPECT_EQ(tokens("trained1"), tokens("trained3"));
}

TEST_F(PrepareTokenizerTest, EndOfTextComesFromTheFlagOrTheFilesOrIsAskedFor) {
  write_file(dir / "a.txt", "the river");
  save_tokenizer("named", "<end>", /*with_config=*/true);
  save_tokenizer("silent", "<end>", /*with_config=*/false);
  auto wanted = options({"a.txt"}, "out");
  wanted.tokenizer = dir / "silent";
  expect_error(ExitCode::kUsage, {dir / "silent", "end-of-text", "--eos-token"},
               [&] { prepare(wanted); });
  EXPECT_FALSE(std::filesystem::exists(dir / "out"));
  wanted.eos_token = "<end>";
  prepare(wanted);
  const auto from_flag = tokens("out");
  wanted.eos_token = "";
  wanted.tokenizer = dir / "named";
  wanted.out = dir / "out2";
  prepare(wanted);
  EXPECT_EQ(tokens("out2"), from_flag);
  wanted.out = dir / "out3";
  wanted.eos_token = "<stop>";
  expect_error(ExitCode::kUsage, {"<stop>"}, [&] { prepare(wanted); });
}

TEST_F(PrepareTokenizerTest, BadTrainingOptionsAreNamed) {
  write_file(dir / "a.txt", "text");
  auto wanted = options({"a.txt"}, "out");
  wanted.tokenizer = "bpe:10";
  expect_error(ExitCode::kUsage, {"10"}, [&] { prepare(wanted); });
  wanted.tokenizer = "bpe:300";
  wanted.pre_tokenizer = "qwen";
  expect_error(ExitCode::kUsage, {"qwen", "qwen2"}, [&] { prepare(wanted); });
  wanted.pre_tokenizer = "";
  wanted.on_progress = [](std::int64_t done, std::int64_t) {
    if (done > 0) throw std::runtime_error("stop");
  };
  EXPECT_THROW(prepare(wanted), std::runtime_error);
  EXPECT_FALSE(std::filesystem::exists(dir / "out"));
}

}  // namespace
}  // namespace lockstep
