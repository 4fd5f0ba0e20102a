// Oniguruma's syntax in PCRE2's, and what is refused because the two read it differently.
#include "data/regex.h"
#include "fixture.h"

namespace lockstep {
namespace {

using test::expect_error;

TEST(RegexSyntax, WhatOnigurumaReadsDifferentlyIsRefused) {
  const std::vector<std::pair<std::string, std::string>> bad = {{"a\\h", "\\h"},
                                                                {"[a&&b]", "&& in a class"},
                                                                {"[a[b]]", "[ in a class"},
                                                                {"(?m:a)", "(?m"},
                                                                {"(?<n>a)", "(?<"},
                                                                {"(*UTF)a", "(*U"},
                                                                {"\\p{N}{1,3}+", "{1,3}+"},
                                                                {"a{,3}", "{,3}"},
                                                                {"(a)\\1", "\\1"},
                                                                {"\\b", "\\b"},
                                                                {"\\pL", "\\p without {...}"},
                                                                {"\\xC3", "\\xC3"},
                                                                {"[]a]", "[] or [^]"},
                                                                {"[\\W]", "\\W in a class"},
                                                                {"\\Ka", "\\K"},
                                                                {"a\\", "\\"},
                                                                {"a{2", "{ without }"},
                                                                {"\\p{L1}", "\\p{L1}"}};
  for (const auto& [pattern, part] : bad) {
    expect_error(ExitCode::kData, {"FILE: '" + part, "is not supported"},
                 [&, &text = pattern] { Regex(text, "FILE"); });
  }
  expect_error(ExitCode::kData, {"FILE", "(a", "is not understood"}, [] { Regex("(a", "FILE"); });
  expect_error(ExitCode::kData, {"FILE", "\\p{Nonesuch}"}, [] { Regex("\\p{Nonesuch}", "FILE"); });
  expect_error(ExitCode::kData, {"FILE", "not UTF-8"}, [] { Regex("\xff", "FILE"); });
  expect_error(ExitCode::kData, {"FILE", "too long"},
               [] { Regex(std::string(1 << 20, 'a'), "FILE"); });
}

TEST(RegexSyntax, TranslatesWhatMeansTheSame) {
  EXPECT_EQ(translate_regex("[^\\r\\n\\p{L}]\\p{^Lu}\\u0041\\x{42}(?i:a|b)(?!c)", "x"),
            "[^\\r\\n\\p{L}]\\P{Lu}\\x{0041}\\x{42}(?i:a|b)(?!c)");
  EXPECT_EQ(translate_regex("\\p{Han}\\d\\D\\v", "x"), "\\p{sc:Han}\\p{Nd}\\P{Nd}\\x{b}");
}

}  // namespace
}  // namespace lockstep
