// The HDF5 file driver of checkpoints. HDF5 1.10 leaks identifiers and crashes later when a write
// fails under it, so this driver never tells it: it remembers the first errno, swallows every later
// write, and the owner of the StickyFile asks for the error when HDF5 has closed cleanly.
#pragma once

#include "files/file_system.h"
#include "io/hdf5_handle.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace lockstep {

// Data of at least kAlignFrom bytes begins at a multiple of kAlignment.
inline constexpr std::int64_t kAlignFrom = 65536;
inline constexpr std::int64_t kAlignment = 4096;

// The file under one HDF5 file; outlives every HDF5 identifier that refers to it.
class StickyFile {
 public:
  // A new, empty file for writing. Throws UserError(kIo) if it cannot be created.
  static StickyFile create(const std::string& path, const FileSystem& files);
  // An open file for reading.
  StickyFile(Descriptor descriptor, std::string path, const FileSystem& files, std::int64_t size);

  const std::string& path() const { return path_; }
  const Descriptor& descriptor() const { return descriptor_; }
  std::int64_t size() const { return size_; }
  int error() const { return error_; }  // the first errno, 0 while all is well

  // What the driver calls. Writing succeeds from HDF5's point of view whatever happens; reading
  // past the end gives zeros, as HDF5's own driver does.
  void write(std::int64_t offset, std::span<const std::byte> data);
  void resize(std::int64_t size);
  bool read(std::int64_t offset, std::span<std::byte> out);

  // After HDF5 has closed the file: puts it on disk. Returns the first errno of its whole life.
  int sync();
  int close();

 private:
  Descriptor descriptor_;
  std::string path_;
  FileSystem files_;
  std::int64_t size_ = 0;
  int error_ = 0;
};

// Creates or opens the HDF5 file whose bytes are `file`, in format v1.10 at both ends. An invalid
// handle means that HDF5 refused (hdf5_error() says why).
Hdf5Handle create_hdf5_file(StickyFile& file);
Hdf5Handle open_hdf5_file(StickyFile& file);

}  // namespace lockstep
