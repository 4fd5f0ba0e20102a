// The end of a step: segment sums, verdict, decision, AdamW; and the reports on their way to the
// host.
#include "trainer/training_state.h"

#include "comm/ordered_sum.h"
#include "ops/optimizer.h"

#include <cmath>
#include <cstring>
#include <limits>

namespace lockstep {
namespace {

constexpr std::int64_t kTotals = 3;
constexpr std::int64_t kVotes = 2;

std::size_t report_bytes(const Tensor& verdict) { return verdict.bytes() + sizeof(StepState); }

}  // namespace

StepRules step_rules(const Options& options, std::int64_t steps) {
  StepRules rules;
  rules.micro_tokens = static_cast<float>(options.train.micro_batch_size * options.model.seq_len);
  rules.clip_grad = static_cast<float>(options.optimizer.clip_grad);
  rules.dynamic_scale = options.precision.dtype == DType::kF16 &&
                        std::holds_alternative<LossScale>(options.precision.loss_scale);
  rules.min_loss_scale = static_cast<float>(options.precision.min_loss_scale);
  rules.growth_interval = static_cast<std::int32_t>(options.precision.growth_interval);
  rules.schedule = options.optimizer.schedule;
  rules.peak_lr = static_cast<float>(options.optimizer.lr);
  rules.final_lr_fraction = static_cast<float>(options.optimizer.final_lr_fraction);
  rules.warmup_steps = options.optimizer.warmup_steps;
  rules.total_steps = steps;
  rules.decay_steps = options.optimizer.decay_steps;
  return rules;
}

StepState initial_step_state(const Options& options) {
  StepState state;
  if (options.precision.dtype == DType::kF16) {
    const auto* constant = std::get_if<double>(&options.precision.loss_scale);
    state.loss_scale =
        static_cast<float>(constant == nullptr ? options.precision.initial_loss_scale : *constant);
  }
  return state;
}

OptimizerBuffers::OptimizerBuffers(const ParameterSet& parameters, Arena& arena)
    : work(parameters.work()) {
  const auto flat = parameters.flat_count();
  const auto segments = static_cast<std::int64_t>(work.segment_parameter.size());
  const auto bytes = static_cast<std::int64_t>(work.items.size() * sizeof(WorkItem));
  constexpr auto kGroup = MemoryGroup::kOptimizer;
  moment1 = arena.allocate("exp_avg", {flat}, DType::kF32, kGroup);
  moment2 = arena.allocate("exp_avg_sq", {flat}, DType::kF32, kGroup);
  items = arena.allocate("work items", {bytes}, DType::kU8, kGroup);
  verdict = arena.allocate("verdict", {segments + kTotals + kVotes}, DType::kF64, kGroup);
  state = arena.allocate("step state", {sizeof(StepState)}, DType::kU8, kGroup);
}

TrainingState::TrainingState(Model& model, OptimizerBuffers buffers, const Options& options,
                             std::int64_t steps, int rank, int world, Stream& stream)
    : model_(model),
      rules_(step_rules(options, steps)),
      optimizer_(options.optimizer),
      buffers_(std::move(buffers)),
      segments_(static_cast<std::int64_t>(buffers_.work.segment_parameter.size())),
      state_(static_cast<StepState*>(buffers_.state.data)),
      votes_(stream.device(), kSlots * kVotes * sizeof(double)),
      reports_(stream.device(), kSlots * report_bytes(buffers_.verdict)) {
  const ChunkRange own = own_chunks(segments_, rank, world);
  for (const WorkItem& item : buffers_.work.items) {
    if (item.segment < own.begin) ++norm_begin_;
    if (item.segment >= own.begin && item.segment < own.end) ++norm_count_;
  }
  stream.copy(buffers_.items.data, buffers_.work.items.data(), buffers_.items.bytes());
  stream.synchronize();
  for (int slot = 0; slot < kSlots; ++slot) {
    done_.emplace_back(stream.device());
    steps_.push_back(0);
  }
  set(initial_step_state(options), stream);
}

Tensor TrainingState::totals() const { return buffers_.verdict.elements(segments_, kTotals); }

void TrainingState::set(const StepState& state, Stream& stream) {
  StepState seeded = state;
  seeded.grad_seed = seeded.loss_scale / rules_.micro_tokens;
  stream.copy(state_, &seeded, sizeof(seeded));
  stream.synchronize();
}

StepState TrainingState::get(Stream& stream) {
  StepState state;
  stream.copy(&state, state_, sizeof(state));
  stream.synchronize();
  return state;
}

void TrainingState::begin_step(Stream& stream) {
  stream.zero(buffers_.verdict.data, buffers_.verdict.bytes());
}

void TrainingState::end_step(std::int64_t step, StepVotes votes, Communicator& communicator,
                             Stream& stream) {
  CHECK(unread_ < kSlots, "{} steps were not read", unread_);
  const Tensor& verdict = buffers_.verdict;
  const auto* items = static_cast<const WorkItem*>(buffers_.items.data);
  ParameterSet& parameters = model_.parameters();
  ops::grad_norm({.sums = verdict,
                  .grads = parameters.grads(),
                  .items = items + norm_begin_,
                  .item_count = norm_count_,
                  .scratch = model_.scratch()},
                 stream);
  const auto slot = static_cast<std::size_t>(enqueued_ % kSlots);
  double* mine = votes_.as<double>() + slot * kVotes;
  mine[0] = votes.stop ? 1.0 : 0.0;
  mine[1] = votes.save ? 1.0 : 0.0;
  stream.copy(verdict.as<double>() + segments_ + kTotals, mine, kVotes * sizeof(double));
  communicator.all_reduce(TypedSpan(verdict), ReduceOp::kSum, stream);
  ops::step_update({.state = state_, .verdict = verdict, .segments = segments_, .rules = rules_},
                   stream);
  ops::adamw(
      {.master = parameters.masters(),
       .moment1 = buffers_.moment1,
       .moment2 = buffers_.moment2,
       .grads = parameters.grads(),
       .weights = parameters.compute_dtype() == DType::kF32 ? Tensor{} : parameters.weights(),
       .items = items,
       .item_count = static_cast<std::int64_t>(buffers_.work.items.size()),
       .state = state_,
       .beta1 = static_cast<float>(optimizer_.beta1),
       .beta2 = static_cast<float>(optimizer_.beta2),
       .eps = static_cast<float>(optimizer_.eps),
       .weight_decay = static_cast<float>(optimizer_.weight_decay)},
      stream);
  auto* report = reports_.as<std::byte>() + slot * report_bytes(verdict);
  stream.copy(report, verdict.data, verdict.bytes());
  stream.copy(report + verdict.bytes(), state_, sizeof(StepState));
  done_[slot].record(stream);
  steps_[slot] = step;
  ++enqueued_;
  ++unread_;
}

StepReport TrainingState::read() {
  CHECK(unread_ > 0);
  const auto slot = static_cast<std::size_t>((enqueued_ - unread_) % kSlots);
  --unread_;
  done_[slot].synchronize();
  const auto* bytes = reports_.as<std::byte>() + slot * report_bytes(buffers_.verdict);
  const auto* verdict = reinterpret_cast<const double*>(bytes);
  StepReport report;
  report.step = steps_[slot];
  std::memcpy(&report.state, bytes + buffers_.verdict.bytes(), sizeof(StepState));
  const auto segments = static_cast<std::size_t>(segments_);
  report.valid_tokens = static_cast<std::int64_t>(verdict[segments + 1]);
  report.loss = verdict[segments + 1] > 0.0 ? verdict[segments] / verdict[segments + 1]
                                            : std::numeric_limits<double>::quiet_NaN();
  report.stop = verdict[segments + kTotals] > 0.0;
  report.save = verdict[segments + kTotals + 1] > 0.0;
  for (std::size_t s = 0; s < segments && report.bad_parameter.empty(); ++s) {
    if (!std::isfinite(verdict[s])) {
      report.bad_parameter = model_.parameters()[buffers_.work.segment_parameter[s]].name;
    }
  }
  return report;
}

}  // namespace lockstep
