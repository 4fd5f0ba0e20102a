// Weights from files into a model's parameters: the one way in for training, judging and
// generating, whatever the format.
#pragma once

#include "core/progress.h"
#include "core/weight_source.h"
#include "device/stream.h"
#include "nn/parameters.h"

#include <string>

namespace lockstep {

// `source` has the parameters' names and shapes; `origin` names it in messages. Where there are no
// masters (inference) the values are rounded to the compute dtype. `progress` is called after every
// piece of at most 8 MiB. Complete on return. Throws what `source` throws, and UserError(kData)
// naming the first tensor that holds NaN, an infinity, or a value beyond the compute dtype's range.
void load_weights(ParameterSet& parameters, WeightSource& source, const std::string& origin,
                  Stream& stream, const Progress& progress = {});

}  // namespace lockstep
