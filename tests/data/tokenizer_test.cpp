// What a tokenizer may be named by, and directories that remember one.
#include "data/tokenizer.h"

#include "fixture.h"

namespace lockstep {
namespace {

using test::expect_error;
using test::TempDir;
using test::write_file;

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

}  // namespace
}  // namespace lockstep
