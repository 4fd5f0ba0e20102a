// SwiGLU (arXiv 2002.05202): out = silu(gate) up, with silu(x) = x sigmoid(x).
//   dup = dout silu(gate)     dgate = dout up s (1 + gate (1 - s)), s = sigmoid(gate)
#include "kernels/cpu/context.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/vector_math.h"

namespace lockstep::cpu {

void swiglu_forward(const SwigluForward& args, Stream& stream) {
  const std::int64_t F = args.out.cols();
  CpuContext& context = context_of(stream);
  context.reserve_per_thread(3 * F);
#pragma omp parallel for schedule(static)
  for (std::int64_t row = 0; row < args.out.rows(); ++row) {
    float* buffer = context.thread_buffer();
    const float* gate = row_of(args.gate_up, row, 0, 2 * F, buffer);
    const float* up = gate + F;
    float* out = output_row(args.out, row, buffer + 2 * F);
    for (std::int64_t i = 0; i < F; ++i) out[i] = gate[i] * sigmoid(gate[i]) * up[i];
    store_output(args.out, row, out);
  }
}

void swiglu_backward(const SwigluBackward& args, Stream& stream) {
  const std::int64_t F = args.dout.cols();
  CpuContext& context = context_of(stream);
  context.reserve_per_thread(5 * F);
#pragma omp parallel for schedule(static)
  for (std::int64_t row = 0; row < args.dout.rows(); ++row) {
    float* buffer = context.thread_buffer();
    const float* dout = row_of(args.dout, row, 0, F, buffer);
    const float* gate = row_of(args.gate_up, row, 0, 2 * F, buffer + F);
    const float* up = gate + F;
    float* dgate = output_row(args.dgate_up, row, buffer + 3 * F);
    float* dup = dgate + F;
    // Element i is read before it is written, so dgate_up may be gate_up itself.
    for (std::int64_t i = 0; i < F; ++i) {
      const float x = gate[i];
      const float s = sigmoid(x);
      const float gradient = dout[i] * up[i] * s * (1.0f + x * (1.0f - s));
      dup[i] = dout[i] * x * s;
      dgate[i] = gradient;
    }
    store_output(args.dgate_up, row, dgate);
  }
}

}  // namespace lockstep::cpu
