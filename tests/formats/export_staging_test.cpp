// A final name appears complete or not at all: what is refused, what is replaced, and what a killed
// export leaves for the next one.
#include "formats/export_staging.h"

#include "core/error.h"
#include "io/fixture.h"

#include <functional>
#include <memory>

namespace lockstep {
namespace {

namespace fs = std::filesystem;
using testing::ScratchDirectory;
using testing::slurp;
using testing::spill;

std::vector<std::string> names_in(const std::string& directory) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory)) {
    names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

using Names = std::vector<std::string>;

// A complete directory "model" in the staging area whose export.json says `text`.
void fill(const ExportStaging& staging, const std::string& text) {
  fs::create_directory(staging.path("model"));
  spill(staging.path("model/export.json"), text);
}

void expect_refused(const std::string& message, const std::function<void()>& run) {
  try {
    run();
    ADD_FAILURE() << "not refused: " << message;
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::kUsage);
    EXPECT_NE(std::string(error.what()).find(message), std::string::npos) << error.what();
  }
}

TEST(ExportStaging, PublishesWholeDirectories) {
  const ScratchDirectory scratch;
  const std::string target = scratch / "deep/out";
  {
    ExportStaging staging(target);
    fill(staging, "first");
    EXPECT_FALSE(fs::exists(target));
    staging.publish("model", target);
    EXPECT_EQ(slurp(target + "/export.json"), "first");
  }
  EXPECT_EQ(names_in(scratch / "deep"), Names{"out"});
}

TEST(ExportStaging, ReplacesAtOnce) {
  const ScratchDirectory scratch;
  const std::string target = scratch / "out";
  for (const char* text : {"first", "second"}) {
    ExportStaging staging(target);
    fill(staging, text);
    staging.publish("model", target);
    EXPECT_EQ(slurp(target + "/export.json"), text);
  }
  EXPECT_EQ(names_in(scratch.path()), Names{"out"});
}

// File systems that cannot exchange two names.
TEST(ExportStaging, ReplacesByTwoRenames) {
  const ScratchDirectory scratch;
  const std::string target = scratch / "out";
  int renames = 0;
  const FileSystem files([&](FileCall call, const std::string&) {
    return call == FileCall::kRename && ++renames == 2 ? EINVAL : 0;
  });
  for (const char* text : {"first", "second"}) {
    ExportStaging staging(target, files);
    fill(staging, text);
    staging.publish("model", target);
    EXPECT_EQ(slurp(target + "/export.json"), text);
  }
  EXPECT_EQ(renames, 4);
  EXPECT_EQ(names_in(scratch.path()), Names{"out"});
}

TEST(ExportStaging, LeavesNothingBehindAFailure) {
  const ScratchDirectory scratch;
  {
    ExportStaging staging(scratch / "out");
    fill(staging, "half");
  }
  EXPECT_EQ(names_in(scratch.path()), Names{});
}

TEST(ExportStaging, RemovesWhatAKilledOneLeft) {
  const ScratchDirectory scratch;
  fs::create_directories(scratch / ".out.export/model");
  spill(scratch / ".out.export/lock", "");
  spill(scratch / ".out.export/model/half", "x");
  fs::create_directories(scratch / ".other.export");
  { const ExportStaging staging(scratch / "out"); }
  EXPECT_EQ(names_in(scratch.path()), Names{".other.export"});
}

TEST(ExportStaging, KeepsWhatALivingOneWrites) {
  const ScratchDirectory scratch;
  const ExportStaging living(scratch / "out");
  fill(living, "mine");
  expect_refused("another `lockstep` is writing there",
                 [&] { const ExportStaging staging(scratch / "out"); });
  EXPECT_EQ(slurp(living.path("model/export.json")), "mine");
}

// Killed between the two renames: the old export gets its name back.
TEST(ExportStaging, PutsAnOldExportBack) {
  const ScratchDirectory scratch;
  fs::create_directories(scratch / ".out.export/old");
  spill(scratch / ".out.export/old/export.json", "old");
  { const ExportStaging staging(scratch / "out"); }
  EXPECT_EQ(names_in(scratch.path()), Names{"out"});
  EXPECT_EQ(slurp(scratch / "out/export.json"), "old");
}

TEST(ExportStaging, ReportsADiskThatIsFull) {
  const ScratchDirectory scratch;
  const FileSystem files(
      [](FileCall call, const std::string&) { return call == FileCall::kSync ? ENOSPC : 0; });
  ExportStaging staging(scratch / "out", files);
  fill(staging, "x");
  try {
    staging.publish("model", scratch / "out");
    ADD_FAILURE() << "no error";
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::kIo);
    EXPECT_NE(std::string(error.what()).find("No space left"), std::string::npos) << error.what();
  }
  EXPECT_FALSE(fs::exists(scratch / "out"));
}

TEST(ExportStaging, WhereNothingCanBeMade) {
  const ScratchDirectory scratch;
  spill(scratch / "file", "x");
  try {
    const ExportStaging staging(scratch / "file/out");
    ADD_FAILURE() << "no error";
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::kIo);
    EXPECT_NE(std::string(error.what()).find(scratch / "file"), std::string::npos) << error.what();
  }
}

TEST(ExportTarget, Directories) {
  const ScratchDirectory scratch;
  const auto check = [](const std::string& target, bool overwrite) {
    check_export_target(target, ExportKind::kDirectory, overwrite);
  };
  check(scratch / "new", /*overwrite=*/false);
  fs::create_directory(scratch / "empty");
  check(scratch / "empty", /*overwrite=*/false);
  fs::create_directory(scratch / "home");
  spill(scratch / "home/thesis.tex", "x");
  expect_refused("home: exists; replace it with --overwrite",
                 [&] { check(scratch / "home", /*overwrite=*/false); });
  expect_refused("holds no export.json", [&] { check(scratch / "home", /*overwrite=*/true); });
  spill(scratch / "home/export.json", "{}");
  check(scratch / "home", /*overwrite=*/true);
  spill(scratch / "file", "x");
  expect_refused("file: is a file, and this format is a directory",
                 [&] { check(scratch / "file", /*overwrite=*/true); });
  for (const char* name : {"", "/", ".", "..", "x/.."}) {
    expect_refused("give the name of the directory", [&] { check(name, /*overwrite=*/true); });
  }
}

TEST(ExportTarget, Files) {
  const ScratchDirectory scratch;
  const auto check = [](const std::string& target, bool overwrite) {
    check_export_target(target, ExportKind::kFile, overwrite);
  };
  check(scratch / "new.gguf", /*overwrite=*/false);
  spill(scratch / "old.gguf", "GGUF....");
  expect_refused("old.gguf: exists", [&] { check(scratch / "old.gguf", /*overwrite=*/false); });
  check(scratch / "old.gguf", /*overwrite=*/true);
  spill(scratch / "text", "hello");
  expect_refused("text: is no GGUF file", [&] { check(scratch / "text", /*overwrite=*/true); });
  expect_refused("is a directory, and this format is a file",
                 [&] { check(scratch.path(), /*overwrite=*/true); });
}

}  // namespace
}  // namespace lockstep
