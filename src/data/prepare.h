// Text to token shards, for `lockstep prepare`: streams files larger than memory through encoder
// threads, holds out whole documents by hash (the tail of the only one), publishes each shard
// complete or not at all. What is written does not depend on the number of threads.
#pragma once

#include "data/tokenizer.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace lockstep {

struct PrepareOptions {
  std::vector<std::string> inputs;  // texts, .jsonl, .gz or .zst of them, "-" for standard input
  std::string out;
  std::string tokenizer = "byte";  // or what open_tokenizer() takes, or "bpe:N" to train one
  // Opens `tokenizer` with `eos_token`, as open_tokenizer() does.
  std::function<std::unique_ptr<Tokenizer>(const std::string&, const std::string&)> open =
      open_tokenizer;
  std::string pre_tokenizer;  // of "bpe:N"; "": gpt2
  std::string eos_token;      // "": what the tokenizer's files say
  std::string text_field = "text";
  int threads = 0;  // that encode; 0: one per core
  double val_fraction = 0.1;
  std::int64_t shard_tokens = 100'000'000;
  bool overwrite = false;
  // Called about ten times a second, on the calling thread, with the bytes of the files that are
  // done and those in all (-1 if not known; more than their size where they are read twice).
  std::function<void(std::int64_t done, std::int64_t total)> on_progress;
};

struct PrepareResult {
  std::int64_t documents = 0;
  std::int64_t empty_documents = 0;  // left out, empty files among them
  std::int64_t replaced = 0;         // halves of surrogate pairs in JSON, U+FFFD now
  std::int64_t dropped_bytes = 0;    // without a token in the vocabulary
  std::int64_t bytes = 0;            // of text
  std::int64_t train_tokens = 0;
  std::int64_t val_tokens = 0;
  std::int64_t masked_tokens = 0;  // of prompts, on both sides
  std::int64_t vocab = 0;
  std::string end_of_text;          // the token behind each document, "" if there is none
  std::string prefix;               // what the tokenizer would put before a text; not in the shards
  std::vector<std::string> shards;  // written, in order
};

// Throws UserError: kUsage (bad option, output exists without overwrite), kData (missing, empty,
// damaged or unreadable text, FILE:LINE for lines), kIo (disk). On any error nothing new stays
// under the final names.
PrepareResult prepare(const PrepareOptions& options);

}  // namespace lockstep
