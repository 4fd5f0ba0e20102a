// y = x W^T + b and its gradients as calls of the one gemm op. A weight is stored (out, in).
#pragma once

#include "ops/gemm.h"

namespace lockstep {

// Everything the forward epilogue can fuse; absent tensors are left out.
struct LinearForward {
  Tensor y;  // (N, out)
  Tensor x;  // (N, in)
  Weight weight;
  Tensor bias;
  Tensor residual;       // added to y
  Tensor preactivation;  // with GELU: x W^T + b is kept here, y = gelu of it
  Tensor scratch;
};
inline void linear_forward(const LinearForward& f, Stream& stream) {
  GemmArgs args{.out = f.y,
                .a = f.x,
                .b = f.weight,
                .transpose_b = true,
                .bias = f.bias,
                .residual = f.residual,
                .scratch = f.scratch};
  if (f.preactivation) {
    args.activation = Activation::kGelu;
    args.preactivation_out = f.preactivation;
  }
  ops::gemm(args, stream);
}

// dx = dy W, times gelu'(preactivation) when given; overwrites dx.
inline void linear_backward_input(const Tensor& dx, const Tensor& dy, const Weight& weight,
                                  const Tensor& preactivation, const Tensor& scratch,
                                  Stream& stream) {
  GemmArgs args{.out = dx, .a = dy, .b = weight, .scratch = scratch};
  if (preactivation) {
    args.activation_grad = Activation::kGelu;
    args.preactivation = preactivation;
  }
  ops::gemm(args, stream);
}

// dweight += dy^T x and dbias += column sums of dy.
inline void linear_backward_weight(const Tensor& dweight, const Tensor& dbias, const Tensor& dy,
                                   const Tensor& x, const Tensor& scratch, Stream& stream) {
  ops::gemm({.out = dweight,
             .a = dy,
             .b = x,
             .transpose_a = true,
             .accumulate = true,
             .bias_grad = dbias,
             .scratch = scratch},
            stream);
}

}  // namespace lockstep
