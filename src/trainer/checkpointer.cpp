// Save: replicas agree, every rank writes its rows, rank 0 publishes. Restore: the reverse, strict.
#include "trainer/checkpointer.h"

#include "core/finite.h"
#include "files/free_space.h"
#include "trainer/replicas.h"
#include "trainer/verified_checkpoint.h"

#include <algorithm>
#include <stdexcept>

namespace lockstep {
namespace {

constexpr std::int64_t kPiece = 16 << 20;  // elements looked at in one go

// A failure on this rank during a save; the other ranks learn of it in agree().
class SaveFailed : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

std::string attempt(const std::function<void()>& action) {
  try {
    action();
    return "";
  } catch (const UserError& error) {
    if (error.code() == ExitCode::kPeer) throw;
    return error.what();
  }
}

}  // namespace

Checkpointer::Checkpointer(TrainingState& state, World& world, CheckpointPlace place,
                           const CheckpointOptions& options, Progress progress, Log& log)
    : state_(state),
      rows_(state),
      world_(world),
      place_(std::move(place)),
      options_(options),
      progress_(std::move(progress)),
      log_(log) {}

// What is saved must be numbers, or every earlier checkpoint is worth more than this one. The
// replicas are equal, so each rank looks at its part.
void Checkpointer::require_finite_weights(Stream& stream) {
  const Tensor& masters = state_.parameters().masters();
  const std::int64_t count = masters.count();
  const std::int64_t end = count * (world_.rank() + 1) / world_.size();
  std::int64_t bad = count;  // the first element that is not finite
  std::vector<float> piece(static_cast<std::size_t>(std::min(kPiece, count)));
  for (std::int64_t at = count * world_.rank() / world_.size(); at < end && bad == count;) {
    const auto size = static_cast<std::size_t>(std::min(kPiece, end - at));
    stream.copy(piece.data(), masters.as<float>() + at, size * sizeof(float));
    stream.synchronize();
    const std::size_t first = first_not_finite(std::span(piece.data(), size));
    if (first < size) bad = at + static_cast<std::int64_t>(first);
    at += static_cast<std::int64_t>(size);
    report(progress_);
  }
  bad = world_.all_reduce({bad}, ReduceOp::kMin)[0];
  for (const Parameter& parameter : state_.parameters().all()) {
    if (bad < parameter.offset || bad >= parameter.end()) continue;
    fail_together(
        ExitCode::kInternal,
        "the weights are no numbers any more: {} holds NaN or infinity; nothing was saved: lower "
        "optimizer.lr or raise optimizer.warmup_steps, then resume from the newest checkpoint",
        parameter.name);
  }
}

void Checkpointer::require_space() const {
  if (world_.rank() != 0) return;
  require_free_space(place_.checkpoints,
                     checkpoint_bytes(rows_.tensors(), rows_.owners(world_.size()), world_.size()));
}

void Checkpointer::agree(const std::string& local_error) {
  const std::vector<std::string> errors = world_.all_gather(local_error);
  for (std::size_t rank = 0; rank < errors.size(); ++rank) {
    if (!errors[rank].empty()) throw SaveFailed(errors[rank]);
  }
}

std::string Checkpointer::save(CheckpointMeta meta, const std::function<void()>& before,
                               Stream& stream) {
  error_.clear();
  std::string published;
  const Capture captured = capture(std::move(meta), stream);
  try {
    const std::string directory = open_directory(captured.meta.step, before);
    const std::vector<ShardRecord> shards = write(captured, directory);
    published = publish(captured, shards, directory);
  } catch (const SaveFailed& failure) {
    error_ = failure.what();
  }
  tidy_up(captured.meta, published);
  return published;
}

Checkpointer::Capture Checkpointer::capture(CheckpointMeta meta, Stream& stream) {
  const StepState state = state_.get(stream);
  meta.updates = state.updates;
  meta.loss_scale = state.loss_scale;
  meta.good_steps = state.good_steps;
  meta.skips_in_row = state.skips_in_row;
  meta.skipped = state.skipped;
  meta.world_size = world_.size();
  require_equal_replicas(state_, world_, stream, progress_);
  require_finite_weights(stream);
  return {.meta = std::move(meta),
          .share = rows_of(world_.rank(), rows_.owners(world_.size())),
          .rows = [this, &stream](std::size_t tensor, std::int64_t row, std::span<std::byte> out) {
            rows_.read(tensor, row, out, stream);
          }};
}

// The temporary directory that all ranks write to.
std::string Checkpointer::open_directory(std::int64_t step, const std::function<void()>& before) {
  std::string directory;
  agree(attempt([&] {
    if (world_.rank() != 0) return;
    before();
    require_space();
    directory = make_temporary_checkpoint(place_.checkpoints, step);
  }));
  return world_.broadcast(directory, 0);
}

std::vector<ShardRecord> Checkpointer::write(const Capture& capture, const std::string& directory) {
  ShardRecord mine;
  agree(attempt([&] {
    mine = write_shard(directory, world_.rank(), world_.size(), rows_.tensors(), capture.share,
                       capture.rows, capture.meta, progress_);
  }));
  std::vector<ShardRecord> records;
  for (const std::string& bytes : world_.all_gather(pack(mine))) {
    records.push_back(unpack_shard_record(bytes));
  }
  return records;
}

std::string Checkpointer::publish(const Capture& capture, const std::vector<ShardRecord>& shards,
                                  const std::string& directory) {
  std::string published;
  agree(attempt([&] {
    if (world_.rank() != 0) return;
    published = publish_checkpoint(place_.checkpoints, directory, rows_.tensors(), shards,
                                   capture.meta, place_.tokenizer);
    digest_ = state_digest(rows_.tensors(), shards, capture.meta);
  }));
  digest_ = world_.broadcast(digest_, 0);
  return world_.broadcast(published, 0);
}

// Deletes what the run need not keep. It cannot harm what was published, so failing is only a
// warning. All ranks take part: they share the verification of checkpoints that nobody knows yet.
void Checkpointer::tidy_up(const CheckpointMeta& meta, const std::string& published) {
  Retention retention = {.keep_last = options_.keep_last, .keep_every = options_.keep_every};
  std::vector<CheckpointEntry> beyond;
  std::string failure = attempt([&] {
    if (published.empty()) return;
    whole_[published] = true;  // its files were read back as they were written
    retention.steps.push_back(meta.step);
    if (options_.keep_best && meta.best_step) retention.steps.push_back(*meta.best_step);
    if (resumed_step_) retention.steps.push_back(*resumed_step_);
    resumed_step_.reset();
    beyond = beyond_retention(list_together(place_.checkpoints, world_), retention,
                              [this](const std::string& path) { return is_whole(path); });
  });
  if (world_.rank() != 0) return;
  if (failure.empty()) {
    failure = attempt([&] {
      remove_temporaries(place_.checkpoints);
      delete_checkpoints(place_.checkpoints, beyond);
    });
  }
  if (!failure.empty()) log_.warn("old checkpoints were not tidied up: {}", failure);
}

void Checkpointer::resumed_from(const std::string& path, std::int64_t step) {
  whole_[path] = true;
  resumed_step_ = step;
}

// Collective for a checkpoint that this process has neither written nor looked at.
bool Checkpointer::is_whole(const std::string& path) {
  const auto known = whole_.find(path);
  if (known != whole_.end()) return known->second;
  return whole_[path] = open_verified(path, world_, progress_).reader != nullptr;
}

void Checkpointer::restore(CheckpointReader& reader, Stream& stream) {
  rows_.load(reader, progress_, stream);
  const CheckpointMeta& meta = reader.meta();
  StepState state;
  state.loss_scale = static_cast<float>(meta.loss_scale);
  state.good_steps = static_cast<std::int32_t>(meta.good_steps);
  state.skips_in_row = static_cast<std::int32_t>(meta.skips_in_row);
  state.skipped = meta.skipped;
  state.updates = meta.updates;
  state_.set(state, stream);
}

}  // namespace lockstep
