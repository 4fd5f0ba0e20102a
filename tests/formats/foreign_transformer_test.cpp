// Rotary scaling in config.json, as versions 4 and 5 of transformers spell it.
#include "formats/hf_config_sample.h"

namespace lockstep {
namespace {

using nlohmann::json;
using test::expect_refused;
using test::kLlama;
using test::parse;
using test::with;

TEST(ForeignTransformer, RopeInOldAndNewSpelling) {
  const json scaling = {{"rope_type", "llama3"},
                        {"factor", 32.0},
                        {"low_freq_factor", 1.0},
                        {"high_freq_factor", 4.0},
                        {"original_max_position_embeddings", 8192}};
  EXPECT_EQ(parse(with(kLlama, "rope_scaling", scaling)).model.rope_scaling, "llama3:32,1,4,8192");
  EXPECT_EQ(
      parse(with(kLlama, "rope_scaling", {{"type", "linear"}, {"factor", 2.5}})).model.rope_scaling,
      "linear:2.5");
  json parameters = with(scaling, "rope_theta", 500000.0);
  const ModelConfig v5 = parse(with(kLlama, "rope_parameters", parameters)).model;
  EXPECT_EQ(v5.rope_scaling, "llama3:32,1,4,8192");
  EXPECT_EQ(v5.rope_theta, 500000.0);
  const json plain = {{"rope_type", "default"}, {"rope_theta", 7.0}};
  EXPECT_EQ(parse(with(kLlama, "rope_parameters", plain)).model.rope_theta, 7.0);
  expect_refused(with(with(kLlama, "rope_parameters", plain), "rope_theta", 8.0),
                 "key 'rope_parameters.rope_theta' = 7.0: contradicts rope_theta = 8");
  expect_refused(with(with(kLlama, "rope_parameters", plain), "rope_scaling", scaling),
                 "key 'rope_parameters.rope_type'");
  expect_refused(with(kLlama, "rope_parameters", {{"full_attention", plain}}),
                 "key 'rope_parameters.full_attention'");
  for (const char* type : {"yarn", "dynamic", "longrope"}) {
    expect_refused(with(kLlama, "rope_scaling", {{"type", type}, {"factor", 2.0}}),
                   "only default, linear, llama3");
  }
  for (const char* key : {"factor", "low_freq_factor", "original_max_position_embeddings"}) {
    json broken = scaling;
    broken.erase(key);
    expect_refused(with(kLlama, "rope_scaling", broken),
                   fmt::format("key 'rope_scaling.{}' is missing", key));
  }
  expect_refused(with(kLlama, "rope_scaling", with(scaling, "factor", 0.5)), "at least 1");
  expect_refused(with(kLlama, "rope_scaling", with(scaling, "low_freq_factor", 4.0)), "below");
}

}  // namespace
}  // namespace lockstep
