// Rows rounded to int8 steps and back: s = max|x| / 127.5, out = s clamp(rint(x / s), -128, 127).
// Divisions, not products with 1 / s: the steps are then the same on every backend.
#include "kernels/cpu/context.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/rows.h"

#include <algorithm>
#include <cmath>

namespace lockstep::cpu {

void round_rows(const RoundRows& args, Stream& stream) {
  const std::int64_t C = args.x.cols();
  CpuContext& context = context_of(stream);
  context.reserve_per_thread(2 * C);
#pragma omp parallel for schedule(static)
  for (std::int64_t row = 0; row < args.x.rows(); ++row) {
    float* buffer = context.thread_buffer();
    const float* x = row_of(args.x, row, 0, C, buffer);
    float* out = output_row(args.out, row, buffer + C);
    float largest = 0.0f;
    for (std::int64_t i = 0; i < C; ++i) largest = std::max(largest, std::fabs(x[i]));
    float scale = largest / 127.5f;
    if (scale == 0.0f) scale = 1.0f;
    // std::clamp lets NaN through.
    for (std::int64_t i = 0; i < C; ++i) {
      out[i] = std::clamp(std::nearbyint(x[i] / scale), -128.0f, 127.0f) * scale;
    }
    store_output(args.out, row, out);
  }
}

}  // namespace lockstep::cpu
