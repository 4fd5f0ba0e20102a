// Checks of the divergence.
#include "ops/divergence.h"

#include "ops/check.h"

namespace lockstep::ops {

void divergence(const DivergenceArgs& args, Stream& stream) {
  const std::int64_t N = args.logits.rows();
  for (const Tensor* logits : {&args.logits, &args.reference}) {
    check_storage("divergence.logits", logits->dtype);
    check_matrix("divergence.logits", *logits, N, logits->cols(), logits->dtype, stream);
    CHECK(args.vocab > 0 && args.vocab <= logits->cols(), "divergence: vocab {} of {} columns",
          args.vocab, logits->cols());
  }
  check_vector("divergence.targets", args.targets, N, DType::kI32, stream);
  for (const Tensor* out : {&args.losses, &args.reference_losses, &args.divergences}) {
    check_vector("divergence's results", *out, N, DType::kF32, stream);
  }
  check_vector("divergence.verdicts", args.verdicts, N, DType::kU8, stream);
  stream.kernels().divergence(args, stream);
}

}  // namespace lockstep::ops
