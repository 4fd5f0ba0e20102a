// Rotary position embedding (arXiv 2104.09864), half-split order: element i pairs with i + D/2.
//   (a, b) -> (a cos - b sin, b cos + a sin); the inverse rotates by the negative angle.
#include "kernels/cpu/context.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/rows.h"

namespace lockstep::cpu {
namespace {

void rotate_head(float* x, const float* cosines, const float* sines, std::int64_t half,
                 float direction) {
  float* upper = x + half;
  for (std::int64_t i = 0; i < half; ++i) {
    const float sine = direction * sines[i];
    const float a = x[i];
    const float b = upper[i];
    x[i] = a * cosines[i] - b * sine;
    upper[i] = b * cosines[i] + a * sine;
  }
}

}  // namespace

void rope(const RopeArgs& args, Stream& stream) {
  const std::int64_t width = args.x.cols();
  const std::int64_t half = args.head_dim / 2;
  const float direction = args.inverse ? -1.0f : 1.0f;
  const auto* positions = static_cast<const std::int32_t*>(args.positions.data);
  CpuContext& context = context_of(stream);
  context.reserve_per_thread(width);
#pragma omp parallel for schedule(static)
  for (std::int64_t row = 0; row < args.x.rows(); ++row) {
    float* x = output_row(args.x, row, context.thread_buffer());
    if (args.x.dtype != DType::kF32) load_row(x, element(args.x, row), args.x.dtype, width);
    const std::int64_t position =
        positions != nullptr ? positions[row] : args.position_offset + row % args.seq_len;
    const auto* table = static_cast<const float*>(element(args.table, position));
    for (std::int64_t head = 0; head < width; head += args.head_dim) {
      rotate_head(x + head, table, table + half, half, direction);
    }
    store_output(args.x, row, x);
  }
}

}  // namespace lockstep::cpu
