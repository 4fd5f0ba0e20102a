// What is quoted is handed to a real shell, and must come back as it was.
#include "core/shell_quote.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <string>
#include <vector>

namespace lockstep {
namespace {

std::string through_shell(const std::string& word) {
  const std::string command = "bash -c \"$(cat <<'END'\nprintf %s. " + word + "\nEND\n)\"";
  std::FILE* pipe = ::popen(command.c_str(), "r");
  std::string out;
  for (int c = 0; (c = std::fgetc(pipe)) != EOF;) out += static_cast<char>(c);
  ::pclose(pipe);
  if (!out.empty()) out.pop_back();  // the dot, which keeps newlines at the end
  return out;
}

TEST(ShellQuote, PlainWordsStayAsTheyAre) {
  EXPECT_EQ(shell_word("--data.train=runs/a-b_1.2,c@x:y"), "--data.train=runs/a-b_1.2,c@x:y");
  EXPECT_EQ(shell_word(""), "''");
  EXPECT_EQ(shell_word("my data"), "'my data'");
}

TEST(ShellQuote, ARealShellReadsTheSameWord) {
  for (const std::string word :
       {"two words", "it's", "$HOME `id` \"x\" \\", "*?[a]", "~", "a;b&c|d", "(x)<y>#!",
        "line\nbreak\t'\\", "gr\xc3\xbc\xc3\x9f", "\xff"}) {
    EXPECT_EQ(through_shell(shell_word(word)), word) << shell_word(word);
    EXPECT_EQ(shell_word(word).find('\n'), std::string::npos);
  }
}

TEST(ShellQuote, APathIsNoFlag) {
  EXPECT_EQ(shell_path("-x.txt"), "./-x.txt");
  EXPECT_EQ(shell_path("a b/-x"), "'a b/-x'");
}

TEST(ShellQuote, ListsKeepCommasInsideItems) {
  const auto parts = [](const std::string& text) { return split_list(text); };
  using Items = std::vector<std::string>;
  EXPECT_EQ(parts("a, b,c"), (Items{"a", "b", "c"}));
  EXPECT_EQ(parts(" , a ,,"), (Items{"a"}));
  EXPECT_EQ(parts(""), Items{});
  EXPECT_EQ(parts("a\\,b,c\\d"), (Items{"a,b", "c\\d"}));
  EXPECT_EQ(parts(list_item("a, b") + "," + list_item("c\\,d")), (Items{"a, b", "c\\,d"}));
  EXPECT_EQ(list_item("2:x/y"), "./2:x/y");
  EXPECT_EQ(list_item("x/2:y"), "x/2:y");
  EXPECT_EQ(parts(list_item(" ends ")), (Items{"./ ends /"}));
}

}  // namespace
}  // namespace lockstep
