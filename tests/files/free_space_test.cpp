// Free bytes before they are needed, and sizes as people read them.
#include "files/free_space.h"

#include "io/fixture.h"

#include <limits>

namespace lockstep {
namespace {

using testing::ScratchDirectory;

TEST(FreeSpace, FreeSpaceIsCheckedOnTheNearestDirectory) {
  ScratchDirectory scratch;
  EXPECT_NO_THROW(require_free_space(scratch / "not/yet/there", 1));
  const auto caught = testing::catch_user_error(
      [&] { require_free_space(scratch / "not/yet", std::numeric_limits<std::int64_t>::max()); });
  EXPECT_EQ(caught.code, ExitCode::kIo);
  EXPECT_NE(caught.message.find("not/yet"), std::string::npos) << caught.message;
  EXPECT_NE(caught.message.find("needed"), std::string::npos) << caught.message;
}

TEST(FreeSpace, BytesAsText) {
  EXPECT_EQ(bytes_text(0), "0 bytes");
  EXPECT_EQ(bytes_text(1023), "1023 bytes");
  EXPECT_EQ(bytes_text(1536), "1.5 KiB");
  EXPECT_EQ(bytes_text(std::int64_t{3} << 30), "3.0 GiB");
  EXPECT_EQ(bytes_text(-1), "an unknown number of bytes");
}

}  // namespace
}  // namespace lockstep
