// Retention against a small model under random histories, replacement of a step, leftovers, and
// that nothing but our own names is ever touched.
#include "files/file_system.h"
#include "io/checkpoint.h"

#include "io/fixture.h"

#include <algorithm>
#include <map>
#include <random>
#include <set>

namespace lockstep {
namespace {

namespace fs = std::filesystem;
using testing::ScratchDirectory;
using testing::State;

State tiny_state(std::int64_t step) {
  State state;
  state.add("model/w", {2});
  state.meta = testing::sample_meta(step);
  return state;
}

std::set<std::int64_t> steps_in(const std::string& checkpoints) {
  std::set<std::int64_t> steps;
  for (const CheckpointEntry& entry : list_checkpoints(checkpoints)) steps.insert(entry.step);
  return steps;
}

std::set<std::string> names_in(const std::string& path) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(path)) names.insert(entry.path().filename());
  return names;
}

TEST(CheckpointDirectory, NewestFirstAndOnlyOurNames) {
  ScratchDirectory scratch;
  EXPECT_TRUE(list_checkpoints(scratch / "absent").empty());
  for (const char* name :
       {"step_00000002", "step_00000010", "step_123456789", "step_2", "step_0000000x",
        "step_-0000001", "step_000000002", "other", ".tmp-step_00000003-0123456789abcdef"}) {
    fs::create_directories(scratch / name);
  }
  testing::spill(scratch / "step_00000011", "a file");
  fs::create_directory_symlink(scratch / "other", scratch / "step_00000012");
  std::vector<std::int64_t> steps;
  for (const CheckpointEntry& entry : list_checkpoints(scratch.path())) {
    steps.push_back(entry.step);
    EXPECT_EQ(entry.path, scratch / step_name(entry.step));
  }
  EXPECT_EQ(steps, (std::vector<std::int64_t>{123456789, 10, 2}));
}

TEST(CheckpointDirectory, PublishWritesTheHintAndLeavesNoTemporary) {
  ScratchDirectory scratch;
  testing::save(scratch.path(), tiny_state(5), 1);
  testing::save(scratch.path(), tiny_state(1000), 1);
  EXPECT_EQ(testing::slurp(scratch / "latest"), "step_00001000\n");
  EXPECT_EQ(names_in(scratch.path()),
            (std::set<std::string>{"latest", "step_00000005", "step_00001000"}));
}

// What makes a published checkpoint survive a power cut: each thing is synced before the rename
// that shows it, and each rename before the next step relies on it.
TEST(CheckpointDirectory, EverythingIsSyncedBeforeItIsAnnounced) {
  ScratchDirectory scratch;
  std::vector<std::string> calls;
  const std::string checkpoints = scratch / "c";
  const FileSystem files([&](FileCall call, const std::string& path) {
    std::string name = path;
    const std::size_t dot = name.find("/.tmp-");
    if (dot != std::string::npos) {
      const std::size_t end = std::min(name.find('/', dot + 1), name.size());
      name = "T" + name.substr(end);
    }
    if (name.starts_with(checkpoints)) name = "C" + name.substr(checkpoints.size());
    if (name == scratch.path()) name = "RUN";
    if (call == FileCall::kSync) calls.push_back("sync " + name);
    if (call == FileCall::kRename) calls.push_back("name " + name);
    return 0;
  });
  testing::save(checkpoints, tiny_state(5), 2, {{"tokenizer.json", "{}"}}, files);
  EXPECT_EQ(calls,
            (std::vector<std::string>{
                "sync RUN", "sync T/shard-00000-of-00002.h5", "sync T/shard-00001-of-00002.h5",
                "sync T", "sync T/tokenizer/tokenizer.json", "sync T/tokenizer",
                "sync T/manifest.json.tmp", "name T/manifest.json", "sync T",
                "name C/step_00000005", "sync C", "sync C/latest.tmp", "name C/latest", "sync C"}));
}

TEST(CheckpointDirectory, TemporaryNamesAreUnique) {
  ScratchDirectory scratch;
  std::set<std::string> paths;
  for (int i = 0; i < 20; ++i) paths.insert(make_temporary_checkpoint(scratch.path(), 1));
  EXPECT_EQ(paths.size(), 20u);
}

TEST(CheckpointDirectory, TheSameStepIsReplacedWhole) {
  ScratchDirectory scratch;
  State state = tiny_state(5);
  const std::string path = testing::save(scratch.path(), state, 2);
  const std::string digest = CheckpointReader(path).digest();
  state.bytes[0][0] ^= std::byte{1};
  EXPECT_EQ(testing::save(scratch.path(), state, 1), path);
  EXPECT_NE(CheckpointReader(path).digest(), digest);
  EXPECT_NO_THROW(verify_checkpoint(path, VerifyLevel::kDeep));
  EXPECT_EQ(names_in(scratch.path()), (std::set<std::string>{"latest", "step_00000005"}));
}

TEST(CheckpointDirectory, LeftoversGoAndNothingElse) {
  ScratchDirectory scratch;
  remove_temporaries(scratch / "absent");
  testing::save(scratch.path(), tiny_state(5), 1);
  make_temporary_checkpoint(scratch.path(), 6);
  const std::string half = make_temporary_checkpoint(scratch.path(), 7);
  testing::spill(half + "/manifest.json.tmp", "{");
  fs::create_directories(scratch / ".trash-step_00000001-0123456789abcdef/tokenizer");
  fs::create_directories(scratch / ".old-step_00000005-0123456789abcdef");
  const std::set<std::string> foreign = {".tmp-mine",
                                         ".tmp-step_1-0123456789abcdef",
                                         ".trash-step_00000001-0123456789abcdeg",
                                         ".trash-step_00000001-0123456789abcde",
                                         ".trash",
                                         "notes"};
  for (const std::string& name : foreign) fs::create_directory(scratch / name);
  fs::create_directory_symlink(scratch / "notes", scratch / ".tmp-step_00000009-0123456789abcdef");
  remove_temporaries(scratch.path());
  std::set<std::string> expected = foreign;
  expected.insert({"latest", "step_00000005", ".tmp-step_00000009-0123456789abcdef"});
  EXPECT_EQ(names_in(scratch.path()), expected);
  EXPECT_NO_THROW(verify_checkpoint(scratch / "step_00000005", VerifyLevel::kDeep));
}

TEST(CheckpointDirectory, ACheckpointSetAsideByACrashedReplacementComesBack) {
  ScratchDirectory scratch;
  const std::string path = testing::save(scratch.path(), tiny_state(5), 1);
  fs::rename(path, scratch / ".old-step_00000005-0123456789abcdef");
  remove_temporaries(scratch.path());
  EXPECT_NO_THROW(verify_checkpoint(path, VerifyLevel::kDeep));
}

bool is_whole(const std::string& path) {
  try {
    verify_checkpoint(path, VerifyLevel::kFull);
    return true;
  } catch (const UserError&) {
    return false;
  }
}

void prune(const std::string& checkpoints, const Retention& retention) {
  delete_checkpoints(checkpoints,
                     beyond_retention(list_checkpoints(checkpoints), retention, is_whole));
}

TEST(CheckpointDirectory, PruneKeepsWhatItMust) {
  ScratchDirectory scratch;
  for (std::int64_t step = 1; step <= 8; ++step) {
    testing::save(scratch.path(), tiny_state(step), 1);
  }
  prune(scratch.path(), {});
  EXPECT_EQ(steps_in(scratch.path()).size(), 8u);
  fs::remove(scratch / "step_00000008/manifest.json");  // does not count as kept
  prune(scratch.path(), {.keep_last = 2, .keep_every = 3, .steps = {2}});
  EXPECT_EQ(steps_in(scratch.path()), (std::set<std::int64_t>{2, 3, 6, 7, 8}));
  prune(scratch.path(), {.keep_last = 2});
  EXPECT_EQ(steps_in(scratch.path()), (std::set<std::int64_t>{6, 7, 8}));
  prune(scratch.path(), {.keep_last = 3, .steps = {99}});
  EXPECT_EQ(steps_in(scratch.path()), (std::set<std::int64_t>{6, 7, 8}));
}

// What must hold after every prune, stated without looking at how it is done.
void check_retention(const std::map<std::int64_t, bool>& before,
                     const std::set<std::int64_t>& after, std::int64_t keep_last,
                     std::int64_t keep_every, std::int64_t protect) {
  std::int64_t valid_newer = 0;
  for (auto it = before.rbegin(); it != before.rend(); ++it) {
    const auto [step, valid] = *it;
    const bool kept =
        valid_newer < keep_last || step == protect || (keep_every > 0 && step % keep_every == 0);
    ASSERT_EQ(after.count(step) == 1, kept) << "step " << step;
    valid_newer += valid ? 1 : 0;
  }
}

TEST(CheckpointDirectory, RetentionHoldsInRandomHistories) {
  std::mt19937 random(20250101);
  const auto below = [&](std::int64_t n) {
    return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(n));
  };
  for (int history = 0; history < 12; ++history) {
    ScratchDirectory scratch;
    const std::int64_t keep_last = 1 + below(3);
    const std::int64_t keep_every = below(2) == 0 ? 0 : 2 + below(4);
    std::map<std::int64_t, bool> model;  // step -> valid
    std::int64_t step = 0;
    for (int event = 0; event < 25; ++event) {
      const std::int64_t what = below(10);
      if (what < 5) {
        step += 1 + below(3);
        testing::save(scratch.path(), tiny_state(step), 1);
        model[step] = true;
      } else if (what < 6) {
        make_temporary_checkpoint(scratch.path(), step + 1);  // a save that died
      } else if (what < 8 && !model.empty()) {
        auto victim = std::next(model.begin(), below(static_cast<std::int64_t>(model.size())));
        const std::string file = scratch / step_name(victim->first) + "/" + shard_file_name(0, 1);
        std::string bytes = testing::slurp(file);
        bytes[bytes.size() / 2] ^= 1;  // manifest and size stay right
        testing::spill(file, below(2) == 0 || !victim->second ? "cut" : bytes);
        victim->second = false;
      } else if (!model.empty()) {
        auto resumed = std::next(model.begin(), below(static_cast<std::int64_t>(model.size())));
        const std::int64_t protect = below(2) == 0 ? -1 : resumed->first;
        prune(scratch.path(),
              {.keep_last = keep_last, .keep_every = keep_every, .steps = {protect}});
        remove_temporaries(scratch.path());
        const std::set<std::int64_t> left = steps_in(scratch.path());
        check_retention(model, left, keep_last, keep_every, protect);
        if (HasFatalFailure()) return;
        std::erase_if(model, [&](const auto& item) { return left.count(item.first) == 0; });
        EXPECT_EQ(names_in(scratch.path()).size(), model.size() + 1);
      }
    }
  }
}

}  // namespace
}  // namespace lockstep
