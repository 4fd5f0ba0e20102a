// The part of a GGUF file before its data: parsed and checked, or put together as bytes.
#pragma once

#include "files/input_file.h"
#include "formats/gguf.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace lockstep {

struct GgufEntry {
  GgufTensor tensor;
  std::int64_t begin = 0;  // of its bytes, in the file
};

struct GgufHeader {
  std::map<std::string, GgufValue> metadata;
  std::vector<GgufEntry> entries;  // in the file's order
};

// Reads what stands before the data. Throws UserError(kData) naming file and key or tensor: counts
// and lengths beyond the file, types that `types` does not allow, names that come twice, offsets
// with holes or overlaps.
GgufHeader parse_gguf_header(const InputFile& file, GgufReader::Types types);

// Magic to the padding before the data. `offsets`: of each tensor from the begin of the data.
std::string gguf_header_bytes(const GgufMetadata& metadata, const std::vector<GgufTensor>& tensors,
                              std::vector<std::int64_t>& offsets);

inline constexpr std::int64_t kGgufAlignment = 32;
inline constexpr std::size_t kGgufMaxName = 63;

// `size` raised to a multiple of `alignment`.
constexpr std::int64_t gguf_padded(std::int64_t size, std::int64_t alignment) {
  return (size + alignment - 1) / alignment * alignment;
}

}  // namespace lockstep
