// How tokens lie in a file, whatever its format; and the 1,024-byte header that llm.c and
// modded-nanogpt put before them, read and written.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace lockstep {

inline constexpr std::int64_t kShardHeaderBytes = 1024;
inline constexpr std::int64_t kMaxHeaderCount = 0x7fffffff;  // larger counts are stored as -1

using ShardHeader = std::array<std::int32_t, 256>;

// The header of a shard with that many tokens of 2 or 4 bytes.
ShardHeader make_shard_header(int bytes_per_token, std::int64_t tokens);

enum class TokenType { kNone, kUint8, kInt8, kUint16, kInt16, kUint32, kInt32, kInt64 };

int bytes_of(TokenType type);
const char* name_of(TokenType type);  // "uint16"

struct ShardLayout {
  std::string format;
  TokenType type = TokenType::kNone;
  int bytes_per_token = 0;
  std::int64_t tokens = 0;
  std::int64_t header_bytes = kShardHeaderBytes;  // before the first token
};

// True if the header begins with one of the magic numbers.
bool is_shard_header(const ShardHeader& header);

// What header and size of a file say. Throws UserError(kData) naming `path`, what was found and
// what to do, if they are no shard or contradict each other.
ShardLayout parse_shard_header(const ShardHeader& header, std::int64_t file_bytes,
                               const std::string& path);

// NAME.mask for NAME.bin.
std::string mask_path(const std::string& path);

}  // namespace lockstep
