// Files of lines: appended to whatever happens, filtered, and read from their end.
#include "trainer/run_files.h"

#include "core/error.h"
#include "io/fixture.h"

#include <cerrno>

namespace lockstep {
namespace {

using testing::ScratchDirectory;
using testing::slurp;
using testing::spill;

TEST(RunFiles, ALogFileIsContinued) {
  const ScratchDirectory scratch;
  spill(scratch / "train.log", "before\n");
  {
    Log log(0);
    log.keep_in(open_log_file(scratch / "train.log"));
    log.info("step {}", 3);
    log.warn("slow");
  }
  EXPECT_EQ(slurp(scratch / "train.log"), "before\nstep 3\nwarning: slow\n");
}

TEST(RunFiles, ALogFileThatCannotBeOpenedOrWrittenSaysSo) {
  const auto caught = testing::catch_user_error([&] { open_log_file("/proc/no/such/file"); });
  EXPECT_EQ(caught.code, ExitCode::kIo);
  EXPECT_NE(caught.message.find("/proc/no/such/file: cannot open"), std::string::npos);
  EXPECT_EQ(open_log_file("/dev/full")("line\n"), ENOSPC);
}

TEST(RunFiles, FilteredLinesGoWithATornLast) {
  const ScratchDirectory scratch;
  spill(scratch / "f", "a\nb\na\nto");
  EXPECT_EQ(filter_lines(scratch / "f", [](const std::string& line) { return line != "b"; }), 2);
  EXPECT_EQ(slurp(scratch / "f"), "a\na\n");
  EXPECT_EQ(last_line(scratch / "f"), "a");
  spill(scratch / "f", "a\nto");
  drop_torn_line(scratch / "f");
  EXPECT_EQ(slurp(scratch / "f"), "a\n");
  EXPECT_EQ(last_line(scratch / "none"), "");
}

}  // namespace
}  // namespace lockstep
