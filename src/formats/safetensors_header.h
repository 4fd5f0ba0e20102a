// The JSON header of one .safetensors file, parsed and checked, or put together.
#pragma once

#include "files/input_file.h"
#include "formats/safetensors.h"

#include <string>
#include <vector>

namespace lockstep {

struct HeaderEntry {
  StoredTensor tensor;
  std::int64_t begin = 0;  // relative to the data
};

struct SafetensorsHeader {
  std::vector<HeaderEntry> entries;  // by offset
  std::int64_t data_begin = 0;       // in the file
};

// Reads the header only. Throws UserError(kData) naming file and tensor: lengths beyond the file,
// holes, overlaps, sizes that shape and dtype contradict, more than four dimensions.
SafetensorsHeader parse_safetensors_header(const InputFile& file);

// Length, JSON and padding, such that the data begins 8-aligned. Tensors lie in the order given.
std::string safetensors_header_text(const std::vector<StoredTensor>& tensors);

}  // namespace lockstep
