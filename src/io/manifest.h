// manifest.json: what a checkpoint consists of. Its last line is a SHA-256 over every byte before
// it, so no damage to the manifest passes; shards and tokenizer files are named by fixed patterns.
#pragma once

#include "io/checkpoint.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lockstep {

inline constexpr std::string_view kManifestName = "manifest.json";

struct ManifestFile {
  std::string file;
  std::int64_t bytes = 0;
  std::string sha256;
};

struct ManifestShard : ManifestFile {
  std::vector<RowRange> ranges;
};

struct Manifest {
  CheckpointMeta meta;
  std::string digest;
  std::vector<StateTensor> tensors;
  std::vector<ManifestShard> shards;
  std::vector<ManifestFile> tokenizer;
};

// "shard-00000-of-00004.h5"; the only names a manifest may use.
std::string shard_file_name(int shard, int shards);
// A file name that is safe to join to tokenizer/: bare, or DIRECTORY/NAME.jinja (chat templates).
bool is_tokenizer_file_name(std::string_view name);

std::string manifest_text(const Manifest& manifest);
// Throws UserError(kData) naming `path`: damaged, not a manifest, newer format, unsafe names,
// ranges that do not cover every tensor exactly once.
Manifest parse_manifest(const std::string& text, const std::string& path);
// Reads and parses DIRECTORY/manifest.json.
Manifest read_manifest(const std::string& directory);

}  // namespace lockstep
