// Ranks to GPUs: the mapping and its two refusals.
#include "app/gpu_choice.h"

#include "app/support.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

using test::catch_error;
using test::Caught;
using Visible = std::vector<std::vector<std::string>>;

TEST(GpuChoice, LocalRankAmongThoseVisible) {
  const std::vector<std::string> four = {"a", "b", "c", "d"};
  EXPECT_EQ(choose_gpus({four, four, four}, /*share_gpu=*/false, "n"), (std::vector<int>{0, 1, 2}));
}

TEST(GpuChoice, OneVisibleDeviceEachIsDeviceZero) {
  EXPECT_EQ(choose_gpus({{"a"}, {"b"}}, /*share_gpu=*/false, "n"), (std::vector<int>{0, 0}));
}

TEST(GpuChoice, OneDeviceForTwoRanksNamesShareGpu) {
  for (const Visible& visible : {Visible{{"a"}, {"a"}}, Visible{{"x", "a"}, {"y", "x"}}}) {
    const Caught caught = catch_error([&] { choose_gpus(visible, /*share_gpu=*/false, "node7"); });
    EXPECT_EQ(caught.code, ExitCode::kConfig);
    EXPECT_NE(caught.message.find("comm.share_gpu"), std::string::npos) << caught.message;
    EXPECT_NE(caught.message.find("ranks 0 and 1 on node7"), std::string::npos) << caught.message;
  }
}

TEST(GpuChoice, MoreRanksThanGpusNamesBothCounts) {
  const std::vector<std::string> two = {"a", "b"};
  const Caught caught = catch_error([&] {
    choose_gpus({two, two, two}, /*share_gpu=*/false, "node7");
  });
  EXPECT_EQ(caught.code, ExitCode::kConfig);
  EXPECT_NE(caught.message.find("3 ranks on node7 but 2 GPUs"), std::string::npos)
      << caught.message;
}

TEST(GpuChoice, NoVisibleGpuIsNamed) {
  const Caught caught = catch_error([] { choose_gpus({{"a"}, {}}, /*share_gpu=*/true, "node7"); });
  EXPECT_EQ(caught.code, ExitCode::kConfig);
  EXPECT_NE(caught.message.find("local rank 1 on node7"), std::string::npos) << caught.message;
}

TEST(GpuChoice, SharingWrapsAround) {
  const std::vector<std::string> two = {"a", "b"};
  EXPECT_EQ(choose_gpus({two, two, two, two, two}, /*share_gpu=*/true, "n"),
            (std::vector<int>{0, 1, 0, 1, 0}));
}

}  // namespace
}  // namespace lockstep
