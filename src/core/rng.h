// Counter-based random numbers: every value is a pure function of (key, counter), so it is the same
// on any rank, thread and backend, and nothing has to be saved but the counter.
// Philox4x32-10: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC11.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

namespace lockstep {

// 128 random bits for one (key, counter).
std::array<std::uint32_t, 4> philox(std::uint64_t key, std::uint64_t counter_low,
                                    std::uint64_t counter_high = 0);

// A well-mixed 64-bit key from a seed and a name (FNV-1a folded through a finalizer).
std::uint64_t key_from(std::uint64_t seed, std::string_view name);

// Uniform in [0, 1): a multiple of 2^-52.
double uniform(std::uint64_t key, std::uint64_t counter);

// out[i] = standard_deviation * N(0, 1), element i from counter first + i. Uses only additions,
// multiplications, divisions and square roots (all exactly specified by IEEE 754), never libm, so
// the values are bit-identical on every machine. Inverse normal CDF: Wichura, algorithm AS 241.
void fill_normal(std::span<float> out, std::uint64_t key, std::uint64_t first,
                 float standard_deviation);

// The value of the standard normal quantile at p in (0, 1).
double normal_quantile(double p);

// A permutation of [0, n) evaluated at one index: four-round Feistel network with cycle walking,
// keyed by `key`. O(1) time and memory.
std::uint64_t permute(std::uint64_t index, std::uint64_t n, std::uint64_t key);

}  // namespace lockstep
