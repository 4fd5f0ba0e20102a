// How ranks share cores: the arithmetic, and the real calls on this machine.
#include "app/cpu_share.h"

#include <gtest/gtest.h>

#include <set>
#include <thread>

namespace lockstep {
namespace {

CoreList cores(int count) {
  CoreList list;
  for (int i = 0; i < count; ++i) list.push_back({i});
  return list;
}

std::vector<int> range(int begin, int end) {
  std::vector<int> cpus;
  for (int i = begin; i < end; ++i) cpus.push_back(i);
  return cpus;
}

TEST(CpuShare, AnUnboundRankTakesItsFairShare) {
  const CpuShare one = plan_cpu_share({.cores = cores(8), .bound = range(0, 8)});
  EXPECT_EQ(one.threads, 8);
  EXPECT_TRUE(one.bind_to.empty());
  const CpuShare three =
      plan_cpu_share({.cores = cores(8), .bound = range(0, 8), .local_rank = 2, .local_size = 3});
  EXPECT_EQ(three.threads, 2);
  EXPECT_TRUE(three.bind_to.empty());
  const CpuShare many =
      plan_cpu_share({.cores = cores(2), .bound = range(0, 2), .local_rank = 5, .local_size = 6});
  EXPECT_EQ(many.threads, 1);
}

TEST(CpuShare, ADefaultBindingIsWidenedToDisjointShares) {
  std::set<int> seen;
  for (int rank = 0; rank < 2; ++rank) {
    const CpuShare share =
        plan_cpu_share({.cores = cores(9), .bound = {rank}, .local_rank = rank, .local_size = 2});
    EXPECT_EQ(share.threads, 4);
    EXPECT_EQ(share.bind_to.size(), 4u);
    for (const int cpu : share.bind_to) EXPECT_TRUE(seen.insert(cpu).second) << cpu;
  }
  const CpuShare alone = plan_cpu_share({.cores = cores(4), .bound = {2}});
  EXPECT_EQ(alone.threads, 4);
  EXPECT_EQ(alone.bind_to, range(0, 4));
}

TEST(CpuShare, AChosenBindingIsKeptAndBoundsTheThreads) {
  const CpuShare share = plan_cpu_share({.cores = cores(8),
                                         .bound = {0, 1},
                                         .local_rank = 0,
                                         .local_size = 2,
                                         .threads = 0,
                                         .keep_binding = true});
  EXPECT_EQ(share.threads, 2);
  EXPECT_TRUE(share.bind_to.empty());
  const CpuShare wide = plan_cpu_share({.cores = cores(8),
                                        .bound = range(0, 8),
                                        .local_rank = 0,
                                        .local_size = 4,
                                        .threads = 0,
                                        .keep_binding = true});
  EXPECT_EQ(wide.threads, 2);
}

TEST(CpuShare, AskedThreadsAreGiven) {
  const CpuShare kept = plan_cpu_share({.cores = cores(8),
                                        .bound = {3},
                                        .local_rank = 0,
                                        .local_size = 1,
                                        .threads = 6,
                                        .keep_binding = true});
  EXPECT_EQ(kept.threads, 6);
  EXPECT_TRUE(kept.bind_to.empty());
  const CpuShare more = plan_cpu_share(
      {.cores = cores(8), .bound = {1}, .local_rank = 1, .local_size = 2, .threads = 6});
  EXPECT_EQ(more.threads, 6);
  EXPECT_EQ(more.bind_to, range(0, 8)) << "more than the fair share: the whole node";
  const CpuShare fewer = plan_cpu_share(
      {.cores = cores(8), .bound = {1}, .local_rank = 1, .local_size = 2, .threads = 1});
  EXPECT_EQ(fewer.threads, 1);
  EXPECT_TRUE(fewer.bind_to.empty()) << "one core is enough for one thread";
}

TEST(CpuShare, HyperthreadsOfOneCoreCountOnce) {
  const CoreList pairs = {{0, 4}, {1, 5}, {2, 6}, {3, 7}};
  EXPECT_EQ(plan_cpu_share({.cores = pairs, .bound = range(0, 8)}).threads, 4);
  const CpuShare second =
      plan_cpu_share({.cores = pairs, .bound = {1, 5}, .local_rank = 1, .local_size = 2});
  EXPECT_EQ(second.threads, 2);
  EXPECT_EQ(second.bind_to, (std::vector<int>{2, 6, 3, 7}));
}

TEST(CpuShare, ABatchSystemsGrantIsNeverExceeded) {
  // Nothing is bound, as without Slurm's task/affinity: other jobs may have the other cores.
  const CpuShare alone = plan_cpu_share(
      {.cores = cores(64), .bound = range(0, 64), .keep_binding = true, .granted = 4});
  EXPECT_EQ(alone.threads, 4);
  EXPECT_TRUE(alone.bind_to.empty());
  // mpirun has bound the rank to a core that another job's mpirun chooses as well.
  const CpuShare bound =
      plan_cpu_share({.cores = cores(8), .bound = {0}, .local_size = 2, .granted = 2});
  EXPECT_EQ(bound.threads, 2);
  EXPECT_EQ(bound.bind_to, range(0, 8)) << "no slice: another job would take the same one";
  // mpirun itself is bound by the batch system.
  const CpuShare inside = plan_cpu_share({.cores = {{5}}, .bound = {5}, .granted = 1});
  EXPECT_EQ(inside.threads, 1);
  EXPECT_TRUE(inside.bind_to.empty());
  const CoreList pairs = {{0, 4}, {1, 5}, {2, 6}, {3, 7}};
  EXPECT_EQ(plan_cpu_share({.cores = pairs, .bound = range(0, 8), .granted = 4}).threads, 2)
      << "a grant counts logical CPUs";
}

TEST(CpuShare, OmpNumThreadsIsHonouredOrSaidToBeIgnored) {
  const CpuShare fewer =
      plan_cpu_share({.cores = cores(8), .bound = range(0, 8), .omp_threads = 3});
  EXPECT_EQ(fewer.threads, 3);
  EXPECT_EQ(fewer.note, "OMP_NUM_THREADS");
  const CpuShare more =
      plan_cpu_share({.cores = cores(8), .bound = range(0, 8), .local_size = 4, .omp_threads = 8});
  EXPECT_EQ(more.threads, 2);
  EXPECT_EQ(more.note, "its share; OMP_NUM_THREADS=8 is more");
  const CpuShare key =
      plan_cpu_share({.cores = cores(8), .bound = range(0, 8), .threads = 2, .omp_threads = 4});
  EXPECT_EQ(key.threads, 2);
  EXPECT_EQ(key.note, "run.threads, not OMP_NUM_THREADS=4");
  const CpuShare same = plan_cpu_share({.cores = cores(8), .bound = range(0, 8), .omp_threads = 8});
  EXPECT_EQ(same.note, "");
}

TEST(CpuShare, WithoutMpirunTheLaunchersCoresAreOurOwn) {
  std::thread([] {
    bind_to_cpus({bound_cpus().front()});
    EXPECT_EQ(launcher_cores(), (CoreList{bound_cpus()}));
  }).join();
}

TEST(CpuShare, LooksBeyondTheBindingAndPutsItBack) {
  // On a thread of its own, so that the rest of this test program keeps its binding.
  std::thread([] {
    const std::vector<int> all = bound_cpus();
    ASSERT_FALSE(all.empty());
    bind_to_cpus({all.front()});
    ASSERT_EQ(bound_cpus(), std::vector<int>{all.front()});
    std::set<int> usable;
    for (const auto& core : usable_cores()) usable.insert(core.begin(), core.end());
    for (const int cpu : all) EXPECT_TRUE(usable.count(cpu) == 1) << cpu;
    EXPECT_EQ(bound_cpus(), std::vector<int>{all.front()});
  }).join();
}

}  // namespace
}  // namespace lockstep
