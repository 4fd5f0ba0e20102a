// Training a vocabulary: small cases by hand, and that pieces and threads do not matter.
#include "data/bpe_train.h"

#include "bpe_fixture.h"

#include <thread>

namespace lockstep {
namespace {

using test::expect_error;
using test::ids_of;
using test::odd_text;

BpeTrainOptions options_of(std::int64_t vocab, const std::string& name = "gpt2") {
  BpeTrainOptions options;
  options.vocab = vocab;
  options.pre_tokenizer = name;
  return options;
}

std::string train(const BpeTrainOptions& options, const std::vector<std::string>& texts) {
  BpeTrainer trainer(options);
  for (const std::string& text : texts) trainer.add(text);
  return trainer.finish({});
}

TEST(BpeTrain, JoinsTheMostFrequentPairAndBreaksTiesByIds) {
  // "ab" 3 times, "bc" 3 times: (a, b) has the smaller ids; then (ab, c).
  const std::string text = train(options_of(260), {"abc abc abc xyxy", "<|endoftext|>"});
  BpeTrainer trainer(options_of(260));
  const auto bpe = parse_tokenizer(text, trainer.config_text(), "trained");
  ASSERT_EQ(bpe->vocab_size(), 260);
  const auto& entries = bpe->table().entries;
  EXPECT_EQ(entries[0].text, "!");  // bytes stand in the order of their characters
  EXPECT_EQ(entries[256].text, "ab");
  EXPECT_EQ(entries[257].text, "abc");
  EXPECT_EQ(entries[258].text, "xy");
  EXPECT_EQ(entries[259].text, "<|endoftext|>");
  EXPECT_EQ(entries[259].kind, TokenTable::Kind::kSpecial);
  EXPECT_EQ(bpe->end_of_text(), 259);
  EXPECT_EQ(bpe->table().pre_tokenizer, "gpt2");
  EXPECT_EQ(ids_of(*bpe, "abc<|endoftext|>"), (std::vector<std::int32_t>{257, 259}));
}

TEST(BpeTrain, PiecesOrderAndThreadsDoNotMatter) {
  std::string text;
  for (std::uint64_t i = 0; i < 100; ++i) text += odd_text(i, 40);
  for (const std::string& name : pre_tokenizer_names()) {
    if (pre_tokenizer_boundary(name).empty()) continue;
    BpeTrainOptions options = options_of(400, name);
    const std::string expected = train(options, {text});
    BpeTrainer trainer(options);
    std::vector<std::string_view> pieces;
    for (std::string_view rest = text; !rest.empty(); rest.remove_prefix(pieces.back().size())) {
      const std::size_t cut = trainer.safe_cut(rest.substr(0, 700));
      pieces.push_back(rest.substr(0, cut == 0 ? rest.size() : cut));
    }
    EXPECT_GT(pieces.size(), 5U);
    std::vector<std::thread> threads;
    for (std::size_t worker = 0; worker < 3; ++worker) {
      threads.emplace_back([&, worker] {
        for (std::size_t i = pieces.size(); i-- > 0;) {
          if (i % 3 == worker) trainer.add(pieces[i]);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(trainer.finish({}), expected) << name;
  }
}

TEST(BpeTrain, ProgressIsReportedAndMayStop) {
  std::vector<std::int64_t> seen;
  BpeTrainer trainer(options_of(258));
  trainer.add("aa");
  trainer.finish([&](std::int64_t done, std::int64_t all) {
    EXPECT_EQ(all, 1);
    seen.push_back(done);
  });
  EXPECT_EQ(seen, (std::vector<std::int64_t>{0, 1}));
  BpeTrainer stopped(options_of(258));
  stopped.add("aa");
  EXPECT_THROW(stopped.finish([](std::int64_t, std::int64_t) { throw std::runtime_error("x"); }),
               std::runtime_error);
}

TEST(BpeTrain, WhatCannotBeDoneIsSaid) {
  expect_error(ExitCode::kUsage, {"unknown pre-tokenizer 'gpt3'", "did you mean 'gpt2'"},
               [] { BpeTrainer(options_of(300, "gpt3")); });
  expect_error(ExitCode::kUsage, {"256 entries", "257"}, [] { BpeTrainer(options_of(256)); });
  expect_error(ExitCode::kUsage, {"entries", "16777216"},
               [] { BpeTrainer(options_of(1LL << 40)); });
  expect_error(ExitCode::kData, {"allows a vocabulary of 259 entries", "not 300"},
               [] { train(options_of(300), {"aa aa"}); });
  expect_error(ExitCode::kUsage, {"end-of-text token", "UTF-8"}, [] {
    BpeTrainOptions options = options_of(300);
    options.eos_token = "\xff";
    BpeTrainer{options};
  });
  expect_error(ExitCode::kUsage, {"end-of-text token 'a' is also an ordinary token"}, [] {
    BpeTrainOptions options = options_of(257);
    options.eos_token = "a";
    train(options, {"aa"});
  });
}

}  // namespace
}  // namespace lockstep
