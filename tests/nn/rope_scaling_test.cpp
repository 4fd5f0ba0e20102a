// Scaled rotary frequencies against Llama 3.1's definition in float64, and texts that are refused.
#include "nn/rope_scaling.h"

#include "core/error.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

namespace lockstep {
namespace {

ModelConfig model(const std::string& scaling, double theta = 500000.0) {
  ModelConfig config;
  config.architecture = "llama";
  config.head_dim = 64;
  config.rope_theta = theta;
  config.rope_scaling = scaling;
  return config;
}

double plain(std::size_t pair, double theta = 500000.0) {
  return std::pow(theta, -2.0 * static_cast<double>(pair) / 64.0);
}

// A frequency passes through fp32 twice: the plain one and the scaled one.
void expect_close(float frequency, double expected) {
  EXPECT_NEAR(frequency / expected, 1.0, 2.0 * std::ldexp(1.0, -24) * 1.01);
}

TEST(RopeScaling, NoneIsThePlainSpectrum) {
  const auto frequencies = rope_frequencies(model(""));
  ASSERT_EQ(frequencies.size(), 32u);
  for (std::size_t i = 0; i < 32; ++i) expect_close(frequencies[i], plain(i));
}

TEST(RopeScaling, LinearDividesEveryFrequency) {
  const auto frequencies = rope_frequencies(model("linear:2.5"));
  for (std::size_t i = 0; i < 32; ++i) expect_close(frequencies[i], plain(i) / 2.5);
}

// Bands by how often a wave turns within the original context: above 4 kept, below 1 divided by 32,
// in between a blend that is linear in the number of turns.
TEST(RopeScaling, Llama3KeepsShortWavesStretchesLongOnesAndBlendsTheRest) {
  const auto frequencies = rope_frequencies(model("llama3:32,1,4,8192"));
  int kept = 0, blended = 0, stretched = 0;
  for (std::size_t i = 0; i < 32; ++i) {
    const double turns = 8192.0 * plain(i) / (2.0 * std::numbers::pi);
    double share = (turns - 1.0) / (4.0 - 1.0);  // of the plain frequency
    share = std::min(1.0, std::max(0.0, share));
    ++(share == 1.0 ? kept : share == 0.0 ? stretched : blended);
    const double expected = share * plain(i) + (1.0 - share) * plain(i) / 32.0;
    // The blend magnifies the first rounding by at most the share's slope, 4 / 3.
    EXPECT_NEAR(frequencies[i] / expected, 1.0, 8.0 * std::ldexp(1.0, -24)) << i;
  }
  EXPECT_EQ(kept, 15);
  EXPECT_EQ(blended, 3);
  EXPECT_EQ(stretched, 14);
}

TEST(RopeScaling, TextsComeBack) {
  for (const char* text :
       {"", "linear:2", "linear:1.5", "llama3:32,1,4,8192", "llama3:8,1.25,4.5,32", "linear:1.1"}) {
    EXPECT_EQ(rope_scaling_text(parse_rope_scaling(text)), text);
  }
}

std::string refusal(ModelConfig config) {
  try {
    resolve(config, /*tokenizer_vocab=*/256);
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::kConfig);
    return error.what();
  }
  return "";
}

TEST(RopeScaling, RefusesWhatItDoesNotUnderstand) {
  for (const char* text : {"yarn:4", "linear", "linear:", "linear:0", "linear:-2", "linear:0.5",
                           "linear:2,3", "linear:nan", "linear:inf", "linear:1e300", "linear:2;3",
                           "linear:2,", "llama3:8,1,4", "llama3:8,4,1,8192", "llama3:8,1,4,8192,1",
                           "llama3:0.5,1,4,8192", " linear:2", "linear: 2"}) {
    const std::string message = refusal({.architecture = "llama", .ffn = 64, .rope_scaling = text});
    EXPECT_NE(message.find("model.rope_scaling = \"" + std::string(text) + "\""), std::string::npos)
        << text << ": " << message;
    EXPECT_NE(message.find("for example llama3:32,1,4,8192"), std::string::npos) << message;
  }
  EXPECT_NE(refusal({.rope_scaling = "linear:2"}).find("gpt2 has no rotary positions"),
            std::string::npos);
  EXPECT_EQ(refusal({.architecture = "llama", .ffn = 64, .rope_scaling = "linear:2"}), "");
}

}  // namespace
}  // namespace lockstep
