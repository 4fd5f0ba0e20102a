// agree() over pretended worlds: one failure becomes everybody's.
#include "comm/agree.h"

#include "app/support.h"
#include "core/error.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

using test::catch_error;
using test::Caught;

struct Report {
  ExitCode code = ExitCode::kDone;
  std::string message;
};

// A world whose other ranks report what the test says.
class PretendedWorld final : public World {
 public:
  PretendedWorld(int rank, std::vector<Report> reports) : reports_(std::move(reports)) {
    placement_.rank = rank;
    placement_.size = static_cast<int>(reports_.size());
  }
  const Placement& placement() const override { return placement_; }
  void barrier() override {}
  std::string broadcast(const std::string& text, int root) override {
    return root == placement_.rank ? text : reports_[static_cast<std::size_t>(root)].message;
  }
  std::vector<std::string> all_gather(const std::string& mine) override {
    ++gathers;
    std::vector<std::string> all;
    for (const Report& report : reports_) {
      all.emplace_back(reinterpret_cast<const char*>(&report.code), sizeof(report.code));
    }
    all[static_cast<std::size_t>(placement_.rank)] = mine;
    return all;
  }
  std::vector<std::int64_t> all_reduce(std::vector<std::int64_t> values, ReduceOp) override {
    return values;
  }
  int gathers = 0;

 private:
  Placement placement_;
  std::vector<Report> reports_;
};

TEST(Agree, SuccessEverywhereIsSilent) {
  PretendedWorld world(1, {{}, {}, {}});
  bool ran = false;
  agree(world, [&] { ran = true; });
  EXPECT_TRUE(ran);
  EXPECT_EQ(world.gathers, 1);
}

TEST(Agree, EveryRankThrowsTheFailureOfTheLowest) {
  // This rank (0) succeeds, ranks 1 and 2 fail.
  PretendedWorld world(0, {{}, {ExitCode::kIo, "disk full"}, {ExitCode::kData, "bad shard"}});
  const Caught caught = catch_error([&] { agree(world, [] {}); });
  EXPECT_EQ(caught.code, ExitCode::kIo);
  EXPECT_EQ(caught.message, "rank 1: disk full");
}

TEST(Agree, RankZerosFailureNeedsNoPrefix) {
  PretendedWorld world(1, {{ExitCode::kData, "no such file"}, {}});
  const Caught caught =
      catch_error([&] { agree(world, [] { fail(ExitCode::kData, "no such file"); }); });
  EXPECT_EQ(caught.code, ExitCode::kData);
  EXPECT_EQ(caught.message, "no such file");
  EXPECT_THROW(agree(world, [] {}), CollectiveError);
}

TEST(Agree, OtherExceptionsBecomeCodes) {
  PretendedWorld world(0, {{}});
  const Caught broken = catch_error([&] { agree(world, [] { CHECK(1 == 2); }); });
  EXPECT_EQ(broken.code, ExitCode::kInternal);
  EXPECT_NE(broken.message.find("1 == 2"), std::string::npos);
  const Caught memory = catch_error([&] { agree(world, [] { throw std::bad_alloc(); }); });
  EXPECT_EQ(memory.code, ExitCode::kConfig);
}

TEST(Agree, ALostPeerIsNotGathered) {
  PretendedWorld world(0, {{}});
  const Caught caught = catch_error([&] { agree(world, [] { fail(ExitCode::kPeer, "gone"); }); });
  EXPECT_EQ(caught.code, ExitCode::kPeer);
  EXPECT_EQ(world.gathers, 0);
}

}  // namespace
}  // namespace lockstep
