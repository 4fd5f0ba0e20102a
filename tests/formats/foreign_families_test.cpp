// The list of families: every architecture that can be trained can be read and written.
#include "formats/foreign_family.h"

#include "app/support.h"
#include "nn/model_family.h"

namespace lockstep {
namespace {

TEST(ForeignFamilies, EveryArchitectureHasOne) {
  for (const ForeignFamily* family : foreign_families()) {
    EXPECT_EQ(find_foreign_family(family->name()), family);
    ModelConfig config;
    config.architecture = family->name();
    EXPECT_EQ(&foreign_family(config), family);
    EXPECT_NE(foreign_family_names().find(family->name()), std::string::npos);
  }
  EXPECT_GE(foreign_families().size(), 3u);
}

TEST(ForeignFamilies, AnotherNameIsRefused) {
  EXPECT_EQ(find_foreign_family("bert"), nullptr);
  ModelConfig config;
  config.architecture = "bert";
  EXPECT_EQ(test::catch_error([&] { foreign_family(config); }).code, ExitCode::kUsage);
}

}  // namespace
}  // namespace lockstep
