// A shard is two read-only mappings, tokens and mask. Pages come in as samples touch them, so a
// corpus larger than memory costs no more than what is read.
#include "data/shard.h"

#include "core/error.h"
#include "data/file.h"
#include "data/hash.h"
#include "data/shard_format.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <filesystem>
#include <utility>

namespace lockstep {
namespace {

static_assert(std::endian::native == std::endian::little, "shards are little-endian");

// Files up to kWholeBytes are hashed whole, larger ones in kSampledBlocks blocks.
constexpr std::size_t kWholeBytes = std::size_t{4} << 20;
constexpr std::size_t kSampledBlocks = 16;
constexpr std::size_t kSampledBytes = std::size_t{64} << 10;

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

// Widens and returns the largest id, so that the range check costs one comparison per call.
template <typename T>
std::uint32_t widen(std::span<std::int32_t> out, const T* tokens) {
  T largest = 0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    largest = std::max(largest, tokens[i]);
    out[i] = static_cast<std::int32_t>(tokens[i]);
  }
  return largest;
}

}  // namespace

struct Shard::Mapping {
  ShardInfo info;
  Map file;
  Map mask;

  template <typename T>
  const T* tokens() const {
    return reinterpret_cast<const T*>(file.data() + kShardHeaderBytes);
  }
  std::uint32_t token(std::int64_t at) const {
    return info.bytes_per_token == 2 ? tokens<std::uint16_t>()[at] : tokens<std::uint32_t>()[at];
  }
  std::uint32_t copy(std::int64_t begin, std::span<std::int32_t> out) const {
    return info.bytes_per_token == 2 ? widen(out, tokens<std::uint16_t>() + begin)
                                     : widen(out, tokens<std::uint32_t>() + begin);
  }
  void open_tokens(const std::string& path);
  void open_mask();
  [[noreturn]] void fail_range(std::int64_t begin, std::int64_t count, std::int64_t vocab) const;
};

void Shard::Mapping::open_tokens(const std::string& path) {
  const OpenFile opened = open_for_read(path, "a token shard");
  if (opened.bytes < 0) fail(ExitCode::kData, "{}: not a regular file; shards are mapped", path);
  if (opened.bytes == 0) {
    fail(ExitCode::kData, "{}: empty file; copy it again or run `lockstep prepare`", path);
  }
  ShardHeader header{};
  const std::int64_t have = std::min(opened.bytes, kShardHeaderBytes);
  read_at(opened.fd, header.data(), static_cast<std::size_t>(have), 0, path);
  if (have < kShardHeaderBytes) {
    fail(ExitCode::kData,
         "{}: truncated or no token shard: {} bytes, less than the header's {}; copy it again or "
         "run `lockstep prepare`",
         path, have, kShardHeaderBytes);
  }
  const ShardLayout layout = parse_shard_header(header, opened.bytes, path);
  info = {path, layout.format, layout.bytes_per_token, layout.tokens, /*has_mask=*/false};
  file = Map(opened, path);
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
  while (at < begin + count && token(at) < static_cast<std::uint64_t>(vocab)) ++at;
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
  std::uint32_t largest = 0;
  for (std::int64_t at = 0; at < mapping_->info.tokens; ++at) {
    largest = std::max(largest, mapping_->token(at));
  }
  if (largest > static_cast<std::uint32_t>(kMaxHeaderCount)) {
    fail(ExitCode::kData, "{}: token {} is above 2^31 - 1; write the shard again",
         mapping_->info.path, largest);
  }
  return static_cast<std::int32_t>(largest);
}

std::string Shard::fingerprint() const {
  Hash128 hash;
  hash.add(mapping_->file.bytes().first(kShardHeaderBytes));
  hash_sampled(hash, mapping_->file.bytes());
  if (mapping_->info.has_mask) hash_sampled(hash, mapping_->mask.bytes());
  return hash.hex();
}

}  // namespace lockstep
