// Fields of JSON whose type is checked, and texts of files as messages show them.
#include "data/json_checks.h"

#include "fixture.h"

#include <nlohmann/json.hpp>

namespace lockstep {
namespace {

using nlohmann::json;
using test::expect_error;

TEST(JsonChecks, TextsAreShownOnOneLineAndCut) {
  EXPECT_EQ(shown("a\nb\x7f"), "a\\x0ab\\x7f");
  EXPECT_EQ(shown(std::string(200, 'x')), std::string(120, 'x') + "...");
  std::string accents;
  for (int i = 0; i < 100; ++i) accents += "\xc3\xa9";
  EXPECT_EQ(shown("x" + accents), "x" + accents.substr(0, 118) + "...");  // not inside a character
}

TEST(JsonChecks, FieldsOfAnotherTypeAreNamed) {
  const json object = {{"s", "text"}, {"b", true}, {"n", nullptr}, {"i", 3}};
  EXPECT_EQ(string_field(object, "s", "F"), "text");
  EXPECT_TRUE(bool_field(object, "b", false, "F"));
  EXPECT_TRUE(bool_field(object, "n", true, "F"));
  EXPECT_FALSE(bool_field(object, "none", false, "F"));
  expect_error(ExitCode::kData, {"F: 'i' is missing or no string"},
               [&] { string_field(object, "i", "F"); });
  expect_error(ExitCode::kData, {"F: 'i' is neither true nor false"},
               [&] { bool_field(object, "i", false, "F"); });
}

}  // namespace
}  // namespace lockstep
