// Int8 weights in safetensors as the compressed-tensors package defines them (transformers and vLLM
// read them): what config.json says, the tensors that stand for one weight, and reading them back.
// w8a16: X.weight_packed int32, four values + 128 to a word, lowest byte first; X.weight_scale;
// X.weight_shape. w8a8: X.weight int8; X.weight_scale; inputs are rounded per token by the engine.
#pragma once

#include "core/dtype.h"
#include "core/weight_source.h"
#include "formats/safetensors.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace lockstep {

enum class Int8Scheme { kW8A16, kW8A8 };

// The JSON text of quantization_config.
std::string compressed_tensors_config(Int8Scheme scheme);

// One of the tensors that stand for a weight.
enum class Int8Part { kValues, kScale, kShape };
struct Int8Tensor {
  StoredTensor stored;
  Int8Part part = Int8Part::kValues;
};
// Those of `weight` ("X.weight", out x in); scales are stored as `scale_dtype`.
std::vector<Int8Tensor> int8_tensors(const std::string& weight, std::int64_t out, std::int64_t in,
                                     Int8Scheme scheme, DType scale_dtype);
// The bytes of one part that belong to these whole rows of the weight. Not for kShape.
std::vector<std::byte> int8_bytes(Int8Part part, std::span<const float> rows, std::int64_t cols,
                                  Int8Scheme scheme, DType scale_dtype);

// The tensors in `files` as plain ones, "X.weight" dequantized as it is read. int8_activations says
// whether engines round the inputs of linear layers. `origin` names the files in messages. Throws
// UserError(kData): a scheme other than the two above (naming the key), or tensors that do not
// belong together.
std::unique_ptr<WeightSource> open_compressed_tensors(std::unique_ptr<SafetensorsReader> files,
                                                      const std::string& quantization_config,
                                                      bool& int8_activations,
                                                      const std::string& origin);

}  // namespace lockstep
