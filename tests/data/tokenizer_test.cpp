// The byte tokenizer and the directories that remember a tokenizer.
#include "data/tokenizer.h"

#include "core/rng.h"
#include "fixture.h"

namespace lockstep {
namespace {

using test::expect_error;
using test::TempDir;
using test::write_file;

TEST(Tokenizer, BytesAreTheIdentity) {
  const auto tokenizer = open_tokenizer("byte");
  EXPECT_EQ(tokenizer->name(), "byte");
  EXPECT_EQ(tokenizer->vocab_size(), 256);
  EXPECT_EQ(tokenizer->end_of_text(), -1);
  std::vector<std::int32_t> ids = {7};
  tokenizer->encode("A\xff", ids);
  EXPECT_EQ(ids, (std::vector<std::int32_t>{7, 65, 255}));  // appended
}

TEST(Tokenizer, RandomBytesRoundTripWholeAndInPieces) {
  const auto tokenizer = open_tokenizer("byte");
  for (std::uint64_t round = 0; round < 50; ++round) {
    std::string text;
    for (std::uint64_t i = 0; i < 40 * round; ++i) {
      text += static_cast<char>(philox(round, i)[0]);
    }
    std::vector<std::int32_t> whole, pieces;
    tokenizer->encode(text, whole);
    EXPECT_EQ(tokenizer->decode(whole), text);
    const std::size_t cut = text.size() / 3;
    tokenizer->encode(std::string_view(text).substr(0, cut), pieces);
    tokenizer->encode(std::string_view(text).substr(cut), pieces);
    EXPECT_EQ(pieces, whole);
  }
}

TEST(Tokenizer, IdsThatItDoesNotKnowAreShownAsReplacementCharacters) {
  EXPECT_EQ(open_tokenizer("byte")->decode({65, 256, -1}), "A\xef\xbf\xbd\xef\xbf\xbd");
}

TEST(Tokenizer, SavedDirectoriesOpenAgain) {
  const TempDir dir;
  std::filesystem::create_directories(dir / "corpus/tokenizer");
  open_tokenizer("byte")->save(dir / "corpus/tokenizer");
  EXPECT_EQ(open_tokenizer(dir / "corpus/tokenizer")->name(), "byte");
  EXPECT_EQ(open_tokenizer(dir / "corpus")->name(), "byte");
}

TEST(Tokenizer, WhatIsNotUnderstoodIsNamed) {
  const TempDir dir;
  expect_error(ExitCode::kUsage, {"unknown tokenizer 'bytes'", "did you mean 'byte'"},
               [] { open_tokenizer("bytes"); });
  expect_error(ExitCode::kUsage, {"unknown tokenizer 'sentencepiece'; give byte"},
               [] { open_tokenizer("sentencepiece"); });
  expect_error(ExitCode::kData, {dir / "none", "no such tokenizer"},
               [&] { open_tokenizer(dir / "none"); });
  expect_error(ExitCode::kData, {dir.path(), "no tokenizer here", "meta.json"},
               [&] { open_tokenizer(dir.path()); });
  write_file(dir / "file", "x");
  expect_error(ExitCode::kData, {dir / "file", "no JSON object", "tokenizer.json"},
               [&] { open_tokenizer(dir / "file"); });
  expect_error(ExitCode::kUsage, {"eos token '</s>'", "byte tokenizer"},
               [&] { open_tokenizer("byte", "</s>"); });
}

TEST(Tokenizer, BytesOpenAgainAsAHuggingFaceFile) {
  const TempDir dir;
  open_tokenizer("byte")->save_hugging_face(dir.path());
  const auto tokenizer = open_tokenizer(dir.path());
  EXPECT_EQ(tokenizer->name(), "bpe");
  EXPECT_EQ(tokenizer->vocab_size(), 256);
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  std::vector<std::int32_t> ids;
  tokenizer->encode(all, ids);
  EXPECT_EQ(ids, test::counting(256));
  EXPECT_EQ(open_tokenizer("byte")->table().entries.size(), 256U);
}

TEST(Tokenizer, BadMetaFilesAreNamed) {
  const TempDir dir;
  const std::string meta = dir / "meta.json";
  const auto expect_bad = [&](std::string_view content, const std::vector<std::string>& parts) {
    write_file(meta, content);
    expect_error(ExitCode::kData, parts, [&] { open_tokenizer(dir.path()); });
  };
  for (const char* text : {"", "{", "[]", "{\"type\": 3, \"vocab\": 256}", "{\"type\": \"byte\"}",
                           "{\"type\": \"byte\", \"vocab\": \"256\"}"}) {
    expect_bad(text, {meta, "not JSON with"});
  }
  expect_bad("{\"type\": \"rune\", \"vocab\": 256}", {meta, "'rune' is not understood", "byte"});
  expect_bad("{\"type\": \"byte\", \"vocab\": 257}", {meta, "vocab 257", "256"});
  expect_bad(std::string(3 << 20, ' '), {meta, "no tokenizer's meta.json"});
}

}  // namespace
}  // namespace lockstep
