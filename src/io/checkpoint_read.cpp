// Reading a checkpoint: any rows of any tensor, whatever number of files hold them, and the three
// levels of verification.
#include "files/input_file.h"
#include "io/checkpoint.h"

#include "io/crc32c.h"
#include "io/manifest.h"
#include "io/shard_file.h"
#include "io/state_digest.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <map>
#include <utility>

namespace lockstep {
namespace {

constexpr std::size_t kMaxOpenShards = 16;

// Where a stored range of a tensor is.
struct Part {
  std::size_t shard;
  std::size_t range;
  std::int64_t row_begin;
  std::int64_t rows;
};

[[noreturn]] void fail_damaged(const std::string& path, const std::string& what) {
  fail(ExitCode::kData, "{}: damaged: {}; use another checkpoint", path, what);
}

// One that is there must be no link that leads elsewhere.
void check_directory(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) == 0 && !S_ISDIR(status.st_mode)) {
    fail_damaged(path, "it is not a directory");
  }
}

// A mix of two saves is damage, even when every listed file is right.
void check_extra_shards(const std::string& path, const Manifest& manifest) {
  std::error_code status;
  std::filesystem::directory_iterator entries(path, status);
  for (; !status && entries != std::filesystem::directory_iterator(); entries.increment(status)) {
    const std::string name = entries->path().filename();
    if (!name.starts_with("shard-")) continue;
    const bool listed = std::any_of(manifest.shards.begin(), manifest.shards.end(),
                                    [&](const ManifestShard& shard) { return shard.file == name; });
    if (!listed) fail_damaged(path + "/" + name, "the manifest does not list this shard");
  }
  if (status) fail_io(path, "list the directory", status.value());
}

void check_size(const std::string& path, std::int64_t bytes) {
  std::int64_t size = 0;
  open_regular(size, path);
  if (size == bytes) return;
  fail_damaged(path, fmt::format("it has {} bytes where the manifest says {}", size, bytes));
}

Manifest open_manifest(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    if (errno != ENOENT && errno != ENOTDIR) fail_io(path, "open", errno);
    fail(ExitCode::kData, "{}: no such checkpoint: check the path", path);
  }
  if (!is_checkpoint(path)) {
    fail(ExitCode::kData, "{}: not a checkpoint (it has no {}): name a directory step_*", path,
         kManifestName);
  }
  return read_manifest(path);
}

}  // namespace

struct CheckpointReader::State {
  std::string path;
  Manifest manifest;
  std::map<std::string, std::size_t> index;
  std::vector<std::vector<Part>> parts;            // per tensor, ascending
  std::vector<std::unique_ptr<ShardFile>> opened;  // per shard, a few at a time
  std::vector<bool> checked;                       // per shard: its SHA-256 matched once

  // An opened shard has passed its checksum, now or before it was closed to make room.
  ShardFile& shard(std::size_t i, const Progress& progress = {}) {
    if (!opened[i]) {
      const auto is_open = [](const auto& file) { return file != nullptr; };
      const auto count = std::count_if(opened.begin(), opened.end(), is_open);
      if (static_cast<std::size_t>(count) >= kMaxOpenShards) {
        std::find_if(opened.begin(), opened.end(), is_open)->reset();
      }
      opened[i] = std::make_unique<ShardFile>(path, i, manifest, /*hash=*/!checked[i], progress);
      checked[i] = true;
    }
    return *opened[i];
  }

  std::string shard_path(std::size_t i) const { return path + "/" + manifest.shards[i].file; }

  void check_crc(const Part& part, std::uint32_t crc) {
    if (shard(part.shard).stored_crc32c(part.range) == crc) return;
    const std::size_t tensor = manifest.shards[part.shard].ranges[part.range].tensor;
    fail_damaged(shard_path(part.shard),
                 fmt::format("/{} does not match its CRC32C", manifest.tensors[tensor].name));
  }

  // Streams a whole stored range, checking its CRC-32C when asked.
  void scan(const Part& part, const StateTensor& tensor, bool check, ChunkHasher& hasher) {
    std::vector<std::byte> piece(
        static_cast<std::size_t>(std::min(part.rows, rows_per_piece(tensor)) * row_bytes(tensor)));
    std::uint32_t crc = 0;
    for (std::int64_t row = 0; row < part.rows;) {
      const std::int64_t rows = std::min(part.rows - row, rows_per_piece(tensor));
      const std::span out =
          std::span(piece).first(static_cast<std::size_t>(rows * row_bytes(tensor)));
      shard(part.shard).read(part.range, part.row_begin + row, out);
      crc = crc32c(crc, out);
      hasher.update(out);
      row += rows;
    }
    if (check) check_crc(part, crc);
  }

  // Reads everything: the digest again from the data, and CRC-32Cs when asked.
  std::string recompute_digest(bool check_crcs) {
    std::vector<std::vector<Sha256Digest>> chunks;
    for (std::size_t t = 0; t < manifest.tensors.size(); ++t) {
      const StateTensor& tensor = manifest.tensors[t];
      ChunkHasher hasher(tensor_bytes(tensor), 0, tensor_bytes(tensor));
      for (const Part& part : parts[t]) scan(part, tensor, check_crcs, hasher);
      chunks.push_back(hasher.finish());
    }
    return digest_of_chunks(manifest.tensors, chunks, manifest.meta);
  }

  void verify_tokenizer() const {
    for (const ManifestFile& file : manifest.tokenizer) {
      const std::string name = path + "/tokenizer/" + file.file;
      if (sha256_file(name) != file.sha256) {
        fail_damaged(name, "its SHA-256 is not the one in the manifest");
      }
    }
  }
};

CheckpointReader::CheckpointReader(const std::string& path) : state_(std::make_unique<State>()) {
  State& state = *state_;
  state.path = path;
  state.manifest = open_manifest(path);
  const Manifest& manifest = state.manifest;
  for (const ManifestShard& shard : manifest.shards) {
    check_size(path + "/" + shard.file, shard.bytes);
  }
  check_extra_shards(path, manifest);
  for (const ManifestFile& file : manifest.tokenizer) {
    const std::string name = path + "/tokenizer/" + file.file;
    check_directory(path + "/tokenizer");
    check_directory(name.substr(0, name.rfind('/')));
    check_size(name, file.bytes);
  }
  for (std::size_t t = 0; t < manifest.tensors.size(); ++t) {
    state.index[manifest.tensors[t].name] = t;
  }
  state.parts.resize(manifest.tensors.size());
  for (std::size_t shard = 0; shard < manifest.shards.size(); ++shard) {
    const std::vector<RowRange>& ranges = manifest.shards[shard].ranges;
    for (std::size_t i = 0; i < ranges.size(); ++i) {
      state.parts[ranges[i].tensor].push_back({shard, i, ranges[i].row_begin, ranges[i].rows});
    }
  }
  state.opened.resize(manifest.shards.size());
  state.checked.resize(manifest.shards.size(), false);
}

CheckpointReader::~CheckpointReader() = default;
CheckpointReader::CheckpointReader(CheckpointReader&&) noexcept = default;

const std::string& CheckpointReader::path() const { return state_->path; }
const CheckpointMeta& CheckpointReader::meta() const { return state_->manifest.meta; }
const std::vector<StateTensor>& CheckpointReader::tensors() const {
  return state_->manifest.tensors;
}
const std::string& CheckpointReader::digest() const { return state_->manifest.digest; }
int CheckpointReader::shards() const { return static_cast<int>(state_->manifest.shards.size()); }

std::int64_t CheckpointReader::bytes() const {
  std::error_code ignored;
  const auto manifest =
      std::filesystem::file_size(state_->path + "/" + std::string(kManifestName), ignored);
  std::int64_t total = ignored ? 0 : static_cast<std::int64_t>(manifest);
  for (const ManifestShard& shard : state_->manifest.shards) total += shard.bytes;
  for (const ManifestFile& file : state_->manifest.tokenizer) total += file.bytes;
  return total;
}

std::string CheckpointReader::tokenizer_directory() const {
  return state_->manifest.tokenizer.empty() ? "" : state_->path + "/tokenizer";
}

void CheckpointReader::verify_files(int part, int parts, const Progress& progress) {
  CHECK(part >= 0 && part < parts, "part {} of {}", part, parts);
  for (std::size_t i = 0; i < state_->checked.size(); ++i) {
    const bool mine = i % static_cast<std::size_t>(parts) == static_cast<std::size_t>(part);
    if (mine && !state_->checked[i]) state_->shard(i, progress);
  }
}

void CheckpointReader::trust_files() { state_->checked.assign(state_->checked.size(), true); }

void CheckpointReader::read(const std::string& name, std::int64_t row_begin,
                            std::span<std::byte> out) {
  State& state = *state_;
  const auto found = state.index.find(name);
  if (found == state.index.end()) {
    fail(ExitCode::kData, "{}: holds no tensor '{}': it belongs to another model", state.path,
         name);
  }
  const StateTensor& tensor = state.manifest.tensors[found->second];
  const std::int64_t bytes = row_bytes(tensor);
  const std::int64_t end = row_begin + static_cast<std::int64_t>(out.size()) / bytes;
  CHECK(static_cast<std::int64_t>(out.size()) % bytes == 0 && row_begin >= 0 &&
            end <= row_count(tensor),
        "{}: rows {} to {} of {}", name, row_begin, end, row_count(tensor));
  for (const Part& part : state.parts[found->second]) {
    const std::int64_t first = std::max(row_begin, part.row_begin);
    const std::int64_t last = std::min(end, part.row_begin + part.rows);
    if (first >= last) continue;
    const std::span rows = out.subspan(static_cast<std::size_t>((first - row_begin) * bytes),
                                       static_cast<std::size_t>((last - first) * bytes));
    state.shard(part.shard).read(part.range, first, rows);
    if (last - first == part.rows) state.check_crc(part, crc32c(0, rows));
  }
}

void verify_checkpoint(const std::string& path, VerifyLevel level) {
  CheckpointReader reader(path);
  if (level == VerifyLevel::kQuick) return;
  reader.verify_files();
  CheckpointReader::State& state = *reader.state_;
  state.verify_tokenizer();
  const bool check_crcs = level == VerifyLevel::kDeep;
  if (state.recompute_digest(check_crcs) == state.manifest.digest) return;
  fail_damaged(path, "its state digest is not the one in the manifest");
}

}  // namespace lockstep
