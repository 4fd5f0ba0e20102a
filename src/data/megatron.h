// Megatron-LM's index of a corpus: DATA.idx, which begins with MMIDIDX, describes DATA.bin, which
// holds nothing but tokens. Lockstep reads the tokens as one stream, in order.
#pragma once

#include "data/shard_format.h"

#include <cstdint>
#include <string>

namespace lockstep {

// True if the file begins as an index does; false also if it cannot be read.
bool is_megatron_index(const std::string& path);

// DATA.idx and DATA.bin, for either of them.
std::string megatron_index_path(const std::string& path);
std::string megatron_data_path(const std::string& path);

// Reads the whole index, in bounded memory. Throws UserError(kData) naming it: unknown version or
// type, truncated, trailing bytes, or sequences that do not lie in DATA.bin, whose size is
// `data_bytes`, one behind the other.
ShardLayout read_megatron_index(const std::string& path, std::int64_t data_bytes);

}  // namespace lockstep
