// Token shards on disk: found by magic, not by name. Reads and writes the two formats of llm.c and
// modded-nanogpt: 256 int32 of header ([0] magic, [1] version, [2] token count), then uint16
// (magic 20240520, version 1) or uint32 (magic 20240801, version 7) tokens, little-endian.
// A token count above 2^31 - 1 is stored as -1; the file's size then gives it. Reads Megatron-LM's
// DATA.bin with its DATA.idx, named by either, as one stream of tokens.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace lockstep {

struct ShardInfo {
  std::string path;
  std::string format;  // "llm.c uint16", "llm.c uint32" or "Megatron int32", say
  std::string dtype;   // "uint16"
  int bytes_per_token = 2;
  std::int64_t tokens = 0;
  bool has_mask = false;  // NAME.mask beside NAME.bin
};

// A shard open for reading, from any thread. 64-bit offsets everywhere.
class Shard {
 public:
  // Throws UserError(kData) naming the path: missing, wrong magic, truncated, trailing bytes, an
  // index that contradicts its tokens, a mask whose size differs from the token count.
  explicit Shard(const std::string& path);
  ~Shard();
  Shard(Shard&&) noexcept;
  Shard& operator=(Shard&&) = delete;

  const ShardInfo& info() const;
  // Copies tokens [begin, begin + out.size()). Throws UserError(kData) naming path and offset if a
  // token is not in [0, vocab), however wide it is stored.
  void read(std::int64_t begin, std::span<std::int32_t> out, std::int64_t vocab) const;
  // mask[i] = 1 where token begin + i counts as a target; all 1 without a mask file.
  void read_mask(std::int64_t begin, std::span<std::uint8_t> out) const;
  std::int32_t max_token() const;  // reads the whole file
  // SHA-256-free fingerprint material: header, size and sampled blocks, as hex (see docs).
  std::string fingerprint() const;

 private:
  struct Files;
  std::unique_ptr<Files> files_;
};

// Appends tokens and publishes the file complete: written beside its final name, synced, renamed.
class ShardWriter {
 public:
  ShardWriter(std::string path, int bytes_per_token, bool with_mask);
  ~ShardWriter();
  // `mask` has one entry per token if there is a mask file, else none.
  void append(std::span<const std::int32_t> tokens, std::span<const std::uint8_t> mask = {});
  // From here on there is a mask file; in it all tokens so far count.
  void begin_mask();
  bool has_mask() const;
  std::int64_t tokens() const;
  // Throws UserError(kIo) naming path, errno and free space.
  void close();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Expands files, globs and `prepare` directories ("DIR" means DIR/<split>_*.bin) into sorted shard
// paths. Throws UserError(kData) naming the pattern that matches nothing.
std::vector<std::string> find_shards(const std::vector<std::string>& patterns,
                                     const std::string& split);

}  // namespace lockstep
