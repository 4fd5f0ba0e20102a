// Reading once from begin to end: files, links, pipes, and what is refused.
#include "files/input_stream.h"

#include "io/fixture.h"

#include <sys/stat.h>

#include <thread>

namespace lockstep {
namespace {

namespace fs = std::filesystem;
using testing::ScratchDirectory;

std::string drain(InputStream& stream) {
  std::string text;
  char piece[3];
  for (;;) {
    const std::size_t got = stream.read(piece, "stream");
    if (got == 0) return text;
    text.append(piece, got);
  }
}

TEST(InputStreamTest, FilesHaveASizeAndPipesHaveNone) {
  ScratchDirectory scratch;
  testing::spill(scratch / "file", "0123456789");
  fs::create_symlink("file", scratch / "link");
  InputStream file(scratch / "link", "digits");
  EXPECT_EQ(file.size(), 10);
  EXPECT_EQ(drain(file), "0123456789");
  ASSERT_EQ(::mkfifo((scratch / "pipe").c_str(), 0600), 0);
  std::thread writer([&] { testing::spill(scratch / "pipe", "through a pipe"); });
  InputStream pipe(scratch / "pipe", "text");
  EXPECT_EQ(pipe.size(), -1);
  EXPECT_EQ(drain(pipe), "through a pipe");
  writer.join();
}

TEST(InputStreamTest, WhatIsExpectedIsSaid) {
  ScratchDirectory scratch;
  testing::expect_data_error([&] { InputStream(scratch / "none", "digits"); }, "expected digits");
  testing::expect_data_error([&] { InputStream(scratch.path(), "digits"); }, "is a directory");
}

}  // namespace
}  // namespace lockstep
