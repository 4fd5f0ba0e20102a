// The file of chosen algorithms: it grows, is read again, and is never in the way of a run.
#include "app/gemm_plan_file.h"

#include "data/fixture.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace lockstep {
namespace {

constexpr const char* kEmpty = "library-1 card";

Environment environment_of(const std::string& variable, const std::string& value) {
  return [=](const char* name) { return name == variable ? value.c_str() : nullptr; };
}

TEST(GemmPlanFile, KeepsChoicesBetweenRuns) {
  const test::TempDir home;
  const Environment environment = environment_of("HOME", home.path());
  {
    const GemmPlanFile file(kEmpty, environment);
    EXPECT_EQ(file.read(), kEmpty);
    EXPECT_EQ(file.add("library-1 card 1.2.3=4 1.2.4=0"), "");
  }
  const GemmPlanFile file(kEmpty, environment);
  EXPECT_EQ(file.path(), home.path() + "/.cache/lockstep/gemm_library-1_card.txt");
  EXPECT_EQ(file.read(), "library-1 card 1.2.3=4 1.2.4=0");
  EXPECT_EQ(file.add("library-1 card 1.2.3=5 9.9.9=1"), "");
  EXPECT_EQ(file.read(), "library-1 card 1.2.3=5 1.2.4=0 9.9.9=1");
  EXPECT_EQ(GemmPlanFile("library-2 card", environment).read(), "library-2 card");
}

TEST(GemmPlanFile, SaysWhatIsInItsWay) {
  const test::TempDir home;
  EXPECT_NE(GemmPlanFile(kEmpty, environment_of("", "")).add(kEmpty + std::string(" 1=1")), "");
  std::ofstream(home.path() + "/.cache") << "a file";
  const GemmPlanFile file(kEmpty, environment_of("HOME", home.path()));
  EXPECT_EQ(file.read(), kEmpty);
  EXPECT_NE(file.add("library-1 card 1=1").find(home.path() + "/.cache"), std::string::npos);
}

TEST(GemmPlanFile, JoinsOnlyPlansOfTheSameCard) {
  EXPECT_EQ(joined_plans(kEmpty, "library-1 card 2=1", "library-0 card 2=2 3=3"),
            "library-1 card 2=1");
}

}  // namespace
}  // namespace lockstep
