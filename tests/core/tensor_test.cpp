// Shapes and views: slices share memory, keep the row stride, and refuse what does not exist.
#include "core/tensor.h"

#include <gtest/gtest.h>

#include <vector>

namespace lockstep {
namespace {

struct Matrix {
  std::vector<float> values = std::vector<float>(12);
  Tensor tensor{values.data(), {3, 4}, DType::kF32, DeviceKind::kCpu};
};

TEST(Tensor, ShapeArithmetic) {
  const Shape shape{2, 3, 4};
  EXPECT_EQ(shape.count(), 24);
  EXPECT_EQ(shape.rows(), 6);
  EXPECT_EQ(shape.cols(), 4);
  EXPECT_EQ(shape.str(), "[2, 3, 4]");
  EXPECT_EQ(Shape{}.count(), 1);
  EXPECT_THROW((Shape{1, 2, 3, 4, 5}), CheckError);
  EXPECT_THROW((Shape{-1}), CheckError);
}

TEST(Tensor, ColumnsKeepTheStride) {
  Matrix m;
  const Tensor view = m.tensor.columns(1, 2);
  EXPECT_EQ(view.shape, (Shape{3, 2}));
  EXPECT_EQ(view.row_stride, 4);
  EXPECT_FALSE(view.contiguous());
  EXPECT_EQ(view.data, m.values.data() + 1);
  EXPECT_EQ(view.row_range(2, 1).data, m.values.data() + 9);
  EXPECT_THROW(m.tensor.columns(3, 2), CheckError);
  EXPECT_THROW(view.reshaped({6}), CheckError);
}

TEST(Tensor, RowsAndElements) {
  Matrix m;
  EXPECT_EQ(m.tensor.row_range(1, 2).data, m.values.data() + 4);
  EXPECT_EQ(m.tensor.elements(5, 3).data, m.values.data() + 5);
  EXPECT_EQ(m.tensor.elements(5, 3).shape, (Shape{3}));
  EXPECT_THROW(m.tensor.row_range(2, 2), CheckError);
  EXPECT_THROW(m.tensor.elements(10, 3), CheckError);
}

TEST(Tensor, TypedAccessChecksTheType) {
  Matrix m;
  EXPECT_EQ(m.tensor.as<float>(), m.values.data());
  EXPECT_THROW(m.tensor.as<bf16>(), CheckError);
  EXPECT_EQ(m.tensor.bytes(), 48u);
  EXPECT_EQ(m.tensor.str(), "fp32 [3, 4] on cpu");
}

}  // namespace
}  // namespace lockstep
