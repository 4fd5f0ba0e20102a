// One table of formats; detection is by magic number alone.
#include "data/shard_format.h"

#include "core/error.h"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <filesystem>
#include <string_view>

namespace lockstep {
namespace {

struct Format {
  const char* name;
  std::int32_t magic;
  std::int32_t version;
  TokenType type;
  int bytes_per_token;
};
constexpr std::array<Format, 2> kFormats = {{{"llm.c uint16", 20240520, 1, TokenType::kUint16, 2},
                                             {"llm.c uint32", 20240801, 7, TokenType::kUint32, 4}}};

struct TypeFacts {
  const char* name;
  int bytes;
};
constexpr std::array<TypeFacts, 8> kTypes = {{{"none", 0},  // by TokenType
                                              {"uint8", 1},
                                              {"int8", 1},
                                              {"uint16", 2},
                                              {"int16", 2},
                                              {"uint32", 4},
                                              {"int32", 4},
                                              {"int64", 8}}};

bool looks_like_text(std::string_view bytes) {
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 && std::isspace(byte) == 0) return false;
  }
  return true;
}

[[noreturn]] void fail_magic(const ShardHeader& header, const std::string& path) {
  const std::string_view head(reinterpret_cast<const char*>(header.data()), 64);
  if (looks_like_text(head)) {
    fail(ExitCode::kData, "{}: looks like text, not a token shard; run `lockstep prepare` on it",
         path);
  }
  fail(ExitCode::kData,
       "{}: not a token shard: it starts with the number {}, not with {} (uint16 tokens) or {} "
       "(uint32 tokens), and has no Megatron .idx beside it; make shards with `lockstep prepare`",
       path, header[0], kFormats[0].magic, kFormats[1].magic);
}

const Format& find_format(const ShardHeader& header, const std::string& path) {
  for (const Format& format : kFormats) {
    if (header[0] != format.magic) continue;
    if (header[1] != format.version) {
      fail(ExitCode::kData,
           "{}: {} shard of version {}; only version {} can be read: write it again", path,
           format.name, header[1], format.version);
    }
    return format;
  }
  fail_magic(header, path);
}

// The count that a header of -1 leaves to the file size; such a file is above 2^31 - 1 tokens.
std::int64_t count_from_size(const Format& format, std::int64_t payload, const std::string& path) {
  const std::int64_t tokens = payload / format.bytes_per_token;
  if (payload % format.bytes_per_token != 0 || tokens <= kMaxHeaderCount) {
    fail(ExitCode::kData,
         "{}: truncated: the header announces more than {} tokens, the file holds {} bytes of "
         "them; copy or prepare it again",
         path, kMaxHeaderCount, payload);
  }
  return tokens;
}

}  // namespace

int bytes_of(TokenType type) { return kTypes[static_cast<std::size_t>(type)].bytes; }
const char* name_of(TokenType type) { return kTypes[static_cast<std::size_t>(type)].name; }

bool is_shard_header(const ShardHeader& header) {
  return std::any_of(kFormats.begin(), kFormats.end(),
                     [&](const Format& format) { return header[0] == format.magic; });
}

ShardHeader make_shard_header(int bytes_per_token, std::int64_t tokens) {
  ShardHeader header{};
  for (const Format& format : kFormats) {
    if (format.bytes_per_token != bytes_per_token) continue;
    header[0] = format.magic;
    header[1] = format.version;
  }
  CHECK(header[0] != 0, "{} bytes per token", bytes_per_token);
  header[2] = tokens > kMaxHeaderCount ? -1 : static_cast<std::int32_t>(tokens);
  return header;
}

ShardLayout parse_shard_header(const ShardHeader& header, std::int64_t file_bytes,
                               const std::string& path) {
  const Format& format = find_format(header, path);
  const std::int64_t payload = file_bytes - kShardHeaderBytes;
  const std::int64_t count = header[2];
  if (count < -1) {
    fail(ExitCode::kData, "{}: the header announces {} tokens; copy or prepare it again", path,
         count);
  }
  if (count == -1) {
    return {format.name, format.type, format.bytes_per_token,
            count_from_size(format, payload, path)};
  }
  const std::int64_t expected = count * format.bytes_per_token;
  if (payload != expected) {
    fail(
        ExitCode::kData,
        "{}: {}: the header announces {} tokens ({} bytes with the header), the file has {} bytes; "
        "copy or prepare it again",
        path, payload < expected ? "truncated" : "trailing bytes", count,
        expected + kShardHeaderBytes, file_bytes);
  }
  return {format.name, format.type, format.bytes_per_token, count};
}

std::string mask_path(const std::string& path) {
  return std::filesystem::path(path).replace_extension(".mask").string();
}

}  // namespace lockstep
