// Results come back in order whatever the threads do, and errors where their job stood.
#include "data/ordered_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>

namespace lockstep {
namespace {

TEST(OrderedPool, ResultsComeInTheOrderOfTheJobs) {
  OrderedPool<int, int> pool(4, [](int& job) {
    if (job % 3 == 0) std::this_thread::sleep_for(std::chrono::microseconds(300));
    return job * job;
  });
  for (int i = 0; i < 200; ++i) pool.give(i, /*weight=*/1);
  for (int i = 0; i < 200; ++i) EXPECT_EQ(pool.take(), i * i);
  EXPECT_EQ(pool.size(), 0u);
}

TEST(OrderedPool, CountsWhatIsUnderWay) {
  OrderedPool<int, int> pool(1, [](int& job) { return job; });
  pool.give(1, 10);
  pool.give(2, 5);
  EXPECT_EQ(pool.size(), 2u);
  EXPECT_EQ(pool.weight(), 15u);
  pool.take();
  EXPECT_EQ(pool.weight(), 5u);
}

TEST(OrderedPool, AnErrorIsThrownWhereItsJobStood) {
  OrderedPool<int, int> pool(3, [](int& job) {
    if (job >= 5) throw std::runtime_error(std::to_string(job));
    return job;
  });
  for (int i = 0; i < 8; ++i) pool.give(i, 1);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(pool.take(), i);
  for (int i = 5; i < 7; ++i) {
    try {
      pool.take();
      FAIL();
    } catch (const std::runtime_error& error) {
      EXPECT_EQ(error.what(), std::to_string(i));
    }
  }
}

TEST(OrderedPool, WhatNobodyTakesIsAbandoned) {
  std::atomic<int> begun = 0;
  {
    OrderedPool<int, int> pool(2, [&](int& job) {
      ++begun;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      return job;
    });
    for (int i = 0; i < 1000; ++i) pool.give(i, 1);
  }
  EXPECT_LT(begun, 1000);
}

}  // namespace
}  // namespace lockstep
