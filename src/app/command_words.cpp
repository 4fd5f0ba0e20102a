// Longer phrases come first, so that what cannot be done by a flag is not proposed.
#include "app/command_words.h"

#include "core/error.h"

namespace lockstep {
namespace {

constexpr const char* kLogits = "raise memory.lm_head_chunks or lower train.micro_batch_size";
constexpr const char* kActivations = "lower train.micro_batch_size or model.seq_len";
constexpr const char* kSum = "check the sizes in [model] and train.micro_batch_size";
constexpr const char* kLength = "(model.seq_len + 1); lower model.seq_len or bring more text";

// What all of them call the same.
CommandWords with_common(CommandWords words) {
  const CommandWords common = {{"choose a smaller model.preset", "use --device=cpu"},
                               {", or raise model.vocab", ""},
                               {", or set comm.share_gpu=true", ""},
                               {"run.device=", "--device="},
                               {"data.val", "--data"}};
  words.insert(words.end(), common.begin(), common.end());
  return words;
}

}  // namespace

CommandWords eval_words() {
  return with_common({{kLogits, "lower --micro-batch-size"},
                      {kActivations, "lower --micro-batch-size or --seq-len"},
                      {kSum, "check the model's sizes and --micro-batch-size"},
                      {kLength, "(--seq-len + 1); lower --seq-len or bring more text"}});
}

CommandWords export_words() {
  return with_common({{kLogits, "use --device=cpu"},
                      {kActivations, "use --device=cpu"},
                      {kSum, "check the model's sizes"},
                      {kLength, "(the model's context + 1); bring more text"},
                      {"data.train", "--calibration"}});
}

CommandWords generate_words() {
  return with_common({{kLogits, "use --device=cpu"},
                      {kActivations, "lower --max-tokens or use --device=cpu"},
                      {kSum, "check the model's sizes"}});
}

std::string in_words_of(const CommandWords& words, std::string message) {
  for (const auto& [phrase, instead] : words) {
    for (std::size_t at = 0; (at = message.find(phrase, at)) != std::string::npos;) {
      message.replace(at, phrase.size(), instead);
      at += instead.size();
    }
  }
  return message;
}

int run_in_words_of(const CommandWords& words, const std::function<int()>& work) {
  try {
    return work();
  } catch (const CollectiveError& error) {
    throw CollectiveError(error.code(), in_words_of(words, error.what()));
  } catch (const UserError& error) {
    throw UserError(error.code(), in_words_of(words, error.what()));
  }
}

}  // namespace lockstep
