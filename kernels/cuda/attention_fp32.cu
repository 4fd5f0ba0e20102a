// Causal attention of fp32 rows on 16 bytes: the plain kernels in their quick form.
#include "kernels/cuda/attention_plain_backward.cuh"
#include "kernels/cuda/attention_plain_forward.cuh"

namespace lockstep::cuda {

void attention_forward_fp32(const AttentionForward& args, Stream& stream) {
  with_padded_head_dim(args.shape.head_dim, [&](auto head_dim) {
    plain::launch_forward<plain::Quads, head_dim()>(args, stream);
  });
}

void attention_backward_fp32(const AttentionBackward& args, Stream& stream) {
  with_padded_head_dim(args.shape.head_dim, [&](auto head_dim) {
    plain::launch_backward<plain::Quads, head_dim()>(args, stream);
  });
}

}  // namespace lockstep::cuda
