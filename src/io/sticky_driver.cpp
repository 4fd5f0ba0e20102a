// The driver's callbacks: HDF5 sees a file that never fails to be written. HDF5 copies the pointer
// to the StickyFile through the file access property list.
#include "io/sticky_driver.h"

#include "core/error.h"

#include <algorithm>
#include <cerrno>
#include <new>

#if __has_include(<H5FDdevelop.h>)
#include <H5FDdevelop.h>
#endif

namespace lockstep {
namespace {

struct AccessInfo {
  StickyFile* file;
};

// HDF5 finds its own part at the beginning.
struct DriverFile {
  H5FD_t base;
  StickyFile* file;
  haddr_t end_of_allocation;
};

constexpr haddr_t kMaxAddress = (haddr_t{1} << 62) - 1;

DriverFile& own(H5FD_t* file) { return *reinterpret_cast<DriverFile*>(file); }
const DriverFile& own(const H5FD_t* file) { return *reinterpret_cast<const DriverFile*>(file); }

extern "C" {

// HDF5 may open twice, first without its creation flags; the file itself is open already.
static H5FD_t* sticky_open(const char*, unsigned, hid_t access, haddr_t) {
  const auto* info = static_cast<const AccessInfo*>(H5Pget_driver_info(access));
  auto* opened = info == nullptr ? nullptr : new (std::nothrow) DriverFile{};
  if (opened == nullptr) return nullptr;
  opened->file = info->file;
  return &opened->base;
}

static herr_t sticky_close(H5FD_t* file) {
  delete &own(file);
  return 0;
}

static herr_t sticky_query(const H5FD_t*, unsigned long* flags) {
  *flags =
      H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA | H5FD_FEAT_AGGREGATE_SMALLDATA;
  return 0;
}

static haddr_t sticky_get_eoa(const H5FD_t* file, H5FD_mem_t) {
  return own(file).end_of_allocation;
}

static herr_t sticky_set_eoa(H5FD_t* file, H5FD_mem_t, haddr_t address) {
  own(file).end_of_allocation = address;
  return 0;
}

static haddr_t sticky_get_eof(const H5FD_t* file, H5FD_mem_t) {
  return static_cast<haddr_t>(own(file).file->size());
}

static herr_t sticky_read(H5FD_t* file, H5FD_mem_t, hid_t, haddr_t address, std::size_t size,
                          void* out) {
  const std::span bytes(static_cast<std::byte*>(out), size);
  return own(file).file->read(static_cast<std::int64_t>(address), bytes) ? 0 : -1;
}

static herr_t sticky_write(H5FD_t* file, H5FD_mem_t, hid_t, haddr_t address, std::size_t size,
                           const void* data) {
  own(file).file->write(static_cast<std::int64_t>(address),
                        std::span(static_cast<const std::byte*>(data), size));
  return 0;
}

static herr_t sticky_truncate(H5FD_t* file, hid_t, hbool_t) {
  StickyFile& bytes = *own(file).file;
  const auto end = static_cast<std::int64_t>(own(file).end_of_allocation);
  if (end != bytes.size()) bytes.resize(end);
  return 0;
}

}  // extern "C"

H5FD_class_t driver_class() {
  H5FD_class_t driver{};
#ifdef H5FD_CLASS_VERSION  // HDF5 1.14 and later
  driver.version = H5FD_CLASS_VERSION;
  driver.value = static_cast<H5FD_class_value_t>(600);
#endif
  driver.name = "lockstep_sticky";
  driver.maxaddr = kMaxAddress;
  driver.fc_degree = H5F_CLOSE_STRONG;
  driver.fapl_size = sizeof(AccessInfo);
  driver.open = sticky_open;
  driver.close = sticky_close;
  driver.query = sticky_query;
  driver.get_eoa = sticky_get_eoa;
  driver.set_eoa = sticky_set_eoa;
  driver.get_eof = sticky_get_eof;
  driver.read = sticky_read;
  driver.write = sticky_write;
  driver.truncate = sticky_truncate;
  // Two kinds of space: metadata and raw data, as HDF5's default driver.
  std::fill(std::begin(driver.fl_map), std::end(driver.fl_map), H5FD_MEM_SUPER);
  driver.fl_map[H5FD_MEM_DRAW] = H5FD_MEM_DRAW;
  driver.fl_map[H5FD_MEM_GHEAP] = H5FD_MEM_DRAW;
  return driver;
}

Hdf5Handle access_list(StickyFile& file) {
  Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  const H5FD_class_t driver_description = driver_class();
  // The list and every file opened through it keep the driver registered.
  const Hdf5Handle driver(H5FDregister(&driver_description), H5FDunregister);
  const AccessInfo info{&file};
  const bool done = access && driver && H5Pset_driver(access.id(), driver.id(), &info) >= 0 &&
                    H5Pset_libver_bounds(access.id(), H5F_LIBVER_V110, H5F_LIBVER_V110) >= 0 &&
                    H5Pset_alignment(access.id(), kAlignFrom, kAlignment) >= 0;
  CHECK(done, "HDF5 refuses the file driver: {}", hdf5_error());
  return access;
}

}  // namespace

StickyFile StickyFile::create(const std::string& path, const FileSystem& files) {
  Descriptor descriptor;
  const int error = files.open(descriptor, path, OpenMode::kNew);
  if (error != 0) fail_io(path, "create", error);
  return StickyFile(std::move(descriptor), path, files, 0);
}

StickyFile::StickyFile(Descriptor descriptor, std::string path, const FileSystem& files,
                       std::int64_t size)
    : descriptor_(std::move(descriptor)), path_(std::move(path)), files_(files), size_(size) {}

void StickyFile::write(std::int64_t offset, std::span<const std::byte> data) {
  if (error_ == 0) error_ = files_.write_at(descriptor_, path_, data, offset);
  size_ = std::max(size_, offset + static_cast<std::int64_t>(data.size()));
}

void StickyFile::resize(std::int64_t size) {
  if (error_ == 0) error_ = files_.truncate(descriptor_, path_, size);
  size_ = size;
}

bool StickyFile::read(std::int64_t offset, std::span<std::byte> out) {
  std::size_t got = 0;
  const int error = files_.read_at(out, got, descriptor_, path_, offset);
  std::fill(out.begin() + static_cast<std::ptrdiff_t>(got), out.end(), std::byte{0});
  if (error_ == 0) error_ = error;
  // Zeros where the file was longer when it was opened would pass for weights.
  const bool cut_short = got < out.size() && offset + static_cast<std::int64_t>(got) < size_;
  if (error_ == 0 && cut_short) error_ = EIO;
  return error == 0;
}

int StickyFile::sync() {
  if (error_ == 0) error_ = files_.sync(descriptor_, path_);
  return error_;
}

int StickyFile::close() {
  const int error = files_.close(descriptor_, path_);
  if (error_ == 0) error_ = error;
  return error_;
}

Hdf5Handle create_hdf5_file(StickyFile& file) {
  const Hdf5Handle access = access_list(file);
  const Hdf5Handle creation(H5Pcreate(H5P_FILE_CREATE), H5Pclose);
  CHECK(creation && H5Pset_obj_track_times(creation.id(), false) >= 0);
  return {H5Fcreate(file.path().c_str(), H5F_ACC_TRUNC, creation.id(), access.id()), H5Fclose};
}

Hdf5Handle open_hdf5_file(StickyFile& file) {
  const Hdf5Handle access = access_list(file);
  return {H5Fopen(file.path().c_str(), H5F_ACC_RDONLY, access.id()), H5Fclose};
}

}  // namespace lockstep
