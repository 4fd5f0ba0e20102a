// Writing a GGUF file: the same bytes however it is cut, the layout byte by byte, failing disks.
#include "core/error.h"
#include "formats/gguf_header.h"
#include "formats/gguf_sample.h"

#include <cerrno>
#include <cstring>

namespace lockstep {
namespace {

using testing::sample_metadata;
using testing::sample_tensors;
using testing::ScratchDirectory;
using testing::slurp;
using testing::values_of;
using testing::write_sample;

TEST(Gguf, SameInputSameBytesHoweverItIsCut) {
  const ScratchDirectory scratch;
  const std::string whole = write_sample(scratch / "a.gguf");
  GgufWriter writer(scratch / "b.gguf", sample_metadata(), sample_tensors());
  unsigned seed = 0;
  for (const GgufTensor& tensor : sample_tensors()) {
    const std::vector<float> values = values_of(tensor.shape.count(), seed++);
    const auto row = static_cast<std::size_t>(tensor.shape.cols());
    const std::size_t step = tensor.shape.rank() == 1 ? 2 : row;
    for (std::size_t i = 0; i < values.size(); i += step) {
      writer.append(tensor.name, std::span(values).subspan(i, std::min(step, values.size() - i)));
    }
  }
  writer.finish();
  EXPECT_TRUE(slurp(scratch / "b.gguf") == whole);
}

TEST(Gguf, LayoutByteByByte) {
  const ScratchDirectory scratch;
  GgufWriter writer(scratch / "m.gguf", {{"k", std::uint32_t{258}}}, {{"t", {2, 3}}});
  writer.append("t", std::vector<float>{1, 2, 3, 4, 5, 6});
  writer.finish();
  std::string wanted("GGUF\3\0\0\0", 8);
  wanted += std::string("\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0", 16);          // tensors, keys
  wanted += std::string("\1\0\0\0\0\0\0\0k\4\0\0\0\2\1\0\0", 17);         // k = 258
  wanted += std::string("\1\0\0\0\0\0\0\0t\2\0\0\0", 13);                 // t, two sizes:
  wanted += std::string("\3\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\0\0\0\0", 20);  // 3, 2; F32
  wanted +=
      std::string(8, '\0') + std::string(96 - 8 - 16 - 17 - 13 - 28, '\0');  // offset, padding
  for (const float value : {1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 6.0f}) {
    wanted.append(reinterpret_cast<const char*>(&value), 4);
  }
  wanted += std::string(8, '\0');
  EXPECT_TRUE(slurp(scratch / "m.gguf") == wanted);
}

TEST(GgufFaults, EveryCallThatFailsIsNamedAndSticks) {
  const ScratchDirectory scratch;
  int failures = 0;
  for (int nth = 0; nth < 20; ++nth) {
    const std::string path = scratch / fmt::format("{}.gguf", nth);
    int calls = 0;
    const FileSystem files(
        [&](FileCall, const std::string&) { return calls++ == nth ? ENOSPC : 0; });
    const testing::Caught caught = testing::catch_user_error([&] {
      GgufWriter writer(path, sample_metadata(), {{"t", {3}}, {"u", {8}}}, files);
      writer.append("t", values_of(3, 1));
      writer.append("u", values_of(8, 1));
      writer.finish();
    });
    if (calls <= nth) break;
    ++failures;
    EXPECT_EQ(caught.code, ExitCode::kIo);
    EXPECT_NE(caught.message.find(path), std::string::npos) << caught.message;
  }
  EXPECT_GE(failures, 7);  // open, header, twice values and padding, sync, close

  bool broken = false;
  const FileSystem files([&](FileCall call, const std::string&) {
    return broken && call == FileCall::kWrite ? EIO : 0;
  });
  GgufWriter writer(scratch / "sticky.gguf", {}, {{"t", {3}}, {"u", {8}}}, files);
  broken = true;
  EXPECT_THROW(writer.append("t", values_of(3, 1)), UserError);
  broken = false;
  EXPECT_THROW(writer.append("t", values_of(3, 1)), UserError);
  EXPECT_THROW(writer.finish(), UserError);
  const testing::Caught exists =
      testing::catch_user_error([&] { GgufWriter(scratch / "sticky.gguf", {}, {}); });
  EXPECT_EQ(exists.code, ExitCode::kIo);
}

TEST(GgufFaults, OutOfTurnAndIncompleteAreOurFault) {
  const ScratchDirectory scratch;
  GgufWriter writer(scratch / "m.gguf", {}, {{"t", {3}}, {"u", {8}}});
  EXPECT_THROW(writer.append("u", values_of(8, 1)), CheckError);
  EXPECT_THROW(writer.append("t", values_of(4, 1)), CheckError);
  writer.append("t", values_of(3, 1));
  EXPECT_THROW(writer.finish(), CheckError);
}

}  // namespace
}  // namespace lockstep
