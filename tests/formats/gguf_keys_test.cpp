// Keys of a GGUF file that are missing or of another type are refused by file and key.
#include "formats/gguf_model_fixture.h"

#include <limits>

namespace lockstep {
namespace {

using testing::GgufModelTest;
using testing::Parts;

class GgufKeysTest : public GgufModelTest {};

TEST_F(GgufKeysTest, KeysThatAreMissingOrWrong) {
  for (const char* key :
       {"context_length", "embedding_length", "block_count", "feed_forward_length",
        "attention.head_count", "attention.layer_norm_rms_epsilon"}) {
    Parts file = parts("llama");
    file.remove(std::string("llama.") + key);
    expect_refused(file, fmt::format("key llama.{} is missing", key));
    file.set(std::string("llama.") + key, std::string("x"));
    expect_refused(file, fmt::format("key llama.{} is no number", key));
  }
  Parts file = parts("llama");
  file.remove("general.architecture");
  expect_refused(file, "key general.architecture is missing");
  file.set("general.architecture", std::uint32_t{1});
  expect_refused(file, "key general.architecture is no string");
  file.set("general.architecture", std::string("mamba"));
  expect_refused(file, "key general.architecture = 'mamba' is not supported");

  const auto refused_with = [&](const std::string& key, GgufValue value, const std::string& why) {
    Parts changed = parts("llama");
    changed.set("llama." + key, std::move(value));
    expect_refused(changed, "key llama." + key + " " + why);
  };
  refused_with("block_count", std::uint32_t{0}, "= 0 is no size");
  refused_with("block_count", 2.5f, "= 2.5 is no size");
  refused_with("block_count", ~std::uint64_t{0}, "= 1.8446744073709552e+19 is no size");
  refused_with("embedding_length", std::int32_t{-64}, "= -64 is no size");
  refused_with("attention.head_count", std::vector<std::uint32_t>{4, 4}, "is no number");
  refused_with("rope.freq_base", std::numeric_limits<float>::quiet_NaN(), "is no number");
  refused_with("expert_count", std::uint32_t{8}, "= 8 is not supported (only 0 is)");
  refused_with("attention.sliding_window", std::uint32_t{64}, "= 64 is not supported");
  refused_with("logit_scale", 0.5f, "= 0.5 is not supported (only 1 is)");
  refused_with("attention.causal", false, "= 0 is not supported");
  refused_with("attention.value_length", std::uint32_t{8}, "= 8 is not supported: it must be 16");
  refused_with("rope.dimension_count", std::uint32_t{8}, "= 8 is not supported: whole heads");
  refused_with("rope.scaling.type", std::string("yarn"), "= 'yarn' is not supported");
}

}  // namespace
}  // namespace lockstep
