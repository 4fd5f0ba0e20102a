// `lockstep inspect`: what a run, a checkpoint, a shard or an export holds, and whether it is
// whole.
#include "app/commands.h"

#include "core/error.h"
#include "data/shard.h"
#include "formats/export_verify.h"
#include "formats/foreign_model.h"
#include "io/checkpoint.h"
#include "trainer/run_directory.h"

#include <fmt/core.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <map>
#include <memory>
#include <optional>

namespace lockstep {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

struct InspectArguments {
  std::string path;
  std::string verify;  // "", quick, full or deep
  bool json = false;
};

std::optional<VerifyLevel> level_of(const std::string& verify) {
  if (verify.empty()) return std::nullopt;
  if (verify == "quick") return VerifyLevel::kQuick;
  if (verify == "full") return VerifyLevel::kFull;
  if (verify == "deep") return VerifyLevel::kDeep;
  fail(ExitCode::kUsage, "--verify={}: expected quick, full or deep", verify);
}

std::int64_t parameters_of(const CheckpointReader& reader) {
  std::int64_t count = 0;
  for (const StateTensor& tensor : reader.tensors()) {
    if (tensor.name.rfind("model/", 0) == 0) count += tensor.shape.count();
  }
  return count;
}

// The facts that a checkpoint and a run share.
void add_checkpoint_facts(Json& facts, const CheckpointReader& reader) {
  facts["step"] = reader.meta().step;
  facts["world_size"] = reader.meta().world_size;
  facts["parameters"] = parameters_of(reader);
  facts["state_digest"] = reader.digest();
}

Json inspect_checkpoint(const std::string& path, std::optional<VerifyLevel> level) {
  if (level) verify_checkpoint(path, *level);
  const CheckpointReader reader(path);
  const CheckpointMeta& meta = reader.meta();
  Json facts = {{"kind", "checkpoint"}, {"state", level ? "verified" : "not verified"}};
  add_checkpoint_facts(facts, reader);
  facts["updates"] = meta.updates;
  facts["tokens"] = meta.tokens;
  facts["tensors"] = reader.tensors().size();
  facts["shards"] = reader.shards();
  facts["bytes"] = reader.bytes();
  facts["loss_scale"] = meta.loss_scale;
  facts["time"] = meta.time;
  facts["git_revision"] = meta.git_revision;
  if (!meta.started_from.empty()) facts["started_from"] = meta.started_from;
  return facts;
}

// Checks every checkpoint of the run and names the damaged ones; all of them, not only the first.
std::string damaged_checkpoints(const std::string& run, VerifyLevel level) {
  std::string damage;
  for (const CheckpointEntry& entry : list_checkpoints(run + "/checkpoints")) {
    try {
      verify_checkpoint(entry.path, level);
    } catch (const UserError& error) {
      damage += (damage.empty() ? "" : "; ") + std::string(error.what());
    }
  }
  return damage;
}

Json inspect_run_directory(const std::string& path, std::optional<VerifyLevel> level) {
  const RunState run = inspect_run(path);
  Json facts = {{"kind", "run"}, {"state", run.state}, {"cause", run.cause}, {"step", run.step}};
  if (!run.newest_checkpoint.empty()) {
    add_checkpoint_facts(facts, CheckpointReader(run.newest_checkpoint));
    facts["step"] = run.step;
  }
  facts["newest_checkpoint"] = run.newest_checkpoint;
  facts["next_command"] = run.next_command;
  if (level) {
    const std::string damage = damaged_checkpoints(path, *level);
    if (!damage.empty()) fail(ExitCode::kData, "{}", damage);
    facts["checkpoints"] = "verified";
  }
  return facts;
}

Json inspect_shard(const std::string& path) {
  const Shard shard(path);
  const ShardInfo& info = shard.info();
  return {{"kind", "shard"},       {"format", info.format},
          {"tokens", info.tokens}, {"max_token", shard.max_token()},
          {"dtype", info.dtype},   {"mask", info.has_mask}};
}

// "24 x F32, 169 x BF16"
std::string stored_types(const WeightSource& weights) {
  std::map<std::string, int> counts;
  for (const SourceTensor& tensor : weights.tensors()) ++counts[tensor.stored];
  std::string text;
  for (const auto& [type, count] : counts) {
    text += fmt::format("{}{} x {}", text.empty() ? "" : ", ", count, type);
  }
  return text;
}

// An export, or a model that another program wrote in the same formats.
Json inspect_export(const std::string& path, std::optional<VerifyLevel> level) {
  const bool gguf = is_gguf(path);
  const ForeignModel model = gguf ? open_gguf(path) : open_hugging_face(path);
  if (level) verify_export(path, /*checksums=*/*level != VerifyLevel::kQuick);
  const std::string report = export_report_path(path);
  const ModelConfig& config = model.config;
  Json facts = {{"kind", "export"},
                {"state", level ? "verified" : "not verified"},
                {"format", gguf ? "gguf" : "safetensors"},
                {"architecture", config.architecture},
                {"parameters", parameter_count(config)}};
  facts["tensors"] = stored_types(*model.weights);
  facts["dtype"] = model.dtype;
  facts["layers"] = config.layers;
  facts["hidden"] = config.hidden;
  facts["vocab"] = config.vocab;
  facts["seq_len"] = config.seq_len;
  facts["int8_activations"] = model.int8_activations;
  facts["tokenizer"] =
      model.tokenizer == nullptr
          ? model.tokenizer_error
          : fmt::format("{}, {} entries", model.tokenizer->name(), model.tokenizer->vocab_size());
  if (!report.empty()) facts["state_digest"] = exported_state_digest(report);
  return facts;
}

bool looks_like_run(const fs::path& path) {
  std::error_code ignored;
  for (const char* name : {"checkpoints", "config.toml", "metrics.jsonl", "events.jsonl", "lock"}) {
    if (fs::exists(path / name, ignored)) return true;
  }
  return false;
}

Json inspect(const InspectArguments& arguments) {
  const auto level = level_of(arguments.verify);
  const std::string& path = arguments.path;
  std::error_code ignored;
  if (!fs::exists(path, ignored)) fail(ExitCode::kData, "{}: no such file or directory", path);
  if (is_gguf(path)) return inspect_export(path, level);
  if (!fs::is_directory(path, ignored)) return inspect_shard(path);
  if (is_checkpoint(path)) return inspect_checkpoint(path, level);
  if (looks_like_run(path)) return inspect_run_directory(path, level);
  if (is_hugging_face(path)) return inspect_export(path, level);
  fail(ExitCode::kData,
       "{}: neither a run, a checkpoint, an export nor a shard; give a run directory, "
       "RUN/checkpoints/step_N, a Hugging Face directory, a .gguf or a .bin file",
       path);
}

int run_inspect(const InspectArguments& arguments) {
  const Json facts = inspect(arguments);
  if (arguments.json) {
    fmt::print("{}\n", facts.dump(2, ' ', false, Json::error_handler_t::replace));
    return 0;
  }
  for (const auto& [name, value] : facts.items()) {
    const std::string text = value.is_string()
                                 ? value.get<std::string>()
                                 : value.dump(-1, ' ', false, Json::error_handler_t::replace);
    if (!text.empty()) fmt::print("{:<18} {}\n", name, text);
  }
  if (!arguments.verify.empty()) {
    fmt::print("checksums find accidents, not attackers\n");
  }
  return 0;
}

}  // namespace

Command add_inspect_command(CLI::App& app) {
  CLI::App* parser =
      app.add_subcommand("inspect", "What a run, a checkpoint, an export or a shard holds");
  auto arguments = std::make_shared<InspectArguments>();
  parser
      ->add_option("PATH", arguments->path,
                   "run, checkpoint or export directory, .gguf file or .bin shard")
      ->required()
      ->type_name("");
  parser->add_flag("--verify{quick}", arguments->verify,
                   "check it: --verify=quick (manifest and sizes; the default of a bare --verify), "
                   "full (every checksum), deep (every dataset)");
  parser->add_flag("--json", arguments->json, "print one JSON object");
  return {.parser = parser, .run = [arguments](MpiSession&) { return run_inspect(*arguments); }};
}

}  // namespace lockstep
