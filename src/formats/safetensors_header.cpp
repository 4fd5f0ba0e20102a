// Everything a header claims is compared with the file's size before it is used.
#include "formats/safetensors_header.h"

#include "core/error.h"
#include "core/json_nesting.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

namespace lockstep {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors are little-endian");

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr std::size_t kLengthBytes = 8;

using nlohmann::json;

constexpr std::array<std::pair<std::string_view, std::int64_t>, 16> kDtypes = {{
    {"F64", 8},
    {"I64", 8},
    {"U64", 8},
    {"F32", 4},
    {"I32", 4},
    {"U32", 4},
    {"F16", 2},
    {"BF16", 2},
    {"I16", 2},
    {"U16", 2},
    {"I8", 1},
    {"U8", 1},
    {"BOOL", 1},
    {"F8_E4M3", 1},
    {"F8_E5M2", 1},
    {"F8_E8M0", 1},
}};

[[noreturn]] void fail_header(const std::string& path, const std::string& what) {
  fail(ExitCode::kData, "{}: {}; the file is damaged or no safetensors file: fetch it again", path,
       what);
}

// `length` bytes, which the file has.
json read_json(const InputFile& file, std::uint64_t length) {
  std::string text(static_cast<std::size_t>(length), '\0');
  file.read(std::as_writable_bytes(std::span(text)), kLengthBytes);
  if (!text.starts_with('{')) fail_header(file.path(), "the header does not begin with '{'");
  check_json_nesting(text, file.path());
  json header = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!header.is_object()) fail_header(file.path(), "the header is not JSON");
  return header;
}

bool is_count(const json& value) { return value.is_number_unsigned(); }

// The number of elements, at most `limit`; `bad` does not return.
template <typename Bad>
std::uint64_t parse_shape(std::vector<std::int64_t>& shape, const json& dims, std::uint64_t limit,
                          const Bad& bad) {
  if (dims.size() > Shape::kMaxRank) bad("has more than four dimensions");
  std::uint64_t count = 1;
  for (const json& dim : dims) {
    if (!is_count(dim)) bad("has a shape that is no list of sizes");
    const auto size = dim.get<std::uint64_t>();
    if (size > limit || (size != 0 && count > limit / size)) bad("is larger than the file");
    count *= size;
    shape.push_back(static_cast<std::int64_t>(size));
  }
  return count;
}

HeaderEntry parse_entry(const std::string& name, const json& value, std::uint64_t data_bytes,
                        const std::string& path) {
  const auto bad = [&](const char* what) {
    fail_header(path, fmt::format("tensor '{}' {}", name, what));
  };
  if (!value.is_object() || !value.contains("dtype") || !value["dtype"].is_string() ||
      !value.contains("shape") || !value["shape"].is_array() || !value.contains("data_offsets") ||
      !value["data_offsets"].is_array() || value["data_offsets"].size() != 2) {
    bad("lacks dtype, shape or data_offsets");
  }
  HeaderEntry entry;
  entry.tensor.name = name;
  entry.tensor.dtype = value["dtype"].get<std::string>();
  const std::int64_t element = safetensors_dtype_size(entry.tensor.dtype);
  if (element == 0) bad("has a dtype that is not known");
  const std::uint64_t bytes = static_cast<std::uint64_t>(element) *
                              parse_shape(entry.tensor.shape, value["shape"], data_bytes, bad);
  const json& offsets = value["data_offsets"];
  if (!is_count(offsets[0]) || !is_count(offsets[1])) bad("has data_offsets that are no offsets");
  const auto begin = offsets[0].get<std::uint64_t>(), end = offsets[1].get<std::uint64_t>();
  if (begin > end || end > data_bytes) bad("reaches beyond the end of the file");
  if (end - begin != bytes) bad("has data_offsets that contradict its shape and dtype");
  entry.begin = static_cast<std::int64_t>(begin);
  return entry;
}

}  // namespace

std::int64_t safetensors_dtype_size(const std::string& dtype) {
  for (const auto& [name, size] : kDtypes) {
    if (name == dtype) return size;
  }
  return 0;
}

std::int64_t StoredTensor::bytes() const {
  std::int64_t bytes = safetensors_dtype_size(dtype);
  CHECK(bytes > 0, "dtype {}", dtype);
  for (const std::int64_t dim : shape) bytes *= dim;
  return bytes;
}

SafetensorsHeader parse_safetensors_header(const InputFile& file) {
  const std::string& path = file.path();
  const auto size = static_cast<std::uint64_t>(file.size());
  if (size < kLengthBytes) fail_header(path, fmt::format("has {} bytes", size));
  std::uint64_t length = 0;
  file.read(std::as_writable_bytes(std::span(&length, 1)), 0);
  if (length > kMaxHeaderBytes || length > size - kLengthBytes) {
    fail_header(path, fmt::format("announces a header of {} bytes in {}", length, size));
  }
  const json json_header = read_json(file, length);
  SafetensorsHeader header;
  header.data_begin = static_cast<std::int64_t>(kLengthBytes + length);
  const std::uint64_t data_bytes = size - kLengthBytes - length;
  for (const auto& [name, value] : json_header.items()) {
    if (name == "__metadata__") continue;
    header.entries.push_back(parse_entry(name, value, data_bytes, path));
  }
  std::stable_sort(
      header.entries.begin(), header.entries.end(), [](const HeaderEntry& a, const HeaderEntry& b) {
        return std::pair(a.begin, a.tensor.bytes()) < std::pair(b.begin, b.tensor.bytes());
      });
  std::int64_t covered = 0;
  for (const HeaderEntry& entry : header.entries) {
    if (entry.begin != covered) {
      fail_header(path, fmt::format("tensor '{}' begins at {}, where {} is due", entry.tensor.name,
                                    entry.begin, covered));
    }
    covered += entry.tensor.bytes();
  }
  if (covered != static_cast<std::int64_t>(data_bytes)) {
    fail_header(path, fmt::format("holds {} bytes that belong to no tensor",
                                  static_cast<std::int64_t>(data_bytes) - covered));
  }
  return header;
}

std::string safetensors_header_text(const std::vector<StoredTensor>& tensors) {
  nlohmann::ordered_json header;
  header["__metadata__"] = {{"format", "pt"}};
  std::int64_t offset = 0;
  for (const StoredTensor& tensor : tensors) {
    const std::int64_t end = offset + tensor.bytes();
    header[tensor.name] = {
        {"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const std::uint64_t length = text.size();
  std::string bytes(kLengthBytes, '\0');
  std::memcpy(bytes.data(), &length, kLengthBytes);
  return bytes + text;
}

}  // namespace lockstep
