// Element types, attributes and hyperslabs of shard files, written and compared in one place.
// Memory and file types are the same, so HDF5 converts nothing and NaN payloads survive.
#pragma once

#include "core/tensor.h"
#include "io/hdf5_handle.h"

#include <cstdint>
#include <string>
#include <vector>

namespace lockstep {

// The little-endian file type; bf16 and fp16 are custom floats that stock tools read.
Hdf5Handle hdf5_type(DType dtype);

// Each returns false when HDF5 refuses.
bool write_attribute(hid_t object, const char* name, const std::vector<std::int64_t>& values);
bool write_attribute(hid_t object, const char* name, std::int64_t value);
bool write_attribute(hid_t object, const char* name, std::uint32_t value);
bool write_attribute(hid_t object, const char* name, std::string_view text);

// True if the attribute exists with exactly this type, shape and value.
bool attribute_is(hid_t object, const char* name, const std::vector<std::int64_t>& values);
bool attribute_is(hid_t object, const char* name, std::int64_t value);
bool attribute_is(hid_t object, const char* name, std::string_view text);
// False if it is not there as one uint32.
bool read_attribute(std::uint32_t& value, hid_t object, const char* name);

// The dimensions of `rows` rows of a tensor.
std::vector<hsize_t> range_dims(const Shape& shape, std::int64_t rows);

// A one-off pair of data spaces for rows [begin, begin + rows) of a dataset.
struct RowSelection {
  Hdf5Handle memory;
  Hdf5Handle file;
};
RowSelection select_rows(hid_t dataset, const Shape& shape, std::int64_t begin, std::int64_t rows);

}  // namespace lockstep
