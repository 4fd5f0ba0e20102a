// Where in its sequence a row is: read from the device, or counted from the row's number.
#pragma once

#include "core/tensor.h"

#include <cstdint>

namespace lockstep::cuda {

struct RowPositions {
  const std::int32_t* given;  // (N) or null: offset + row % seq_len
  std::int64_t seq_len, offset;

  __device__ std::int64_t of(std::int64_t row) const {
    return given != nullptr ? given[row] : offset + row % seq_len;
  }
};

// Of an op's arguments with positions, seq_len and position_offset.
template <typename Args>
RowPositions row_positions(const Args& args) {
  return {static_cast<const std::int32_t*>(args.positions.data), args.seq_len,
          args.position_offset};
}

}  // namespace lockstep::cuda
