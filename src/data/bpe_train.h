// Training a byte-level BPE vocabulary (Sennrich et al., arXiv 1508.07909; on bytes as GPT-2).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace lockstep {

struct BpeTrainOptions {
  std::int64_t vocab = 0;              // entries in all, the 256 bytes and the eos token included
  std::string pre_tokenizer = "gpt2";  // gpt2 | qwen2 | llama3 | deepseek
  std::string eos_token = "<|endoftext|>";
};

// Counts pre-tokens piece by piece (memory grows with the number of distinct ones only), then
// merges. The result depends on the text alone, not on pieces or threads.
class BpeTrainer {
 public:
  // Throws UserError(kUsage): unknown pre-tokenizer (nearest named), vocab below 257.
  explicit BpeTrainer(const BpeTrainOptions& options);
  ~BpeTrainer();
  // The largest position at which `text` may be cut; as Tokenizer::safe_cut.
  std::size_t safe_cut(std::string_view text) const;
  // A document, or a piece cut at safe_cut(). Thread-safe.
  void add(std::string_view text);
  // The text of tokenizer.json. `on_progress(merges done, merges in all)` may throw to stop.
  std::string finish(const std::function<void(std::int64_t, std::int64_t)>& on_progress);
  // Of tokenizer_config.json, naming the eos token.
  std::string config_text() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lockstep
