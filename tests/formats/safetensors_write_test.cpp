// Writing safetensors: what is written reads back, in one file or several, the same bytes.
#include "formats/safetensors_sample.h"

namespace lockstep {
namespace {

using testing::expect_content;
using testing::ScratchDirectory;
using testing::slurp;
using testing::write_model;

TEST(Safetensors, WhatIsWrittenReadsBack) {
  const ScratchDirectory scratch;
  EXPECT_EQ(write_model(scratch.path(), 1 << 20), std::vector<std::string>{"model.safetensors"});
  expect_content(scratch.path());
  expect_content(scratch / "model.safetensors");
  const std::string text = slurp(scratch / "model.safetensors");
  std::uint64_t length = 0;
  std::memcpy(&length, text.data(), sizeof length);
  EXPECT_EQ(length % 8, 0u);
  EXPECT_EQ(text[8], '{');
  EXPECT_NE(text.find(R"("__metadata__":{"format":"pt"})"), std::string::npos);
}

TEST(Safetensors, SplitsIntoFilesWithAnIndex) {
  const ScratchDirectory scratch;
  const std::vector<std::string> names = write_model(scratch.path(), 20);
  ASSERT_GT(names.size(), 2u);
  EXPECT_EQ(names.front(), fmt::format("model-00001-of-{:05}.safetensors", names.size() - 1));
  EXPECT_EQ(names.back(), "model.safetensors.index.json");
  EXPECT_NE(slurp(scratch / names.back()).find("\"total_size\": 47"), std::string::npos);
  expect_content(scratch.path());
}

TEST(Safetensors, SameTensorsSameBytes) {
  const ScratchDirectory a, b;
  write_model(a.path(), 20);
  write_model(b.path(), 20);
  for (const auto& entry : std::filesystem::directory_iterator(a.path())) {
    EXPECT_EQ(slurp(entry.path()), slurp(b / entry.path().filename().string()));
  }
}

}  // namespace
}  // namespace lockstep
