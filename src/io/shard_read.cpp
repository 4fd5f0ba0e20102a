// Reading a shard: its SHA-256 first, through the same descriptor that HDF5 then reads; then only
// what the manifest announces, in the one form a shard may have. Anything else is damage.
#include "files/input_file.h"
#include "io/shard_file.h"

#include "io/hdf5_types.h"
#include "io/state_digest.h"

#include <algorithm>
#include <map>
#include <set>

namespace lockstep {
namespace {

[[noreturn]] void fail_damaged(const std::string& path, const std::string& what) {
  fail(ExitCode::kData, "{}: damaged: {}; use another checkpoint", path, what);
}

void require(bool holds, const std::string& path, const std::string& what) {
  if (!holds) fail_damaged(path, what);
}

// Hard links only: nothing leads out of the file or back into it.
void require_hard_link(hid_t file, const std::string& name, const std::string& path) {
  H5L_info_t info{};
  const bool found = H5Lexists(file, name.c_str(), H5P_DEFAULT) > 0 &&
                     H5Lget_info(file, name.c_str(), &info, H5P_DEFAULT) >= 0;
  require(found, path, fmt::format("/{} is missing", name));
  require(info.type == H5L_TYPE_HARD, path, fmt::format("/{} is a link", name));
}

bool is_plain_contiguous(hid_t dataset) {
  const Hdf5Handle creation(H5Dget_create_plist(dataset), H5Pclose);
  return creation && H5Pget_layout(creation.id()) == H5D_CONTIGUOUS &&
         H5Pget_external_count(creation.id()) == 0 && H5Pget_nfilters(creation.id()) == 0;
}

bool has_shape(hid_t dataset, const std::vector<hsize_t>& expected) {
  const Hdf5Handle space(H5Dget_space(dataset), H5Sclose);
  if (!space || H5Sget_simple_extent_type(space.id()) != H5S_SIMPLE ||
      H5Sget_simple_extent_ndims(space.id()) != static_cast<int>(expected.size())) {
    return false;
  }
  std::vector<hsize_t> dims(expected.size());
  return H5Sget_simple_extent_dims(space.id(), dims.data(), nullptr) >= 0 && dims == expected;
}

bool has_type(hid_t dataset, DType dtype) {
  const Hdf5Handle stored(H5Dget_type(dataset), H5Tclose);
  const Hdf5Handle expected = hdf5_type(dtype);
  return stored && H5Tequal(stored.id(), expected.id()) > 0;
}

bool lies_inside(hid_t dataset, std::int64_t bytes, std::int64_t file_size) {
  const haddr_t begin = H5Dget_offset(dataset);
  return begin != HADDR_UNDEF && H5Dget_storage_size(dataset) == static_cast<hsize_t>(bytes) &&
         begin <= static_cast<haddr_t>(file_size - bytes);
}

bool is_described(hid_t dataset, const StateTensor& tensor, const RowRange& range) {
  std::vector<std::int64_t> shape;
  for (int axis = 0; axis < tensor.shape.rank(); ++axis) shape.push_back(tensor.shape[axis]);
  return attribute_is(dataset, "global_shape", shape) &&
         attribute_is(dataset, "dtype", name_of(tensor.dtype)) &&
         attribute_is(dataset, "offset", range.row_begin) &&
         attribute_is(dataset, "count", range.rows);
}

// Every group that the ranges' names imply, each with the names directly inside.
std::map<std::string, std::set<std::string>> expected_groups(
    const std::vector<StateTensor>& tensors, const std::vector<RowRange>& ranges) {
  std::map<std::string, std::set<std::string>> groups = {{"", {}}};
  for (const RowRange& range : ranges) {
    std::string name = tensors[range.tensor].name;
    for (;;) {
      const std::size_t slash = name.rfind('/');
      const std::string group = slash == std::string::npos ? "" : name.substr(0, slash);
      groups[group].insert(name);
      if (group.empty()) break;
      name = group;
    }
  }
  return groups;
}

}  // namespace

ShardFile::ShardFile(const std::string& directory, std::size_t shard, const Manifest& manifest,
                     bool hash, const Progress& progress)
    : manifest_(manifest), shard_(shard), path_(directory + "/" + manifest.shards[shard].file) {
  prepare_hdf5();
  const ManifestShard& expected = manifest.shards[shard];
  const FileSystem files;
  std::int64_t size = 0;
  Descriptor descriptor = open_regular(size, path_);
  require(size == expected.bytes, path_,
          fmt::format("it has {} bytes where the manifest says {}", size, expected.bytes));
  require(!hash || sha256_of(descriptor, path_, files, progress) == expected.sha256, path_,
          "its SHA-256 is not the one in the manifest");
  bytes_ = std::make_unique<StickyFile>(std::move(descriptor), path_, files, size);
  file_ = open_hdf5_file(*bytes_);
  if (bytes_->error() != 0) fail_io(path_, "read", bytes_->error());
  require(static_cast<bool>(file_), path_, "HDF5 cannot open it: " + hdf5_error());
  check_root();
  check_names();
}

void ShardFile::check_root() {
  const bool described =
      attribute_is(file_.id(), "format_major", std::int64_t{kCheckpointFormatMajor}) &&
      attribute_is(file_.id(), "step", manifest_.meta.step) &&
      attribute_is(file_.id(), "shard", static_cast<std::int64_t>(shard_)) &&
      attribute_is(file_.id(), "shards", static_cast<std::int64_t>(manifest_.shards.size()));
  require(described, path_, "it belongs to another checkpoint or format");
}

void ShardFile::check_names() {
  const auto groups = expected_groups(manifest_.tensors, manifest_.shards[shard_].ranges);
  for (const auto& [name, children] : groups) {  // sorted: a group after its parent
    const Hdf5Handle group(H5Gopen2(file_.id(), ("/" + name).c_str(), H5P_DEFAULT), H5Gclose);
    H5G_info_t info{};
    require(group && H5Gget_info(group.id(), &info) >= 0, path_, "no group /" + name);
    for (const std::string& child : children) require_hard_link(file_.id(), child, path_);
    require(info.nlinks == children.size(), path_,
            fmt::format("/{} holds {} objects where the manifest lists {}", name, info.nlinks,
                        children.size()));
  }
}

Hdf5Handle ShardFile::open_range(const RowRange& range) {
  const StateTensor& tensor = manifest_.tensors[range.tensor];
  const auto damaged = [&](const char* what) {
    fail_damaged(path_, fmt::format("/{} {}", tensor.name, what));
  };
  Hdf5Handle dataset(H5Dopen2(file_.id(), tensor.name.c_str(), H5P_DEFAULT), H5Dclose);
  if (!dataset) damaged("is not a readable dataset");
  if (!is_plain_contiguous(dataset.id())) {
    damaged("is stored in chunks, through filters or outside the file");
  }
  if (!has_type(dataset.id(), tensor.dtype)) damaged("has another element type");
  if (!has_shape(dataset.id(), range_dims(tensor.shape, range.rows))) damaged("has another shape");
  if (!lies_inside(dataset.id(), range.rows * row_bytes(tensor), bytes_->size())) {
    damaged("does not lie inside the file");
  }
  if (!is_described(dataset.id(), tensor, range)) damaged("has wrong attributes");
  return dataset;
}

void ShardFile::read(std::size_t range_index, std::int64_t row, std::span<std::byte> out) {
  const RowRange& range = manifest_.shards[shard_].ranges[range_index];
  const StateTensor& tensor = manifest_.tensors[range.tensor];
  const std::int64_t bytes = row_bytes(tensor);
  const Hdf5Handle dataset = open_range(range);
  const Hdf5Handle type = hdf5_type(tensor.dtype);
  std::int64_t begin = row - range.row_begin;
  while (!out.empty()) {
    const auto size =
        std::min(out.size(), static_cast<std::size_t>(rows_per_piece(tensor) * bytes));
    const std::int64_t rows = static_cast<std::int64_t>(size) / bytes;
    const RowSelection selection = select_rows(dataset.id(), tensor.shape, begin, rows);
    const bool done = H5Dread(dataset.id(), type.id(), selection.memory.id(), selection.file.id(),
                              H5P_DEFAULT, out.data()) >= 0;
    if (bytes_->error() != 0) fail_io(path_, "read", bytes_->error());
    require(done, path_, fmt::format("/{}: {}", tensor.name, hdf5_error()));
    begin += rows;
    out = out.subspan(size);
  }
}

std::uint32_t ShardFile::stored_crc32c(std::size_t range_index) {
  const RowRange& range = manifest_.shards[shard_].ranges[range_index];
  const Hdf5Handle dataset = open_range(range);
  std::uint32_t crc = 0;
  require(read_attribute(crc, dataset.id(), "crc32c"), path_,
          fmt::format("/{} has no crc32c", manifest_.tensors[range.tensor].name));
  return crc;
}

}  // namespace lockstep
