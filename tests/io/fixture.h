// What the checkpoint tests share: a scratch directory, states of a few tensors, and one call that
// saves a state with any number of shards as a trainer would.
#pragma once

#include "files/free_space.h"
#include "files/sha256.h"
#include "io/manifest.h"
#include "io/save.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace lockstep::testing {

class ScratchDirectory {
 public:
  ScratchDirectory() {
    std::string name = parent() + "/lockstep_io_XXXXXX";
    CHECK(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~ScratchDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  // Thousands of small synced files: memory where there is enough of it, else the usual place.
  static std::string parent() {
    constexpr std::int64_t kEnough = std::int64_t{512} << 20;
    const bool memory = ::access("/dev/shm", W_OK) == 0 && free_bytes("/dev/shm") >= kEnough;
    return memory ? "/dev/shm" : std::filesystem::temp_directory_path().string();
  }

  std::string path_;
};

inline std::string slurp(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline void spill(const std::string& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

// A state in memory: bytes drawn from a seed, so that every row differs.
struct State {
  std::vector<StateTensor> tensors;
  std::vector<std::vector<std::byte>> bytes;
  CheckpointMeta meta;

  void add(const std::string& name, Shape shape, DType dtype = DType::kF32) {
    tensors.push_back({name, shape, dtype});
    std::vector<std::byte> data(static_cast<std::size_t>(shape.count()) * size_of(dtype));
    std::uint64_t x = 0x9e3779b97f4a7c15u * (tensors.size() + 1);
    for (std::byte& byte : data) {
      x = x * 6364136223846793005u + 1442695040888963407u;
      byte = static_cast<std::byte>(x >> 56);
    }
    bytes.push_back(std::move(data));
  }

  std::int64_t row_size(std::size_t t) const {
    return static_cast<std::int64_t>(bytes[t].size()) / tensors[t].shape[0];
  }

  RowSource source() const {
    return [this](std::size_t t, std::int64_t row, std::span<std::byte> out) {
      const auto begin = static_cast<std::size_t>(row * row_size(t));
      ASSERT_LE(begin + out.size(), bytes[t].size());
      std::memcpy(out.data(), bytes[t].data() + begin, out.size());
    };
  }
};

inline CheckpointMeta sample_meta(std::int64_t step) {
  CheckpointMeta meta;
  meta.step = step;
  meta.updates = step - 1;
  meta.tokens = 1000 * step;
  meta.data_counter = 12 * step;
  meta.seed = 0xfedcba9876543210u;
  meta.loss_scale = 32768.0;
  meta.good_steps = 17;
  meta.skips_in_row = 0;
  meta.skipped = 1;
  meta.best_val_loss = 1.8423000000000001;
  meta.world_size = 3;
  meta.run_id = "run-0123";
  meta.config = "[model]\nlayers = 2  # \"quoted\" \\ and \t tab\n";
  meta.gemm_plan = "plan";
  meta.git_revision = "abc123";
  meta.data_fingerprint = "f00d";
  meta.time = "2025-01-02T03:04:05Z";
  return meta;
}

// A few KiB: matrices, vectors, moments, every stored float format.
inline State small_state(std::int64_t step = 7) {
  State state;
  state.add("model/wte.weight", {13, 6});
  state.add("model/h.0.ln_1.weight", {5});
  state.add("model/h.0.attn.weight", {4, 3, 2}, DType::kBF16);
  state.add("model/h.0.half", {7, 2}, DType::kF16);
  state.add("optimizer/exp_avg/wte.weight", {13, 6});
  state.add("optimizer/exp_avg_sq/wte.weight", {13, 6});
  state.meta = sample_meta(step);
  return state;
}

// Saves as `shards` ranks do together; returns the published path.
inline std::string save(const std::string& checkpoints, const State& state, int shards,
                        const std::vector<NamedText>& tokenizer = {},
                        const FileSystem& files = {}) {
  const std::string temporary = make_temporary_checkpoint(files, checkpoints, state.meta.step);
  const auto ranges = assign_rows(state.tensors, shards);
  std::vector<ShardRecord> records;
  for (int shard = 0; shard < shards; ++shard) {
    const ShardRecord record = write_shard(files, temporary, shard, shards, state.tensors,
                                           rows_of(shard, ranges), state.source(), state.meta);
    records.push_back(unpack_shard_record(pack(record)));
  }
  return publish_checkpoint(files, checkpoints, temporary, state.tensors, records, state.meta,
                            tokenizer);
}

// The code and message of the UserError that `call` throws; fails the test if it throws none.
struct Caught {
  ExitCode code = ExitCode::kDone;
  std::string message;
};

template <typename Call>
Caught catch_user_error(Call&& call) {
  try {
    call();
  } catch (const UserError& error) {
    return {error.code(), error.what()};
  }
  return {};
}

template <typename Call>
void expect_data_error(Call&& call, const std::string& part) {
  const Caught caught = catch_user_error(call);
  EXPECT_EQ(caught.code, ExitCode::kData) << caught.message;
  EXPECT_NE(caught.message.find(part), std::string::npos) << caught.message;
  EXPECT_EQ(caught.message.find('\n'), std::string::npos) << caught.message;
}

// Gives a manifest whose content was changed by hand its checksum back.
inline std::string sealed(const std::string& text) {
  const std::string key = "\"manifest_sha256\": \"";
  const std::size_t at = text.rfind(key);
  CHECK(at != std::string::npos);
  const std::string body = text.substr(0, text.rfind(",\n", at));
  return body + ",\n  " + key + sha256_text(body) + "\"\n}\n";
}

inline std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  CHECK(at != std::string::npos, "{} is not in the text", from);
  return text.replace(at, from.size(), to);
}

}  // namespace lockstep::testing
