// Save and read back: any number of writers, any rows, the same bytes every time, meta as it was.
#include "io/checkpoint.h"

#include "io/fixture.h"
#include "io/hdf5_handle.h"

#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <set>

namespace lockstep {
namespace {

namespace fs = std::filesystem;
using testing::ScratchDirectory;
using testing::State;

void expect_rows(CheckpointReader& reader, const State& state, std::size_t t, std::int64_t row,
                 std::int64_t rows) {
  const std::int64_t bytes = state.row_size(t);
  std::vector<std::byte> out(static_cast<std::size_t>(rows * bytes), std::byte{0xee});
  reader.read(state.tensors[t].name, row, out);
  EXPECT_EQ(std::memcmp(out.data(), state.bytes[t].data() + row * bytes, out.size()), 0)
      << state.tensors[t].name << " rows " << row << "+" << rows;
}

TEST(Checkpoint, RoundTripAtAnyShardCountAndAnyRows) {
  ScratchDirectory scratch;
  const State state = testing::small_state();
  for (const int shards : {1, 2, 3, 5, 40}) {
    const std::string path = testing::save(scratch / std::to_string(shards), state, shards);
    CheckpointReader reader(path);
    EXPECT_EQ(reader.shards(), shards);
    ASSERT_EQ(reader.tensors().size(), state.tensors.size());
    for (std::size_t t = 0; t < state.tensors.size(); ++t) {
      EXPECT_EQ(reader.tensors()[t].name, state.tensors[t].name);
      EXPECT_EQ(reader.tensors()[t].shape, state.tensors[t].shape);
      EXPECT_EQ(reader.tensors()[t].dtype, state.tensors[t].dtype);
      const std::int64_t count = state.tensors[t].shape[0];
      for (std::int64_t row = 0; row < count; ++row) {
        for (std::int64_t rows = 1; row + rows <= count; ++rows) {
          expect_rows(reader, state, t, row, rows);
        }
      }
    }
    for (const VerifyLevel level : {VerifyLevel::kQuick, VerifyLevel::kFull, VerifyLevel::kDeep}) {
      EXPECT_NO_THROW(verify_checkpoint(path, level));
    }
  }
}

TEST(Checkpoint, TensorsLargerThanAPiece) {
  ScratchDirectory scratch;
  State state;
  state.add("model/tall", {5000, 700});   // 13.4 MiB
  state.add("model/wide", {2, 2200000});  // rows of 8.4 MiB: one row is more than a piece
  state.meta = testing::sample_meta(1);
  const std::string path = testing::save(scratch.path(), state, 2);
  EXPECT_NO_THROW(verify_checkpoint(path, VerifyLevel::kDeep));
  CheckpointReader reader(path);
  expect_rows(reader, state, 0, 0, 5000);
  expect_rows(reader, state, 0, 17, 4444);
  expect_rows(reader, state, 1, 0, 2);
}

TEST(Checkpoint, MetaComesBackExactly) {
  ScratchDirectory scratch;
  State state = testing::small_state();
  state.meta.started_from = "runs/other/checkpoints/step_00000010";
  state.meta.generation_config = R"({"eos_token_id": [1, 2]})";
  const CheckpointMeta& meta = state.meta;
  CheckpointReader reader(testing::save(scratch.path(), state, 2));
  const CheckpointMeta& read = reader.meta();
  EXPECT_EQ(read.step, meta.step);
  EXPECT_EQ(read.updates, meta.updates);
  EXPECT_EQ(read.tokens, meta.tokens);
  EXPECT_EQ(read.data_counter, meta.data_counter);
  EXPECT_EQ(read.seed, meta.seed);
  EXPECT_EQ(read.loss_scale, meta.loss_scale);
  EXPECT_EQ(read.good_steps, meta.good_steps);
  EXPECT_EQ(read.skips_in_row, meta.skips_in_row);
  EXPECT_EQ(read.skipped, meta.skipped);
  EXPECT_EQ(read.best_val_loss, meta.best_val_loss);
  EXPECT_EQ(read.world_size, meta.world_size);
  EXPECT_EQ(read.run_id, meta.run_id);
  EXPECT_EQ(read.started_from, meta.started_from);
  EXPECT_EQ(read.config, meta.config);
  EXPECT_EQ(read.gemm_plan, meta.gemm_plan);
  EXPECT_EQ(read.git_revision, meta.git_revision);
  EXPECT_EQ(read.data_fingerprint, meta.data_fingerprint);
  EXPECT_EQ(read.generation_config, meta.generation_config);
  EXPECT_EQ(read.time, meta.time);
  state.meta.best_val_loss.reset();
  state.meta.step += 1;
  EXPECT_FALSE(CheckpointReader(testing::save(scratch.path(), state, 1)).meta().best_val_loss);
}

TEST(Checkpoint, DigestIsTheSameAtAnyShardCount) {
  ScratchDirectory scratch;
  const State state = testing::small_state();
  std::set<std::string> digests;
  for (const int shards : {1, 2, 3, 5}) {
    digests.insert(
        CheckpointReader(testing::save(scratch / std::to_string(shards), state, shards)).digest());
  }
  EXPECT_EQ(digests.size(), 1u);
}

TEST(Checkpoint, SameStateSameBytes) {
  ScratchDirectory scratch;
  State state = testing::small_state();
  const std::string first = testing::save(scratch / "a", state, 3);
  ::usleep(1'100'000);  // HDF5's times have a resolution of one second
  state.meta.time = "2031-01-01T00:00:00Z";
  state.meta.run_id = "another";
  const std::string second = testing::save(scratch / "b", state, 3);
  for (int shard = 0; shard < 3; ++shard) {
    const std::string name = "/" + shard_file_name(shard, 3);
    EXPECT_EQ(testing::slurp(first + name), testing::slurp(second + name)) << name;
  }
  EXPECT_EQ(CheckpointReader(first).digest(), CheckpointReader(second).digest());
}

TEST(Checkpoint, NanPayloadsSurvive) {
  ScratchDirectory scratch;
  State state;
  state.add("model/f32", {256, 64});
  state.add("model/bf16", {256, 256}, DType::kBF16);
  state.add("model/fp16", {256, 256}, DType::kF16);
  state.meta = testing::sample_meta(1);
  for (std::size_t i = 0; i < 65536; ++i) {  // every 16-bit pattern, signalling NaNs included
    const auto bits = static_cast<std::uint16_t>(i);
    std::memcpy(state.bytes[1].data() + 2 * i, &bits, 2);
    std::memcpy(state.bytes[2].data() + 2 * i, &bits, 2);
  }
  for (std::size_t i = 0; i < 16384; ++i) {
    const std::uint32_t bits = 0x7f800000u | static_cast<std::uint32_t>(i);
    std::memcpy(state.bytes[0].data() + 4 * i, &bits, 4);
  }
  CheckpointReader reader(testing::save(scratch.path(), state, 2));
  for (std::size_t t = 0; t < 3; ++t) expect_rows(reader, state, t, 0, 256);
}

TEST(Checkpoint, TokenizerFilesTravel) {
  ScratchDirectory scratch;
  const std::vector<NamedText> tokenizer = {{"chat_templates/rag.jinja", "{{ documents }}"},
                                            {"chat_templates/tool_use.jinja", ""},
                                            {"tokenizer.json", "{\"model\": 1}"}};
  const std::string path = testing::save(scratch / "c", testing::small_state(), 2, tokenizer);
  CheckpointReader reader(path);
  EXPECT_EQ(reader.tokenizer_directory(), path + "/tokenizer");
  for (const NamedText& file : tokenizer) {
    EXPECT_EQ(testing::slurp(path + "/tokenizer/" + file.name), file.text);
  }
  EXPECT_NO_THROW(verify_checkpoint(path, VerifyLevel::kDeep));
  EXPECT_EQ(CheckpointReader(testing::save(scratch / "d", testing::small_state(), 1))
                .tokenizer_directory(),
            "");
  fs::rename(path + "/tokenizer/chat_templates", scratch / "elsewhere");
  fs::create_directory_symlink(scratch / "elsewhere", path + "/tokenizer/chat_templates");
  testing::expect_data_error([&] { CheckpointReader{path}; }, "it is not a directory");
}

std::int64_t bytes_on_disk(const std::string& path) {
  std::int64_t total = 0;
  for (const auto& entry : fs::recursive_directory_iterator(path)) {
    if (entry.is_regular_file()) total += static_cast<std::int64_t>(entry.file_size());
  }
  return total;
}

TEST(Checkpoint, SizeEstimateIsAnUpperBoundAndClose) {
  ScratchDirectory scratch;
  State many;
  for (int i = 0; i < 300; ++i) {
    many.add("model/h." + std::to_string(i), {1 + i, 8});
    many.add("optimizer/exp_avg/h." + std::to_string(i), {1 + i, 8});
  }
  many.meta = testing::sample_meta(1);
  State large;
  large.add("model/w", {3000, 1000});
  large.meta = testing::sample_meta(1);
  int saved = 0;
  for (const State* state : {&many, &large}) {
    for (const int shards : {1, 7}) {
      const std::string path = testing::save(scratch / std::to_string(saved++), *state, shards);
      const std::int64_t actual = bytes_on_disk(path);
      EXPECT_EQ(CheckpointReader(path).bytes(), actual);
      const std::int64_t estimate =
          checkpoint_bytes(state->tensors, assign_rows(state->tensors, shards), shards);
      EXPECT_GE(estimate, actual);
      const auto tensors = static_cast<std::int64_t>(state->tensors.size());
      EXPECT_LE(estimate, actual + 65536 + 600 * tensors + 16384 * shards) << actual;
    }
  }
}

TEST(Checkpoint, ModesFollowTheUmask) {
  ScratchDirectory scratch;
  const mode_t before = ::umask(0002);  // a group that shares its runs
  const std::string path = testing::save(scratch / "run/checkpoints", testing::small_state(), 1);
  ::umask(before);
  const auto mode = [](const std::string& name) {
    struct stat status {};
    EXPECT_EQ(::stat(name.c_str(), &status), 0) << name;
    return status.st_mode & 07777;
  };
  EXPECT_EQ(mode(path), 0775u);
  EXPECT_EQ(mode(scratch / "run"), 0775u);
  EXPECT_EQ(mode(path + "/manifest.json"), 0664u);
  EXPECT_EQ(mode(path + "/" + shard_file_name(0, 1)), 0664u);
  EXPECT_EQ(mode(scratch / "run/checkpoints/latest"), 0664u);
}

TEST(Checkpoint, NothingStaysOpen) {
  ScratchDirectory scratch;
  const std::string path = testing::save(scratch.path(), testing::small_state(), 20);
  {
    CheckpointReader reader(path);
    reader.verify_files();
    EXPECT_GT(H5Fget_obj_count(static_cast<hid_t>(H5F_OBJ_ALL), H5F_OBJ_ALL), 0);
    EXPECT_LE(H5Fget_obj_count(static_cast<hid_t>(H5F_OBJ_ALL), H5F_OBJ_FILE), 16);
    CheckpointReader moved(std::move(reader));
    expect_rows(moved, testing::small_state(), 0, 0, 13);
  }
  EXPECT_EQ(H5Fget_obj_count(static_cast<hid_t>(H5F_OBJ_ALL), H5F_OBJ_ALL), 0);
}

// Bytes that this process has asked the system to read so far.
std::int64_t bytes_read() {
  std::ifstream io("/proc/self/io");
  std::string name;
  std::int64_t value = 0;
  io >> name >> value;
  return value;
}

TEST(Checkpoint, FilesAreHashedOnceAndRanksShareTheWork) {
  ScratchDirectory scratch;
  State state;
  state.add("model/w", {4000, 400});
  state.meta = testing::sample_meta(1);
  const std::string path = testing::save(scratch.path(), state, 40);  // more than stay open
  const std::int64_t size = CheckpointReader(path).bytes();
  const auto cost = [&](auto&& work) {
    const std::int64_t before = bytes_read();
    work();
    return bytes_read() - before;
  };
  CheckpointReader reader(path);
  std::vector<std::byte> all(state.bytes[0].size());
  EXPECT_GT(cost([&] { reader.verify_files(0, 4); }), size / 5);
  EXPECT_LT(cost([&] { CheckpointReader(path).verify_files(3, 4); }), size / 3);
  reader.trust_files();  // other ranks have done the rest
  EXPECT_LT(cost([&] { reader.verify_files(); }), size / 10);
  EXPECT_LT(cost([&] { reader.read("model/w", 0, all); }), size + size / 3);
  EXPECT_EQ(all, state.bytes[0]);
}

TEST(Checkpoint, UnknownTensorAndMissingCheckpointAreNamed) {
  ScratchDirectory scratch;
  CheckpointReader reader(testing::save(scratch.path(), testing::small_state(), 1));
  std::vector<std::byte> out(4);
  testing::expect_data_error([&] { reader.read("model/nope", 0, out); }, "model/nope");
  testing::expect_data_error([&] { CheckpointReader(scratch / "absent"); }, "no such checkpoint");
  testing::expect_data_error([&] { CheckpointReader(scratch.path()); }, "not a checkpoint");
  EXPECT_FALSE(is_checkpoint(scratch.path()));
  EXPECT_TRUE(is_checkpoint(reader.path()));
}

}  // namespace
}  // namespace lockstep
