// Byte pair encoding of one piece: its bytes become tokens, then the pair of lowest rank is joined,
// the leftmost first, until no pair is in the table. Pieces repeat, so results are kept in a cache
// of fixed size; long pieces are merged through a heap, in time n log n.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace lockstep {

struct BpeMerge {
  std::int32_t left = 0;
  std::int32_t right = 0;
  std::int32_t result = 0;
};

// The tokens of single bytes. A vocabulary may lack some: then the byte becomes the unknown token,
// of which a row in one piece is one if `fuse_unknown`, and without such a token it is dropped.
struct BpeBytes {
  std::array<std::int32_t, 256> ids{};  // -1: no token
  std::int32_t unknown = -1;            // -1: none
  bool fuse_unknown = false;
};

// What one thread needs, about 4 MiB. Belongs to one model.
class BpeScratch {
 public:
  BpeScratch();
  ~BpeScratch();
  BpeScratch(const BpeScratch&) = delete;
  BpeScratch& operator=(const BpeScratch&) = delete;

 private:
  friend class BpeModel;
  struct State;
  std::unique_ptr<State> state_;
};

class BpeModel {
 public:
  using Words = std::unordered_map<std::string, std::int32_t>;

  // `merges` by rank; of two for the same pair the later one counts. `whole`: tokens by their
  // bytes, for models that take a piece which is a token as it is ("ignore_merges"), else empty.
  BpeModel(const BpeBytes& bytes, const std::vector<BpeMerge>& merges, Words whole);

  // Appends the ids of `piece`, which is not empty, and returns how many of its bytes were dropped.
  std::size_t encode(std::string_view piece, BpeScratch& scratch,
                     std::vector<std::int32_t>& ids) const;

 private:
  struct Slot {
    std::uint64_t pair;
    std::uint32_t rank;
    std::int32_t result;
  };
  const Slot* find(std::int32_t left, std::int32_t right) const;
  std::size_t merge(std::string_view piece, BpeScratch::State& scratch) const;
  std::size_t to_symbols(std::string_view piece, std::vector<std::int32_t>& ids) const;
  void merge_short(BpeScratch::State& scratch) const;
  void merge_long(BpeScratch::State& scratch) const;

  BpeBytes bytes_;
  std::vector<Slot> slots_;  // open addressing, a power of two
  int shift_ = 0;
  Words whole_;
};

}  // namespace lockstep
