// Making a model is its family's business; and what models without layers or decoding answer.
#include "nn/model.h"

#include "nn/model_family.h"

namespace lockstep {
namespace {

constexpr const char* kNoLayers = "has no layers to run one by one";
constexpr const char* kNoLogits = "has no logits to look at";
constexpr const char* kNoDecoding = "does not decode";

[[noreturn]] void fail_absent(const Model& model, const char* what) {
  CHECK(false, "a {} {}", model.config().architecture, what);
}

}  // namespace

std::int64_t Model::layers() const { fail_absent(*this, kNoLayers); }
UnitBlock Model::feed_forward(std::int64_t) const { fail_absent(*this, kNoLayers); }
UnitBlock Model::attention(std::int64_t) const { fail_absent(*this, kNoLayers); }
void Model::enter(const Tensor&, const DeviceBatch&, Stream&) { fail_absent(*this, kNoLayers); }
void Model::forward_layer(std::int64_t, const Tensor&, const Tensor&, const DeviceBatch&,
                          const LayerTap&, Stream&) {
  fail_absent(*this, kNoLayers);
}
void Model::leave(const Tensor&, const DeviceBatch&, const Tensor&, Stream&) {
  fail_absent(*this, kNoLayers);
}

void Model::forward(const DeviceBatch&, Stream&) { fail_absent(*this, kNoLogits); }
std::int64_t Model::logit_rows() const { fail_absent(*this, kNoLogits); }
Tensor Model::logits(std::int64_t, std::int64_t, Stream&) { fail_absent(*this, kNoLogits); }

Tensor Model::decode(std::span<const SequenceInput>, Stream&) { fail_absent(*this, kNoDecoding); }
std::int64_t Model::sequence_length(std::int64_t) const { fail_absent(*this, kNoDecoding); }
void Model::forget(std::int64_t) { fail_absent(*this, kNoDecoding); }
std::int64_t Model::room(std::int64_t) const { fail_absent(*this, kNoDecoding); }

std::unique_ptr<Model> make_model(const ModelConfig& config, const ModelPlan& plan, Arena& arena,
                                  ScratchBytes scratch_bytes) {
  return family_of(config).make(config, plan, arena, scratch_bytes);
}

}  // namespace lockstep
