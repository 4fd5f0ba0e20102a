// What holds for every architecture in the list, whatever it computes.
#include "nn/model_family.h"

#include "core/error.h"
#include "kernels/backend.h"

#include <gtest/gtest.h>

#include <set>

namespace lockstep {
namespace {

ModelConfig small(const ModelFamily& family) {
  ModelConfig config;
  config.architecture = family.name();
  config.layers = 2;
  resolve(config, /*tokenizer_vocab=*/256);
  return config;
}

TEST(ModelFamilies, NamesAndPresetsAreUnique) {
  std::set<std::string> names, presets;
  for (const ModelFamily* family : model_families()) {
    EXPECT_TRUE(names.insert(family->name()).second) << family->name();
    for (const ModelPreset& preset : family->presets()) {
      EXPECT_TRUE(presets.insert(preset.name).second) << preset.name;
      ModelConfig config;
      config.preset = preset.name;
      resolve(config, /*tokenizer_vocab=*/256);
      EXPECT_EQ(config.architecture, family->name());
    }
  }
}

// The family's list is what the model it makes really has, in the same order.
TEST(ModelFamilies, ParametersAreTheModels) {
  for (const ModelFamily* family : model_families()) {
    const ModelConfig config = small(*family);
    Arena arena(DeviceKind::kCpu);
    const auto model = family->make(config, {}, arena, &kCpuBackend.kernels->scratch_bytes);
    const std::vector<Parameter> declared = family->parameters(config);
    ASSERT_EQ(model->parameters().all().size(), declared.size()) << family->name();
    for (std::size_t i = 0; i < declared.size(); ++i) {
      EXPECT_EQ(model->parameters()[i].name, declared[i].name);
      EXPECT_EQ(model->parameters()[i].shape, declared[i].shape);
    }
    EXPECT_EQ(model->parameters().logical_count(), parameter_count(config));
    EXPECT_GT(family->flops_per_token(config), 2.0 * static_cast<double>(parameter_count(config)));
  }
}

TEST(ModelFamilies, KeysThatOthersOwnAreRefused) {
  ModelConfig config{.own = {{"experts", std::int64_t{0}}}};
  resolve(config, /*tokenizer_vocab=*/256);  // absent
  config.own["experts"] = std::int64_t{8};
  try {
    resolve(config, /*tokenizer_vocab=*/256);
    FAIL();
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::kConfig);
    EXPECT_NE(std::string(error.what()).find("model.experts: a gpt2 has no such setting"),
              std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace lockstep
