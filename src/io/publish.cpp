// From a temporary directory to a published checkpoint: shards, tokenizer, manifest, then one
// rename. Each thing is on disk before the thing that announces it.
#include "files/durable.h"
#include "files/input_file.h"
#include "files/staged.h"
#include "io/manifest.h"
#include "io/save.h"
#include "io/shard_file.h"
#include "io/state_digest.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <set>

namespace lockstep {
namespace {

constexpr int kAttempts = 8;

void check_shard_arguments(int shard, int shards, const std::vector<StateTensor>& tensors,
                           const std::vector<RowRange>& ranges) {
  CHECK(shard >= 0 && shard < shards, "shard {} of {}", shard, shards);
  for (const StateTensor& tensor : tensors) {
    CHECK(is_tensor_name(tensor.name) && tensor.shape.rank() >= 1 && tensor.shape.count() > 0,
          "{} {}", tensor.name, tensor.shape.str());
  }
  for (const RowRange& range : ranges) {
    CHECK(range.tensor < tensors.size() && range.row_begin >= 0 && range.rows >= 1 &&
              range.row_begin + range.rows <= row_count(tensors[range.tensor]),
          "rows {}+{} of tensor {}", range.row_begin, range.rows, range.tensor);
  }
}

// Writes the files of a tokenizer; some may stand in a directory of their own.
std::vector<ManifestFile> write_tokenizer(const FileSystem& files, const std::string& temporary,
                                          const std::vector<NamedText>& tokenizer) {
  std::vector<ManifestFile> written;
  if (tokenizer.empty()) return written;
  const std::string target = temporary + "/tokenizer";
  std::set<std::string> directories = {target};
  make_directories(target, files);
  for (const NamedText& file : tokenizer) {
    CHECK(is_tokenizer_file_name(file.name), "{}", file.name);
    if (const std::size_t slash = file.name.find('/'); slash != std::string::npos) {
      const std::string inner = target + "/" + file.name.substr(0, slash);
      if (directories.insert(inner).second) make_directories(inner, files);
    }
    write_new_file(target + "/" + file.name, file.text, files);
    written.push_back(
        {file.name, static_cast<std::int64_t>(file.text.size()), sha256_text(file.text)});
  }
  for (const std::string& directory : directories) sync_directory(directory, files);
  return written;
}

// On a shared file system this is also where a shard that another host wrote must be visible.
void check_present(const std::string& temporary, const std::vector<ShardRecord>& shards) {
  for (const ShardRecord& shard : shards) {
    const std::string path = temporary + "/" + shard.file;
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) fail_io(path, "find the shard", errno);
    if (status.st_size != shard.bytes) {
      fail(ExitCode::kIo, "{}: has {} bytes where its writer counted {}: check the file system",
           path, status.st_size, shard.bytes);
    }
  }
}

Manifest make_manifest(const std::vector<StateTensor>& tensors,
                       const std::vector<ShardRecord>& shards, const CheckpointMeta& meta) {
  Manifest manifest;
  manifest.meta = meta;
  manifest.tensors = tensors;
  manifest.digest = state_digest(tensors, shards, meta);
  std::vector<std::vector<RowRange>> ranges;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    CHECK(shards[i].file == shard_file_name(static_cast<int>(i), static_cast<int>(shards.size())),
          "shard {} is {}", i, shards[i].file);
    manifest.shards.push_back(
        {{shards[i].file, shards[i].bytes, shards[i].sha256}, shards[i].ranges});
    ranges.push_back(shards[i].ranges);
  }
  const auto error = coverage_error(tensors, ranges);
  CHECK(!error, "{}", *error);
  return manifest;
}

}  // namespace

ShardRecord write_shard(const FileSystem& files, const std::string& directory, int shard,
                        int shards, const std::vector<StateTensor>& tensors,
                        const std::vector<RowRange>& ranges, const RowSource& source,
                        const CheckpointMeta& meta, const Progress& progress) {
  check_shard_arguments(shard, shards, tensors, ranges);
  const std::string path = directory + "/" + shard_file_name(shard, shards);
  return write_shard_file(path, shard, shards, tensors, ranges, source, meta.step, progress, files);
}

std::string make_temporary_checkpoint(const FileSystem& files, const std::string& checkpoints,
                                      std::int64_t step) {
  make_directories(checkpoints, files);
  std::string path;
  int error = EEXIST;
  for (int attempt = 0; attempt < kAttempts && error == EEXIST; ++attempt) {
    path = checkpoints + "/" + leftover_name(Leftover::kTemporary, step);
    error = files.make_directory(path);
  }
  if (error != 0) fail_io(path, "create the directory", error);
  return path;
}

std::string publish_checkpoint(const FileSystem& files, const std::string& checkpoints,
                               const std::string& temporary,
                               const std::vector<StateTensor>& tensors,
                               const std::vector<ShardRecord>& shards, const CheckpointMeta& meta,
                               const std::vector<NamedText>& tokenizer) {
  Manifest manifest = make_manifest(tensors, shards, meta);
  check_present(temporary, shards);
  manifest.tokenizer = write_tokenizer(files, temporary, tokenizer);
  atomic_write_file(temporary + "/" + std::string(kManifestName), manifest_text(manifest), files);

  const std::string name = step_name(meta.step);
  const std::string final_path = checkpoints + "/" + name;
  // Where names cannot be swapped, remove_temporaries mends a crash between the two renames.
  const std::string aside = checkpoints + "/" + leftover_name(Leftover::kOld, meta.step);
  const std::string old = put_in_place(temporary, final_path, aside, files);
  if (!old.empty()) discard(files, checkpoints, {std::filesystem::path(old).filename()});
  atomic_write_file(checkpoints + "/latest", name + "\n", files);
  return final_path;
}

ShardRecord write_shard(const std::string& directory, int shard, int shards,
                        const std::vector<StateTensor>& tensors,
                        const std::vector<RowRange>& ranges, const RowSource& source,
                        const CheckpointMeta& meta, const Progress& progress) {
  return write_shard(FileSystem(), directory, shard, shards, tensors, ranges, source, meta,
                     progress);
}

std::string make_temporary_checkpoint(const std::string& checkpoints, std::int64_t step) {
  return make_temporary_checkpoint(FileSystem(), checkpoints, step);
}

std::string publish_checkpoint(const std::string& checkpoints, const std::string& temporary,
                               const std::vector<StateTensor>& tensors,
                               const std::vector<ShardRecord>& shards, const CheckpointMeta& meta,
                               const std::vector<NamedText>& tokenizer) {
  return publish_checkpoint(FileSystem(), checkpoints, temporary, tensors, shards, meta, tokenizer);
}

}  // namespace lockstep
