// A shard is two read-only mappings, tokens and mask. Pages come in as samples touch them, so a
// corpus larger than memory costs no more than what is read.
#include "data/shard.h"

#include "core/error.h"
#include "data/file.h"
#include "data/hash.h"
#include "data/megatron.h"
#include "data/shard_format.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <filesystem>
#include <type_traits>
#include <utility>

namespace lockstep {
namespace {

static_assert(std::endian::native == std::endian::little, "shards are little-endian");

// Files up to kWholeBytes are hashed whole, larger ones in kSampledBlocks blocks.
constexpr std::size_t kWholeBytes = std::size_t{4} << 20;
constexpr std::size_t kSampledBlocks = 16;
constexpr std::size_t kSampledBytes = std::size_t{64} << 10;
constexpr std::int64_t kReadTokens = std::int64_t{64} << 10;

class Map {
 public:
  Map() = default;
  Map(const OpenFile& file, const std::string& path) : size_(static_cast<std::size_t>(file.bytes)) {
    void* data = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, file.fd.get(), 0);
    if (data == MAP_FAILED) {
      fail(ExitCode::kIo, "{}: cannot map {} bytes: {}", path, size_, errno_text(errno));
    }
    data_ = static_cast<const std::byte*>(data);
  }
  ~Map() {
    if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
  }
  Map(Map&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Map& operator=(Map&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  const std::byte* data() const { return data_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

void hash_sampled(Hash128& hash, std::span<const std::byte> bytes) {
  hash.add(static_cast<std::int64_t>(bytes.size()));
  if (bytes.size() <= kWholeBytes) {
    hash.add(bytes);
    return;
  }
  const std::size_t step = (bytes.size() - kSampledBytes) / (kSampledBlocks - 1);
  for (std::size_t block = 0; block < kSampledBlocks - 1; ++block) {
    hash.add(bytes.subspan(block * step, kSampledBytes));
  }
  hash.add(bytes.last(kSampledBytes));
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

struct Shard::Mapping {
  ShardInfo info;
  ShardLayout layout;
  Map file;
  Map mask;

  const std::byte* tokens() const { return file.data() + layout.header_bytes; }
  std::int64_t token(std::int64_t at) const {
    return with_tokens(layout.type, tokens(),
                       [&](const auto* data) { return static_cast<std::int64_t>(data[at]); });
  }
  std::uint64_t copy(std::int64_t begin, std::span<std::int32_t> out) const {
    return with_tokens(layout.type, tokens(),
                       [&](const auto* data) { return widen(out, data + begin); });
  }
  void open_tokens(const std::string& path);
  void open_headed(const OpenFile& opened, const ShardHeader& header, std::int64_t have,
                   const std::string& path);
  void open_megatron(const std::string& path);
  void open_mask();
  [[noreturn]] void fail_range(std::int64_t begin, std::int64_t count, std::int64_t vocab) const;
};

void Shard::Mapping::open_tokens(const std::string& path) {
  info.path = path;
  if (is_megatron_index(path)) {
    open_megatron(path);
  } else {
    const OpenFile opened = open_for_read(path, "a token shard");
    if (opened.bytes < 0) fail(ExitCode::kData, "{}: not a regular file; shards are mapped", path);
    if (opened.bytes == 0) {
      fail(ExitCode::kData, "{}: empty file; copy it again or run `lockstep prepare`", path);
    }
    ShardHeader header{};
    const std::int64_t have = std::min(opened.bytes, kShardHeaderBytes);
    read_at(opened.fd, header.data(), static_cast<std::size_t>(have), 0, path);
    if (!is_shard_header(header) && is_megatron_index(megatron_index_path(path))) {
      open_megatron(path);
    } else {
      open_headed(opened, header, have, path);
    }
  }
  info.format = layout.format;
  info.dtype = name_of(layout.type);
  info.bytes_per_token = layout.bytes_per_token;
  info.tokens = layout.tokens;
}

void Shard::Mapping::open_headed(const OpenFile& opened, const ShardHeader& header,
                                 std::int64_t have, const std::string& path) {
  if (have < kShardHeaderBytes) {
    fail(ExitCode::kData,
         "{}: truncated or no token shard: {} bytes, less than the header's {}; copy it again or "
         "run `lockstep prepare`",
         path, have, kShardHeaderBytes);
  }
  layout = parse_shard_header(header, opened.bytes, path);
  file = Map(opened, path);
}

void Shard::Mapping::open_megatron(const std::string& path) {
  const std::string index = is_megatron_index(path) ? path : megatron_index_path(path);
  const std::string data = index == path ? megatron_data_path(path) : path;
  const OpenFile opened = open_for_read(data, "the tokens that " + index + " describes");
  if (opened.bytes < 0) fail(ExitCode::kData, "{}: not a regular file; shards are mapped", data);
  if (opened.bytes == 0) fail(ExitCode::kData, "{}: empty file; copy it again", data);
  layout = read_megatron_index(index, opened.bytes);
  file = Map(opened, data);
}

void Shard::Mapping::open_mask() {
  const std::string path = mask_path(info.path);
  std::error_code ignored;
  if (path == info.path || !std::filesystem::exists(path, ignored)) return;
  const OpenFile opened = open_for_read(path, "a mask of one byte per token");
  if (opened.bytes != info.tokens) {
    fail(ExitCode::kData,
         "{}: mask of {} bytes beside {} with {} tokens; it needs one byte per token: write it "
         "again or remove it",
         path, opened.bytes, info.path, info.tokens);
  }
  if (opened.bytes > 0) mask = Map(opened, path);
  info.has_mask = true;
}

void Shard::Mapping::fail_range(std::int64_t begin, std::int64_t count, std::int64_t vocab) const {
  std::int64_t at = begin;
  while (at < begin + count && token(at) >= 0 && token(at) < vocab) ++at;
  fail(ExitCode::kData,
       "{}: token {} at position {} is outside the vocabulary of {}; use the tokenizer that made "
       "this shard, or raise model.vocab",
       info.path, token(at), at, vocab);
}

Shard::Shard(const std::string& path) : mapping_(std::make_unique<Mapping>()) {
  mapping_->open_tokens(path);
  mapping_->open_mask();
}
Shard::~Shard() = default;
Shard::Shard(Shard&&) noexcept = default;

const ShardInfo& Shard::info() const { return mapping_->info; }

void Shard::read(std::int64_t begin, std::span<std::int32_t> out, std::int64_t vocab) const {
  const auto count = static_cast<std::int64_t>(out.size());
  CHECK(begin >= 0 && count <= mapping_->info.tokens - begin, "[{}, +{}) of {}", begin, count,
        mapping_->info.tokens);
  CHECK(vocab > 0, "vocab {}", vocab);
  if (count == 0) return;
  const std::uint64_t largest = mapping_->copy(begin, out);
  if (largest >= static_cast<std::uint64_t>(vocab)) mapping_->fail_range(begin, count, vocab);
}

void Shard::read_mask(std::int64_t begin, std::span<std::uint8_t> out) const {
  const auto count = static_cast<std::int64_t>(out.size());
  CHECK(begin >= 0 && count <= mapping_->info.tokens - begin, "[{}, +{}) of {}", begin, count,
        mapping_->info.tokens);
  if (!mapping_->info.has_mask || count == 0) {
    std::fill(out.begin(), out.end(), std::uint8_t{1});
    return;
  }
  const auto* mask = reinterpret_cast<const std::uint8_t*>(mapping_->mask.data()) + begin;
  std::copy(mask, mask + count, out.begin());
  const auto bad = std::find_if(out.begin(), out.end(), [](std::uint8_t byte) { return byte > 1; });
  if (bad == out.end()) return;
  fail(ExitCode::kData, "{}: byte {} at position {}; a mask holds only 0 and 1: write it again",
       mask_path(mapping_->info.path), *bad, begin + (bad - out.begin()));
}

std::int32_t Shard::max_token() const {
  std::vector<std::int32_t> chunk(kReadTokens);
  std::int64_t largest = 0;
  for (std::int64_t at = 0; at < mapping_->info.tokens; at += kReadTokens) {
    const std::int64_t count = std::min(kReadTokens, mapping_->info.tokens - at);
    read(at, std::span(chunk).first(static_cast<std::size_t>(count)), kMaxHeaderCount + 1);
    largest = std::max<std::int64_t>(largest, *std::max_element(chunk.begin(), chunk.end()));
  }
  return static_cast<std::int32_t>(largest);
}

std::string Shard::fingerprint() const {
  Hash128 hash;
  if (mapping_->layout.header_bytes > 0) {
    hash.add(mapping_->file.bytes().first(kShardHeaderBytes));
  } else {
    hash.add(mapping_->info.format);  // the same bytes of another type are other tokens
  }
  hash_sampled(hash, mapping_->file.bytes());
  if (mapping_->info.has_mask) hash_sampled(hash, mapping_->mask.bytes());
  return hash.hex();
}

}  // namespace lockstep
