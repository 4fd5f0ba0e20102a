// Causal attention for whatever the quick kernels do not take: document starts, head sizes that are
// no multiple of 8 or above 128, rows that do not begin on 16 bytes. The plain kernels, element by
// element.
#include "kernels/cuda/attention_plain_backward.cuh"
#include "kernels/cuda/attention_plain_forward.cuh"

namespace lockstep::cuda {
namespace {

// Calls f with the storage type's access and a padded head dimension.
template <typename F>
void with_elements(DType dtype, std::int64_t head_dim, const F& f) {
  with_type(dtype, [&](auto type) {
    using Access = plain::Elements<decltype(type)>;
    if (head_dim <= 32) return f(Access{}, std::integral_constant<int, 32>{});
    if (head_dim <= 64) return f(Access{}, std::integral_constant<int, 64>{});
    if (head_dim <= 128) return f(Access{}, std::integral_constant<int, 128>{});
    return f(Access{}, std::integral_constant<int, 256>{});
  });
}

}  // namespace

void attention_forward_any(const AttentionForward& args, Stream& stream) {
  with_elements(args.q.dtype, args.shape.head_dim, [&](auto access, auto head_dim) {
    plain::launch_forward<decltype(access), head_dim()>(args, stream);
  });
}

void attention_backward_any(const AttentionBackward& args, Stream& stream) {
  with_elements(args.q.dtype, args.shape.head_dim, [&](auto access, auto head_dim) {
    plain::launch_backward<decltype(access), head_dim()>(args, stream);
  });
}

}  // namespace lockstep::cuda
