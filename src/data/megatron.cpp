// An index is: 9 bytes of magic, int64 version, 1 byte of type, int64 counts of sequences and of
// document bounds, then an int32 length and an int64 offset per sequence, and int64 document
// bounds; all little-endian, nothing aligned. No count is believed before the size agrees.
#include "data/megatron.h"

#include "core/error.h"
#include "files/input_file.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <vector>

namespace lockstep {
namespace {

constexpr std::string_view kMagic("MMIDIDX\0\0", 9);
constexpr std::int64_t kHeaderBytes = 34;
constexpr std::int64_t kVersion = 1;
constexpr std::int64_t kChunk = std::int64_t{64} << 10;  // entries that are read at once

struct Type {
  const char* name;
  TokenType type;
};
// By code, from 1; floating-point numbers are no tokens.
constexpr std::array<Type, 8> kTypes = {{{"uint8", TokenType::kUint8},
                                         {"int8", TokenType::kInt8},
                                         {"int16", TokenType::kInt16},
                                         {"int32", TokenType::kInt32},
                                         {"int64", TokenType::kInt64},
                                         {"float64", TokenType::kNone},
                                         {"float32", TokenType::kNone},
                                         {"uint16", TokenType::kUint16}}};

struct Header {
  std::int64_t version = 0;
  int code = 0;
  std::int64_t sequences = 0;
  std::int64_t bounds = 0;
};

Header parse_header(const std::array<char, kHeaderBytes>& bytes) {
  Header header;
  std::memcpy(&header.version, bytes.data() + 9, 8);
  header.code = static_cast<unsigned char>(bytes[17]);
  std::memcpy(&header.sequences, bytes.data() + 18, 8);
  std::memcpy(&header.bounds, bytes.data() + 26, 8);
  return header;
}

class Index {
 public:
  explicit Index(const std::string& path) : path_(path), file_(path, "a Megatron index") {
    std::array<char, kHeaderBytes> bytes{};
    if (file_.size() < kHeaderBytes) {
      fail(ExitCode::kData, "{}: truncated: {} bytes, less than the header's {}; copy it again",
           path_, file_.size(), kHeaderBytes);
    }
    file_.read(std::as_writable_bytes(std::span(bytes)), 0);
    header_ = parse_header(bytes);
  }
  ShardLayout layout(std::int64_t data_bytes) const {
    const Type& type = check_header();
    check_size();
    const ShardLayout layout = make_layout(type, data_bytes);
    check_sequences(data_bytes, layout.bytes_per_token);
    check_bounds();
    return layout;
  }

 private:
  const Type& check_header() const {
    if (header_.version != kVersion) {
      fail(ExitCode::kData, "{}: Megatron index of version {}; only version {} can be read", path_,
           header_.version, kVersion);
    }
    const int last = static_cast<int>(kTypes.size());
    if (header_.code < 1 || header_.code > last) {
      fail(ExitCode::kData, "{}: type code {}; known are 1 to {}: write it again", path_,
           header_.code, last);
    }
    const Type& type = kTypes[static_cast<std::size_t>(header_.code - 1)];
    if (type.type == TokenType::kNone) {
      fail(ExitCode::kData, "{}: holds {} numbers, which are no tokens; write it again", path_,
           type.name);
    }
    return type;
  }
  void check_size() const {
    const std::int64_t most = file_.size() / 8;  // so that the sum below cannot overflow
    const bool possible = header_.sequences >= 0 && header_.sequences <= most &&
                          header_.bounds >= 0 && header_.bounds <= most;
    const std::int64_t expected =
        possible ? kHeaderBytes + 12 * header_.sequences + 8 * header_.bounds : -1;
    if (expected == file_.size()) return;
    if (possible && expected + header_.sequences == file_.size()) {
      fail(ExitCode::kData, "{}: a multimodal index; only text can be read", path_);
    }
    fail(ExitCode::kData,
         "{}: {}: the header announces {} sequences and {} document bounds, which do not fill its "
         "{} bytes; copy it again",
         path_, !possible || expected > file_.size() ? "truncated" : "trailing bytes",
         header_.sequences, header_.bounds, file_.size());
  }
  ShardLayout make_layout(const Type& type, std::int64_t data_bytes) const {
    ShardLayout layout;
    layout.format = std::string("Megatron ") + type.name;
    layout.type = type.type;
    layout.bytes_per_token = bytes_of(type.type);
    layout.header_bytes = 0;
    layout.tokens = data_bytes / layout.bytes_per_token;
    return layout;
  }
  template <typename T>
  void read_entries(std::vector<T>& entries, std::int64_t begin, std::int64_t at) const {
    file_.read(std::as_writable_bytes(std::span(entries)),
               begin + at * static_cast<std::int64_t>(sizeof(T)));
  }
  void check_sequences(std::int64_t data_bytes, std::int64_t bytes_per_token) const {
    std::int64_t expected = 0;
    std::vector<std::int32_t> lengths;
    std::vector<std::int64_t> offsets;
    for (std::int64_t at = 0; at < header_.sequences; at += kChunk) {
      const auto count = static_cast<std::size_t>(std::min(kChunk, header_.sequences - at));
      lengths.resize(count);
      offsets.resize(count);
      read_entries(lengths, kHeaderBytes, at);
      read_entries(offsets, kHeaderBytes + 4 * header_.sequences, at);
      for (std::size_t i = 0; i < count; ++i) {
        const std::int64_t room = data_bytes - expected;
        if (lengths[i] < 0 || offsets[i] != expected || lengths[i] * bytes_per_token > room) {
          fail_sequence(at + static_cast<std::int64_t>(i), lengths[i], offsets[i], expected,
                        data_bytes);
        }
        expected += lengths[i] * bytes_per_token;
      }
    }
    if (expected == data_bytes) return;
    fail(ExitCode::kData,
         "{}: its sequences end at byte {}, {} has {} bytes; copy or write both again", path_,
         expected, megatron_data_path(path_), data_bytes);
  }
  void check_bounds() const {
    std::int64_t before = 0;
    std::vector<std::int64_t> bounds;
    for (std::int64_t at = 0; at < header_.bounds; at += kChunk) {
      bounds.resize(static_cast<std::size_t>(std::min(kChunk, header_.bounds - at)));
      read_entries(bounds, kHeaderBytes + 12 * header_.sequences, at);
      for (const std::int64_t bound : bounds) {
        if (bound < before || bound > header_.sequences) {
          fail(ExitCode::kData,
               "{}: a document begins at sequence {}, after one at {} and of {} in all; write it "
               "again",
               path_, bound, before, header_.sequences);
        }
        before = bound;
      }
    }
  }
  [[noreturn]] void fail_sequence(std::int64_t number, std::int64_t length, std::int64_t offset,
                                  std::int64_t expected, std::int64_t data_bytes) const {
    fail(ExitCode::kData,
         "{}: sequence {} has {} tokens at byte {}; expected at byte {} of the {} in {}: copy or "
         "write both again",
         path_, number, length, offset, expected, data_bytes, megatron_data_path(path_));
  }

  std::string path_;
  InputFile file_;
  Header header_;
};

}  // namespace

bool is_megatron_index(const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) return false;
  try {
    const InputFile file(path, "a Megatron index");
    std::array<char, kMagic.size()> head{};
    if (file.size() < static_cast<std::int64_t>(head.size())) return false;
    file.read(std::as_writable_bytes(std::span(head)), 0);
    return std::string_view(head.data(), head.size()) == kMagic;
  } catch (const UserError&) {
    return false;
  }
}

std::string megatron_index_path(const std::string& path) {
  return std::filesystem::path(path).replace_extension(".idx").string();
}

std::string megatron_data_path(const std::string& path) {
  return std::filesystem::path(path).replace_extension(".bin").string();
}

ShardLayout read_megatron_index(const std::string& path, std::int64_t data_bytes) {
  return Index(path).layout(data_bytes);
}

}  // namespace lockstep
