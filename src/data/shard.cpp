// A shard is two open files, tokens and mask, read where samples lie: a corpus larger than memory
// costs no more than what is read, and one that is cut short in use is an error with its name.
#include "data/shard.h"

#include "core/error.h"
#include "data/hash.h"
#include "data/megatron.h"
#include "data/shard_format.h"
#include "files/input_file.h"

#include <algorithm>
#include <bit>
#include <filesystem>
#include <type_traits>
#include <vector>

namespace lockstep {
namespace {

static_assert(std::endian::native == std::endian::little, "shards are little-endian");

// Files up to kWholeBytes are hashed whole, larger ones in kSampledBlocks blocks.
constexpr std::size_t kWholeBytes = std::size_t{4} << 20;
constexpr std::size_t kSampledBlocks = 16;
constexpr std::size_t kSampledBytes = std::size_t{64} << 10;
constexpr std::int64_t kReadTokens = std::int64_t{64} << 10;

std::vector<std::byte> read_bytes(const InputFile& file, std::int64_t begin, std::size_t size) {
  std::vector<std::byte> bytes(size);
  file.read(bytes, begin);
  return bytes;
}

void hash_sampled(Hash128& hash, const InputFile& file) {
  const auto size = static_cast<std::size_t>(file.size());
  hash.add(file.size());
  if (size <= kWholeBytes) {
    hash.add(read_bytes(file, 0, size));
    return;
  }
  const std::size_t step = (size - kSampledBytes) / (kSampledBlocks - 1);
  for (std::size_t block = 0; block < kSampledBlocks - 1; ++block) {
    hash.add(read_bytes(file, static_cast<std::int64_t>(block * step), kSampledBytes));
  }
  hash.add(read_bytes(file, static_cast<std::int64_t>(size - kSampledBytes), kSampledBytes));
}

// As an id, sign-extended: a negative token is larger than any vocabulary.
template <typename T>
auto as_unsigned(T token) {
  if constexpr (std::is_unsigned_v<T>) {
    return token;
  } else {
    using Wide = std::conditional_t<sizeof(T) <= 4, std::int32_t, std::int64_t>;
    return static_cast<std::make_unsigned_t<Wide>>(Wide{token});
  }
}

// Widens and returns the largest id, so that the range check costs one comparison per call.
template <typename T>
std::uint64_t widen(std::span<std::int32_t> out, const T* tokens) {
  decltype(as_unsigned(T{})) largest = 0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    largest = std::max(largest, as_unsigned(tokens[i]));
    out[i] = static_cast<std::int32_t>(tokens[i]);
  }
  return largest;
}

// Calls use(pointer) with the tokens as what they are.
template <typename Use>
auto with_tokens(TokenType type, const std::byte* data, Use&& use) {
  switch (type) {
    case TokenType::kUint8: return use(reinterpret_cast<const std::uint8_t*>(data));
    case TokenType::kInt8: return use(reinterpret_cast<const std::int8_t*>(data));
    case TokenType::kUint16: return use(reinterpret_cast<const std::uint16_t*>(data));
    case TokenType::kInt16: return use(reinterpret_cast<const std::int16_t*>(data));
    case TokenType::kUint32: return use(reinterpret_cast<const std::uint32_t*>(data));
    case TokenType::kInt32: return use(reinterpret_cast<const std::int32_t*>(data));
    case TokenType::kInt64: return use(reinterpret_cast<const std::int64_t*>(data));
    case TokenType::kNone: break;
  }
  check_failed("type", __FILE__, __LINE__, "tokens without a type");
}

}  // namespace

struct Shard::Files {
  ShardInfo info;
  ShardLayout layout;
  std::unique_ptr<InputFile> tokens;
  std::unique_ptr<InputFile> mask;  // null: every token counts

  // Widened; returns the largest id.
  std::uint64_t copy(std::int64_t begin, std::span<std::int32_t> out) const {
    const auto width = static_cast<std::size_t>(layout.bytes_per_token);
    const auto bytes = read_bytes(*tokens, layout.header_bytes + begin * layout.bytes_per_token,
                                  out.size() * width);
    return with_tokens(layout.type, bytes.data(),
                       [&](const auto* data) { return widen(out, data); });
  }
  std::int64_t token(std::int64_t at) const {
    const auto bytes = read_bytes(*tokens, layout.header_bytes + at * layout.bytes_per_token,
                                  static_cast<std::size_t>(layout.bytes_per_token));
    return with_tokens(layout.type, bytes.data(),
                       [](const auto* data) { return static_cast<std::int64_t>(*data); });
  }
  void open_tokens(const std::string& path);
  void open_headed(const ShardHeader& header, std::int64_t have);
  void open_megatron(const std::string& path);
  void open_mask();
  [[noreturn]] void fail_range(std::int64_t begin, std::int64_t count, std::int64_t vocab) const;
};

void Shard::Files::open_tokens(const std::string& path) {
  info.path = path;
  if (is_megatron_index(path)) {
    open_megatron(path);
  } else {
    tokens = std::make_unique<InputFile>(path, "a token shard");
    if (tokens->size() == 0) {
      fail(ExitCode::kData, "{}: empty file; copy it again or run `lockstep prepare`", path);
    }
    ShardHeader header{};
    const std::int64_t have = std::min(tokens->size(), kShardHeaderBytes);
    tokens->read(std::as_writable_bytes(std::span(header)).first(static_cast<std::size_t>(have)),
                 0);
    if (!is_shard_header(header) && is_megatron_index(megatron_index_path(path))) {
      open_megatron(path);
    } else {
      open_headed(header, have);
    }
  }
  info.format = layout.format;
  info.dtype = name_of(layout.type);
  info.bytes_per_token = layout.bytes_per_token;
  info.tokens = layout.tokens;
}

void Shard::Files::open_headed(const ShardHeader& header, std::int64_t have) {
  if (have < kShardHeaderBytes) {
    fail(ExitCode::kData,
         "{}: truncated or no token shard: {} bytes, less than the header's {}; copy it again or "
         "run `lockstep prepare`",
         info.path, have, kShardHeaderBytes);
  }
  layout = parse_shard_header(header, tokens->size(), info.path);
}

void Shard::Files::open_megatron(const std::string& path) {
  const std::string index = is_megatron_index(path) ? path : megatron_index_path(path);
  const std::string data = index == path ? megatron_data_path(path) : path;
  tokens = std::make_unique<InputFile>(data, "the tokens that " + index + " describes");
  if (tokens->size() == 0) fail(ExitCode::kData, "{}: empty file; copy it again", data);
  layout = read_megatron_index(index, tokens->size());
}

void Shard::Files::open_mask() {
  const std::string path = mask_path(info.path);
  std::error_code ignored;
  if (path == info.path || !std::filesystem::exists(path, ignored)) return;
  mask = std::make_unique<InputFile>(path, "a mask of one byte per token");
  if (mask->size() != info.tokens) {
    fail(ExitCode::kData,
         "{}: mask of {} bytes beside {} with {} tokens; it needs one byte per token: write it "
         "again or remove it",
         path, mask->size(), info.path, info.tokens);
  }
  info.has_mask = true;
}

void Shard::Files::fail_range(std::int64_t begin, std::int64_t count, std::int64_t vocab) const {
  std::int64_t at = begin;
  while (at < begin + count && token(at) >= 0 && token(at) < vocab) ++at;
  fail(ExitCode::kData,
       "{}: token {} at position {} is outside the vocabulary of {}; use the tokenizer that made "
       "this shard, or raise model.vocab",
       info.path, token(at), at, vocab);
}

Shard::Shard(const std::string& path) : files_(std::make_unique<Files>()) {
  files_->open_tokens(path);
  files_->open_mask();
}
Shard::~Shard() = default;
Shard::Shard(Shard&&) noexcept = default;

const ShardInfo& Shard::info() const { return files_->info; }

void Shard::read(std::int64_t begin, std::span<std::int32_t> out, std::int64_t vocab) const {
  const auto count = static_cast<std::int64_t>(out.size());
  CHECK(begin >= 0 && count <= files_->info.tokens - begin, "[{}, +{}) of {}", begin, count,
        files_->info.tokens);
  CHECK(vocab > 0, "vocab {}", vocab);
  if (count == 0) return;
  const std::uint64_t largest = files_->copy(begin, out);
  if (largest >= static_cast<std::uint64_t>(vocab)) files_->fail_range(begin, count, vocab);
}

void Shard::read_mask(std::int64_t begin, std::span<std::uint8_t> out) const {
  const auto count = static_cast<std::int64_t>(out.size());
  CHECK(begin >= 0 && count <= files_->info.tokens - begin, "[{}, +{}) of {}", begin, count,
        files_->info.tokens);
  if (!files_->info.has_mask || count == 0) {
    std::fill(out.begin(), out.end(), std::uint8_t{1});
    return;
  }
  files_->mask->read(std::as_writable_bytes(out), begin);
  const auto bad = std::find_if(out.begin(), out.end(), [](std::uint8_t byte) { return byte > 1; });
  if (bad == out.end()) return;
  fail(ExitCode::kData, "{}: byte {} at position {}; a mask holds only 0 and 1: write it again",
       mask_path(files_->info.path), *bad, begin + (bad - out.begin()));
}

std::int32_t Shard::max_token() const {
  std::vector<std::int32_t> chunk(kReadTokens);
  std::int64_t largest = 0;
  for (std::int64_t at = 0; at < files_->info.tokens; at += kReadTokens) {
    const std::int64_t count = std::min(kReadTokens, files_->info.tokens - at);
    read(at, std::span(chunk).first(static_cast<std::size_t>(count)), kMaxHeaderCount + 1);
    largest = std::max<std::int64_t>(largest, *std::max_element(chunk.begin(), chunk.end()));
  }
  return static_cast<std::int32_t>(largest);
}

std::string Shard::fingerprint() const {
  Hash128 hash;
  if (files_->layout.header_bytes > 0) {
    hash.add(read_bytes(*files_->tokens, 0, kShardHeaderBytes));
  } else {
    hash.add(files_->info.format);  // the same bytes of another type are other tokens
  }
  hash_sampled(hash, *files_->tokens);
  if (files_->info.has_mask) hash_sampled(hash, *files_->mask);
  return hash.hex();
}

}  // namespace lockstep
