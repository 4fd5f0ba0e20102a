// What a directory made by `lockstep prepare` looks like, for the side that writes it and the side
// that reads it: train_000000.bin, val_000000.bin, ..., tokenizer/, and while at work .prepare.tmp.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lockstep {

inline constexpr const char* kTokenizerDirectory = "tokenizer";
inline constexpr const char* kStagingDirectory = ".prepare.tmp";
inline constexpr const char* kPublishingMarker = "publishing";

// "train_000007.bin"
std::string shard_name(const std::string& split, std::int64_t number);

// True from the first rename of a publication to its last: what stands under the final names then
// is incomplete.
bool publication_unfinished(const std::string& directory);

// Names (not paths) in `directory`, sorted. Throws UserError(kData) if it cannot be read.
std::vector<std::string> names_in(const std::string& directory);

// Those of them that prepare writes: shards, masks, the tokenizer.
std::vector<std::string> prepared_outputs(const std::string& directory);

// The tokenizers beside shards: where they lie for the patterns of data.train ("weight:" may stand
// before one), each once, in order. Shards need not be there yet. Throws UserError(kConfig) for a
// weight that is none.
std::vector<std::string> tokenizer_directories(const std::vector<std::string>& patterns);

// Paths of DIR/<split>_*.bin, sorted.
std::vector<std::string> prepared_shards(const std::string& directory, const std::string& split);

}  // namespace lockstep
