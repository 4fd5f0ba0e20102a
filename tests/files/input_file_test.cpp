// Files read whole or from anywhere: what is refused, and what happens to them while in use.
#include "files/input_file.h"

#include "files/staged.h"
#include "io/fixture.h"

#include <sys/resource.h>
#include <sys/stat.h>

namespace lockstep {
namespace {

namespace fs = std::filesystem;
using testing::ScratchDirectory;

TEST(InputFile, LinksAndPipesAreRefused) {
  ScratchDirectory scratch;
  testing::spill(scratch / "secret", "secret");
  fs::create_symlink(scratch / "secret", scratch / "link");
  testing::expect_data_error([&] { read_file(scratch / "link", 100); }, "is a link");
  ASSERT_EQ(::mkfifo((scratch / "pipe").c_str(), 0600), 0);
  testing::expect_data_error([&] { read_file(scratch / "pipe", 100); }, "not a regular file");
  testing::expect_data_error([&] { read_file(scratch.path(), 100); }, "not a regular file");
  testing::expect_data_error([&] { read_file(scratch / "none", 100); }, "missing");
  testing::expect_data_error([&] { read_file(scratch / "secret", 3); }, "at most");
  fs::create_symlink(scratch / "secret", scratch / "new.tmp");
  atomic_write_file(scratch / "new", "new");
  EXPECT_EQ(testing::slurp(scratch / "secret"), "secret");
}

std::string read(const InputFile& file, std::int64_t offset, std::size_t size) {
  std::string text(size, '\0');
  file.read(std::as_writable_bytes(std::span(text)), offset);
  return text;
}

TEST(InputFile, ReadsFromAnywhereAndFollowsLinks) {
  ScratchDirectory scratch;
  testing::spill(scratch / "file", "0123456789");
  fs::create_symlink("file", scratch / "link");
  const InputFile file(scratch / "link", "digits");
  EXPECT_EQ(file.size(), 10);
  EXPECT_EQ(read(file, 7, 3), "789");
  EXPECT_EQ(read(file, 0, 2), "01");
  EXPECT_EQ(read(file, 10, 0), "");
  EXPECT_EQ(file.text(10), "0123456789");
  testing::expect_data_error([&] { file.text(9); }, "at most 9 bytes");
  testing::expect_data_error([&] { read(file, 8, 3); }, "ends at byte 10");
}

TEST(InputFile, WhatIsExpectedIsSaid) {
  ScratchDirectory scratch;
  testing::expect_data_error([&] { InputFile(scratch / "none", "digits"); }, "expected digits");
  testing::expect_data_error([&] { InputFile(scratch.path(), "digits"); }, "is a directory");
  fs::create_symlink("nowhere", scratch / "dangling");
  testing::expect_data_error([&] { InputFile(scratch / "dangling", "digits"); }, "cannot open");
}

TEST(InputFile, CutShortInUseIsAnErrorWithTheName) {
  ScratchDirectory scratch;
  testing::spill(scratch / "file", std::string(10000, 'x'));
  const InputFile file(scratch / "file", "text");
  fs::resize_file(scratch / "file", 4096);
  EXPECT_EQ(read(file, 0, 4096).size(), 4096u);
  testing::expect_data_error([&] { read(file, 4000, 1000); },
                             "file: was cut short while in use: it had 10000 bytes");
}

// Beyond half of the descriptors that a process may have, files are opened again to be read.
TEST(InputFile, ManyAreOpenAtOnceAndEachStaysTheSame) {
  ScratchDirectory scratch;
  rlimit old{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &old), 0);
  const rlimit few{32, old.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
  std::vector<InputFile> many;
  for (int i = 0; i < 64; ++i) {
    const std::string path = scratch / std::to_string(i);
    testing::spill(path, std::to_string(i));
    many.emplace_back(path, "a number");
  }
  for (int i = 0; i < 64; ++i) {
    EXPECT_EQ(many[static_cast<std::size_t>(i)].text(2), std::to_string(i));
  }
  atomic_write_file(scratch / "63", "new");
  testing::expect_data_error([&] { many[63].text(3); }, "was replaced while in use");
  ::setrlimit(RLIMIT_NOFILE, &old);
}

}  // namespace
}  // namespace lockstep
