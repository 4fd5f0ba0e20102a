// Token and position lookup, and its gradient. Backward is split by columns, so that every thread
// walks all rows in order and a repeated token's rows are always added in row order.
#include "kernels/cpu/context.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/rows.h"

#include <algorithm>

namespace lockstep::cpu {
namespace {

constexpr std::int64_t kColumns = 32;  // of one task: two cache lines of floats

void add_floats(float* dst, const float* src, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) dst[i] += src[i];
}

// Columns [begin, begin + width) of both tables' gradients.
void backward_columns(const EmbeddingBackward& args, std::int64_t begin, std::int64_t width) {
  const auto* tokens = static_cast<const std::int32_t*>(args.tokens.data);
  float buffer[kColumns];
  for (std::int64_t row = 0; row < args.tokens.count(); ++row) {
    const float* dout = row_of(args.dout, row, begin, width, buffer);
    add_floats(static_cast<float*>(element(args.dtoken_table, tokens[row], begin)), dout, width);
    if (args.dposition_table) {
      const std::int64_t position = row % args.seq_len;
      add_floats(static_cast<float*>(element(args.dposition_table, position, begin)), dout, width);
    }
  }
}

}  // namespace

void embedding_forward(const EmbeddingForward& args, Stream& stream) {
  const std::int64_t C = args.out.cols();
  const auto* tokens = static_cast<const std::int32_t*>(args.tokens.data);
  const auto* positions = static_cast<const std::int32_t*>(args.positions.data);
  CpuContext& context = context_of(stream);
  context.reserve_per_thread(3 * C);
#pragma omp parallel for schedule(static)
  for (std::int64_t row = 0; row < args.tokens.count(); ++row) {
    float* buffer = context.thread_buffer();
    const float* token = row_of(args.token_table.data, tokens[row], 0, C, buffer);
    float* out = output_row(args.out, row, buffer + C);
    std::copy_n(token, C, out);
    if (args.position_table) {
      const std::int64_t position =
          positions != nullptr ? positions[row] : args.position_offset + row % args.seq_len;
      add_floats(out, row_of(args.position_table, position, 0, C, buffer + 2 * C), C);
    }
    store_output(args.out, row, out);
  }
}

void embedding_backward(const EmbeddingBackward& args, Stream& /*stream*/) {
  const std::int64_t C = args.dout.cols();
#pragma omp parallel for schedule(dynamic)
  for (std::int64_t begin = 0; begin < C; begin += kColumns) {
    backward_columns(args, begin, std::min(kColumns, C - begin));
  }
}

}  // namespace lockstep::cpu
