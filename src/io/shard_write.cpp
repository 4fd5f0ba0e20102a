// Writing a shard: datasets in the order of the ranges, each streamed once through CRC-32C, the
// chunk hashes and HDF5. The disk's errors come from the sticky file, HDF5's own are invariants.
#include "files/free_space.h"
#include "io/shard_file.h"

#include "io/crc32c.h"
#include "io/hdf5_types.h"
#include "io/state_digest.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>

namespace lockstep {
namespace {

// What one shard's writing needs everywhere; lives on write_shard_file's stack.
struct Writing {
  const std::vector<StateTensor>& tensors;
  const std::vector<RowRange>& ranges;
  const RowSource& source;
  const Progress& progress;
  StickyFile& bytes;
  std::vector<std::byte> piece;
  std::set<std::string> groups;
};

std::int64_t bytes_of_ranges(const Writing& writing) {
  std::int64_t bytes = 0;
  for (const RowRange& range : writing.ranges) {
    bytes += range.rows * row_bytes(writing.tensors[range.tensor]);
  }
  return bytes;
}

// A failed disk first: whatever HDF5 says after that is its consequence.
void check(const Writing& writing, bool done, const char* what) {
  const std::string& path = writing.bytes.path();
  if (const int error = writing.bytes.error(); error != 0) {
    if (error != ENOSPC && error != EDQUOT) fail_io(path, "write", error);
    fail(ExitCode::kIo, "{}: cannot write: {}; the file needs {} and {} are free: free some space",
         path, errno_text(error), bytes_text(bytes_of_ranges(writing)),
         bytes_text(free_bytes(path.substr(0, path.rfind('/')))));
  }
  CHECK(done, "{}: HDF5 cannot {}: {}", path, what, hdf5_error());
}

// Groups are made by hand: HDF5's automatic ones carry the time of their creation.
void make_groups(Writing& writing, hid_t file, const std::string& name) {
  for (std::size_t slash = name.find('/'); slash != std::string::npos;
       slash = name.find('/', slash + 1)) {
    const std::string group = name.substr(0, slash);
    if (!writing.groups.insert(group).second) continue;
    const Hdf5Handle creation(H5Pcreate(H5P_GROUP_CREATE), H5Pclose);
    H5Pset_obj_track_times(creation.id(), false);
    const Hdf5Handle made(H5Gcreate2(file, group.c_str(), H5P_DEFAULT, creation.id(), H5P_DEFAULT),
                          H5Gclose);
    check(writing, static_cast<bool>(made), "create a group");
  }
}

Hdf5Handle make_dataset(Writing& writing, hid_t file, const RowRange& range, hid_t type) {
  const StateTensor& tensor = writing.tensors[range.tensor];
  make_groups(writing, file, tensor.name);
  const Hdf5Handle creation(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  const bool set = H5Pset_layout(creation.id(), H5D_CONTIGUOUS) >= 0 &&
                   H5Pset_fill_time(creation.id(), H5D_FILL_TIME_NEVER) >= 0 &&
                   H5Pset_obj_track_times(creation.id(), false) >= 0;
  check(writing, set, "describe a dataset");
  const std::vector<hsize_t> dims = range_dims(tensor.shape, range.rows);
  const Hdf5Handle space(H5Screate_simple(tensor.shape.rank(), dims.data(), nullptr), H5Sclose);
  Hdf5Handle dataset(H5Dcreate2(file, tensor.name.c_str(), type, space.id(), H5P_DEFAULT,
                                creation.id(), H5P_DEFAULT),
                     H5Dclose);
  check(writing, static_cast<bool>(dataset), "create a dataset");
  return dataset;
}

// Rows [begin, begin + n) from the source; n follows from what is left and fits a piece.
std::span<const std::byte> next_piece(Writing& writing, std::size_t index, std::int64_t begin,
                                      std::int64_t rows_left) {
  const StateTensor& tensor = writing.tensors[index];
  const std::int64_t rows = std::min(rows_left, rows_per_piece(tensor));
  const auto size = static_cast<std::size_t>(rows * row_bytes(tensor));
  if (writing.piece.size() < size) writing.piece.resize(size);
  const std::span out = std::span(writing.piece).first(size);
  writing.source(index, begin, out);
  report(writing.progress);
  return out;
}

// Returns the range's CRC-32C.
std::uint32_t write_rows(Writing& writing, ChunkHasher& hasher, hid_t dataset, hid_t type,
                         const RowRange& range) {
  const StateTensor& tensor = writing.tensors[range.tensor];
  std::uint32_t crc = 0;
  for (std::int64_t row = 0; row < range.rows;) {
    const auto piece = next_piece(writing, range.tensor, range.row_begin + row, range.rows - row);
    const std::int64_t rows = static_cast<std::int64_t>(piece.size()) / row_bytes(tensor);
    crc = crc32c(crc, piece);
    hasher.update(piece);
    const RowSelection selection = select_rows(dataset, tensor.shape, row, rows);
    const bool done = H5Dwrite(dataset, type, selection.memory.id(), selection.file.id(),
                               H5P_DEFAULT, piece.data()) >= 0;
    check(writing, done, "write rows");
    row += rows;
  }
  return crc;
}

// The last chunk that begins in this range may end in the next shard's rows.
void hash_beyond(Writing& writing, ChunkHasher& hasher, const RowRange& range) {
  const std::int64_t bytes = row_bytes(writing.tensors[range.tensor]);
  const std::int64_t end = (hasher.end() + bytes - 1) / bytes;
  for (std::int64_t row = range.row_begin + range.rows; row < end;) {
    const auto piece = next_piece(writing, range.tensor, row, end - row);
    hasher.update(piece);
    row += static_cast<std::int64_t>(piece.size()) / bytes;
  }
}

void write_range(Writing& writing, ShardRecord& record, hid_t file, const RowRange& range) {
  const StateTensor& tensor = writing.tensors[range.tensor];
  const std::int64_t begin = range.row_begin * row_bytes(tensor);
  ChunkHasher hasher(tensor_bytes(tensor), begin, begin + range.rows * row_bytes(tensor));
  const Hdf5Handle type = hdf5_type(tensor.dtype);
  Hdf5Handle dataset = make_dataset(writing, file, range, type.id());
  const std::uint32_t crc = write_rows(writing, hasher, dataset.id(), type.id(), range);
  hash_beyond(writing, hasher, range);
  std::vector<std::int64_t> shape;
  for (int axis = 0; axis < tensor.shape.rank(); ++axis) shape.push_back(tensor.shape[axis]);
  const bool described = write_attribute(dataset.id(), "global_shape", shape) &&
                         write_attribute(dataset.id(), "dtype", name_of(tensor.dtype)) &&
                         write_attribute(dataset.id(), "offset", range.row_begin) &&
                         write_attribute(dataset.id(), "count", range.rows) &&
                         write_attribute(dataset.id(), "crc32c", crc);
  check(writing, described, "write attributes");
  check(writing, dataset.close(), "close a dataset");
  std::int64_t index = hasher.first_chunk();
  for (const Sha256Digest& digest : hasher.finish()) {
    record.chunks.push_back({range.tensor, index++, to_hex(digest)});
  }
}

void write_content(Writing& writing, ShardRecord& record, int shard, int shards,
                   std::int64_t step) {
  Hdf5Handle file = create_hdf5_file(writing.bytes);
  check(writing, static_cast<bool>(file), "create the file");
  const bool described =
      write_attribute(file.id(), "format_major", std::int64_t{kCheckpointFormatMajor}) &&
      write_attribute(file.id(), "format_minor", std::int64_t{kCheckpointFormatMinor}) &&
      write_attribute(file.id(), "step", step) &&
      write_attribute(file.id(), "shard", std::int64_t{shard}) &&
      write_attribute(file.id(), "shards", std::int64_t{shards});
  check(writing, described, "write attributes");
  for (const RowRange& range : writing.ranges) write_range(writing, record, file.id(), range);
  check(writing, file.close(), "close the file");
}

}  // namespace

ShardRecord write_shard_file(const std::string& path, int shard, int shards,
                             const std::vector<StateTensor>& tensors,
                             const std::vector<RowRange>& ranges, const RowSource& source,
                             std::int64_t step, const Progress& progress, const FileSystem& files) {
  prepare_hdf5();
  StickyFile bytes = StickyFile::create(path, files);
  try {
    Writing writing{tensors, ranges, source, progress, bytes, {}, {}};
    ShardRecord record;
    record.file = shard_file_name(shard, shards);
    record.ranges = ranges;
    write_content(writing, record, shard, shards, step);
    bytes.sync();
    check(writing, true, "sync");
    record.bytes = bytes.size();
    record.sha256 = sha256_of(bytes.descriptor(), path, files, progress);
    bytes.close();
    check(writing, true, "close");
    return record;
  } catch (...) {
    ::unlink(path.c_str());
    throw;
  }
}

}  // namespace lockstep
