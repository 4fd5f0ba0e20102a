// A world of one: every collective is the identity, so code above never asks whether it is alone,
// and nothing here makes the host wait for the device.
#include "comm/span.h"
#include "core/process.h"

namespace lockstep {
namespace {

void copy_whole(const TypedSpan& out, const TypedSpan& in, Stream& stream) {
  if (out.data == in.data) return;
  stream.copy(out.data, in.data, static_cast<std::size_t>(in.count) * size_of(in.dtype));
}

class SelfCommunicator final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  std::string_view name() const override { return "self"; }

  void all_reduce(TypedSpan inout, ReduceOp, Stream&) override { check_span(inout, "all_reduce"); }
  void reduce_scatter(TypedSpan out, TypedSpan in, ReduceOp, Stream& stream) override {
    check_scatter(out, in, 1, "reduce_scatter");
    copy_whole(out, in, stream);
  }
  void all_gather(TypedSpan out, TypedSpan in, Stream& stream) override {
    check_gather(out, in, 1, "all_gather");
    copy_whole(out, in, stream);
  }
  void broadcast(TypedSpan inout, int root, Stream&) override {
    check_span(inout, "broadcast");
    CHECK(root == 0, "broadcast from rank {} in a world of 1", root);
  }
  void check_async_error() override {}
};

class SelfWorld final : public World {
 public:
  SelfWorld() { placement_.host = host_name(); }
  const Placement& placement() const override { return placement_; }
  void barrier() override {}
  std::string broadcast(const std::string& text, int root) override {
    CHECK(root == 0, "broadcast from rank {} in a world of 1", root);
    return text;
  }
  std::vector<std::string> all_gather(const std::string& text) override { return {text}; }
  std::vector<std::int64_t> all_reduce(std::vector<std::int64_t> values, ReduceOp) override {
    return values;
  }

 private:
  Placement placement_;
};

}  // namespace

std::unique_ptr<World> make_self_world() { return std::make_unique<SelfWorld>(); }

std::unique_ptr<Communicator> make_self_communicator() {
  return std::make_unique<SelfCommunicator>();
}

}  // namespace lockstep
