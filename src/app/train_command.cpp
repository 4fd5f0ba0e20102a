// `lockstep train`: from a configuration to a finished, stopped or failed run. The training loop
// itself is Trainer::run in src/trainer/trainer.cpp.
#include "app/commands.h"

#include "app/config.h"
#include "app/gemm_plan_file.h"
#include "app/init_from.h"
#include "app/launcher.h"
#include "app/resume.h"
#include "app/run_setup.h"
#include "app/session.h"
#include "app/signals.h"
#include "app/version.h"
#include "data/tokenizer.h"
#include "nn/model_family.h"
#include "trainer/next_command.h"
#include "trainer/run_files.h"
#include "trainer/trainer.h"

#include <lockstep_version.h>

#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <thread>

namespace lockstep {
namespace {

struct TrainArguments {
  std::string config;
  Options options;
  ConfigRegistry registry{options};
};

std::string next_command(const Options& options) {
  return resume_command(options.run.dir, launcher_command(process_environment()));
}

FailureRecord failure(const RunPosition& position, const Options& options, int code,
                      const std::string& message, const PeerName& who, int reported_by) {
  FailureRecord record;
  record.exit_code = code;
  record.rank = who.rank;
  record.host = who.host;
  record.pid = who.pid;
  record.reported_by = reported_by;
  record.step = position.step;
  record.phase = position.phase.load();
  record.message = message;
  record.next_command = next_command(options);
  const auto checkpoints = list_checkpoints(options.run.dir + "/checkpoints");
  if (!checkpoints.empty()) record.newest_checkpoint = checkpoints.front().path;
  return record;
}

void print_setup(Session& session, const Options& options, const RunData& data,
                 const ModelSource* source) {
  Log& log = session.log;
  for (const auto& [library, version] : library_versions()) log.info("{:<14} {}", library, version);
  const std::vector<std::string> ranks = describe_ranks(session);
  log.info("world size {} on {} node(s), communicator {}", session.placement().size,
           session.placement().nodes, session.communicator->name());
  for (const std::string& line : ranks) log.info("  {}", line);
  const ModelConfig& m = options.model;
  log.info("model {}: {}, {} parameters, {}", m.architecture, sizes_text(m), parameter_count(m),
           name_of(options.precision.dtype));
  for (const std::string& note : family_of(m).notes(m)) log.info("  {}", note);
  if (source != nullptr) log.info("first weights from {}", source->description);
  log.info("checkpoints: {}", saving_text(options.checkpoint));
  const std::int64_t sequences = options.train.global_batch_size;
  log.info(
      "batch: global_batch_size {} = micro_batch_size {} x accumulation {} x world size {}; {} "
      "tokens a step, {} steps",
      sequences, options.train.micro_batch_size, data.accumulation, session.placement().size,
      sequences * m.seq_len, data.steps);
  log.info("data: {} training tokens in {} shard(s), {} samples an epoch{}", data.train->tokens(),
           data.train->shards().size(), data.train->samples(),
           data.val == nullptr ? "" : fmt::format("; {} validation samples", data.val->samples()));
}

void print_memory(Session& session, const Options& options, const Arena& arena) {
  session.log.info("memory per rank:");
  for (const std::string& line : arena.describe()) session.log.info("{}", line);
  const double peak = session.device->info().peak(options.precision.dtype, options.precision.tf32);
  if (peak > 0.0) {
    session.log.info("mfu counts {:.2f} GFLOP a token against {:.0f} TFLOP/s dense {}",
                     flops_per_token(options.model) / 1e9, peak / 1e12,
                     options.precision.tf32 ? "tf32" : name_of(options.precision.dtype));
  }
}

CheckpointMeta identity(const Options& options, const ConfigRegistry& registry, const RunData& data,
                        const ResumePoint& resume, const ModelSource* source) {
  CheckpointMeta meta;
  if (source != nullptr) meta.generation_config = source->generation.text;
  if (resume.reader != nullptr) {
    meta.generation_config = resume.reader->meta().generation_config;
  }
  meta.seed = options.run.seed;
  meta.run_id = resume.reader != nullptr && resume.started_from.empty()
                    ? resume.reader->meta().run_id
                    : fmt::format("{}-{}-{}", options.run.name, utc_now(), getpid());
  meta.started_from = resume.started_from;
  meta.config = registry.dump();
  meta.git_revision = kGitRevision;
  meta.data_fingerprint = data.train->fingerprint();
  return meta;
}

// Everything from the run directory on; the session is open.
class TrainRun {
 public:
  TrainRun(TrainArguments& arguments, Session& session)
      : options_(arguments.options), registry_(arguments.registry), session_(session) {}

  int run() {
    source_ = open_init_from_unless_resumed(options_, *session_.world, session_.log);
    agree(*session_.world, [&] { data_ = set_up_run(options_, session_.placement().size); });
    open_directory();
    try {
      return train();
    } catch (const UserError& error) {
      if (error.code() == ExitCode::kPeer) let_watchdog_name_the_rank();
      record(static_cast<int>(error.code()), error.what(), myself());
      throw;
    } catch (const std::exception& error) {
      record(static_cast<int>(ExitCode::kInternal), error.what(), myself());
      throw;
    }
  }

 private:
  // A transport notices first that a peer is gone, the watchdog which one. It ends this process.
  void let_watchdog_name_the_rank() const {
    if (watchdog_ != nullptr) std::this_thread::sleep_for(std::chrono::seconds(4));
  }

  void open_directory() {
    agree(*session_.world, [&] {
      if (session_.world->rank() != 0) return;
      directory_ = std::make_unique<RunDirectory>(options_.run.dir, session_.log);
      session_.log.keep_in(open_log_file(options_.run.dir + "/train.log"));
      remove_temporaries(options_.run.dir + "/checkpoints");
    });
  }

  // What every checkpoint holds, in memory from the start: saving depends on no other files. A run
  // keeps the tokenizer of the state it goes on from; else it is the data's, or the first weights'.
  std::vector<NamedText> tokenizer_files(const ResumePoint& resume) {
    const std::string stored = resume.reader == nullptr ? "" : resume.reader->tokenizer_directory();
    if (!stored.empty()) return open_tokenizer(stored)->files();
    if (data_.tokenizer.tokenizer != nullptr) return data_.tokenizer.tokenizer->files();
    const bool brought = source_ != nullptr && source_->tokenizer != nullptr;
    return brought ? source_->tokenizer->files() : std::vector<NamedText>();
  }

  int train() {
    const std::string checkpoints = options_.run.dir + "/checkpoints";
    ResumePoint resume = find_resume_point(options_, checkpoints, *session_.world, session_.log);
    std::vector<std::string> changes;
    agree(*session_.world, [&] {
      if (resume.reader == nullptr) return;
      changes = check_resume(*resume.reader, options_, data_.tokenizer, data_.train->fingerprint());
      if (resume.reader->meta().step > data_.steps) {
        fail(ExitCode::kConfig, "train.steps = {} lies before the checkpoint's step {}; raise it",
             data_.steps, resume.reader->meta().step);
      }
    });
    print_setup(session_, options_, data_, source_.get());
    warn_about_schedule();
    make_watchdog();
    make_trainer(checkpoints, resume);
    start(resume, changes);
    const ExitCode code = trainer_->run();
    finish(code);
    return static_cast<int>(code);
  }

  void warn_about_schedule() {
    const OptimizerOptions& optimizer = options_.optimizer;
    if (optimizer.final_lr_fraction > 0.0 || optimizer.schedule == StepRules::Schedule::kConstant)
      return;
    session_.log.info(
        "warning: optimizer.final_lr_fraction = 0: the last update has learning rate 0 and trains "
        "nothing");
  }

  void make_watchdog() {
    if (session_.placement().size == 1) return;
    // A rank that failed by itself has said so, and is why it is gone.
    const auto tell = [this](const std::string& cause, const PeerName& who) {
      if (!record(static_cast<int>(ExitCode::kPeer), cause, who.rank < 0 ? myself() : who)) return;
      fmt::print(stderr, "lockstep: rank {}: error: {}; resume with the same command\n",
                 session_.placement().rank, cause);
    };
    const auto position = [this] {
      return fmt::format("step {}, {}", position_.step.load(), position_.phase.load());
    };
    watchdog_ = std::make_unique<Watchdog>(
        *session_.world, WatchdogSettings{.timeout_seconds = options_.comm.timeout_seconds,
                                          .on_failure = tell,
                                          .communicator = session_.communicator.get(),
                                          .position = position});
    if (watchdog_->problem().empty()) return;
    session_.log.warn_once(
        "the ranks cannot keep in touch ({}): one that dies on another host is noticed after "
        "comm.timeout_seconds only",
        watchdog_->problem());
  }

  void make_trainer(const std::string& checkpoints, const ResumePoint& resume) {
    agree(*session_.world, [&] {
      trainer_ = std::make_unique<Trainer>(TrainerInputs{
          .options = options_,
          .steps = data_.steps,
          .accumulation = data_.accumulation,
          .world = *session_.world,
          .communicator = *session_.communicator,
          .device = *session_.device,
          .threads = session_.threads,
          .log = session_.log,
          .position = position_,
          .train_data = *data_.train,
          .val_data = data_.val.get(),
          .directory = directory_.get(),
          .watchdog = watchdog_.get(),
          .checkpoints = checkpoints,
          .tokenizer = tokenizer_files(resume),
          .initial_weights = source_ == nullptr ? nullptr : source_->weights.get(),
          .identity = identity(options_, registry_, data_, resume, source_.get()),
          .stop_requested = [] { return stop_requested() != 0; },
          .seconds_since_start = process_age_seconds(),
          .time_limit_seconds =
              session_.world->rank() == 0 ? time_limit_seconds(options_.train, session_.log) : 0.0,
          .save_interval_seconds =
              session_.world->rank() == 0 ? save_interval_seconds(options_.checkpoint) : 0.0});
    });
    print_memory(session_, options_, trainer_->arena());
    Device& device = *session_.device;
    if (options_.precision.tf32 && !device.kernels().allow_tf32(device.context(), true)) {
      session_.log.warn("precision.tf32 has no effect on this device: products are fp32");
    }
  }

  // Initial weights or the checkpoint's state; then the run directory begins at that step.
  void start(ResumePoint& resume, const std::vector<std::string>& changes) {
    agree(*session_.world, [&] {
      if (resume.reader == nullptr) {
        trainer_->initialize();
      } else {
        trainer_->restore(*resume.reader);
        adopt_gemm_plan(resume.reader->meta().gemm_plan);
      }
      trainer_->checkpointer().require_space();
      if (directory_ == nullptr) return;
      directory_->write_config(registry_.dump());
      directory_->begin(trainer_->step());
      EventDetails details = {{"world_size", session_.placement().size},
                              {"launcher", launcher_command(process_environment())}};
      if (source_ != nullptr) details["init_from"] = source_->description;
      if (resume.reader != nullptr) {
        details["from"] = resume.reader->path();
        details["changes"] = changes;
      }
      directory_->event(resume.reader == nullptr ? "start" : "resume", trainer_->step(), details);
    });
    source_.reset();  // the weights are in the model now
    if (resume.reader == nullptr) {
      if (options_.train.gemm_search) search_gemms();
      return;
    }
    trainer_->checkpointer().resumed_from(resume.reader->path(), trainer_->step());
    const bool validated = directory_ == nullptr || directory_->has_validation(trainer_->step());
    if (!session_.world->all_agree(validated)) trainer_->evaluate_first();
    session_.log.info("resumed from {} at step {}", resume.reader->path(), trainer_->step());
    for (const std::string& change : changes) session_.log.info("  changed {}", change);
    if (trainer_->step() >= data_.steps) {
      session_.log.info("this run is finished: all {} steps are done", data_.steps);
    }
  }

  // The algorithms that rank 0 finds fastest serve all ranks, and all later runs.
  void search_gemms() {
    Device& device = *session_.device;
    const KernelTable& kernels = device.kernels();
    if (!kernels.search_gemms(device.context(), true)) return;
    std::string plan;
    agree(*session_.world, [&] {
      if (session_.placement().rank != 0) return;
      GemmPlanFile file(kernels.gemm_plan(device.context()), process_environment());
      kernels.adopt_gemm_plan(device.context(), file.read());
      const double begin = process_age_seconds();
      trainer_->rehearse();
      session_.log.info("matrix products: chose among the library's algorithms in {:.1f} s ({})",
                        process_age_seconds() - begin, file.path());
      plan = kernels.gemm_plan(device.context());
      const std::string problem = file.add(plan);
      if (!problem.empty()) {
        session_.log.warn("{}: the next run searches again and may differ in the last bits",
                          problem);
      }
    });
    kernels.search_gemms(device.context(), false);
    plan = session_.world->broadcast(plan, 0);
    if (session_.placement().rank != 0) kernels.adopt_gemm_plan(device.context(), plan);
  }

  void adopt_gemm_plan(const std::string& plan) {
    Device& device = *session_.device;
    if (!device.kernels().adopt_gemm_plan(device.context(), plan)) {
      session_.log.warn(
          "the checkpoint's gemm plan does not fit this device: results may differ "
          "in the last bits from the run before");
    }
  }

  void finish(ExitCode code) {
    const char* state = code == ExitCode::kDone ? "finished" : "stopped";
    if (directory_ != nullptr) {
      EventDetails details = {{"state", state}};
      if (stop_requested() != 0) details["signal"] = signal_name(stop_requested());
      directory_->event("stop", trainer_->step(), details);
      directory_->sync();
    }
    session_.log.info("{} at step {}{}", state, trainer_->step(),
                      code == ExitCode::kDone ? "" : "; go on with: " + next_command(options_));
    if (watchdog_ != nullptr) watchdog_->disarm();
    session_.world->barrier();
  }

  PeerName myself() const {
    return {session_.placement().rank, getpid(), session_.placement().host};
  }

  // Also on the watchdog's thread. False if another failure was recorded first.
  bool record(int code, const std::string& message, const PeerName& who) {
    const int reporter = session_.placement().rank;
    const bool first = record_failure(options_.run.dir,
                                      failure(position_, options_, code, message, who, reporter));
    if (directory_ != nullptr) {
      directory_->event("failure", position_.step,
                        {{"exit_code", code}, {"rank", who.rank}, {"message", message}});
    }
    return first;
  }

  Options& options_;
  ConfigRegistry& registry_;
  Session& session_;
  std::unique_ptr<ModelSource> source_;  // of model.init_from, until its weights are read
  RunData data_;
  RunPosition position_;
  std::unique_ptr<RunDirectory> directory_;  // rank 0
  std::unique_ptr<Watchdog> watchdog_;
  std::unique_ptr<Trainer> trainer_;
};

// Ranks on different nodes may read different files under one name.
void require_one_configuration(const std::string& dump, World& world) {
  const std::vector<std::string> all = world.all_gather(dump);
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    if (all[rank] == all[0]) continue;
    fail_together(ExitCode::kConfig,
                  "rank {} reads another configuration than rank 0: give all nodes one file", rank);
  }
}

// Said by rank 0 on the first signal: steps may be long, and a user who hears nothing kills.
void announce_stops() {
  constexpr const char* kStopping =
      "lockstep: stopping after this step, with a checkpoint; a second Ctrl-C leaves at once\n";
  constexpr const char* kUnderMpirun =
      "lockstep: stopping after this step, with a checkpoint, unless mpirun kills the ranks first "
      "(a second after Ctrl-C or TERM): send mpirun USR1 instead, as scripts/launch/mpirun.sh "
      "does\n";
  const Environment environment = process_environment();
  if (launcher_rank(environment) != 0) return;
  const bool mpirun = environment("OMPI_COMM_WORLD_SIZE") != nullptr;
  announce_stop(kStopping, mpirun ? kUnderMpirun : kStopping);
}

int run_train(TrainArguments& arguments, MpiSession& mpi) {
  announce_stops();
  arguments.registry.load_file(arguments.config);
  arguments.registry.apply_command_line();
  name_run(arguments.options, arguments.config);
  Session session = open_session(mpi, arguments.options.run, arguments.options.comm);
  require_one_configuration(arguments.registry.dump(), *session.world);
  return TrainRun(arguments, session).run();
}

}  // namespace

Command add_train_command(ProgramFlags& program) {
  auto arguments = std::make_shared<TrainArguments>();
  CommandFlags flags =
      program.add_command("train", "Train a model; the same under mpirun and srun");
  flags.add("CONFIG", &arguments->config, "TOML file").required();
  arguments->registry.add_options(flags);
  Command command;
  command.flags = flags;
  command.run = [arguments](MpiSession& mpi) { return run_train(*arguments, mpi); };
  command.registry = &arguments->registry;
  command.polls_signals = true;
  command.outlives_output = true;
  return command;
}

}  // namespace lockstep
