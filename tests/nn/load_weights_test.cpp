// Weights from a source: what is not finite, or is not once it is rounded, is named.
#include "nn/load_weights.h"

#include "core/error.h"
#include "support/support.h"

#include <cmath>

namespace lockstep {
namespace {

// Ones, but for one value of "b".
class Ones final : public WeightSource {
 public:
  explicit Ones(float odd) : odd_(odd) {}
  const std::vector<SourceTensor>& tensors() const override { return tensors_; }
  void read(const std::string& name, std::int64_t, std::span<float> out) override {
    std::fill(out.begin(), out.end(), 1.0f);
    if (name == "b") out[4] = odd_;
  }

 private:
  float odd_;
  std::vector<SourceTensor> tensors_ = {{"a", {2, 3}, "F32"}, {"b", {2, 3}, "F32"}};
};

std::string outcome(float odd, DType compute, bool training) {
  test::Machine machine = test::open_cpu();
  Arena arena(*machine.device);
  ParameterSet parameters;
  for (const char* name : {"a", "b"}) parameters.add({.name = name, .shape = {2, 3}});
  parameters.allocate(arena, compute, training);
  Ones source(odd);
  try {
    load_weights(parameters, source, "m", *machine.stream);
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::kData);
    return error.what();
  }
  const Tensor weight = parameters.weight(1).data;
  if (compute == DType::kF32) {
    EXPECT_EQ(weight.as<float>()[4], odd);
  }
  return "";
}

TEST(LoadWeights, NamesTheFirstBadTensor) {
  for (const bool training : {false, true}) {
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
      EXPECT_EQ(outcome(-2.0f, dtype, training), "");
      EXPECT_EQ(outcome(std::nanf(""), dtype, training).rfind("m: tensor b holds NaN: ", 0), 0u);
      EXPECT_EQ(outcome(-HUGE_VALF, dtype, training).rfind("m: tensor b holds infinity: ", 0), 0u);
    }
  }
}

TEST(LoadWeights, NamesWhatTheComputeTypeCannotHold) {
  EXPECT_EQ(outcome(65519.0f, DType::kF16, false), "");
  EXPECT_EQ(outcome(-65520.0f, DType::kF16, false),
            "m: tensor b holds -65520, beyond the range of fp16; compute in bf16 or fp32");
  EXPECT_EQ(outcome(65520.0f, DType::kBF16, true), "");
  EXPECT_NE(outcome(3.4e38f, DType::kBF16, true), "");
  EXPECT_EQ(outcome(3.4e38f, DType::kF32, true), "");
}

}  // namespace
}  // namespace lockstep
