// Text files to token shards, for `lockstep prepare`: streams files larger than memory, holds out
// whole documents by hash (the tail of the only one), publishes each shard complete or not at all.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace lockstep {

struct PrepareOptions {
  std::vector<std::string> inputs;  // .txt files, or "-" for standard input
  std::string out;
  std::string tokenizer = "byte";
  double val_fraction = 0.1;
  std::int64_t shard_tokens = 100'000'000;
  bool overwrite = false;
  // Called about ten times a second with bytes done and bytes in all (-1 if not known).
  std::function<void(std::int64_t done, std::int64_t total)> on_progress;
};

struct PrepareResult {
  std::int64_t documents = 0;
  std::int64_t bytes = 0;
  std::int64_t train_tokens = 0;
  std::int64_t val_tokens = 0;
  std::int64_t vocab = 0;
  std::vector<std::string> shards;  // written, in order
};

// Throws UserError: kUsage (bad option, output exists without overwrite), kData (missing, empty or
// unreadable text), kIo (disk). On any error nothing new stays under the final names.
PrepareResult prepare(const PrepareOptions& options);

}  // namespace lockstep
