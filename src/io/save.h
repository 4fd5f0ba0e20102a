// The steps of a save with the file system passed in, so that tests can fail each call of each
// step. The functions of checkpoint.h are these with the real one; contracts stand there.
#pragma once

#include "files/file_system.h"
#include "io/checkpoint.h"

#include <optional>
#include <string>
#include <vector>

namespace lockstep {

ShardRecord write_shard(const FileSystem& files, const std::string& directory, int shard,
                        int shards, const std::vector<StateTensor>& tensors,
                        const std::vector<RowRange>& ranges, const RowSource& source,
                        const CheckpointMeta& meta, const Progress& progress = {});
std::string make_temporary_checkpoint(const FileSystem& files, const std::string& checkpoints,
                                      std::int64_t step);
std::string publish_checkpoint(const FileSystem& files, const std::string& checkpoints,
                               const std::string& temporary,
                               const std::vector<StateTensor>& tensors,
                               const std::vector<ShardRecord>& shards, const CheckpointMeta& meta,
                               const std::vector<NamedText>& tokenizer);
void remove_temporaries(const FileSystem& files, const std::string& checkpoints);
void delete_checkpoints(const FileSystem& files, const std::string& checkpoints,
                        const std::vector<CheckpointEntry>& entries);

// Names inside a checkpoints directory.
std::string step_name(std::int64_t step);                           // step_00001000
std::optional<std::int64_t> step_of_name(const std::string& name);  // exactly the above

// Directories that are not checkpoints (any more): being written, being deleted, or set aside while
// another of the same step takes their place. The name is .KIND-step_NNNNNNNN-16 hex digits.
enum class Leftover { kTemporary, kTrash, kOld };
std::string leftover_name(Leftover kind, std::int64_t step);  // a new one each time
struct LeftoverName {
  Leftover kind;
  std::int64_t step;
};
std::optional<LeftoverName> parse_leftover(const std::string& name);

// Moves directories aside under trash names, syncs, then deletes them: a half-deleted checkpoint
// never carries a checkpoint's name.
void discard(const FileSystem& files, const std::string& checkpoints,
             const std::vector<std::string>& names);

}  // namespace lockstep
