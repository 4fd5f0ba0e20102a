// The step's decision: adds the segment sums in index order and applies kernels/step_rules.h.
#include "kernels/step_rules.h"

#include "kernels/cpu/kernels.h"

namespace lockstep::cpu {

void step_update(const StepUpdateArgs& args, Stream& /*stream*/) {
  const auto* verdict = static_cast<const double*>(args.verdict.data);
  StepVerdict sums;
  for (std::int64_t s = 0; s < args.segments; ++s) sums.norm_squared += verdict[s];
  sums.valid_tokens = verdict[args.segments + 1];
  *args.state = advance(*args.state, sums, args.rules);
}

}  // namespace lockstep::cpu
