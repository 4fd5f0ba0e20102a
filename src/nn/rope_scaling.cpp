// Rotary frequencies and their stretching, with the arithmetic of the implementations that models
// were trained with: what they keep in fp32 is rounded to fp32 here too.
#include "nn/rope_scaling.h"

#include "core/error.h"

#include <charconv>
#include <cmath>
#include <numbers>

namespace lockstep {
namespace {

constexpr double kLargest = 1e9;  // of every number of a scaling; far beyond any model's

[[noreturn]] void fail_scaling(const std::string& text, const std::string& why) {
  fail(ExitCode::kConfig,
       "model.rope_scaling = \"{}\": {}; use linear:FACTOR or llama3:FACTOR,LOW,HIGH,ORIGINAL, for "
       "example llama3:32,1,4,8192",
       text, why);
}

// The numbers between commas; anything else ends the run.
std::vector<double> parse_numbers(const std::string& list, const std::string& text) {
  std::vector<double> numbers;
  const char* at = list.data();
  const char* const end = at + list.size();
  while (true) {
    double value = 0.0;
    const auto [next, error] = std::from_chars(at, end, value);
    if (error != std::errc() || !(value > 0.0 && value <= kLargest)) {
      fail_scaling(text, "every number must be above 0");
    }
    numbers.push_back(value);
    if (next == end) return numbers;
    if (*next != ',') fail_scaling(text, "the numbers are separated by commas");
    at = next + 1;
  }
}

// Llama 3.1: long wavelengths are stretched by the factor, short ones kept, those between blended.
double llama3_frequency(const RopeScaling& scaling, double frequency) {
  const double wavelength = 2.0 * std::numbers::pi / frequency;
  if (wavelength < scaling.original_context / scaling.high_freq_factor) return frequency;
  if (wavelength > scaling.original_context / scaling.low_freq_factor) {
    return frequency / scaling.factor;
  }
  const double smooth = (scaling.original_context / wavelength - scaling.low_freq_factor) /
                        (scaling.high_freq_factor - scaling.low_freq_factor);
  return (1.0 - smooth) * frequency / scaling.factor + smooth * frequency;
}

}  // namespace

RopeScaling parse_rope_scaling(const std::string& text) {
  RopeScaling scaling;
  if (text.empty()) return scaling;
  const std::size_t colon = text.find(':');
  const std::string kind = text.substr(0, colon);
  if (colon == std::string::npos || (kind != "linear" && kind != "llama3")) {
    fail_scaling(text, "not a known scaling");
  }
  const std::vector<double> numbers = parse_numbers(text.substr(colon + 1), text);
  if (numbers.size() != (kind == "linear" ? 1u : 4u)) {
    fail_scaling(text, fmt::format("{} takes {}", kind, kind == "linear" ? "one" : "four numbers"));
  }
  scaling.factor = numbers[0];
  if (scaling.factor < 1.0) fail_scaling(text, "FACTOR must be at least 1");
  scaling.kind = RopeScaling::Kind::kLinear;
  if (kind == "linear") return scaling;
  scaling.kind = RopeScaling::Kind::kLlama3;
  scaling.low_freq_factor = numbers[1];
  scaling.high_freq_factor = numbers[2];
  scaling.original_context = numbers[3];
  if (scaling.low_freq_factor >= scaling.high_freq_factor) {
    fail_scaling(text, "LOW must be below HIGH");
  }
  return scaling;
}

std::string rope_scaling_text(const RopeScaling& scaling) {
  switch (scaling.kind) {
    case RopeScaling::Kind::kNone: return "";
    case RopeScaling::Kind::kLinear: return fmt::format("linear:{}", scaling.factor);
    case RopeScaling::Kind::kLlama3: break;
  }
  return fmt::format("llama3:{},{},{},{}", scaling.factor, scaling.low_freq_factor,
                     scaling.high_freq_factor, scaling.original_context);
}

// f_i = theta^(-2i/D) (Su et al., 2104.09864), then the scaling.
std::vector<float> rope_frequencies(const ModelConfig& config) {
  const RopeScaling scaling = parse_rope_scaling(config.rope_scaling);
  std::vector<float> frequencies;
  for (std::int64_t i = 0; i < config.head_dim / 2; ++i) {
    const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(config.head_dim);
    const auto plain = static_cast<float>(std::pow(config.rope_theta, exponent));
    double frequency = static_cast<double>(plain);
    if (scaling.kind == RopeScaling::Kind::kLinear) frequency /= scaling.factor;
    if (scaling.kind == RopeScaling::Kind::kLlama3) {
      frequency = llama3_frequency(scaling, frequency);
    }
    frequencies.push_back(static_cast<float>(frequency));
  }
  return frequencies;
}

}  // namespace lockstep
