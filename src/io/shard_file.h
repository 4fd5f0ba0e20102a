// One shard: an HDF5 file with a contiguous dataset per tensor range, named as the tensor, written
// and read in pieces of at most 8 MiB (HDF5 holds one lock for the whole process meanwhile).
#pragma once

#include "files/file_system.h"
#include "io/manifest.h"
#include "io/sticky_driver.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace lockstep {

// Writes, syncs and closes the file, and reads it back for its SHA-256. On any failure the file is
// removed and every HDF5 identifier closed.
ShardRecord write_shard_file(const std::string& path, int shard, int shards,
                             const std::vector<StateTensor>& tensors,
                             const std::vector<RowRange>& ranges, const RowSource& source,
                             std::int64_t step, const Progress& progress, const FileSystem& files);

// A shard whose bytes have been checked against the manifest before HDF5 sees them: on opening, or
// earlier (`hash` false). Opening also checks that it holds exactly the ranges the manifest lists,
// as plain contiguous datasets.
class ShardFile {
 public:
  // `shard` is this file's index; `tensors` and `manifest` outlive the object.
  ShardFile(const std::string& directory, std::size_t shard, const Manifest& manifest, bool hash,
            const Progress& progress);

  // Rows [row, row + out.size() / row_bytes) of the tensor, which range `range` must hold.
  void read(std::size_t range, std::int64_t row, std::span<std::byte> out);
  std::uint32_t stored_crc32c(std::size_t range);

 private:
  void check_root();
  void check_names();
  Hdf5Handle open_range(const RowRange& range);

  const Manifest& manifest_;
  std::size_t shard_;
  std::string path_;
  std::unique_ptr<StickyFile> bytes_;
  Hdf5Handle file_;
};

}  // namespace lockstep
