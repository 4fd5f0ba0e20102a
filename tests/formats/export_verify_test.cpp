// export.json against the files beside it: every way in which they can differ.
#include "formats/export_verify.h"

#include "app/support.h"
#include "formats/export_report.h"
#include "io/fixture.h"

#include <filesystem>

namespace lockstep {
namespace {

using test::catch_error;
using testing::ScratchDirectory;
using testing::spill;

class ExportVerify : public ::testing::Test {
 protected:
  ExportVerify() {
    spill(scratch_ / "a", "abc");
    spill(scratch_ / "b", "de");
    ExportReport report;
    report.state_digest = "77";
    report.files = hash_files(scratch_.path());
    spill(scratch_ / "export.json", export_report_text(report));
  }
  std::string refusal(bool checksums) {
    return catch_error([&] { verify_export(scratch_.path(), checksums); }).message;
  }

  ScratchDirectory scratch_;
};

TEST_F(ExportVerify, WholeFilesPass) {
  EXPECT_EQ(export_report_path(scratch_.path()), scratch_ / "export.json");
  EXPECT_EQ(exported_state_digest(scratch_ / "export.json"), "77");
  EXPECT_EQ(refusal(/*checksums=*/true), "");
}

TEST_F(ExportVerify, DifferencesAreNamed) {
  std::filesystem::remove(scratch_ / "b");
  spill(scratch_ / "b", "dx");
  EXPECT_EQ(refusal(/*checksums=*/false), "");
  EXPECT_NE(refusal(/*checksums=*/true).find("b: its SHA-256"), std::string::npos);
  std::filesystem::remove(scratch_ / "a");
  spill(scratch_ / "a", "abcd");
  EXPECT_NE(refusal(/*checksums=*/false).find("a: has 4 bytes"), std::string::npos);
}

// A made-up report reads nothing outside its directory.
TEST_F(ExportVerify, ReportsThatLieAreRefused) {
  for (const char* files :
       {"[]", "3", R"([{"name": "../x", "bytes": 1, "sha256": ""}])", R"([{"name": "a"}])"}) {
    std::filesystem::remove(scratch_ / "export.json");
    spill(scratch_ / "export.json", std::string(R"({"files": )") + files + "}");
    EXPECT_NE(refusal(/*checksums=*/true), "") << files;
  }
  std::filesystem::remove(scratch_ / "export.json");
  EXPECT_NE(refusal(/*checksums=*/true).find("no export.json"), std::string::npos);
}

}  // namespace
}  // namespace lockstep
