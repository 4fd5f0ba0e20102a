// A batch has the parts that a model wants, and no others.
#include "nn/batch.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

// Data of a dry arena is absent everywhere; shapes and types say what was planned.
TEST(Batch, TokensAndClasses) {
  Arena arena(DeviceKind::kCpu);
  const DeviceBatch batch = allocate_batch(arena, {}, 12);
  EXPECT_EQ(batch.tokens.shape, (Shape{12}));
  EXPECT_EQ(batch.tokens.dtype, DType::kI32);
  EXPECT_EQ(batch.targets.dtype, DType::kI32);
  EXPECT_EQ(batch.features.count(), 1);  // absent
  EXPECT_EQ(batch.mask.count(), 1);
}

TEST(Batch, FeaturesAndValues) {
  Arena arena(DeviceKind::kCpu);
  const DeviceBatch batch =
      allocate_batch(arena, {.features = 5, .target_values = 3, .mask = true}, 12);
  EXPECT_EQ(batch.tokens.count(), 1);  // absent
  EXPECT_EQ(batch.features.shape, (Shape{12, 5}));
  EXPECT_EQ(batch.features.dtype, DType::kF32);
  EXPECT_EQ(batch.targets.shape, (Shape{12, 3}));
  EXPECT_EQ(batch.targets.dtype, DType::kF32);
  EXPECT_EQ(batch.mask.shape, (Shape{12}));
  EXPECT_EQ(batch.mask.dtype, DType::kU8);
}

}  // namespace
}  // namespace lockstep
