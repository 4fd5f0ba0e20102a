// A cursor over a window of the file that never passes its end; every count is compared with the
// bytes that are left before anything of that size is made.
#include "formats/gguf_header.h"

#include "core/error.h"
#include "files/free_space.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <set>

namespace lockstep {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr std::uint32_t kOldestVersion = 2, kVersion = 3;
constexpr std::int64_t kMaxAlignment = std::int64_t{1} << 20;
// More than any model has; a file of holes could announce anything else its size allows.
constexpr std::uint64_t kMaxKeys = 1 << 16, kMaxTensors = 1 << 18, kMaxItems = 1 << 24;
constexpr std::uint64_t kMaxString = 1 << 26;
constexpr std::size_t kWindowBytes = std::size_t{1} << 20;

enum Kind : std::uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kFloat,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kDouble,
  kKinds
};
// Bytes of a value, the least a string takes.
constexpr std::array<std::uint64_t, kKinds> kSizes = {1, 1, 2, 2, 4, 4, 4, 1, 8, 0, 8, 8, 8};

// Text of a file for a message: one line, printable, not too long.
std::string shown(std::string_view text) {
  constexpr std::size_t kLongest = 80;
  std::string line(text.substr(0, kLongest));
  for (char& c : line) {
    if (c < ' ' || c > '~') c = '?';
  }
  return text.size() > kLongest ? line + "..." : line;
}

class Parser {
 public:
  Parser(const InputFile& file, GgufReader::Types types)
      : file_(file), path_(file.path()), types_(types) {}

  GgufHeader parse() {
    check_magic();
    const auto tensors = get<std::uint64_t>("the tensor count");
    const auto keys = get<std::uint64_t>("the key count");
    constexpr std::uint64_t kLeastKey = 8 + 4 + 1, kLeastTensor = 8 + 4 + 8 + 4 + 8;
    if (keys > left() / kLeastKey || keys > kMaxKeys) fail_count(keys, "keys");
    for (std::uint64_t i = 0; i < keys; ++i) parse_key();
    if (tensors > left() / kLeastTensor || tensors > kMaxTensors) fail_count(tensors, "tensors");
    header_.entries.reserve(tensors);
    for (std::uint64_t i = 0; i < tensors; ++i) parse_tensor();
    place_tensors();
    return std::move(header_);
  }

 private:
  std::uint64_t total() const { return static_cast<std::uint64_t>(file_.size()); }
  std::uint64_t left() const { return total() - at_; }

  // The next bytes, which the file has. Names and numbers come from the window, long texts and
  // arrays straight from the file.
  void take(std::span<std::byte> out) {
    if (at_ < window_begin_ || at_ + out.size() > window_begin_ + window_.size()) {
      if (out.size() >= kWindowBytes) {
        file_.read(out, static_cast<std::int64_t>(at_));
        at_ += out.size();
        return;
      }
      window_.resize(std::min<std::uint64_t>(kWindowBytes, left()));
      window_begin_ = at_;
      file_.read(window_, static_cast<std::int64_t>(at_));
    }
    if (!out.empty()) std::memcpy(out.data(), window_.data() + (at_ - window_begin_), out.size());
    at_ += out.size();
  }

  [[noreturn]] void fail_end(const std::string& what) const {
    fail(ExitCode::kData, "{}: ends within {}; it is damaged or incomplete: fetch it again", path_,
         what);
  }
  [[noreturn]] void fail_count(std::uint64_t count, const char* what) const {
    fail(ExitCode::kData, "{}: announces {} {}, more than a file of {} can hold; it is damaged",
         path_, count, what, bytes_text(file_.size()));
  }

  template <typename T>
  T get(const std::string& what) {
    if (left() < sizeof(T)) fail_end(what);
    T value;
    take(std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }

  std::string get_string(const std::string& what) {
    const auto size = get<std::uint64_t>(what);
    if (size > left() || size > kMaxString) fail_end(what);
    std::string text(size, '\0');
    take(std::as_writable_bytes(std::span(text)));
    return text;
  }

  void check_magic() {
    if (total() < 24 || get<std::uint32_t>("the magic") != kMagic) {
      fail(ExitCode::kData, "{}: is no GGUF file; give a .gguf file", path_);
    }
    const auto version = get<std::uint32_t>("the version");
    if (version >= kOldestVersion && version <= kVersion) return;
    const bool swapped = (version & 0xffffu) == 0;
    fail(ExitCode::kData, "{}: {}; convert the model again with a current llama.cpp", path_,
         swapped ? "is big-endian"
                 : fmt::format("has GGUF version {}, {} and {} are read", version, kOldestVersion,
                               kVersion));
  }

  void parse_key() {
    const std::string key = get_string("a key");
    const std::string what = fmt::format("key '{}'", shown(key));
    if (!keys_.insert(key).second) fail(ExitCode::kData, "{}: {} comes twice", path_, what);
    const auto kind = get<std::uint32_t>(what);
    if (kind == kArray) {
      parse_array(key, what);
    } else {
      header_.metadata[key] = get_value(kind, what);
    }
  }

  GgufValue get_value(std::uint32_t kind, const std::string& what) {
    switch (kind) {
      case kU8: return get<std::uint8_t>(what);
      case kI8: return get<std::int8_t>(what);
      case kU16: return get<std::uint16_t>(what);
      case kI16: return get<std::int16_t>(what);
      case kU32: return get<std::uint32_t>(what);
      case kI32: return get<std::int32_t>(what);
      case kU64: return get<std::uint64_t>(what);
      case kI64: return get<std::int64_t>(what);
      case kFloat: return get<float>(what);
      case kDouble: return get<double>(what);
      case kBool: return get<std::uint8_t>(what) != 0;
      case kString: return get_string(what);
      default: fail(ExitCode::kData, "{}: {} has unknown value type {}", path_, what, kind);
    }
  }

  template <typename T>
  GgufValue get_vector(std::uint64_t count) {
    std::vector<T> values(count);
    take(std::as_writable_bytes(std::span(values)));
    return values;
  }

  void parse_array(const std::string& key, const std::string& what) {
    const auto kind = get<std::uint32_t>(what);
    const auto count = get<std::uint64_t>(what);
    if (kind >= kKinds || kind == kArray) {
      fail(ExitCode::kData, "{}: {} is an array of type {}, which is not supported", path_, what,
           kind);
    }
    if (count > left() / kSizes[kind]) fail_end(what);
    const bool kept = kind == kString || kind == kI32 || kind == kU32 || kind == kFloat;
    if (kept && count > kMaxItems) {
      fail(ExitCode::kData, "{}: {} is an array of {} items; at most {} are read", path_, what,
           count, kMaxItems);
    }
    if (kind == kString) {
      std::vector<std::string> texts(count);
      for (std::string& text : texts) text = get_string(what);
      header_.metadata[key] = std::move(texts);
    } else if (kind == kI32) {
      header_.metadata[key] = get_vector<std::int32_t>(count);
    } else if (kind == kU32) {
      header_.metadata[key] = get_vector<std::uint32_t>(count);
    } else if (kind == kFloat) {
      header_.metadata[key] = get_vector<float>(count);
    } else {
      at_ += count * kSizes[kind];
    }
  }

  void parse_tensor() {
    GgufTensor tensor;
    tensor.name = get_string("a tensor's name");
    const std::string what = fmt::format("tensor '{}'", shown(tensor.name));
    if (tensor.name.size() > kGgufMaxName) {
      fail(ExitCode::kData, "{}: {} has a name of {} bytes, {} are allowed", path_, what,
           tensor.name.size(), kGgufMaxName);
    }
    if (!names_.insert(tensor.name).second) {
      fail(ExitCode::kData, "{}: {} comes twice", path_, what);
    }
    tensor.shape = get_shape(what);
    tensor.type = get_type(what);
    if (tensor.shape.cols() % gguf_block_values(tensor.type) != 0) {
      fail(ExitCode::kData, "{}: {} has rows of {} values, no whole number of blocks of {}", path_,
           what, tensor.shape.cols(), name_of(tensor.type));
    }
    const auto offset = get<std::uint64_t>(what);
    if (offset > total()) {
      fail(ExitCode::kData, "{}: {} lies beyond the file's end; it is damaged or incomplete", path_,
           what);
    }
    header_.entries.push_back({std::move(tensor), static_cast<std::int64_t>(offset)});
  }

  // Every element takes at least a bit, so the file's size bounds their number.
  Shape get_shape(const std::string& what) {
    const auto rank = get<std::uint32_t>(what);
    if (rank < 1 || rank > Shape::kMaxRank) {
      fail(ExitCode::kData, "{}: {} has {} dimensions; 1 to {} are supported", path_, what, rank,
           Shape::kMaxRank);
    }
    std::array<std::int64_t, Shape::kMaxRank> sizes{};
    std::uint64_t count = 1;
    for (std::uint32_t axis = 0; axis < rank; ++axis) {
      const auto size = get<std::uint64_t>(what);
      if (size == 0 || size > 8 * total() / count) {
        fail(ExitCode::kData, "{}: {} has an impossible size {} for a file of {}", path_, what,
             size, bytes_text(file_.size()));
      }
      count *= size;
      sizes[rank - 1 - axis] = static_cast<std::int64_t>(size);
    }
    return Shape(std::span<const std::int64_t>(sizes.data(), rank));
  }

  GgufType get_type(const std::string& what) {
    const auto type = static_cast<GgufType>(get<std::uint32_t>(what));
    if (is_readable(type) || types_ == GgufReader::Types::kAny) return type;
    fail(ExitCode::kData, "{}: {} is {}, which is not read; take a file of {}", path_, what,
         name_of(type), gguf_readable_types());
  }

  std::int64_t alignment() const {
    const auto at = header_.metadata.find("general.alignment");
    if (at == header_.metadata.end()) return kGgufAlignment;
    const auto* value = std::get_if<std::uint32_t>(&at->second);
    if (value == nullptr || !std::has_single_bit(*value) || *value > kMaxAlignment) {
      fail(ExitCode::kData, "{}: general.alignment must be a uint32 power of two, at most {}",
           path_, kMaxAlignment);
    }
    return *value;
  }

  // Offsets become places in the file. Tensors follow each other in the order of their infos; where
  // one of a type that nobody knows ends, only the next one tells.
  void place_tensors() {
    const std::int64_t step = alignment();
    const std::int64_t data = gguf_padded(static_cast<std::int64_t>(at_), step);
    std::int64_t expected = 0;
    bool known = true;
    for (GgufEntry& entry : header_.entries) {
      const GgufTensor& tensor = entry.tensor;
      const std::string what = fmt::format("tensor '{}'", shown(tensor.name));
      if (known ? entry.begin != expected : entry.begin < expected) {
        fail(ExitCode::kData, "{}: {} begins at offset {} of the data instead of {}; it is damaged",
             path_, what, entry.begin, expected);
      }
      const std::int64_t bytes =
          tensor.shape.rows() * gguf_row_bytes(tensor.type, tensor.shape.cols());
      known = bytes > 0;
      expected = entry.begin + gguf_padded(bytes, step);
      entry.begin += data;
      if (entry.begin > file_.size() || bytes > file_.size() - entry.begin) fail_end(what);
    }
  }

  const InputFile& file_;
  const std::string& path_;
  GgufReader::Types types_;
  std::uint64_t at_ = 0;
  std::vector<std::byte> window_;
  std::uint64_t window_begin_ = 0;
  std::set<std::string> keys_, names_;
  GgufHeader header_;
};

class Builder {
 public:
  template <typename T>
  void put(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(T));
  }
  void put_string(const std::string& text) {
    put(static_cast<std::uint64_t>(text.size()));
    bytes_ += text;
  }

  void put_value(const GgufValue& value) {
    std::visit([this](const auto& v) { put_typed(v); }, value);
  }

  std::string take() { return std::move(bytes_); }
  void pad() {
    const auto size = static_cast<std::int64_t>(bytes_.size());
    bytes_.resize(static_cast<std::size_t>(gguf_padded(size, kGgufAlignment)));
  }

 private:
  template <typename T>
  static constexpr Kind kind_of() {
    if constexpr (std::is_same_v<T, std::uint8_t>) return kU8;
    if constexpr (std::is_same_v<T, std::int8_t>) return kI8;
    if constexpr (std::is_same_v<T, std::uint16_t>) return kU16;
    if constexpr (std::is_same_v<T, std::int16_t>) return kI16;
    if constexpr (std::is_same_v<T, std::uint32_t>) return kU32;
    if constexpr (std::is_same_v<T, std::int32_t>) return kI32;
    if constexpr (std::is_same_v<T, std::uint64_t>) return kU64;
    if constexpr (std::is_same_v<T, std::int64_t>) return kI64;
    if constexpr (std::is_same_v<T, float>) return kFloat;
    if constexpr (std::is_same_v<T, double>) return kDouble;
    if constexpr (std::is_same_v<T, bool>) return kBool;
    return kString;
  }

  template <typename T>
  void put_bare(const T& value) {
    if constexpr (std::is_same_v<T, std::string>) {
      put_string(value);
    } else {
      put(value);
    }
  }
  template <typename T>
  void put_typed(const T& value) {
    put<std::uint32_t>(kind_of<T>());
    put_bare(value);
  }
  template <typename T>
  void put_typed(const std::vector<T>& values) {
    put<std::uint32_t>(kArray);
    put<std::uint32_t>(kind_of<T>());
    put(static_cast<std::uint64_t>(values.size()));
    for (const T& value : values) put_bare(value);
  }

  std::string bytes_;
};

}  // namespace

GgufHeader parse_gguf_header(const InputFile& file, GgufReader::Types types) {
  return Parser(file, types).parse();
}

std::string gguf_header_bytes(const GgufMetadata& metadata, const std::vector<GgufTensor>& tensors,
                              std::vector<std::int64_t>& offsets) {
  Builder builder;
  builder.put(kMagic);
  builder.put(kVersion);
  builder.put(static_cast<std::uint64_t>(tensors.size()));
  builder.put(static_cast<std::uint64_t>(metadata.size()));
  for (const auto& [key, value] : metadata) {
    builder.put_string(key);
    builder.put_value(value);
  }
  std::int64_t offset = 0;
  offsets.clear();
  for (const GgufTensor& tensor : tensors) {
    CHECK(tensor.name.size() <= kGgufMaxName, "{}", tensor.name);
    builder.put_string(tensor.name);
    builder.put(static_cast<std::uint32_t>(tensor.shape.rank()));
    for (int axis = tensor.shape.rank() - 1; axis >= 0; --axis) {
      builder.put(static_cast<std::uint64_t>(tensor.shape[axis]));
    }
    builder.put(static_cast<std::uint32_t>(tensor.type));
    builder.put(static_cast<std::uint64_t>(offset));
    offsets.push_back(offset);
    offset += gguf_padded(tensor.shape.rows() * gguf_row_bytes(tensor.type, tensor.shape.cols()),
                          kGgufAlignment);
  }
  builder.pad();
  return builder.take();
}

}  // namespace lockstep
