// Checkpoints on disk: one serial-HDF5 file per writing rank plus manifest.json, written last.
// This room knows files only; who calls what on which rank is the trainer's business.
// Format and digests: docs/checkpoint_format.md.
#pragma once

#include "core/named_text.h"
#include "core/progress.h"
#include "core/tensor.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace lockstep {

inline constexpr int kCheckpointFormatMajor = 1;
inline constexpr int kCheckpointFormatMinor = 0;

// One tensor of canonical state. name is "model/<parameter>" or "optimizer/<moment>/<parameter>".
struct StateTensor {
  std::string name;
  Shape shape;
  DType dtype = DType::kF32;
};

// Everything in a checkpoint that is not a tensor.
struct CheckpointMeta {
  std::int64_t step = 0;
  std::int64_t updates = 0;
  std::int64_t tokens = 0;
  std::int64_t data_counter = 0;  // samples consumed
  std::uint64_t seed = 0;
  double loss_scale = 1.0;
  std::int64_t good_steps = 0;
  std::int64_t skips_in_row = 0;
  std::int64_t skipped = 0;
  std::optional<double> best_val_loss;
  std::optional<std::int64_t> best_step;  // of that loss; unknown in older files
  int world_size = 1;
  std::string run_id;        // names the run that owns the checkpoint directory
  std::string started_from;  // path and step of another run's state, or ""
  std::string config;        // the resolved configuration, TOML
  std::string gemm_plan;
  std::string git_revision;
  std::string data_fingerprint;
  std::string generation_config;  // JSON text of the model it began from, or ""
  std::string time;               // ISO 8601, UTC
};

// Rows [row_begin, row_begin + rows) of a tensor along axis 0.
struct RowRange {
  std::size_t tensor = 0;  // index into the list of StateTensors
  std::int64_t row_begin = 0;
  std::int64_t rows = 0;
};

// Rows and the rank that stores them. In a checkpoint every row has one owner, and the owners of a
// tensor's rows ascend, so that concatenating the shards in order along axis 0 gives the tensor.
struct OwnedRange {
  RowRange rows;
  int owner = 0;
};

// Who stores what. `held` lists the rows that only one rank holds (a sharded optimizer's): all rows
// of such a tensor, ascending with their owners. Every rank holds all other tensors, so those are
// dealt out: whole rows, balanced by bytes. Sorted by tensor, then row.
std::vector<OwnedRange> assign_rows(const std::vector<StateTensor>& tensors, int ranks,
                                    const std::vector<OwnedRange>& held = {});
// The ranges of one owner, in the same order.
std::vector<RowRange> rows_of(int owner, const std::vector<OwnedRange>& ranges);

// Fills `out` with rows [row_begin, row_begin + n) of tensor `index`, canonical layout; n follows
// from out.size(). Called with at most 8 MiB at a time, or one row where that is larger.
using RowSource =
    std::function<void(std::size_t index, std::int64_t row_begin, std::span<std::byte> out)>;

// What a writer reports to rank 0; pack() and unpack_shard_record() carry it there.
struct ShardRecord {
  std::string file;  // shard-00000-of-00004.h5
  std::int64_t bytes = 0;
  std::string sha256;
  std::vector<RowRange> ranges;  // what it holds; the manifest repeats it
  // SHA-256 of each 4 MiB chunk of each tensor that begins in this shard's rows.
  struct Chunk {
    std::size_t tensor = 0;
    std::int64_t index = 0;
    std::string sha256;
  };
  std::vector<Chunk> chunks;
};
std::string pack(const ShardRecord& record);
ShardRecord unpack_shard_record(const std::string& bytes);

// Writes directory/shard-RRRRR-of-WWWWW.h5 with `ranges`, synced to disk. `source` must be able to
// serve rows beyond the ranges too (a 4 MiB chunk may end in the next shard). `progress` is called
// for each piece. Throws UserError(kIo) naming path, bytes needed and free; leaves no HDF5 handle
// open on failure.
ShardRecord write_shard(const std::string& directory, int shard, int shards,
                        const std::vector<StateTensor>& tensors,
                        const std::vector<RowRange>& ranges, const RowSource& source,
                        const CheckpointMeta& meta, const Progress& progress = {});

std::string hdf5_version();  // of the library that is loaded: "1.10.8"

// The checkpoint's identity, as the design states it; same state, same digest, any world size.
std::string state_digest(const std::vector<StateTensor>& tensors,
                         const std::vector<ShardRecord>& shards, const CheckpointMeta& meta);

// Bytes a checkpoint takes on disk, before it is written.
std::int64_t checkpoint_bytes(const std::vector<StateTensor>& tensors,
                              const std::vector<OwnedRange>& ranges, int ranks);

// Creates a uniquely named temporary directory under `checkpoints` (made if missing).
std::string make_temporary_checkpoint(const std::string& checkpoints, std::int64_t step);

// Rank 0, after every shard is on disk: writes the manifest (temporary, fsync, rename), fsyncs the
// directory, renames it to step_NNNNNNNN, fsyncs the parent, updates `latest`. Returns the final
// path. `tokenizer` (files by name, may be none) goes to tokenizer/ before the manifest.
// An existing directory of the same step is replaced only after the new one is complete.
std::string publish_checkpoint(const std::string& checkpoints, const std::string& temporary,
                               const std::vector<StateTensor>& tensors,
                               const std::vector<ShardRecord>& shards, const CheckpointMeta& meta,
                               const std::vector<NamedText>& tokenizer);

// Removes leftovers of earlier saves (temporary and half-deleted directories), never a checkpoint.
void remove_temporaries(const std::string& checkpoints);

// Published checkpoints (directories step_*), newest first; their validity is not looked at.
struct CheckpointEntry {
  std::string path;
  std::int64_t step = 0;
};
std::vector<CheckpointEntry> list_checkpoints(const std::string& checkpoints);

// What a run keeps of its checkpoints; the rest may be deleted.
struct Retention {
  std::int64_t keep_last = 0;         // the newest whole ones, and damaged ones between; 0: all
  std::int64_t keep_every = 0;        // every step that this divides; 0: none
  std::vector<std::int64_t> steps{};  // these, whatever their state
};
// The checkpoints beyond `retention`. `is_whole` says whether a path holds an undamaged one; it is
// asked only where the answer matters, newest first.
std::vector<CheckpointEntry> beyond_retention(
    const std::vector<CheckpointEntry>& newest_first, const Retention& retention,
    const std::function<bool(const std::string& path)>& is_whole);
void delete_checkpoints(const std::string& checkpoints,
                        const std::vector<CheckpointEntry>& entries);

enum class VerifyLevel { kQuick, kFull, kDeep };
// quick: manifest and sizes. full: every SHA-256 and the state digest. deep: opens every dataset,
// checks CRC32C per range and that every row is covered exactly once.
// Throws UserError(kData) naming the damaged file (and tensor).
void verify_checkpoint(const std::string& path, VerifyLevel level);

// An open checkpoint. The constructor checks the manifest and file sizes; each shard's SHA-256 is
// checked before HDF5 opens it. Throws UserError(kData): not a checkpoint, damaged, newer format.
class CheckpointReader {
 public:
  explicit CheckpointReader(const std::string& path);
  ~CheckpointReader();
  CheckpointReader(CheckpointReader&&) noexcept;
  CheckpointReader& operator=(CheckpointReader&&) = delete;

  const std::string& path() const;
  const CheckpointMeta& meta() const;
  const std::vector<StateTensor>& tensors() const;
  const std::string& digest() const;  // as the manifest states it
  int shards() const;
  std::int64_t bytes() const;               // of all files
  std::string tokenizer_directory() const;  // "" if it has none

  // Checks SHA-256 and form of shard files, each once: of part `part` of `parts`, so that ranks can
  // share the work. read() checks shards that nobody has checked.
  void verify_files(int part = 0, int parts = 1, const Progress& progress = {});
  // Every part has been verified, here or by another rank: nothing is hashed again.
  void trust_files();
  // Rows [row_begin, ...) of the named tensor into `out`; n from out.size(). CRC32C is checked when
  // a whole stored range is read.
  void read(const std::string& name, std::int64_t row_begin, std::span<std::byte> out);

 private:
  friend void verify_checkpoint(const std::string& path, VerifyLevel level);
  struct State;
  std::unique_ptr<State> state_;
};

// True if the directory holds a checkpoint manifest (by name only).
bool is_checkpoint(const std::string& path);

}  // namespace lockstep
