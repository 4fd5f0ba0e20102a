// export.json: what an export wrote, of what, and what it cost.
#pragma once

#include "nn/evaluation.h"

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace lockstep {

// What pruning took out, and by which text.
struct PruningReport {
  struct Change {
    std::int64_t before = 0, after = 0;
  };
  Change ffn, heads, kv_heads;    // of every layer
  std::string rank;               // how what stays was chosen
  std::string reconstruct;        // how the rest was made up for
  std::vector<std::string> data;  // calibration shards, their fingerprint, and how many of their
  std::string fingerprint;        // tokens
  std::int64_t tokens = 0;
};

struct ExportReport {
  struct File {
    std::string name;
    std::int64_t bytes = 0;
    std::string sha256;
  };
  std::string format;        // safetensors | gguf
  std::string scheme;        // none | q8_0 | w8a16 | w8a8
  std::string dtype;         // of what is not quantized
  std::string source;        // "runs/tiny step 2000"
  std::string state_digest;  // "" where the source has none
  std::optional<PruningReport> pruning;
  std::int64_t parameters = 0;
  std::vector<File> files;             // by name
  std::vector<std::string> fallbacks;  // tensors that are stored in another type than the scheme's
  std::vector<std::string> data;       // what was judged
  std::int64_t seq_len = 0;            // tokens per sequence of the judgement
  std::optional<Evaluation> before, after;  // of the source, and of the files re-opened
  std::optional<Comparison> comparison;     // of the two, token by token
  std::vector<std::pair<std::string, std::string>> versions;

  std::int64_t bytes() const;
  double perplexity_change() const;  // percent; 0 without an evaluation
};

// Every file below `directory`, hashed, by name.
std::vector<ExportReport::File> hash_files(const std::string& directory);

// The text of export.json: the same report, the same bytes.
std::string export_report_text(const ExportReport& report);

}  // namespace lockstep
