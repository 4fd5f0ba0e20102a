// The promise to people with h5py: the snippet in docs/checkpoint_format.md, run as it stands,
// gives every tensor of a checkpoint of several shards, bf16 and fp16 as numbers.
#include "io/checkpoint.h"

#include "io/fixture.h"

#include <cstdlib>

namespace lockstep {
namespace {

namespace fs = std::filesystem;
using testing::ScratchDirectory;
using testing::State;

// Values that each format holds exactly.
template <typename T>
void fill(State& state, std::size_t t, const std::string& expected) {
  std::vector<double> values(state.bytes[t].size() / sizeof(T));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = (static_cast<double>(i % 97) - 48.0) / 32.0;
    const T element = from_float<T>(static_cast<float>(values[i]));
    std::memcpy(state.bytes[t].data() + i * sizeof(T), &element, sizeof(T));
  }
  const fs::path file = fs::path(expected) / state.tensors[t].name;
  fs::create_directories(file.parent_path());
  testing::spill(file, {reinterpret_cast<const char*>(values.data()), values.size() * 8});
}

TEST(H5py, TheDocumentedSnippetReadsACheckpoint) {
  std::string python;
  for (const char* candidate : {"python3", "/usr/bin/python3"}) {
    const std::string probe = std::string(candidate) + " -c 'import h5py, numpy' 2>/dev/null";
    if (python.empty() && std::system(probe.c_str()) == 0) python = candidate;
  }
  if (python.empty()) GTEST_SKIP() << "no python3 with h5py here (Debian: python3-h5py)";

  ScratchDirectory scratch;
  State state;
  state.add("model/wte.weight", {31, 8});
  state.add("model/h.0.bf16", {9, 4}, DType::kBF16);
  state.add("model/h.0.fp16", {9, 4}, DType::kF16);
  state.add("optimizer/exp_avg/wte.weight", {31, 8});
  state.meta = testing::sample_meta(12);
  fill<float>(state, 0, scratch / "expected");
  fill<bf16>(state, 1, scratch / "expected");
  fill<f16>(state, 2, scratch / "expected");
  fill<float>(state, 3, scratch / "expected");
  const std::string path = testing::save(scratch / "c", state, 3);
  const std::string command = python + " " LOCKSTEP_READER " " LOCKSTEP_FORMAT_PAGE " '" + path +
                              "' '" + (scratch / "expected") + "'";
  EXPECT_EQ(std::system(command.c_str()), 0) << command;
}

}  // namespace
}  // namespace lockstep
