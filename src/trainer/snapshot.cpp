// Save: replicas agree, every rank writes its rows, rank 0 publishes. Restore: the reverse, strict.
#include "trainer/snapshot.h"

#include "files/files.h"
#include "io/crc32c.h"

#include <algorithm>
#include <stdexcept>

namespace lockstep {
namespace {

constexpr int kMoments = 2;
constexpr const char* kMomentNames[kMoments] = {"exp_avg", "exp_avg_sq"};
constexpr std::size_t kHashPiece = std::size_t{64} << 20;

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

std::vector<StateTensor> state_tensors(const ParameterSet& parameters) {
  std::vector<StateTensor> tensors;
  for (const Parameter& parameter : parameters.all()) {
    tensors.push_back({"model/" + parameter.name, parameter.shape, DType::kF32});
  }
  for (const char* moment : kMomentNames) {
    for (const Parameter& parameter : parameters.all()) {
      tensors.push_back(
          {fmt::format("optimizer/{}/{}", moment, parameter.name), parameter.shape, DType::kF32});
    }
  }
  return tensors;
}

std::unique_ptr<CheckpointReader> newest_valid_checkpoint(const std::string& checkpoints,
                                                          World& world, Log& log) {
  const std::string separator = "\n";
  std::string listing;
  if (world.rank() == 0) {
    for (const CheckpointEntry& entry : list_checkpoints(checkpoints)) {
      listing += entry.path + separator;
    }
  }
  listing = world.broadcast(listing, 0);
  const bool any = !listing.empty();
  while (!listing.empty()) {
    const std::size_t end = listing.find(separator);
    const std::string path = listing.substr(0, end);
    listing.erase(0, end + separator.size());
    std::unique_ptr<CheckpointReader> reader;
    const std::string error = attempt([&] {
      reader = std::make_unique<CheckpointReader>(path);
      reader->verify_files();
    });
    std::string cause;
    for (const std::string& text : world.all_gather(error)) {
      if (cause.empty()) cause = text;
    }
    if (cause.empty()) return reader;
    if (log.rank() == 0) log.warn("{} is skipped: {}", path, cause);
  }
  if (any) {
    fail_together(
        ExitCode::kData,
        "{}: no checkpoint here is whole; restore one from a backup, or start over with another "
        "run.dir",
        checkpoints);
  }
  return nullptr;
}

BatchBuffers allocate_batch_buffers(Arena& arena, std::int64_t rows) {
  return {arena.allocate("tokens", {rows}, DType::kI32, MemoryGroup::kActivations),
          arena.allocate("targets", {rows}, DType::kI32, MemoryGroup::kActivations)};
}

Snapshots::Snapshots(TrainingState& state, World& world, std::string checkpoints,
                     std::string tokenizer_directory, const CheckpointOptions& options, Log& log)
    : state_(state),
      world_(world),
      checkpoints_(std::move(checkpoints)),
      tokenizer_directory_(std::move(tokenizer_directory)),
      options_(options),
      log_(log),
      tensors_(state_tensors(state.parameters())) {}

Snapshots::Location Snapshots::locate(std::size_t tensor) const {
  const std::size_t parameters = state_.parameters().all().size();
  const std::size_t parameter = tensor % parameters;
  if (tensor < parameters) return {&state_.parameters().masters(), parameter};
  return {&state_.moment(static_cast<int>(tensor / parameters) - 1), parameter};
}

// Every rank holds all parameters: they must be the same bits, or one of them is broken.
void Snapshots::check_replicas(Stream& stream) {
  if (world_.size() == 1) return;
  const Tensor& masters = state_.parameters().masters();
  std::vector<std::byte> piece(std::min(kHashPiece, masters.bytes()));
  std::uint32_t crc = 0;
  for (std::size_t done = 0; done < masters.bytes(); done += piece.size()) {
    const std::size_t size = std::min(piece.size(), masters.bytes() - done);
    stream.copy(piece.data(), static_cast<const std::byte*>(masters.data) + done, size);
    stream.synchronize();
    crc = crc32c(crc, std::span(piece.data(), size));
  }
  const std::vector<std::string> all = world_.all_gather(fmt::format("{:08x}", crc));
  std::vector<std::string> sorted = all;
  std::sort(sorted.begin(), sorted.end());
  const std::string& majority = sorted[sorted.size() / 2];
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    if (all[rank] == majority) continue;
    fail_together(
        ExitCode::kDiverged,
        "the weights of rank {} differ from the other ranks' (crc32c {} against {}); nothing was "
        "saved: check that host's hardware and resume from the newest checkpoint",
        rank, all[rank], majority);
  }
}

void Snapshots::require_space() const {
  if (world_.rank() != 0) return;
  require_free_space(checkpoints_, checkpoint_bytes(tensors_, world_.size()));
}

void Snapshots::agree(const std::string& local_error) {
  const std::vector<std::string> errors = world_.all_gather(local_error);
  for (std::size_t rank = 0; rank < errors.size(); ++rank) {
    if (!errors[rank].empty()) throw SaveFailed(errors[rank]);
  }
}

std::string Snapshots::save(CheckpointMeta meta, const std::function<void()>& before,
                            Stream& stream) {
  error_.clear();
  const StepState state = state_.get(stream);
  meta.updates = state.updates;
  meta.loss_scale = state.loss_scale;
  meta.good_steps = state.good_steps;
  meta.skips_in_row = state.skips_in_row;
  meta.skipped = state.skipped;
  meta.world_size = world_.size();
  check_replicas(stream);
  std::string published;
  try {
    published = write_and_publish(meta, before, stream);
  } catch (const SaveFailed& failure) {
    error_ = failure.what();
  }
  if (world_.rank() != 0) return published;
  // Neither can harm what was published, so a failure here is only a warning.
  const std::string tidy = attempt([&] {
    remove_temporaries(checkpoints_);
    if (published.empty()) return;
    prune_checkpoints(checkpoints_, options_.keep_last, options_.keep_every, protect_);
  });
  if (!tidy.empty()) log_.warn("old checkpoints were not tidied up: {}", tidy);
  return published;
}

std::string Snapshots::write_and_publish(const CheckpointMeta& meta,
                                         const std::function<void()>& before, Stream& stream) {
  std::string directory;
  agree(attempt([&] {
    if (world_.rank() != 0) return;
    before();
    require_space();
    directory = make_temporary_checkpoint(checkpoints_, meta.step);
  }));
  directory = world_.broadcast(directory, 0);

  const RowSource source = [&](std::size_t tensor, std::int64_t row, std::span<std::byte> out) {
    const Location at = locate(tensor);
    const Parameter& parameter = state_.parameters()[at.parameter];
    const std::int64_t cols = parameter.count() / parameter.shape[0];
    stream.copy(out.data(), at.flat->as<float>() + parameter.offset + row * cols, out.size());
    stream.synchronize();
  };
  const auto ranges = split_rows(tensors_, world_.size());
  ShardRecord record;
  agree(attempt([&] {
    record = write_shard(directory, world_.rank(), world_.size(), tensors_,
                         ranges[static_cast<std::size_t>(world_.rank())], source, meta);
  }));
  const std::vector<std::string> texts = world_.all_gather(to_json(record));
  std::string published;
  agree(attempt([&] {
    if (world_.rank() != 0) return;
    std::vector<ShardRecord> records;
    for (const std::string& text : texts) records.push_back(shard_record_from_json(text));
    published =
        publish_checkpoint(checkpoints_, directory, tensors_, records, meta, tokenizer_directory_);
    digest_ = state_digest(tensors_, records, meta);
  }));
  digest_ = world_.broadcast(digest_, 0);
  return world_.broadcast(published, 0);
}

void Snapshots::restore(CheckpointReader& reader, Stream& stream) {
  const std::vector<StateTensor>& stored = reader.tensors();
  for (const StateTensor& wanted : tensors_) {
    const auto it = std::find_if(stored.begin(), stored.end(), [&](const StateTensor& tensor) {
      return tensor.name == wanted.name;
    });
    if (it == stored.end()) {
      fail(ExitCode::kConfig, "{}: holds no {}: it is a checkpoint of another model", reader.path(),
           wanted.name);
    }
    if (!(it->shape == wanted.shape)) {
      fail(ExitCode::kConfig,
           "{}: {} is {}, this model's is {}: it is a checkpoint of another "
           "model",
           reader.path(), wanted.name, it->shape.str(), wanted.shape.str());
    }
  }
  if (stored.size() != tensors_.size()) {
    fail(ExitCode::kConfig,
         "{}: holds {} tensors, this model has {}: it is a checkpoint of "
         "another model",
         reader.path(), stored.size(), tensors_.size());
  }
  std::vector<std::byte> values;
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    const Location at = locate(i);
    const Parameter& parameter = state_.parameters()[at.parameter];
    values.resize(static_cast<std::size_t>(parameter.count()) * sizeof(float));
    reader.read(tensors_[i].name, /*row_begin=*/0, values);
    stream.copy(at.flat->as<float>() + parameter.offset, values.data(), values.size());
    stream.synchronize();
  }
  state_.parameters().refresh_weights(stream);
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
