// The loop itself, against a model of one parameter that does what a script says: what is called in
// which order, when it validates, saves, skips and stops, and where a resumed run goes on.
#include "trainer/trainer.h"

#include "data/fixture.h"
#include "support/support.h"
#include "trainer/verified_checkpoint.h"

#include <nlohmann/json.hpp>

#include <fstream>
#include <limits>

namespace lockstep {
namespace {

constexpr std::int64_t kTokens = 4;  // of a sequence

// What the model is to do, and what it has been asked for.
struct Script {
  float gradient = 1.0f;
  std::int64_t bad_from_pass = std::numeric_limits<std::int64_t>::max();  // gradients are infinite
  std::vector<double> val_losses;                                         // one per validation
  std::vector<std::string> calls;
  std::vector<std::int32_t> first_tokens;  // of each micro-batch trained on
  std::vector<std::string> ends;           // what is given up or freed, in order
};

class FakeModel final : public Model {
 public:
  FakeModel(Script& script, const ModelConfig& config, Arena& arena)
      : script_(script), config_(config) {
    parameters_.add({.name = "weight", .shape = {3}, .init = Init::kOnes});
    parameters_.allocate(arena, DType::kF32, /*training=*/true);
    scratch_ = arena.allocate("scratch", {1 << 16}, DType::kU8, MemoryGroup::kActivations);
  }
  ~FakeModel() override { script_.ends.push_back("model freed"); }
  const ModelConfig& config() const override { return config_; }
  ParameterSet& parameters() override { return parameters_; }
  const Tensor& scratch() const override { return scratch_; }
  void forward_backward(const DeviceBatch& batch, const StepState*, const Tensor& totals,
                        const GradientReady& ready, Stream&) override {
    script_.calls.push_back(ready ? "last micro-batch" : "micro-batch");
    script_.first_tokens.push_back(batch.tokens.as<std::int32_t>()[0]);
    const bool bad = static_cast<std::int64_t>(script_.first_tokens.size()) > script_.bad_from_pass;
    auto* grads = parameters_.grads().as<float>();
    for (int i = 0; i < 3; ++i) {
      grads[i] += bad ? std::numeric_limits<float>::infinity() : script_.gradient;
    }
    totals.as<double>()[0] += 2.0 * static_cast<double>(batch.targets.count());
    totals.as<double>()[1] += static_cast<double>(batch.targets.count());
    if (ready) ready(0, parameters_.flat_count());
  }
  void evaluate(const DeviceBatch& batch, const Tensor& totals, Stream&) override {
    script_.calls.push_back("validation");
    const std::size_t done = validations_++;
    const double loss = done < script_.val_losses.size() ? script_.val_losses[done] : 1.0;
    totals.as<double>()[0] += loss * static_cast<double>(batch.targets.count());
    totals.as<double>()[1] += static_cast<double>(batch.targets.count());
  }

 private:
  Script& script_;
  ModelConfig config_;
  ParameterSet parameters_;
  Tensor scratch_;
  std::size_t validations_ = 0;
};

// One of two ranks; the other is lost when collective number `lost_at` is entered.
class LosingCommunicator final : public Communicator {
 public:
  LosingCommunicator(Script& script, int lost_at) : script_(script), lost_at_(lost_at) {}
  int rank() const override { return 0; }
  int size() const override { return 2; }
  std::string_view name() const override { return "losing"; }
  void all_reduce(TypedSpan, ReduceOp, Stream&) override {
    if (--lost_at_ <= 0) fail(ExitCode::kPeer, "rank 1 is gone");
  }
  void reduce_scatter(TypedSpan, TypedSpan, ReduceOp, Stream&) override {}
  void all_gather(TypedSpan, TypedSpan, Stream&) override {}
  void broadcast(TypedSpan, int, Stream&) override {}
  void check_async_error() override {}
  void abort() noexcept override { script_.ends.push_back("aborted"); }

 private:
  Script& script_;
  int lost_at_;
};

class TrainerTest : public testing::Test {
 protected:
  TrainerTest() {
    options_.train.micro_batch_size = 1;
    options_.train.global_batch_size = 2;
    options_.model.seq_len = kTokens;
    options_.optimizer.schedule = StepRules::Schedule::kConstant;
    options_.checkpoint.keep_last = 0;
    options_.log.interval = 1;
    test::write_shard(scratch_ / "train.bin", test::counting(40 * kTokens + 1));
    test::write_shard(scratch_ / "val.bin", test::counting(kTokens + 1));
    train_.emplace(std::vector{scratch_ / "train.bin"}, "train", kTokens, 1000, 7);
    val_.emplace(std::vector{scratch_ / "val.bin"}, "val", kTokens, 1000, 7);
    directory_.emplace(scratch_ / "run", log_);
  }

  TrainerInputs inputs(std::int64_t steps) {
    return {.options = options_,
            .steps = steps,
            .accumulation = 2,
            .world = *world_,
            .communicator = *communicator_,
            .device = *machine_.device,
            .log = log_,
            .position = position_,
            .train_data = *train_,
            .val_data = &*val_,
            .directory = &*directory_,
            .checkpoints = directory_->checkpoints(),
            .make_model = [this](const ModelConfig& config, const ModelPlan&, Arena& arena,
                                 ScratchBytes) -> std::unique_ptr<Model> {
              return std::make_unique<FakeModel>(script_, config, arena);
            }};
  }
  ExitCode run(const TrainerInputs& given) {
    Trainer trainer(given);
    trainer.initialize();
    return trainer.run();
  }
  std::vector<std::int64_t> saved() const {
    std::vector<std::int64_t> steps;
    for (const auto& entry : list_checkpoints(directory_->checkpoints())) {
      steps.insert(steps.begin(), entry.step);
    }
    return steps;
  }
  // "save 2 interval", "skip 1", ...
  std::vector<std::string> events() {
    directory_->sync();
    std::vector<std::string> all;
    std::ifstream file(directory_->path() + "/events.jsonl");
    for (std::string line; std::getline(file, line);) {
      const auto event = nlohmann::json::parse(line);
      all.push_back(fmt::format("{} {}", event["event"].get<std::string>(),
                                event["step"].get<std::int64_t>()));
      if (event.contains("why")) all.back() += " " + event["why"].get<std::string>();
    }
    return all;
  }

  using Steps = std::vector<std::int64_t>;
  using Texts = std::vector<std::string>;

  test::TempDir scratch_;
  Log log_{1};  // quiet
  test::Machine machine_ = test::open_cpu(1);
  std::unique_ptr<World> world_ = make_self_world();
  std::unique_ptr<Communicator> communicator_ = make_self_communicator();
  RunPosition position_;
  Options options_;
  std::optional<Dataset> train_, val_;
  std::optional<RunDirectory> directory_;
  Script script_;
};

TEST_F(TrainerTest, CallsComeInOrder) {
  options_.eval.interval = 2;
  options_.checkpoint.interval = 2;
  EXPECT_EQ(run(inputs(3)), ExitCode::kDone);
  const Texts step = {"micro-batch", "last micro-batch"};
  Texts expected;
  for (const Texts& part : {step, step, Texts{"validation"}, step, Texts{"validation"}}) {
    expected.insert(expected.end(), part.begin(), part.end());
  }
  EXPECT_EQ(script_.calls, expected);
  EXPECT_EQ(events(), (Texts{"save 2 interval", "save 3 finished"}));
}

TEST_F(TrainerTest, ARehearsalLeavesNoTrace) {
  EXPECT_EQ(run(inputs(3)), ExitCode::kDone);
  const std::string plain = CheckpointReader(directory_->checkpoints() + "/step_00000003").digest();
  const auto samples = std::exchange(script_.first_tokens, {});
  std::filesystem::remove_all(directory_->checkpoints());
  Trainer trainer(inputs(3));
  trainer.initialize();
  trainer.rehearse();
  EXPECT_EQ(std::exchange(script_.first_tokens, {}), std::vector{samples[0]});
  EXPECT_EQ(trainer.run(), ExitCode::kDone);
  EXPECT_EQ(script_.first_tokens, samples);
  EXPECT_EQ(CheckpointReader(directory_->checkpoints() + "/step_00000003").digest(), plain);
}

TEST_F(TrainerTest, AResumedRunGoesOnAtTheNextSample) {
  EXPECT_EQ(run(inputs(4)), ExitCode::kDone);
  const auto whole = std::exchange(script_.first_tokens, {});
  const CheckpointReader at_four(directory_->checkpoints() + "/step_00000004");
  EXPECT_EQ(at_four.meta().data_counter, 8);
  EXPECT_EQ(at_four.meta().tokens, 8 * kTokens);

  std::filesystem::remove_all(directory_->checkpoints());
  EXPECT_EQ(run(inputs(2)), ExitCode::kDone);
  CheckpointReader reader(directory_->checkpoints() + "/step_00000002");
  Trainer trainer(inputs(4));
  trainer.restore(reader);
  EXPECT_EQ(trainer.step(), 2);
  EXPECT_EQ(trainer.run(), ExitCode::kDone);
  EXPECT_EQ(script_.first_tokens, whole);
  EXPECT_EQ(CheckpointReader(directory_->checkpoints() + "/step_00000004").digest(),
            at_four.digest());
}

TEST_F(TrainerTest, AVoteToStopEndsTheStepSavesAndSaysSo) {
  TrainerInputs given = inputs(9);
  int polls = 0;
  given.stop_requested = [&] { return ++polls == 3; };
  EXPECT_EQ(run(given), ExitCode::kStopped);
  EXPECT_EQ(events(), (Texts{"save 3 stopped"}));
  EXPECT_EQ(script_.first_tokens.size(), 6u);
}

TEST_F(TrainerTest, ATimeLimitStopsBeforeItIsReached) {
  TrainerInputs given = inputs(9);
  given.seconds_since_start = 100.0;
  given.time_limit_seconds = 104.0;  // five seconds are kept for the save
  EXPECT_EQ(run(given), ExitCode::kStopped);
  EXPECT_EQ(saved(), Steps({1}));
}

TEST_F(TrainerTest, AStopDuringValidationLeavesItToTheResumedRun) {
  options_.eval.interval = 1;
  TrainerInputs given = inputs(3);
  bool stop = false;
  given.stop_requested = [&] { return std::exchange(stop, true); };  // from the second poll on
  EXPECT_EQ(run(given), ExitCode::kStopped);
  EXPECT_EQ(script_.calls, (Texts{"micro-batch", "last micro-batch"}));
  CheckpointReader reader(directory_->checkpoints() + "/step_00000001");
  script_.calls.clear();
  Trainer trainer(inputs(1));
  trainer.restore(reader);
  trainer.evaluate_first();
  EXPECT_EQ(trainer.run(), ExitCode::kDone);
  EXPECT_EQ(script_.calls, Texts{"validation"});
}

TEST_F(TrainerTest, SkippedStepsAreCountedAndTooManyEndTheRun) {
  options_.train.max_skips = 2;
  script_.bad_from_pass = 2;  // the first step is fine
  try {
    run(inputs(9));
    FAIL() << "went on";
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::kInternal);
    EXPECT_NE(std::string(error.what()).find("gradient of weight"), std::string::npos);
  }
  EXPECT_EQ(events(), (Texts{"skip 2", "skip 3"}));
  EXPECT_EQ(script_.first_tokens.size(), 6u);
  EXPECT_EQ(saved(), Steps{});
}

TEST_F(TrainerTest, WeightsThatBecomeNaNEndTheRunWithoutACheckpoint) {
  options_.optimizer.lr = std::numeric_limits<float>::max();
  options_.optimizer.weight_decay = std::numeric_limits<float>::max();
  try {
    run(inputs(2));
    FAIL() << "finished";
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::kInternal);
    EXPECT_NE(std::string(error.what()).find("weight holds NaN"), std::string::npos)
        << error.what();
  }
  EXPECT_EQ(saved(), Steps{});
}

TEST_F(TrainerTest, TheBestValidationIsSavedAndKept) {
  options_.eval.interval = 1;
  options_.checkpoint.keep_last = 1;
  options_.checkpoint.keep_best = true;
  script_.val_losses = {3.0, 2.0, 2.5, 2.5};
  EXPECT_EQ(run(inputs(4)), ExitCode::kDone);
  EXPECT_EQ(events(), (Texts{"save 1 best", "save 2 best", "save 4 finished"}));
  EXPECT_EQ(saved(), Steps({2, 4}));

  // The resumed run knows it, though it is older than where it goes on.
  CheckpointReader reader(directory_->checkpoints() + "/step_00000004");
  script_.val_losses = {2.5, 2.5};
  Trainer trainer(inputs(6));
  trainer.restore(reader);
  EXPECT_EQ(trainer.run(), ExitCode::kDone);
  EXPECT_EQ(saved(), Steps({2, 6}));
  EXPECT_EQ(CheckpointReader(directory_->checkpoints() + "/step_00000006").meta().best_step, 2);
}

TEST_F(TrainerTest, SavesAreDueByStepsByTimeOrNever) {
  options_.checkpoint.interval = 2;
  EXPECT_EQ(run(inputs(5)), ExitCode::kDone);
  EXPECT_EQ(saved(), Steps({2, 4, 5}));
  std::filesystem::remove_all(directory_->checkpoints());
  options_.checkpoint.interval = 0;
  EXPECT_EQ(run(inputs(5)), ExitCode::kDone);
  EXPECT_EQ(saved(), Steps({5}));
  std::filesystem::remove_all(directory_->checkpoints());
  TrainerInputs given = inputs(3);
  given.save_interval_seconds = 1e-9;  // always over
  EXPECT_EQ(run(given), ExitCode::kDone);
  EXPECT_EQ(saved(), Steps({1, 2, 3}));
}

TEST_F(TrainerTest, AFailedSaveIsTriedAgainThreeTimesAndTheLastMustSucceed) {
  options_.checkpoint.interval = 1;
  TrainerInputs given = inputs(9);
  given.checkpoints = scratch_ / "occupied";
  test::write_file(given.checkpoints, "a file where a directory is wanted");
  const auto expect_failure = [&](std::size_t passes) {
    script_.first_tokens.clear();
    test::expect_error(ExitCode::kIo, {"could not be saved", "occupied"}, [&] { run(given); });
    EXPECT_EQ(script_.first_tokens.size(), passes);
  };
  expect_failure(6);  // three steps
  given.steps = 2;    // the second save is the last one
  expect_failure(4);
}

// Collectives under way wait for a peer that will not come, and a GPU frees nothing before they
// end.
TEST_F(TrainerTest, AnErrorGivesUpCollectivesBeforeTheirMemoryGoes) {
  for (const int lost_at : {1, 4}) {
    script_.ends.clear();
    LosingCommunicator communicator(script_, lost_at);
    const auto train = [&](const TrainerInputs& given) {
      Trainer trainer(given);
      trainer.initialize();
      trainer.run();
    };
    const TrainerInputs plain = inputs(9);
    EXPECT_THROW(train({.options = plain.options,
                        .steps = plain.steps,
                        .accumulation = plain.accumulation,
                        .world = plain.world,
                        .communicator = communicator,
                        .device = plain.device,
                        .log = plain.log,
                        .position = plain.position,
                        .train_data = plain.train_data,
                        .checkpoints = plain.checkpoints,
                        .make_model = plain.make_model}),
                 UserError);
    EXPECT_EQ(script_.ends, (std::vector<std::string>{"aborted", "model freed"}));
  }
  script_.ends.clear();
  run(inputs(2));
  EXPECT_EQ(script_.ends, std::vector<std::string>{"model freed"});
}

}  // namespace
}  // namespace lockstep
