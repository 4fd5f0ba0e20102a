// Save and restore on all ranks together: the same state at any world size, replicas that differ
// are found before anything is published, a failed save leaves the old checkpoint alone.
#include "trainer/checkpointer.h"

#include "comm/mpi_main.h"
#include "support/support.h"

#include <cstdlib>
#include <filesystem>

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
    state = std::make_unique<TrainingState>(*model, options, 10, world.rank(), world.size(), arena,
                                            *machine.stream);
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
  std::string save(Replica& replica, std::int64_t step) {
    Checkpointer checkpointer(*replica.state, *world_, {directory_, ""}, {}, {}, log_);
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
  Checkpointer(*other.state, *world_, {directory_, ""}, {}, {}, log_)
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

TEST_F(CheckpointerTest, AReplicaThatDiffersStopsTheSave) {
  if (world_->size() == 1) GTEST_SKIP() << "one rank has nobody to differ from";
  Replica replica(*world_, 5);
  if (world_->rank() == world_->size() - 1) {
    replica.model->parameters().masters().as<float>()[3] += 1e-6f;
  }
  try {
    save(replica, 1);
    FAIL() << "saved diverged replicas";
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::kDiverged);
    EXPECT_NE(std::string(error.what()).find("rank "), std::string::npos);
  }
  EXPECT_TRUE(list_checkpoints(directory_).empty());
}

TEST_F(CheckpointerTest, AFailedSaveIsReportedOnEveryRankAndLeavesNothing) {
  Replica replica(*world_, 5);
  const std::string first = save(replica, 1);
  Checkpointer checkpointer(*replica.state, *world_, {directory_, ""}, {}, {}, log_);
  const auto no_disk = [] { fail(ExitCode::kIo, "metrics.jsonl: No space left on device"); };
  EXPECT_EQ(checkpointer.save({.step = 2}, no_disk, *replica.machine.stream), "");
  EXPECT_NE(checkpointer.error().find("No space left"), std::string::npos);
  world_->barrier();
  ASSERT_EQ(list_checkpoints(directory_).size(), 1u);
  verify_checkpoint(first, VerifyLevel::kFull);
  EXPECT_EQ(newest_valid_checkpoint(directory_, *world_, log_)->path(), first);
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
  TrainingState state(*model, options, 10, 0, 1, arena, *other.machine.stream);
  CheckpointReader reader(path);
  Checkpointer checkpointer(state, *world_, {directory_, ""}, {}, {}, log_);
  EXPECT_THROW(checkpointer.restore(reader, *other.machine.stream), UserError);
}

}  // namespace
}  // namespace lockstep

int main(int argc, char** argv) { return lockstep::run_mpi_tests(argc, argv); }
