// HDF5 types and attributes. An attribute is read only after its type and size are known to match,
// so nothing in a file decides how much memory is written.
#include "io/hdf5_types.h"

#include <bit>
#include <cstring>

namespace lockstep {
namespace {

static_assert(std::endian::native == std::endian::little,
              "checkpoints are little-endian and copied from memory as they are");

struct FloatFormat {
  std::size_t exponent_bits;
  std::size_t mantissa_bits;
  std::size_t bias;
};

Hdf5Handle custom_float(const FloatFormat& format) {
  Hdf5Handle type(H5Tcopy(H5T_IEEE_F32LE), H5Tclose);
  const std::size_t sign = format.exponent_bits + format.mantissa_bits;
  const bool done = H5Tset_fields(type.id(), sign, format.mantissa_bits, format.exponent_bits, 0,
                                  format.mantissa_bits) >= 0 &&
                    H5Tset_precision(type.id(), sign + 1) >= 0 &&
                    H5Tset_ebias(type.id(), format.bias) >= 0 &&
                    H5Tset_size(type.id(), (sign + 1) / 8) >= 0;
  CHECK(done, "HDF5 refuses a 16-bit float: {}", hdf5_error());
  return type;
}

Hdf5Handle text_type(std::size_t size) {
  Hdf5Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
  CHECK(H5Tset_size(type.id(), size) >= 0 && H5Tset_strpad(type.id(), H5T_STR_NULLPAD) >= 0);
  return type;
}

// dims empty: a scalar.
struct Attribute {
  hid_t type;
  std::vector<hsize_t> dims;
};

bool write(hid_t object, const char* name, const Attribute& what, const void* data) {
  const Hdf5Handle space(what.dims.empty() ? H5Screate(H5S_SCALAR)
                                           : H5Screate_simple(static_cast<int>(what.dims.size()),
                                                              what.dims.data(), nullptr),
                         H5Sclose);
  if (!space) return false;
  const Hdf5Handle attribute(
      H5Acreate2(object, name, what.type, space.id(), H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  return attribute && H5Awrite(attribute.id(), what.type, data) >= 0;
}

// `out` holds the bytes that `what` describes.
bool read(void* out, hid_t object, const char* name, const Attribute& what) {
  if (H5Aexists(object, name) <= 0) return false;
  const Hdf5Handle attribute(H5Aopen(object, name, H5P_DEFAULT), H5Aclose);
  if (!attribute) return false;
  const Hdf5Handle type(H5Aget_type(attribute.id()), H5Tclose);
  const Hdf5Handle space(H5Aget_space(attribute.id()), H5Sclose);
  if (!type || !space || H5Tequal(type.id(), what.type) <= 0) return false;
  if (H5Sget_simple_extent_type(space.id()) != (what.dims.empty() ? H5S_SCALAR : H5S_SIMPLE) ||
      H5Sget_simple_extent_ndims(space.id()) != static_cast<int>(what.dims.size())) {
    return false;
  }
  std::vector<hsize_t> dims(what.dims.size());
  if (!dims.empty()) H5Sget_simple_extent_dims(space.id(), dims.data(), nullptr);
  return dims == what.dims && H5Aread(attribute.id(), what.type, out) >= 0;
}

}  // namespace

Hdf5Handle hdf5_type(DType dtype) {
  switch (dtype) {
    case DType::kF64: return {H5Tcopy(H5T_IEEE_F64LE), H5Tclose};
    case DType::kF32: return {H5Tcopy(H5T_IEEE_F32LE), H5Tclose};
    case DType::kI32: return {H5Tcopy(H5T_STD_I32LE), H5Tclose};
    case DType::kI64: return {H5Tcopy(H5T_STD_I64LE), H5Tclose};
    case DType::kU8: return {H5Tcopy(H5T_STD_U8LE), H5Tclose};
    case DType::kBF16: return custom_float({.exponent_bits = 8, .mantissa_bits = 7, .bias = 127});
    case DType::kF16: return custom_float({.exponent_bits = 5, .mantissa_bits = 10, .bias = 15});
  }
  return {};
}

bool write_attribute(hid_t object, const char* name, const std::vector<std::int64_t>& values) {
  return write(object, name, {H5T_STD_I64LE, {values.size()}}, values.data());
}

bool write_attribute(hid_t object, const char* name, std::int64_t value) {
  return write(object, name, {H5T_STD_I64LE, {}}, &value);
}

bool write_attribute(hid_t object, const char* name, std::uint32_t value) {
  return write(object, name, {H5T_STD_U32LE, {}}, &value);
}

bool write_attribute(hid_t object, const char* name, std::string_view text) {
  const Hdf5Handle type = text_type(text.size());
  return write(object, name, {type.id(), {}}, text.data());
}

bool attribute_is(hid_t object, const char* name, const std::vector<std::int64_t>& values) {
  std::vector<std::int64_t> stored(values.size());
  return read(stored.data(), object, name, {H5T_STD_I64LE, {values.size()}}) && stored == values;
}

bool attribute_is(hid_t object, const char* name, std::int64_t value) {
  std::int64_t stored = 0;
  return read(&stored, object, name, {H5T_STD_I64LE, {}}) && stored == value;
}

bool attribute_is(hid_t object, const char* name, std::string_view text) {
  const Hdf5Handle type = text_type(text.size());
  std::string stored(text.size(), '\0');
  return read(stored.data(), object, name, {type.id(), {}}) && stored == text;
}

bool read_attribute(std::uint32_t& value, hid_t object, const char* name) {
  return read(&value, object, name, {H5T_STD_U32LE, {}});
}

std::vector<hsize_t> range_dims(const Shape& shape, std::int64_t rows) {
  std::vector<hsize_t> dims = {static_cast<hsize_t>(rows)};
  for (int axis = 1; axis < shape.rank(); ++axis) {
    dims.push_back(static_cast<hsize_t>(shape[axis]));
  }
  return dims;
}

RowSelection select_rows(hid_t dataset, const Shape& shape, std::int64_t begin, std::int64_t rows) {
  const std::vector<hsize_t> dims = range_dims(shape, rows);
  std::vector<hsize_t> start(dims.size(), 0);
  start[0] = static_cast<hsize_t>(begin);
  RowSelection selection{{H5Screate_simple(shape.rank(), dims.data(), nullptr), H5Sclose},
                         {H5Dget_space(dataset), H5Sclose}};
  const bool done = selection.memory && selection.file &&
                    H5Sselect_hyperslab(selection.file.id(), H5S_SELECT_SET, start.data(), nullptr,
                                        dims.data(), nullptr) >= 0;
  CHECK(done, "rows {}+{} of {}: {}", begin, rows, shape.str(), hdf5_error());
  return selection;
}

}  // namespace lockstep
