// What ops refuse: every wrong argument is a CheckError that names the op's argument, raised before
// a kernel runs.
#include "ops/attention.h"
#include "ops/cast.h"
#include "ops/classifier.h"
#include "ops/embedding.h"
#include "ops/gemm.h"
#include "ops/norm.h"
#include "ops/optimizer.h"
#include "ops/rope.h"
#include "ops/scratch.h"
#include "ops/swiglu.h"
#include "support/support.h"

namespace lockstep {
namespace {

using namespace lockstep::test;

class Checks : public testing::Test {
 protected:
  Tensor make(Shape shape, DType dtype = DType::kF32) { return buffers_.output(shape, dtype); }
  Stream& stream() { return *cpu_.stream; }

  template <typename Call>
  void expect_refused(const std::string& message, const Call& call) {
    try {
      call();
      ADD_FAILURE() << "accepted; expected: " << message;
    } catch (const CheckError& error) {
      EXPECT_NE(std::string(error.what()).find(message), std::string::npos) << error.what();
    }
    buffers_.check();
  }

  Machine cpu_ = open_cpu(1);
  Buffers buffers_{cpu_};
};

TEST_F(Checks, Gemm) {
  GemmArgs good;
  good.out = make({4, 6});
  good.a = make({4, 5});
  good.b = make({5, 6});
  const auto refused = [&](const std::string& message, const auto& change) {
    GemmArgs args = good;
    change(args);
    expect_refused(message, [&] { ops::gemm(args, stream()); });
  };
  refused("gemm.a is absent", [](GemmArgs& g) { g.a.data = nullptr; });
  refused("gemm.b is [5, 6], must be [6, 5]", [](GemmArgs& g) { g.transpose_b = true; });
  refused("gemm.b is bf16", [&](GemmArgs& g) { g.b = make({5, 6}, DType::kBF16); });
  refused("gemm.out is bf16", [&](GemmArgs& g) { g.out = make({4, 6}, DType::kBF16); });
  refused("gemm.a is int32", [&](GemmArgs& g) { g.a = make({4, 5}, DType::kI32); });
  refused("gemm.bias is [5]", [&](GemmArgs& g) { g.bias = make({5}); });
  refused("gemm.bias_grad is [6]", [&](GemmArgs& g) { g.bias_grad = make({6}); });
  refused("gemm.residual is [4, 5]", [&](GemmArgs& g) { g.residual = make({4, 5}); });
  refused("accumulate excludes", [&](GemmArgs& g) {
    g.accumulate = true;
    g.residual = make({4, 6});
  });
  refused("exclude each other",
          [](GemmArgs& g) { g.activation = g.activation_grad = Activation::kGelu; });
  refused("needs preactivation", [](GemmArgs& g) { g.activation_grad = Activation::kGelu; });
  refused("needs an activation", [&](GemmArgs& g) { g.preactivation_out = make({4, 6}); });
  refused("gemm.a is on cuda", [](GemmArgs& g) { g.a.device = DeviceKind("cuda"); });
  refused("row stride 3", [](GemmArgs& g) { g.a.row_stride = 3; });
}

TEST_F(Checks, Attention) {
  const AttentionShape shape{.batch = 2,
                             .q_len = 3,
                             .kv_len = 3,
                             .kv_rows = 3,
                             .q_offset = 0,
                             .heads = 4,
                             .kv_heads = 2,
                             .head_dim = 8};
  AttentionForward good;
  good.shape = shape;
  good.out = make({6, 32});
  good.q = make({6, 32});
  good.k = make({6, 16});
  good.v = make({6, 16});
  const auto refused = [&](const std::string& message, const auto& change) {
    AttentionForward args = good;
    change(args);
    expect_refused(message, [&] { ops::attention_forward(args, stream()); });
  };
  refused("4 query heads over 3", [](AttentionForward& f) { f.shape.kv_heads = 3; });
  refused("head_dim 0", [](AttentionForward& f) { f.shape.head_dim = 0; });
  refused("head_dim 257", [](AttentionForward& f) { f.shape.head_dim = 257; });
  refused("queries 1+3 over 3 keys", [](AttentionForward& f) { f.shape.q_offset = 1; });
  refused("attention_forward.k is [6, 32]", [&](AttentionForward& f) { f.k = f.q; });
  refused("attention_forward.v is fp16", [&](AttentionForward& f) {
    f.v = make({6, 16}, DType::kF16);
  });
  refused("attention_forward.lse is [6]", [&](AttentionForward& f) { f.lse = make({6}); });
  refused("attention_forward.document_starts is [2], must be 6",
          [&](AttentionForward& f) { f.document_starts = make({2}, DType::kI32); });
  AttentionBackward backward;
  backward.shape = shape;
  backward.shape.kv_rows = 4;
  expect_refused("whole sequences", [&] { ops::attention_backward(backward, stream()); });
}

TEST_F(Checks, PagedAttention) {
  PagedAttention good;
  good.q = good.out = make({5, 32});
  good.k_pages = good.v_pages = make({12, 16});
  good.heads = 4;
  good.kv_heads = 2;
  good.head_dim = 8;
  good.batch = {.page_table = make({2, 3}, DType::kI32),
                .query_starts = make({3}, DType::kI32),
                .kv_lens = make({2}, DType::kI32),
                .page_size = 4};
  const auto refused = [&](const std::string& message, const auto& change) {
    PagedAttention args = good;
    change(args);
    expect_refused(message, [&] { ops::paged_attention(args, stream()); });
  };
  refused("4 query heads over 3", [](PagedAttention& p) { p.kv_heads = 3; });
  refused("head_dim 257", [](PagedAttention& p) { p.head_dim = 257; });
  refused("pages of 5 tokens in 12 rows", [](PagedAttention& p) { p.batch.page_size = 5; });
  refused("paged.query_starts is [2], must be 3",
          [&](PagedAttention& p) { p.batch.query_starts = make({2}, DType::kI32); });
  refused("paged.page_table is [3, 3], must be [2, 3]", [&](PagedAttention& p) {
    p.batch.page_table = make({3, 3}, DType::kI32);
  });
  refused("paged_attention.v_pages is [8, 16]", [&](PagedAttention& p) {
    p.v_pages = make({8, 16});
  });
  PagedAppend append;
  append.k_pages = append.v_pages = good.k_pages;
  append.k = append.v = make({5, 8});
  append.batch = good.batch;
  expect_refused("paged_append.k_pages is [12, 16], must be [12, 8]",
                 [&] { ops::paged_append(append, stream()); });
}

TEST_F(Checks, Norm) {
  NormForward good;
  good.out = make({4, 6});
  good.x = make({4, 6});
  good.weight = make({6});
  good.rstd = make({4});
  good.mean = make({4});
  const auto refused = [&](const std::string& message, const auto& change) {
    NormForward args = good;
    change(args);
    expect_refused(message, [&] { ops::norm_forward(args, stream()); });
  };
  refused("norm_forward.rstd is absent", [](NormForward& n) { n.rstd = {}; });
  refused("norm_forward.mean is [5]", [&](NormForward& n) { n.mean = make({5}); });
  refused("norm_forward.weight is [5]", [&](NormForward& n) { n.weight = make({5}); });
  NormBackward backward;
  backward.dx = backward.dy = backward.x = good.x;
  backward.weight = backward.dweight = good.weight;
  backward.mean = backward.rstd = good.rstd;
  expect_refused("norm_backward.scratch is absent",
                 [&] { ops::norm_backward(backward, stream()); });
  backward.scratch = make({1}, DType::kU8);
  expect_refused("norm_backward.scratch has 1 bytes",
                 [&] { ops::norm_backward(backward, stream()); });
}

TEST_F(Checks, EmbeddingAndRope) {
  EmbeddingForward embedding;
  embedding.out = make({6, 8});
  embedding.tokens = make({6}, DType::kI32);
  embedding.token_table = make({10, 8});
  embedding.position_table = make({3, 8});
  embedding.seq_len = 3;
  embedding.position_offset = 1;
  expect_refused("has 3 rows, 4 are read", [&] { ops::embedding_forward(embedding, stream()); });
  embedding.positions = make({4}, DType::kI32);
  expect_refused("embedding_forward.positions is [4], must be 6",
                 [&] { ops::embedding_forward(embedding, stream()); });
  embedding.positions = {};
  embedding.seq_len = 4;
  expect_refused("6 tokens in sequences of 4",
                 [&] { ops::embedding_forward(embedding, stream()); });
  RopeArgs rope;
  rope.x = make({6, 16});
  rope.table = make({3, 8});
  rope.head_dim = 8;
  rope.seq_len = 3;
  rope.position_offset = 1;
  expect_refused("positions 1+3 in a table of 3", [&] { ops::rope(rope, stream()); });
  rope.positions = make({3}, DType::kI32);
  expect_refused("rope.positions is [3], must be 6", [&] { ops::rope(rope, stream()); });
  rope.head_dim = 6;
  expect_refused("head_dim 6 in rows of 16", [&] { ops::rope(rope, stream()); });
  rope.head_dim = 1;
  expect_refused("head_dim 1", [&] { ops::rope(rope, stream()); });
}

TEST_F(Checks, SwigluClassifierAndCast) {
  SwigluForward swiglu;
  swiglu.out = make({2, 3});
  swiglu.gate_up = make({2, 5});
  expect_refused("swiglu_forward.gate_up is [2, 5], must be [2, 6]",
                 [&] { ops::swiglu_forward(swiglu, stream()); });
  ClassifierArgs classifier;
  classifier.logits = make({2, 8});
  classifier.losses = make({2});
  classifier.targets = make({2}, DType::kI32);
  classifier.vocab = 9;
  expect_refused("vocab 9 of 8", [&] { ops::classifier(classifier, stream()); });
  classifier.vocab = 8;
  classifier.write_gradient = true;
  expect_refused("needs a state", [&] { ops::classifier(classifier, stream()); });
  expect_refused("cast.dst is [2]", [&] { ops::cast(make({2}), make({3}), stream()); });
  expect_refused("cast.src is fp64",
                 [&] { ops::cast(make({3}), make({3}, DType::kF64), stream()); });
}

TEST_F(Checks, Optimizer) {
  StepState state;
  StepUpdateArgs update;
  update.state = &state;
  update.verdict = make({4}, DType::kF64);
  update.segments = 2;
  expect_refused("2 segments in a verdict of 4", [&] { ops::step_update(update, stream()); });
  update.segments = 1;
  expect_refused("micro_tokens 0", [&] { ops::step_update(update, stream()); });
  update.rules.micro_tokens = 8.0f;
  update.rules.dynamic_scale = true;
  update.rules.growth_interval = 0;
  expect_refused("growth_interval 0", [&] { ops::step_update(update, stream()); });
  AdamWArgs adam;
  adam.master = adam.moment1 = adam.grads = make({8});
  adam.moment2 = make({7});
  expect_refused("adamw.moment2 is [7], must be 8", [&] { ops::adamw(adam, stream()); });
  GradNormArgs norm;
  norm.sums = make({2}, DType::kF64);
  norm.grads = make({8});
  norm.item_count = 1;
  expect_refused("grad_norm: 1 items", [&] { ops::grad_norm(norm, stream()); });
}

}  // namespace
}  // namespace lockstep
