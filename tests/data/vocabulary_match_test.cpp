// Shards that carry another vocabulary are refused, naming both.
#include "data/vocabulary_match.h"

#include "bpe_fixture.h"

#include <filesystem>

namespace lockstep {
namespace {

using test::bpe_json;
using test::expect_error;
using test::TempDir;
using test::write_file;

constexpr MismatchError kError{ExitCode::kConfig, "do this"};

TEST(VocabularyMatch, BothAreNamedWithTheDifference) {
  const auto one = test::parse(bpe_json({"t h"}));
  const auto other = open_tokenizer("byte");
  require_same_vocabulary({*one, "a"}, {*test::parse(bpe_json({"t h"})), "b"}, kError);
  expect_error(ExitCode::kConfig,
               {"the first a (bpe, 257 entries)", "the second b (byte, 256 entries)",
                "id 256 is 'th' in the first and unused in the second; do this"},
               [&] {
                 require_same_vocabulary({*one, "a"}, {*other, "b"}, kError);
               });
}

TEST(VocabularyMatch, EveryTokenizerBesideTheShardsCounts) {
  const TempDir dir;
  const auto wanted = test::parse(bpe_json({"t h"}));
  const auto check = [&](const std::vector<std::string>& patterns) {
    require_vocabulary_of_shards({*wanted, "the model's"}, patterns, "data.val", kError);
  };
  for (const char* name : {"same", "other", "none", "broken"}) {
    write_file((dir / name) + "/val_000000.bin", "");
  }
  std::filesystem::create_directories(dir / "same/tokenizer");
  wanted->save(dir / "same/tokenizer");
  write_file(dir / "broken/tokenizer/tokenizer.json", "{");
  write_file(dir / "other/tokenizer/tokenizer.json", bpe_json({"h e"}).dump());
  check({dir / "same", dir / "none", dir / "broken", dir / "missing"});
  for (const std::string& pattern :
       {dir / "other", dir / "*", "0.5:" + (dir / "other/val_*.bin")}) {
    expect_error(ExitCode::kConfig, {dir / "other/tokenizer", "of data.val", "'he'"}, [&] {
      check({dir / "same", pattern});
    });
  }
}

}  // namespace
}  // namespace lockstep
