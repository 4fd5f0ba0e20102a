// agree() over pretended worlds: one failure becomes everybody's.
#include "comm/agree.h"

#include "app/support.h"
#include "core/error.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

using test::catch_error;
using test::Caught;

// A world whose other ranks report what the test says.
class PretendedWorld final : public World {
 public:
  PretendedWorld(int rank, std::vector<std::string> reports) : reports_(std::move(reports)) {
    placement_.rank = rank;
    placement_.size = static_cast<int>(reports_.size());
  }
  const Placement& placement() const override { return placement_; }
  void barrier() override {}
  std::string broadcast(const std::string& text, int) override { return text; }
  std::vector<std::string> all_gather(const std::string& text) override {
    ++gathers;
    reports_[static_cast<std::size_t>(placement_.rank)] = text;
    return reports_;
  }
  std::vector<std::int64_t> all_reduce(std::vector<std::int64_t> values, ReduceOp) override {
    return values;
  }
  int gathers = 0;

 private:
  Placement placement_;
  std::vector<std::string> reports_;
};

// The failure of one rank as the others receive it.
std::string report_of(ExitCode code, const std::string& message) {
  return fmt::format("{} {}", static_cast<int>(code), message);
}

TEST(Agree, SuccessEverywhereIsSilent) {
  PretendedWorld world(1, {"0", "", "0"});
  bool ran = false;
  agree(world, [&] { ran = true; });
  EXPECT_TRUE(ran);
  EXPECT_EQ(world.gathers, 1);
}

TEST(Agree, EveryRankThrowsTheFailureOfTheLowest) {
  // This rank (0) succeeds, ranks 1 and 2 fail.
  PretendedWorld world(
      0, {"", report_of(ExitCode::kIo, "disk full"), report_of(ExitCode::kData, "bad shard")});
  const Caught caught = catch_error([&] { agree(world, [] {}); });
  EXPECT_EQ(caught.code, ExitCode::kIo);
  EXPECT_EQ(caught.message, "rank 1: disk full");
}

TEST(Agree, RankZerosFailureNeedsNoPrefix) {
  PretendedWorld world(1, {report_of(ExitCode::kData, "no such file"), ""});
  const Caught caught =
      catch_error([&] { agree(world, [] { fail(ExitCode::kData, "no such file"); }); });
  EXPECT_EQ(caught.code, ExitCode::kData);
  EXPECT_EQ(caught.message, "no such file");
  EXPECT_THROW(agree(world, [] {}), CollectiveError);
}

TEST(Agree, OtherExceptionsBecomeCodes) {
  PretendedWorld world(0, {""});
  const Caught broken = catch_error([&] { agree(world, [] { CHECK(1 == 2); }); });
  EXPECT_EQ(broken.code, ExitCode::kInternal);
  EXPECT_NE(broken.message.find("1 == 2"), std::string::npos);
  const Caught memory = catch_error([&] { agree(world, [] { throw std::bad_alloc(); }); });
  EXPECT_EQ(memory.code, ExitCode::kConfig);
}

TEST(Agree, ALostPeerIsNotGathered) {
  PretendedWorld world(0, {""});
  const Caught caught = catch_error([&] { agree(world, [] { fail(ExitCode::kPeer, "gone"); }); });
  EXPECT_EQ(caught.code, ExitCode::kPeer);
  EXPECT_EQ(world.gathers, 0);
}

}  // namespace
}  // namespace lockstep
