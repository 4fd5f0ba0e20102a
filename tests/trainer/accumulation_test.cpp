// Accumulation follows from the batch identity, and what does not divide is refused with numbers.
#include "trainer/accumulation.h"

#include "core/error.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

std::string refusal(std::int64_t global, std::int64_t micro, int world) {
  try {
    derive_accumulation(global, micro, world);
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::kConfig);
    return error.what();
  }
  return "";
}

TEST(Accumulation, FollowsFromTheBatchIdentity) {
  EXPECT_EQ(derive_accumulation(12, 12, 1), 1);
  EXPECT_EQ(derive_accumulation(12, 2, 3), 2);
  EXPECT_NE(refusal(12, 2, 4).find("can be 1, 2, 3, 6"), std::string::npos);
  EXPECT_NE(refusal(12, 5, 1).find("train.micro_batch_size = 5"), std::string::npos);
}

TEST(Accumulation, NamesAMicroBatchThatWouldDo) {
  EXPECT_NE(refusal(12, 12, 2).find("for 2 ranks give --train.micro_batch_size=6 (or 3, 2, 1)"),
            std::string::npos)
      << refusal(12, 12, 2);
  EXPECT_NE(refusal(12, 5, 1).find("for 1 rank give --train.micro_batch_size=4 (or 3, 2, 1)"),
            std::string::npos);
  EXPECT_NE(refusal(7, 7, 7).find("for 7 ranks give --train.micro_batch_size=1;"),
            std::string::npos);
  EXPECT_NE(refusal(12, 2, 5).find("no train.micro_batch_size makes 5 ranks divide"),
            std::string::npos);
}

}  // namespace
}  // namespace lockstep
