// The pair table and the cache are flat arrays: encoding is a chain of lookups, and each should
// cost one cache line.
#include "data/bpe_model.h"

#include "core/error.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <limits>

namespace lockstep {
namespace {

constexpr std::uint64_t kNoPair = ~std::uint64_t{0};
constexpr std::uint32_t kNoRank = std::numeric_limits<std::uint32_t>::max();
constexpr std::size_t kShort = 40;      // up to here scanning for the lowest rank beats a heap
constexpr std::size_t kKept = 1 << 16;  // longer buffers are freed after use
constexpr std::size_t kCachedBytes = 58;
constexpr std::size_t kCachedIds = 16;
constexpr std::size_t kCacheSlots = 1 << 15;

std::uint64_t pair_of(std::int32_t left, std::int32_t right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
         static_cast<std::uint32_t>(right);
}

std::uint64_t mix(std::uint64_t value) {
  value *= 0x9e3779b97f4a7c15ULL;
  return value ^ value >> 32;
}

std::uint32_t hash_of(std::string_view piece) {
  std::uint64_t hash = piece.size();
  for (std::size_t pos = 0; pos < piece.size(); pos += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, piece.data() + pos, std::min<std::size_t>(8, piece.size() - pos));
    hash = mix(hash ^ word);
  }
  return static_cast<std::uint32_t>(hash >> 16);
}

// Two cache lines: the first is enough to see that a piece is not here.
struct alignas(64) CacheSlot {
  std::uint32_t hash = 0;
  std::uint8_t bytes = 0;  // 0: empty
  std::uint8_t count = 0;
  char piece[kCachedBytes];
  std::int32_t ids[kCachedIds];
};
static_assert(sizeof(CacheSlot) == 128);

}  // namespace

struct BpeScratch::State {
  void free_buffers() {
    ids = {};
    ranks = next = previous = {};
    heap = {};
  }

  std::vector<CacheSlot> cache{kCacheSlots};
  std::vector<std::int32_t> ids;  // the symbols of the piece at work
  std::vector<std::uint32_t> ranks, next, previous;
  std::vector<std::uint64_t> heap;  // rank << 32 | position
};

BpeScratch::BpeScratch() : state_(std::make_unique<State>()) {}
BpeScratch::~BpeScratch() = default;

BpeModel::BpeModel(const BpeBytes& bytes, const std::vector<BpeMerge>& merges, Words whole)
    : bytes_(bytes), whole_(std::move(whole)) {
  const std::size_t size = std::bit_ceil(std::max<std::size_t>(16, merges.size() * 3 / 2));
  shift_ = 64 - std::countr_zero(size);
  slots_.assign(size, {kNoPair, kNoRank, 0});
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const std::uint64_t pair = pair_of(merges[rank].left, merges[rank].right);
    std::size_t at = pair * 0x9e3779b97f4a7c15ULL >> shift_;
    while (slots_[at].pair != kNoPair && slots_[at].pair != pair) at = (at + 1) & (size - 1);
    slots_[at] = {pair, static_cast<std::uint32_t>(rank), merges[rank].result};
  }
}

const BpeModel::Slot* BpeModel::find(std::int32_t left, std::int32_t right) const {
  const std::uint64_t pair = pair_of(left, right);
  std::size_t at = pair * 0x9e3779b97f4a7c15ULL >> shift_;
  while (slots_[at].pair != pair) {
    if (slots_[at].pair == kNoPair) return nullptr;
    at = (at + 1) & (slots_.size() - 1);
  }
  return &slots_[at];
}

std::size_t BpeModel::encode(std::string_view piece, BpeScratch& scratch,
                             std::vector<std::int32_t>& ids) const {
  const std::int32_t only = bytes_.ids[static_cast<unsigned char>(piece[0])];
  if (piece.size() == 1 && only >= 0) {
    ids.push_back(only);
    return 0;
  }
  BpeScratch::State& state = *scratch.state_;
  if (piece.size() > kCachedBytes) {
    const std::size_t dropped = merge(piece, state);
    ids.insert(ids.end(), state.ids.begin(), state.ids.end());
    if (piece.size() > kKept) state.free_buffers();
    return dropped;
  }
  const std::uint32_t hash = hash_of(piece);
  CacheSlot& slot = state.cache[hash & (kCacheSlots - 1)];
  if (slot.hash == hash && slot.bytes == piece.size() &&
      std::memcmp(slot.piece, piece.data(), piece.size()) == 0) {
    ids.insert(ids.end(), slot.ids, slot.ids + slot.count);
    return 0;
  }
  const std::size_t dropped = merge(piece, state);
  ids.insert(ids.end(), state.ids.begin(), state.ids.end());
  if (dropped > 0 || state.ids.size() > kCachedIds) return dropped;
  slot.hash = hash;
  slot.bytes = static_cast<std::uint8_t>(piece.size());
  slot.count = static_cast<std::uint8_t>(state.ids.size());
  std::copy(piece.begin(), piece.end(), slot.piece);
  std::copy(state.ids.begin(), state.ids.end(), slot.ids);
  return 0;
}

std::size_t BpeModel::to_symbols(std::string_view piece, std::vector<std::int32_t>& ids) const {
  std::size_t dropped = 0;
  bool after_unknown = false;
  for (const char c : piece) {
    const std::int32_t id = bytes_.ids[static_cast<unsigned char>(c)];
    const bool unknown = id < 0;
    if (!unknown) {
      ids.push_back(id);
    } else if (bytes_.unknown < 0) {
      ++dropped;
    } else if (!bytes_.fuse_unknown || !after_unknown) {
      ids.push_back(bytes_.unknown);
    }
    after_unknown = unknown;
  }
  return dropped;
}

std::size_t BpeModel::merge(std::string_view piece, BpeScratch::State& scratch) const {
  scratch.ids.clear();
  if (!whole_.empty()) {
    const auto found = whole_.find(std::string(piece));
    if (found != whole_.end()) {
      scratch.ids.push_back(found->second);
      return 0;
    }
  }
  scratch.ids.reserve(piece.size());
  const std::size_t dropped = to_symbols(piece, scratch.ids);
  if (scratch.ids.empty()) return dropped;
  if (scratch.ids.size() <= kShort) {
    merge_short(scratch);
  } else {
    merge_long(scratch);
  }
  return dropped;
}

void BpeModel::merge_short(BpeScratch::State& scratch) const {
  std::vector<std::int32_t>& ids = scratch.ids;
  std::vector<std::uint32_t>& ranks = scratch.ranks;  // of the pairs (i, i + 1)
  const auto rank_at = [&](std::size_t at) {
    const Slot* slot = find(ids[at], ids[at + 1]);
    return slot == nullptr ? kNoRank : slot->rank;
  };
  ranks.resize(ids.size() - 1);
  for (std::size_t i = 0; i < ranks.size(); ++i) ranks[i] = rank_at(i);
  while (!ranks.empty()) {
    const auto best = std::min_element(ranks.begin(), ranks.end());
    if (*best == kNoRank) break;
    const auto at = static_cast<std::size_t>(best - ranks.begin());
    ids[at] = find(ids[at], ids[at + 1])->result;
    ids.erase(ids.begin() + (best - ranks.begin()) + 1);
    ranks.erase(best);
    if (at > 0) ranks[at - 1] = rank_at(at - 1);
    if (at < ranks.size()) ranks[at] = rank_at(at);
  }
}

// Symbols form a linked list; those joined to their left neighbour are marked dead. An entry of the
// heap is out of date if the pair at its position no longer has its rank.
void BpeModel::merge_long(BpeScratch::State& scratch) const {
  constexpr std::int32_t kDead = -1;
  std::vector<std::int32_t>& ids = scratch.ids;
  std::vector<std::uint64_t>& heap = scratch.heap;
  const auto count = static_cast<std::uint32_t>(ids.size());
  CHECK(ids.size() < kNoRank, "a piece of {} bytes", ids.size());
  scratch.next.resize(count);
  scratch.previous.resize(count);
  heap.clear();
  for (std::uint32_t i = 0; i < count; ++i) {
    scratch.next[i] = i + 1;
    scratch.previous[i] = i - 1;
    const Slot* slot = i + 1 < count ? find(ids[i], ids[i + 1]) : nullptr;
    if (slot != nullptr) heap.push_back(std::uint64_t{slot->rank} << 32 | i);
  }
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  const auto push = [&](std::uint32_t at) {
    const Slot* slot = find(ids[at], ids[scratch.next[at]]);
    if (slot == nullptr) return;
    heap.push_back(std::uint64_t{slot->rank} << 32 | at);
    std::push_heap(heap.begin(), heap.end(), std::greater<>());
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const std::uint64_t entry = heap.back();
    heap.pop_back();
    const auto at = static_cast<std::uint32_t>(entry);
    const std::uint32_t right = scratch.next[at];
    if (ids[at] == kDead || right >= count) continue;
    const Slot* slot = find(ids[at], ids[right]);
    if (slot == nullptr || slot->rank != entry >> 32) continue;
    ids[at] = slot->result;
    ids[right] = kDead;
    scratch.next[at] = scratch.next[right];
    if (scratch.next[at] < count) {
      scratch.previous[scratch.next[at]] = at;
      push(at);
    }
    if (at > 0) push(scratch.previous[at]);
  }
  std::erase(ids, kDead);
}

}  // namespace lockstep
