// Who is named when ranks hold different states: the minority, or nobody where there is no
// majority.
#include "trainer/replicas.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

const std::vector<std::string> kHosts = {"n1", "n1", "n2", "n2"};

std::string difference(std::vector<ReplicaChecksums> by_rank) {
  return replica_difference(by_rank, kHosts);
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(Replicas, EqualOnesAreInOrder) { EXPECT_EQ(difference({{1, 2, 3, 4}, {1, 2, 3, 4}}), ""); }

TEST(Replicas, TheMinorityIsNamedWhereverItStands) {
  for (std::size_t odd = 0; odd < 3; ++odd) {
    std::vector<ReplicaChecksums> by_rank(3, ReplicaChecksums{1, 2, 3, 4});
    by_rank[odd][0] = 9;
    const std::string text = difference(by_rank);
    EXPECT_TRUE(
        contains(text, fmt::format("the weights of rank {} on {} differ", odd, kHosts[odd])))
        << text;
  }
}

TEST(Replicas, MomentsAndCountersCountToo) {
  for (std::size_t part = 0; part < kReplicaParts.size(); ++part) {
    std::vector<ReplicaChecksums> by_rank(3, ReplicaChecksums{1, 2, 3, 4});
    by_rank[2][part] = 9;
    EXPECT_TRUE(contains(difference(by_rank), "the " + kReplicaParts[part] + " of rank 2 on n2"));
  }
}

TEST(Replicas, OfTwoNobodyIsBlamed) {
  const std::string text = difference({{1, 2, 3, 4}, {5, 2, 3, 4}});
  EXPECT_TRUE(contains(text, "no majority tells which are right")) << text;
  EXPECT_TRUE(contains(text, "rank 0 on n1, rank 1 on n1")) << text;
}

TEST(Replicas, ATieOfFourIsNoMajority) {
  EXPECT_TRUE(contains(difference({{1, 2, 3, 4}, {1, 2, 3, 4}, {5, 2, 3, 4}, {5, 2, 3, 4}}),
                       "no majority"));
  EXPECT_TRUE(contains(difference({{1, 2, 3, 4}, {6, 2, 3, 4}, {5, 2, 3, 4}, {7, 2, 3, 4}}),
                       "no majority"));
}

}  // namespace
}  // namespace lockstep
