// StateRows: the canonical tensors of a training state under their names, row by row between host
// memory and the flat buffers on the device, and which rank owns which rows. Padding never leaves
// the device.
#pragma once

#include "core/progress.h"
#include "io/checkpoint.h"
#include "trainer/training_state.h"

#include <span>
#include <vector>

namespace lockstep {

// /model/<name>, /optimizer/exp_avg/<name>, /optimizer/exp_avg_sq/<name>.
std::vector<StateTensor> state_tensors(const ParameterSet& parameters);

class StateRows {
 public:
  explicit StateRows(TrainingState& state)
      : state_(state), tensors_(state_tensors(state.parameters())) {}

  const std::vector<StateTensor>& tensors() const { return tensors_; }
  // Today every rank holds all of the state. A sharded optimizer lists here what it alone holds.
  std::vector<OwnedRange> owners(int ranks) const { return assign_rows(tensors_, ranks); }

  // Fills `out` with rows [row, ...) of tensor `index`; n follows from out.size(). Blocking.
  void read(std::size_t index, std::int64_t row, std::span<std::byte> out, Stream& stream) const;
  // Fills every tensor, then the weights. Strict: exactly these names and shapes, else
  // UserError(kConfig). Blocking.
  void load(CheckpointReader& reader, const Progress& progress, Stream& stream);

 private:
  struct Place {
    const Tensor* flat;
    std::size_t parameter;
  };
  Place place(std::size_t index) const;
  void require_same_tensors(const CheckpointReader& reader) const;

  TrainingState& state_;
  std::vector<StateTensor> tensors_;
};

}  // namespace lockstep
