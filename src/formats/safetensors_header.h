// The JSON header of one .safetensors file, parsed and checked, or put together.
#pragma once

#include "formats/safetensors.h"

#include <cstddef>
#include <span>
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

// `file`: the whole file. Throws UserError(kData) naming `path` and the tensor: lengths beyond the
// file, holes, overlaps, sizes that shape and dtype contradict, more than four dimensions.
SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file,
                                           const std::string& path);

// Length, JSON and padding, such that the data begins 8-aligned. Tensors lie in the order given.
std::string safetensors_header_text(const std::vector<StoredTensor>& tensors);

}  // namespace lockstep
