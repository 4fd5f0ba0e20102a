// Writes one shard beside its final name. The header is filled in last, so a file that was cut
// short can never pass for a complete one.
#include "core/error.h"
#include "data/shard.h"
#include "data/shard_format.h"
#include "files/staged.h"

#include <algorithm>
#include <vector>

namespace lockstep {
namespace {

constexpr std::int64_t kMaskChunk = std::int64_t{1} << 20;

template <typename T>
void narrow(std::vector<std::byte>& bytes, std::span<const std::int32_t> tokens) {
  bytes.resize(tokens.size() * sizeof(T));
  auto* out = reinterpret_cast<T*>(bytes.data());
  for (std::size_t i = 0; i < tokens.size(); ++i) out[i] = static_cast<T>(tokens[i]);
}

}  // namespace

struct ShardWriter::State {
  State(const std::string& shard_path, int bytes)
      : path(shard_path), bytes_per_token(bytes), file(shard_path) {}
  std::string path;
  int bytes_per_token;
  std::int64_t tokens = 0;
  StagedFile file;
  std::unique_ptr<StagedFile> mask;
  std::vector<std::byte> buffer;
};

ShardWriter::ShardWriter(std::string path, int bytes_per_token, bool with_mask)
    : state_(std::make_unique<State>(path, bytes_per_token)) {
  const ShardHeader unfinished{};
  state_->file.append(std::as_bytes(std::span(unfinished)));
  if (with_mask) begin_mask();
}
ShardWriter::~ShardWriter() = default;

void ShardWriter::append(std::span<const std::int32_t> tokens, std::span<const std::uint8_t> mask) {
  CHECK(mask.size() == (state_->mask ? tokens.size() : 0), "{} tokens, mask of {}", tokens.size(),
        mask.size());
  const std::uint32_t limit = state_->bytes_per_token == 2 ? 0xffffu : 0x7fffffffu;
  for (const std::int32_t token : tokens) {
    CHECK(static_cast<std::uint32_t>(token) <= limit, "token {}", token);
  }
  if (state_->bytes_per_token == 2) {
    narrow<std::uint16_t>(state_->buffer, tokens);
  } else {
    narrow<std::uint32_t>(state_->buffer, tokens);
  }
  state_->file.append(state_->buffer);
  if (state_->mask) state_->mask->append(std::as_bytes(mask));
  state_->tokens += static_cast<std::int64_t>(tokens.size());
}

void ShardWriter::begin_mask() {
  CHECK(!state_->mask);
  state_->mask = std::make_unique<StagedFile>(mask_path(state_->path));
  const std::vector<std::uint8_t> ones(kMaskChunk, 1);
  for (std::int64_t left = state_->tokens; left > 0; left -= kMaskChunk) {
    const auto count = static_cast<std::size_t>(std::min(left, kMaskChunk));
    state_->mask->append(std::as_bytes(std::span(ones).first(count)));
  }
}

bool ShardWriter::has_mask() const { return state_->mask != nullptr; }

std::int64_t ShardWriter::tokens() const { return state_->tokens; }

void ShardWriter::close() {
  const ShardHeader header = make_shard_header(state_->bytes_per_token, state_->tokens);
  state_->file.write_at(0, std::as_bytes(std::span(header)));
  if (state_->mask) state_->mask->publish();  // first: a shard is never seen without its mask
  state_->file.publish();
}

}  // namespace lockstep
