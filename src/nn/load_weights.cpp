// A piece at a time, as ParameterSet::load asks for them.
#include "nn/load_weights.h"

namespace lockstep {

void load_weights(ParameterSet& parameters, WeightSource& source, Stream& stream,
                  const Progress& progress) {
  const ReadRows read = [&](const std::string& name, std::int64_t row, std::span<float> out) {
    source.read(name, row, out);
    report(progress);
  };
  parameters.load(read, stream);
}

}  // namespace lockstep
