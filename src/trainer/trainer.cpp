// The training loop, on one screen, and what happens between steps.
#include "trainer/trainer.h"

#include "nn/load_weights.h"

#include <algorithm>
#include <chrono>
#include <cmath>

namespace lockstep {
namespace {

constexpr std::int64_t kMaxFailedSaves = 3;

}  // namespace

Trainer::Trainer(const TrainerInputs& inputs)
    : in_(inputs),
      options_(inputs.options),
      arena_(inputs.device),
      stream_(inputs.device, "compute"),
      memory_(allocate_training(arena_, options_, inputs.val_data != nullptr,
                                inputs.device.kernels(), inputs.make_model)),
      model_(*memory_.model),
      state_(model_, memory_.optimizer, options_, inputs.steps, inputs.world.rank(),
             inputs.world.size(), stream_),
      buckets_(model_.parameters().grads(),
               static_cast<std::int64_t>(options_.comm.bucket_mib * 1048576.0),
               options_.comm.overlap, inputs.communicator, inputs.device),
      batches_(memory_.batch, inputs.device),
      checkpointer_(
          state_, inputs.world, {inputs.checkpoints, inputs.tokenizer}, options_.checkpoint,
          [this] { report_progress(); }, inputs.log),
      clock_(inputs.device) {
  if (memory_.eval) evaluator_.emplace(*memory_.eval, inputs.device);
}

Trainer::~Trainer() = default;

void Trainer::initialize() {
  if (in_.initial_weights == nullptr) {
    model_.parameters().initialize(options_.run.seed, in_.threads, stream_);
    return;
  }
  load_weights(model_.parameters(), *in_.initial_weights,
               "model.init_from = " + options_.model.init_from, stream_,
               [this] { report_progress(); });
}

void Trainer::restore(CheckpointReader& reader) {
  checkpointer_.restore(reader, stream_);
  const CheckpointMeta& meta = reader.meta();
  in_.position.step = step_ = saved_step_ = meta.step;
  samples_ = meta.data_counter;
  best_val_loss_ = meta.best_val_loss;
  best_step_ = meta.best_step;
}

TrainLoader Trainer::make_loader() const {
  return TrainLoader(in_.train_data, {.micro_batch = options_.train.micro_batch_size,
                                      .accumulation = in_.accumulation,
                                      .rank = in_.world.rank(),
                                      .world = in_.world.size(),
                                      .first_sample = samples_,
                                      .overfit = options_.train.overfit_batch});
}

void Trainer::rehearse() {
  TrainLoader loader = make_loader();
  state_.begin_step(stream_);
  model_.forward_backward(batches_.upload(loader.next(), stream_), state_.step_state(),
                          state_.totals(), {}, stream_);
  const Tensor grads = model_.parameters().grads();
  stream_.zero(grads.data, grads.bytes());
  stream_.synchronize();
}

ExitCode Trainer::run() {
  TrainLoader loader = make_loader();
  in_.position.phase = "train";
  // A validation that a stop cut short comes first.
  if (evaluate_first_ && validates_here()) evaluate();
  clock_.start(step_, loader.wait_ms(), stream_);
  // A GPU computes this step while the host reads the one before; a CPU is done with it.
  const std::int64_t lag = in_.device.info().asynchronous ? 1 : 0;
  bool warm = false;  // the first step is done: every library has taken its memory
  while (step_ < in_.steps && !stop_) {
    train_step(loader);
    if (state_.unread() > lag) read_report(loader.wait_ms());
    const bool last = step_ == in_.steps;
    const bool evaluates = validates_here();
    const bool timed = save_asked_;
    const bool due_here = due(options_.checkpoint.interval);
    if (evaluates || timed || due_here || last || !warm) {
      drain(loader.wait_ms());
      measure_memory();
      warm = true;
    }
    if (evaluates) evaluate();
    const bool best = options_.checkpoint.keep_best && best_step_ == step_;
    const bool saves = (due_here || timed || best) && !last;
    if (saves) save(due_here ? "interval" : timed ? "time" : "best", /*required=*/false);
    if (evaluates || saves) clock_.start(step_, loader.wait_ms(), stream_);
    report_progress();
  }
  drain(loader.wait_ms());
  const bool finished = step_ >= in_.steps && !validation_cut_;
  save(finished ? "finished" : "stopped", /*required=*/true);
  return finished ? ExitCode::kDone : ExitCode::kStopped;
}

void Trainer::train_step(TrainLoader& loader) {
  state_.begin_step(stream_);
  for (std::int64_t micro = 0; micro < in_.accumulation; ++micro) {
    const DeviceBatch& batch = batches_.upload(loader.next(), stream_);
    GradientReady ready;
    if (micro + 1 == in_.accumulation) {
      ready = [this](std::int64_t begin, std::int64_t end) { buckets_.add(begin, end, stream_); };
    }
    model_.forward_backward(batch, state_.step_state(), state_.totals(), ready, stream_);
  }
  buckets_.finalize(stream_);
  in_.position.step = ++step_;
  samples_ += options_.train.global_batch_size;
  state_.end_step(step_, {.stop = wants_to_stop(), .save = wants_to_save()}, in_.communicator,
                  stream_);
  clock_.step_enqueued(stream_);
  in_.communicator.check_async_error();
}

std::int64_t Trainer::tokens_per_step() const {
  return options_.train.global_batch_size * options_.model.seq_len;
}

// Every eval.interval steps and after the last one.
bool Trainer::validates_here() const {
  return evaluator_ && (due(options_.eval.interval) || step_ == in_.steps);
}

// The main thread is alive: for the run's lock and for the watchdog.
void Trainer::report_progress() const {
  if (in_.directory != nullptr) in_.directory->check_lock();
  if (in_.watchdog != nullptr) in_.watchdog->progress();
}

// A vote; the ranks decide together, with the sums of the step. Time is rank 0's to watch: there
// must be room for two more steps and a save.
bool Trainer::wants_to_stop() const {
  if (in_.stop_requested && in_.stop_requested()) return true;
  if (in_.time_limit_seconds <= 0.0) return false;
  const double alive = in_.seconds_since_start + clock_.seconds_alive();
  const double needed = 2.0 * save_seconds_ + 3.0 * clock_.last_step_ms() / 1000.0 + 5.0;
  return alive + needed >= in_.time_limit_seconds;
}

// Also a vote: only rank 0 has an interval.
bool Trainer::wants_to_save() const {
  return in_.save_interval_seconds > 0.0 &&
         clock_.seconds_alive() - last_save_ >= in_.save_interval_seconds;
}

void Trainer::read_report(double data_wait_ms) {
  const StepReport report = state_.read();
  clock_.step_done(buckets_.exposed_ms());
  if (report.state.finite == 0) on_skip(report);
  if (report.stop) stop_ = true;
  if (report.save) save_asked_ = true;
  const std::int64_t interval = options_.log.interval;
  const bool logged = interval > 0 && report.step % interval == 0;
  if (logged || report.step == in_.steps) log_row(report, data_wait_ms);
}

void Trainer::drain(double data_wait_ms) {
  while (state_.unread() > 0) read_report(data_wait_ms);
}

// Asking a GPU for its memory waits for the work on it, so this is done where it is idle anyway.
// Buffers never grow during a run.
void Trainer::measure_memory() {
  const auto used = static_cast<std::int64_t>(in_.device.memory_used());
  const auto peak = static_cast<std::size_t>(in_.world.all_reduce({used}, ReduceOp::kMax)[0]);
  memory_peak_ = std::max(memory_peak_, peak);
}

void Trainer::on_skip(const StepReport& report) {
  const std::string cause = "gradient of " + report.bad_parameter + " is not finite";
  in_.log.info("step {} skipped: {}; loss scale is now {}", report.step, cause,
               report.state.loss_scale);
  if (in_.directory != nullptr) {
    in_.directory->event("skip", report.step,
                         {{"cause", cause}, {"loss_scale", report.state.loss_scale}});
  }
  if (report.state.skips_in_row < options_.train.max_skips) return;
  fail_together(ExitCode::kInternal,
                "{} steps in a row were skipped, last because the {}; lower optimizer.lr or raise "
                "optimizer.warmup_steps, or train in bf16; then resume from the newest checkpoint",
                report.state.skips_in_row, cause);
}

void Trainer::log_row(const StepReport& report, double data_wait_ms) {
  const StepClock::Means means = clock_.lap(report.step, data_wait_ms);
  if (in_.directory == nullptr) return;
  MetricsRow row;
  row.step = report.step;
  row.updates = report.state.updates;
  row.tokens = tokens() - (step_ - report.step) * tokens_per_step();
  row.loss = report.loss;
  row.lr = report.state.lr;
  row.grad_norm = report.state.grad_norm;
  row.loss_scale = report.state.loss_scale;
  row.skipped = report.state.skipped;
  row.step_ms = means.step_ms;
  row.comm_exposed_ms = means.comm_exposed_ms;
  row.data_wait_ms = means.data_wait_ms;
  row.tokens_per_second = static_cast<double>(tokens_per_step()) / means.step_ms * 1000.0;
  const DeviceInfo& info = in_.device.info();
  const double dense = info.peak(options_.precision.dtype, options_.precision.tf32);
  if (dense > 0.0) {
    row.mfu = row.tokens_per_second * flops_per_token(options_.model) /
              (dense * static_cast<double>(in_.world.size()));
  }
  row.memory_peak_bytes = static_cast<double>(memory_peak_);
  in_.directory->append(row);
  const double left = static_cast<double>(in_.steps - report.step) * means.step_ms / 1000.0;
  in_.log.info("{}", step_line(row, in_.steps, left));
}

void Trainer::evaluate() {
  in_.position.phase = "evaluate";
  const auto alive = [this] {
    report_progress();
    return wants_to_stop();
  };
  const auto result = evaluator_->run(model_, *in_.val_data,
                                      options_.eval.batches * options_.train.global_batch_size,
                                      in_.world, alive, stream_);
  in_.position.phase = "train";
  if (!result) {  // some rank was asked to stop, and all know it
    stop_ = validation_cut_ = true;
    return;
  }
  if (std::isfinite(result->loss) && (!best_val_loss_ || result->loss < *best_val_loss_)) {
    best_val_loss_ = result->loss;
    best_step_ = step_;
  }
  in_.log.info("step {}/{} | val_loss {:.4f} | val_accuracy {:.4f} | perplexity {:.2f} | {} tokens",
               step_, in_.steps, result->loss, result->accuracy, result->perplexity(),
               result->tokens);
  if (in_.directory != nullptr) {
    in_.directory->append(ValidationRow{step_, tokens(), result->loss, result->accuracy});
  }
}

void Trainer::save(const char* why, bool required) {
  if (saved_step_ == step_) return;
  if (in_.directory != nullptr) in_.directory->require_lock();
  in_.position.phase = "checkpoint";
  const auto began = StepClock::Clock::now();
  CheckpointMeta meta = in_.identity;
  meta.step = step_;
  meta.tokens = tokens();
  meta.data_counter = samples_;
  meta.best_val_loss = best_val_loss_;
  meta.best_step = best_step_;
  meta.gemm_plan = in_.device.kernels().gemm_plan(in_.device.context());
  meta.time = utc_now();
  // Rows through this step are on disk before the checkpoint is announced.
  const auto rows_first = [this] {
    if (in_.directory != nullptr) in_.directory->sync();
  };
  const std::string path = checkpointer_.save(meta, rows_first, stream_);
  const double seconds = std::chrono::duration<double>(StepClock::Clock::now() - began).count();
  save_seconds_ = std::max(save_seconds_, seconds);
  last_save_ = clock_.seconds_alive();
  save_asked_ = false;
  in_.position.phase = "train";
  if (path.empty()) {
    ++failed_saves_;
    if (required || failed_saves_ >= kMaxFailedSaves) {
      fail_together(ExitCode::kIo, "the checkpoint of step {} could not be saved: {}", step_,
                    checkpointer_.error());
    }
    in_.log.warn_once("the checkpoint of step {} could not be saved ({}); training goes on", step_,
                      checkpointer_.error());
    return;
  }
  failed_saves_ = 0;
  saved_step_ = step_;
  in_.log.info("checkpoint {} saved in {:.2f} s ({})", path, seconds, why);
  if (in_.directory != nullptr) {
    in_.directory->event("save", step_,
                         {{"path", path},
                          {"why", why},
                          {"seconds", seconds},
                          {"state_digest", checkpointer_.digest()}});
  }
}

}  // namespace lockstep
