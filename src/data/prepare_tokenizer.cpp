// "bpe:N" makes a trainer; everything else is opened.
#include "data/prepare_tokenizer.h"

#include "core/error.h"

#include <charconv>
#include <string_view>

namespace lockstep {
namespace {

constexpr std::string_view kTrained = "bpe:";

std::unique_ptr<BpeTrainer> make_trainer(const PrepareOptions& options) {
  const std::string_view count = std::string_view(options.tokenizer).substr(kTrained.size());
  BpeTrainOptions training;
  const auto [end, error] =
      std::from_chars(count.data(), count.data() + count.size(), training.vocab);
  if (error != std::errc{} || end != count.data() + count.size()) {
    fail(ExitCode::kUsage, "--tokenizer {}: '{}' is no number of entries; give bpe:32000, say",
         options.tokenizer, count);
  }
  if (!options.pre_tokenizer.empty()) training.pre_tokenizer = options.pre_tokenizer;
  if (!options.eos_token.empty()) training.eos_token = options.eos_token;
  return std::make_unique<BpeTrainer>(training);
}

std::unique_ptr<Tokenizer> open_existing(const PrepareOptions& options) {
  if (!options.pre_tokenizer.empty()) {
    fail(ExitCode::kUsage,
         "--pre-tokenizer {}: only for a tokenizer that is trained here (--tokenizer bpe:N); leave "
         "it out",
         options.pre_tokenizer);
  }
  if (options.tokenizer == "byte" && !options.eos_token.empty()) {
    fail(ExitCode::kUsage,
         "--eos-token {}: bytes have no end-of-text token; leave it out or choose another "
         "--tokenizer",
         options.eos_token);
  }
  auto tokenizer = options.open(options.tokenizer, options.eos_token);
  if (tokenizer->end_of_text() < 0 && tokenizer->name() != "byte") {
    fail(ExitCode::kUsage,
         "--tokenizer {}: no tokenizer_config.json names its end-of-text token, which separates "
         "documents; give --eos-token TEXT",
         options.tokenizer);
  }
  return tokenizer;
}

}  // namespace

PrepareTokenizer open_prepare_tokenizer(const PrepareOptions& options) {
  PrepareTokenizer result;
  if (options.tokenizer.starts_with(kTrained)) {
    result.trainer = make_trainer(options);
  } else {
    result.tokenizer = open_existing(options);
  }
  return result;
}

}  // namespace lockstep
