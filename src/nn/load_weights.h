// Weights from files into a model's parameters: the one way in for training, judging and
// generating, whatever the format.
#pragma once

#include "core/progress.h"
#include "core/weight_source.h"
#include "device/stream.h"
#include "nn/parameters.h"

namespace lockstep {

// `source` has the parameters' names and shapes. Where there are no masters (inference) the values
// are rounded to the compute dtype. `progress` is called after every piece of at most 8 MiB.
// Complete on return. Throws what `source` throws.
void load_weights(ParameterSet& parameters, WeightSource& source, Stream& stream,
                  const Progress& progress = {});

}  // namespace lockstep
