// Which tensor of a model takes which format under a quantization scheme: the rule alone, for every
// file format that can hold the result.
#pragma once

#include "core/weight_format.h"
#include "nn/parameters.h"

#include <string>

namespace lockstep {

// `plain` is the format of what is not quantized. Schemes:
//   none           everything plain
//   q8_0           matrices; those whose rows are no whole blocks take fp16 instead
//   w8a16, w8a8    linear maps take int8 rows; tables (embeddings, the head) and vectors stay plain
WeightFormat format_under(const std::string& scheme, WeightFormat plain,
                          const Parameter& parameter);

}  // namespace lockstep
