// Rotary scaling of GGUF files by others: factors are known or refused.
#include "formats/gguf_model_fixture.h"
#include "formats/rope_factors.h"

namespace lockstep {
namespace {

using testing::export_small;
using testing::GgufModelTest;
using testing::Parts;
using testing::small_config;

class ForeignTransformerGguf : public GgufModelTest {};

TEST_F(ForeignTransformerGguf, RotaryScalingOfOtherFiles) {
  for (const char* scaling : {"llama3:8,1,4,8192", "llama3:32,1,4,8192", "linear:2.5"}) {
    std::filesystem::remove(path_);
    ModelConfig config = small_config("llama");
    config.rope_scaling = scaling;
    config.rope_theta = 500000.0;
    config.head_dim = 64;
    export_small(path_, config, GgufType::kF32, tokenizer_);
    Parts file(path_);
    file.remove(kRopeScalingKey);
    file.write(path_);
    EXPECT_EQ(open_gguf(path_).config.rope_scaling, scaling);
  }
  Parts none = parts("llama");
  none.add_tensor(kRopeFactorsName, {8}, 1.0f);
  none.write(path_);
  EXPECT_EQ(open_gguf(path_).config.rope_scaling, "");
  none.values[kRopeFactorsName][5] = 1.5f;
  expect_refused(none, "tensor rope_freqs.weight holds a rotary scaling that is not known");
  none.set(kRopeScalingKey, std::string("llama3:8,1,4,8192"));
  expect_refused(none, "tensor rope_freqs.weight holds a rotary scaling that is not known");
  none.set(kRopeScalingKey, std::string("llama9"));
  expect_refused(none, "key lockstep.rope_scaling: model.rope_scaling = \"llama9\"");
  Parts shape = parts("llama");
  shape.add_tensor(kRopeFactorsName, {4}, 2.0f);
  expect_refused(shape, "tensor rope_freqs.weight has shape [4] instead of [8]");
}

}  // namespace
}  // namespace lockstep
