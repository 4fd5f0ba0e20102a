// Messages of rooms below, as commands without configuration keys say them.
#include "app/command_words.h"

#include "app/support.h"
#include "core/error.h"
#include "device/arena.h"
#include "kernels/backend.h"

#include <gtest/gtest.h>

#include <regex>

namespace lockstep {
namespace {

using test::catch_error;

TEST(CommandWords, FlagsStandForKeys) {
  EXPECT_EQ(in_words_of(eval_words(), "x: no such file; check the path in data.val"),
            "x: no such file; check the path in --data");
  EXPECT_EQ(in_words_of(eval_words(),
                        "data.val: x is too short for one sample: 3 tokens, 17 needed "
                        "(model.seq_len + 1); lower model.seq_len or bring more text"),
            "--data: x is too short for one sample: 3 tokens, 17 needed (--seq-len + 1); lower "
            "--seq-len or bring more text");
  EXPECT_EQ(in_words_of(export_words(),
                        "use the tokenizer that made this shard, or raise "
                        "model.vocab"),
            "use the tokenizer that made this shard");
  EXPECT_EQ(in_words_of(generate_words(), "plain"), "plain");
}

TEST(CommandWords, ErrorsKeepTheirCodeAndKind) {
  const auto refusal = catch_error([] {
    run_in_words_of(eval_words(), [] { return fail(ExitCode::kConfig, "run.device=cuda"), 0; });
  });
  EXPECT_EQ(refusal.code, ExitCode::kConfig);
  EXPECT_EQ(refusal.message, "--device=cuda");
  EXPECT_THROW(run_in_words_of(eval_words(), [] { return fail_together(ExitCode::kData, "x"), 0; }),
               CollectiveError);
  EXPECT_EQ(run_in_words_of(eval_words(), [] { return 3; }), 3);
}

// What the arena advises names keys; no command may be left with one that it lacks.
TEST(CommandWords, NoAdviceOfTheArenaNamesAKey) {
  const std::regex key("(train|model|memory|comm|data|run)\\.[a-z_]+");
  const auto device = kCpuBackend.open(/*ordinal=*/0, /*threads=*/1);
  for (const MemoryGroup group :
       {MemoryGroup::kWeights, MemoryGroup::kLogits, MemoryGroup::kActivations}) {
    Arena arena(*device);
    const auto huge = [&] { arena.allocate("x", {std::int64_t{1} << 55}, DType::kF32, group); };
    const std::string message = catch_error(huge).message;
    EXPECT_TRUE(std::regex_search(message, key)) << message;
    for (const CommandWords& words : {eval_words(), export_words(), generate_words()}) {
      const std::string said = in_words_of(words, message);
      EXPECT_FALSE(std::regex_search(said, key)) << said;
    }
  }
}

}  // namespace
}  // namespace lockstep
