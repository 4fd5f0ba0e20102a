// Save and restore on all ranks together: the same state at any world size, replicas that differ
// are found before anything is published, a failed save leaves the old checkpoint alone.
#include "trainer/checkpointer.h"

#include "comm/mpi_main.h"
#include "io/manifest.h"
#include "support/support.h"
#include "trainer/verified_checkpoint.h"

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>

namespace lockstep {
namespace {

// One rank's model with its training state.
struct Replica {
  Replica(World& world, std::uint64_t seed) : arena(*machine.device) {
    options.model.preset = "llama-tiny";
    options.model.layers = 1;
    resolve(options.model, 256);
    model = make_model(options.model, {.batch = 1, .seq_len = 8}, arena,
                       &machine.device->kernels().scratch_bytes);
    state =
        std::make_unique<TrainingState>(*model, OptimizerBuffers(model->parameters(), arena),
                                        options, 10, world.rank(), world.size(), *machine.stream);
    model->parameters().initialize(seed, 1, *machine.stream);
    for (int moment = 0; moment < 2; ++moment) {
      for (const Parameter& parameter : model->parameters().all()) {
        ParameterSet::draw(parameter, seed + 10 + static_cast<std::uint64_t>(moment), 0,
                           std::span(state->moment(moment).as<float>() + parameter.offset,
                                     static_cast<std::size_t>(parameter.count())));
      }
    }
  }

  test::Machine machine = test::open_cpu();
  Options options;
  Arena arena;
  std::unique_ptr<Model> model;
  std::unique_ptr<TrainingState> state;
};

class CheckpointerTest : public testing::Test {
 protected:
  void SetUp() override {
    world_ = make_mpi_world(30.0);
    std::string name = std::filesystem::temp_directory_path() / "lockstep_checkpointer_XXXXXX";
    if (world_->rank() == 0) {
      ASSERT_NE(::mkdtemp(name.data()), nullptr);
    }
    directory_ = world_->broadcast(name, 0);
  }
  void TearDown() override {
    world_->barrier();
    if (world_->rank() == 0) std::filesystem::remove_all(directory_);
  }
  std::string save(Replica& replica, std::int64_t step, const CheckpointOptions& options = {}) {
    Checkpointer checkpointer(*replica.state, *world_, {directory_, {}}, options, {}, log_);
    CheckpointMeta meta;
    meta.step = step;
    meta.data_counter = 12 * step;
    const std::string path = checkpointer.save(
        meta, [] {}, *replica.machine.stream);
    error_ = checkpointer.error();
    digest_ = checkpointer.digest();
    return path;
  }

  std::unique_ptr<World> world_;
  std::string directory_;
  std::string error_;
  std::string digest_;
  Log log_{1};
};

TEST_F(CheckpointerTest, RestoreGivesTheSameStateBack) {
  Replica original(*world_, 5);
  StepState scaler = initial_step_state(original.options);
  scaler.updates = 3;
  scaler.loss_scale = 512.0f;
  scaler.skipped = 2;
  original.state->set(scaler, *original.machine.stream);
  const std::string path = save(original, 7);
  ASSERT_NE(path, "") << error_;
  // The digest does not depend on the world size.
  EXPECT_EQ(digest_, "d737386d1e628ec2f3345bb492c49bbb45f8fefb8de12c4a0057c8b6f7a2947f");

  Replica other(*world_, 6);
  CheckpointReader reader(path);
  EXPECT_EQ(reader.digest(), digest_);
  Checkpointer(*other.state, *world_, {directory_, {}}, {}, {}, log_)
      .restore(reader, *other.machine.stream);
  const auto bytes = original.model->parameters().masters().bytes();
  EXPECT_EQ(std::memcmp(original.model->parameters().masters().data,
                        other.model->parameters().masters().data, bytes),
            0);
  for (int moment = 0; moment < 2; ++moment) {
    EXPECT_EQ(
        std::memcmp(original.state->moment(moment).data, other.state->moment(moment).data, bytes),
        0);
  }
  const StepState back = other.state->get(*other.machine.stream);
  EXPECT_EQ(back.updates, 3);
  EXPECT_EQ(back.loss_scale, 512.0f);
  EXPECT_EQ(back.skipped, 2);
}

// One value of this rank's state changes.
void spoil(Replica& replica, std::string_view part) {
  if (part == "counters") return replica.state->set({.loss_scale = 2.0f}, *replica.machine.stream);
  const Tensor& tensor = part == "weights"         ? replica.model->parameters().masters()
                         : part == "first moments" ? replica.state->moment(0)
                                                   : replica.state->moment(1);
  tensor.as<float>()[3] += 1e-6f;
}

TEST_F(CheckpointerTest, AReplicaThatDiffersStopsTheSave) {
  if (world_->size() == 1) GTEST_SKIP() << "one rank has nobody to differ from";
  for (const char* part : {"weights", "first moments", "second moments", "counters"}) {
    Replica replica(*world_, 5);
    if (world_->rank() == world_->size() - 1) spoil(replica, part);
    try {
      save(replica, 1);
      FAIL() << "saved diverged replicas";
    } catch (const UserError& error) {
      EXPECT_EQ(error.code(), ExitCode::kDiverged);
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find("rank "), std::string::npos);
    }
    EXPECT_TRUE(list_checkpoints(directory_).empty());
  }
}

TEST_F(CheckpointerTest, AFailedSaveIsReportedOnEveryRankAndLeavesNothing) {
  Replica replica(*world_, 5);
  const std::string first = save(replica, 1);
  Checkpointer checkpointer(*replica.state, *world_, {directory_, {}}, {}, {}, log_);
  const auto no_disk = [] { fail(ExitCode::kIo, "metrics.jsonl: No space left on device"); };
  EXPECT_EQ(checkpointer.save({.step = 2}, no_disk, *replica.machine.stream), "");
  EXPECT_NE(checkpointer.error().find("No space left"), std::string::npos);
  world_->barrier();
  ASSERT_EQ(list_checkpoints(directory_).size(), 1u);
  verify_checkpoint(first, VerifyLevel::kFull);
  EXPECT_EQ(newest_valid_checkpoint(directory_, *world_, log_)->path(), first);
}

// Its size and manifest are right, its bytes are not.
void damage(const std::string& checkpoint) {
  const std::string path =
      checkpoint + "/" + shard_file_name(0, CheckpointReader(checkpoint).shards());
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(-1, std::ios::end);
  file.put('!');
}

TEST_F(CheckpointerTest, ADamagedNewerCheckpointIsNotCountedAsKept) {
  Replica replica(*world_, 5);
  const std::string damaged = save(replica, 9);
  if (world_->rank() == 0) damage(damaged);
  world_->barrier();
  for (const std::int64_t step : {3, 4}) {
    const std::string path = save(replica, step, {.keep_last = 1});
    world_->barrier();
    EXPECT_EQ(newest_valid_checkpoint(directory_, *world_, log_)->path(), path);
    EXPECT_EQ(list_checkpoints(directory_).size(), 2u);  // the damaged one, and this
  }
}

TEST_F(CheckpointerTest, TheBestValidationAndTheResumedCheckpointAreKept) {
  Replica replica(*world_, 5);
  CheckpointOptions options{.keep_last = 1, .keep_best = true};
  Checkpointer checkpointer(*replica.state, *world_, {directory_, {}}, options, {}, log_);
  const auto save_step = [&](std::int64_t step, std::int64_t best) {
    const CheckpointMeta meta{.step = step, .best_val_loss = 1.0, .best_step = best};
    checkpointer.save(
        meta, [] {}, *replica.machine.stream);
    world_->barrier();
    std::vector<std::int64_t> steps;
    for (const CheckpointEntry& entry : list_checkpoints(directory_)) steps.push_back(entry.step);
    return steps;
  };
  using Steps = std::vector<std::int64_t>;
  EXPECT_EQ(save_step(1, 1), Steps({1}));
  EXPECT_EQ(save_step(2, 1), Steps({2, 1}));
  EXPECT_EQ(save_step(3, 1), Steps({3, 1}));
  EXPECT_EQ(save_step(4, 4), Steps({4}));  // better than ever: the old best may go
  checkpointer.resumed_from(directory_ + "/step_00000004", 4);
  EXPECT_EQ(save_step(5, 5), Steps({5, 4}));
  EXPECT_EQ(save_step(6, 5), Steps({6, 5}));
  EXPECT_EQ(CheckpointReader(directory_ + "/step_00000006").meta().best_step, 5);
}

TEST_F(CheckpointerTest, WeightsThatAreNoNumbersAreNotSaved) {
  Replica replica(*world_, 5);
  ParameterSet& parameters = replica.model->parameters();
  const std::size_t at = parameters.find("model.layers.0.mlp.up_proj.weight");
  parameters.masters().as<float>()[parameters[at].offset + 2] =
      std::numeric_limits<float>::quiet_NaN();
  try {
    save(replica, 1);
    FAIL() << "saved NaN";
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::kInternal);
    EXPECT_NE(std::string(error.what()).find("model.layers.0.mlp.up_proj.weight"),
              std::string::npos)
        << error.what();
  }
  EXPECT_TRUE(list_checkpoints(directory_).empty());
}

// Older versions could save them.
TEST_F(CheckpointerTest, ACheckpointOfNaNsIsRefusedByName) {
  if (world_->size() > 1) GTEST_SKIP() << "one rank writes the file by hand";
  Replica replica(*world_, 5);
  StateRows rows(*replica.state);
  const std::string temporary = make_temporary_checkpoint(directory_, 1);
  const RowSource bad = [&](std::size_t t, std::int64_t row, std::span<std::byte> out) {
    rows.read(t, row, out, *replica.machine.stream);
    if (t == 1) std::memset(out.data(), 0xff, sizeof(float));
  };
  const ShardRecord shard =
      write_shard(temporary, 0, 1, rows.tensors(), rows_of(0, rows.owners(1)), bad, {.step = 1});
  CheckpointReader reader(
      publish_checkpoint(directory_, temporary, rows.tensors(), {shard}, {.step = 1}, {}));
  try {
    rows.load(reader, {}, *replica.machine.stream);
    FAIL() << "loaded NaN";
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::kData);
    const std::string message = error.what();
    EXPECT_NE(message.find(rows.tensors()[1].name), std::string::npos) << message;
    EXPECT_NE(message.find(reader.path()), std::string::npos) << message;
  }
}

TEST_F(CheckpointerTest, RefusesAnotherModel) {
  Replica replica(*world_, 5);
  const std::string path = save(replica, 1);
  world_->barrier();
  Replica other(*world_, 5);
  Options options = other.options;
  options.model.hidden = 64;
  options.model.head_dim = 0;
  resolve(options.model, 256);
  Arena arena(*other.machine.device);
  const auto model = make_model(options.model, {.batch = 1, .seq_len = 8}, arena,
                                &other.machine.device->kernels().scratch_bytes);
  TrainingState state(*model, OptimizerBuffers(model->parameters(), arena), options, 10, 0, 1,
                      *other.machine.stream);
  CheckpointReader reader(path);
  Checkpointer checkpointer(state, *world_, {directory_, {}}, {}, {}, log_);
  EXPECT_THROW(checkpointer.restore(reader, *other.machine.stream), UserError);
}

}  // namespace
}  // namespace lockstep

int main(int argc, char** argv) { return lockstep::run_mpi_tests(argc, argv); }
