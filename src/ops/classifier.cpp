// Checks of the loss.
#include "ops/classifier.h"

#include "ops/check.h"

namespace lockstep::ops {

void classifier(const ClassifierArgs& args, Stream& stream) {
  const std::int64_t N = args.logits.rows();
  const std::int64_t Vp = args.logits.cols();
  check_storage("classifier.logits", args.logits.dtype);
  check_matrix("classifier.logits", args.logits, N, Vp, args.logits.dtype, stream);
  check_vector("classifier.losses", args.losses, N, DType::kF32, stream);
  if (args.correct) check_vector("classifier.correct", args.correct, N, DType::kU8, stream);
  check_vector("classifier.targets", args.targets, N, DType::kI32, stream);
  CHECK(args.vocab > 0 && args.vocab <= Vp, "classifier: vocab {} of {} columns", args.vocab, Vp);
  CHECK(!args.write_gradient || args.state != nullptr, "classifier: the gradient needs a state");
  stream.kernels().classifier(args, stream);
}

void loss_totals(const LossTotals& args, Stream& stream) {
  const std::int64_t N = args.losses.count();
  check_vector("loss_totals.totals", args.totals, 3, DType::kF64, stream);
  check_vector("loss_totals.losses", args.losses, N, DType::kF32, stream);
  if (args.correct) check_vector("loss_totals.correct", args.correct, N, DType::kU8, stream);
  check_vector("loss_totals.targets", args.targets, N, DType::kI32, stream);
  stream.kernels().loss_totals(args, stream);
}

}  // namespace lockstep::ops
