// The bound on nesting counts brackets outside strings only.
#include "core/json_nesting.h"

#include "core/error.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

std::string nested(int depth) {
  const auto size = static_cast<std::size_t>(depth);
  return std::string(size, '[') + std::string(size, ']');
}

TEST(JsonNesting, TheBoundIsExact) {
  EXPECT_NO_THROW(check_json_nesting(nested(kMaxJsonDepth), "F"));
  try {
    check_json_nesting(nested(kMaxJsonDepth + 1), "F");
    FAIL();
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::kData);
    EXPECT_EQ(std::string(error.what()).rfind("F: JSON nested deeper than 64 levels", 0), 0u);
  }
}

TEST(JsonNesting, StringsAndNeighboursDoNotCount) {
  const std::string brackets(1000, '[');
  EXPECT_NO_THROW(check_json_nesting("[\"" + brackets + "\", \"\\\"" + brackets + "\"]", "F"));
  std::string wide = "[";
  for (int i = 0; i < 1000; ++i) wide += "{\"a\": []},";
  EXPECT_NO_THROW(check_json_nesting(wide + "0]", "F"));
  EXPECT_THROW(check_json_nesting("{\"a\\\\\": " + nested(100) + "}", "F"), UserError);
}

}  // namespace
}  // namespace lockstep
