// Inheriting a model's shape from where its weights come from.
#include "app/init_from.h"

#include "app/config.h"
#include "app/run_setup.h"
#include "nn/model_family.h"

#include <array>
#include <filesystem>

namespace lockstep {
namespace {

struct SizeKey {
  const char* name;
  std::int64_t ModelConfig::*member;
};
// Sizes of stored tensors; seq_len is one only where positions are learned.
constexpr std::array<SizeKey, 7> kSizes = {{{"layers", &ModelConfig::layers},
                                            {"heads", &ModelConfig::heads},
                                            {"kv_heads", &ModelConfig::kv_heads},
                                            {"head_dim", &ModelConfig::head_dim},
                                            {"hidden", &ModelConfig::hidden},
                                            {"ffn", &ModelConfig::ffn},
                                            {"vocab", &ModelConfig::vocab}}};

template <typename T>
void require_same(const char* key, const T& value, const T& source, const std::string& path) {
  if (value == source) return;
  fail(ExitCode::kConfig,
       "model.{} = {}, but the weights of model.init_from = {} have {}; leave model.{} out", key,
       value, path, source, key);
}

std::string own_text(const ModelConfig& config, const ModelKey& key) {
  const auto at = config.own.find(key.name);
  return std::visit([](const auto& v) { return fmt::format("{}", v); },
                    at == config.own.end() ? key.zero : at->second);
}

// The configuration that a checkpoint holds, "" where there is none to read. What is wrong with it
// is said later, by those who need all of it.
std::string config_in(const std::string& checkpoint) {
  try {
    return is_checkpoint(checkpoint) ? CheckpointReader(checkpoint).meta().config : "";
  } catch (const UserError&) {
    return "";
  }
}

std::string newest_config(const std::string& checkpoints) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(checkpoints, ignored)) return "";
  for (const CheckpointEntry& entry : list_checkpoints(checkpoints)) {
    if (std::string config = config_in(entry.path); !config.empty()) return config;
  }
  return "";
}

// The resolved configuration of the checkpoint that the run would go on from. Any of a run's
// checkpoints will do: [model] is the same in all.
std::string checkpoint_config(const Options& options) {
  const std::string own = newest_config(options.run.dir + "/checkpoints");
  const std::string& resume = options.checkpoint.resume;
  if (!own.empty() || resume == "auto" || resume == "none") return own;
  const std::string named = config_in(resume);
  return named.empty() ? newest_config(resume + "/checkpoints") : named;
}

}  // namespace

void inherit_model(ModelConfig& model, const ModelConfig& source, const std::string& path,
                   std::int64_t tokenizer_vocab) {
  fill_absent(model, source);
  require_same("architecture", model.architecture, source.architecture, path);
  for (const SizeKey& key : kSizes) {
    require_same(key.name, model.*key.member, source.*key.member, path);
  }
  const ModelFamily& family = family_of(source);
  for (const ModelKey& key : family.own_keys()) {
    require_same(key.name.c_str(), own_text(model, key), own_text(source, key), path);
  }
  const auto ours = family.traits(model), theirs = family.traits(source);
  for (std::size_t i = 0; i < ours.size(); ++i) {
    require_same(ours[i].first.c_str(), ours[i].second, theirs[i].second, path);
  }
  const std::int64_t learned = family.learned_positions(source);
  if (learned > 0 && model.seq_len > learned) {
    fail(ExitCode::kConfig,
         "model.seq_len = {}, but model.init_from = {} has learned {} positions only; set "
         "model.seq_len to at most that",
         model.seq_len, path, learned);
  }
  if (tokenizer_vocab > model.vocab) {
    fail(ExitCode::kConfig,
         "the tokenizer of the data has {} entries, but model.init_from = {} has rows for {}; "
         "prepare the data with the model's own tokenizer",
         tokenizer_vocab, path, model.vocab);
  }
}

std::unique_ptr<ModelSource> open_init_from(Options& options, World& world, Log& log) {
  const std::string path = options.model.init_from;
  if (path.empty()) return nullptr;
  auto source =
      std::make_unique<ModelSource>(open_model_source(path, "model.init_from: ", world, log));
  agree(world, [&] {
    const DataTokenizer data = open_data_tokenizer(options.data);
    inherit_model(options.model, source->options.model, path,
                  data.tokenizer == nullptr ? 0 : data.tokenizer->vocab_size());
    if (options.data.allow_other_tokenizer || source->tokenizer == nullptr) return;
    const TokenizerOf wanted{*source->tokenizer, path + " of model.init_from"};
    if (data.tokenizer == nullptr) {
      require_vocabulary_of_shards(wanted, options.data.val, "data.val", tokenizer_mismatch());
    } else {
      require_same_vocabulary({*data.tokenizer, data.where}, wanted, tokenizer_mismatch());
    }
  });
  return source;
}

std::unique_ptr<ModelSource> open_init_from_unless_resumed(Options& options, World& world,
                                                           Log& log) {
  std::string text;
  agree(world, [&] {
    if (world.rank() == 0) text = checkpoint_config(options);
  });
  text = world.broadcast(text, 0);
  if (text.empty()) return open_init_from(options, world, log);
  agree(world, [&] {
    Options before;
    ConfigRegistry(before).load_text(text, "the checkpoint's configuration");
    if (options.model.init_from.empty() && before.model.init_from.empty()) return;
    fill_absent(options.model, before.model);
  });
  return nullptr;
}

}  // namespace lockstep
