// `lockstep inspect`: what a run, a checkpoint, a shard or an export holds, and whether it is
// whole.
#include "app/commands.h"

#include "app/model_source.h"
#include "core/error.h"
#include "core/finite.h"
#include "data/shard.h"
#include "files/file_system.h"
#include "formats/export_verify.h"
#include "formats/foreign_model.h"
#include "formats/foreign_summary.h"
#include "io/checkpoint.h"
#include "trainer/run_directory.h"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>

namespace lockstep {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kCheckpointSums = "manifest, the SHA-256 of every file, the state digest";
constexpr const char* kExportSums = "the SHA-256 of every file in export.json";

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

// "verified" is no promise beyond this; `sums`: which checksums there are.
void add_coverage(Json& facts, std::optional<VerifyLevel> level, const std::string& sums) {
  if (!level) return;
  const bool quick = *level == VerifyLevel::kQuick, deep = *level == VerifyLevel::kDeep;
  facts["checked"] = quick ? "that all files are there, of the right size" : sums;
  if (deep) facts["checked"] = sums + ", every tensor read, every value finite";
  facts["not_checked"] = quick  ? "their contents: --verify=full reads every byte"
                         : deep ? "changes made on purpose: checksums find accidents, not attackers"
                                : "values (--verify=deep); changes made on purpose: checksums find "
                                  "accidents, not attackers";
}

// Every value of these tensors, 8 MiB at a time.
void require_finite_tensors(WeightSource& weights, const std::string& origin) {
  constexpr std::int64_t kPieceValues = std::int64_t{2} << 20;
  std::vector<float> values;
  for (const SourceTensor& tensor : weights.tensors()) {
    const std::int64_t rows = tensor.shape[0], cols = tensor.shape.count() / rows;
    const std::int64_t step = std::max<std::int64_t>(1, kPieceValues / cols);
    for (std::int64_t row = 0; row < rows; row += step) {
      values.resize(static_cast<std::size_t>(std::min(step, rows - row) * cols));
      weights.read(tensor.name, row, values);
      require_finite(values, origin, tensor.name);
    }
  }
}

void verify(const std::string& checkpoint, VerifyLevel level) {
  verify_checkpoint(checkpoint, level);
  if (level != VerifyLevel::kDeep) return;
  CheckpointReader reader(checkpoint);
  require_finite_tensors(*checkpoint_state(reader), checkpoint);
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
  if (level) verify(path, *level);
  const CheckpointReader reader(path);
  const CheckpointMeta& meta = reader.meta();
  Json facts = {{"kind", "checkpoint"}, {"state", level ? "verified" : "not verified"}};
  add_coverage(facts, level, kCheckpointSums);
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
      verify(entry.path, level);
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
    add_coverage(facts, level, kCheckpointSums);
  }
  return facts;
}

// A shard has no checksums; its header, size and every token are looked at in any case.
Json inspect_shard(const std::string& path, std::optional<VerifyLevel> level) {
  const Shard shard(path);
  const ShardInfo& info = shard.info();
  Json facts = {{"kind", "shard"},       {"format", info.format},
                {"tokens", info.tokens}, {"max_token", shard.max_token()},
                {"dtype", info.dtype},   {"mask", info.has_mask}};
  if (level) {
    facts["checked"] = "header, size, the largest token";
    facts["not_checked"] = "contents: a shard has no checksums";
  }
  return facts;
}

void add_sizes(Json& facts, std::int64_t layers, std::int64_t hidden, std::int64_t vocab,
               std::int64_t seq_len) {
  // 0: the family has no such size, or the files do not say it.
  if (layers > 0) facts["layers"] = layers;
  if (hidden > 0) facts["hidden"] = hidden;
  if (vocab > 0) facts["vocab"] = vocab;
  if (seq_len > 0) facts["seq_len"] = seq_len;
}

// Of files that are whole, but no model of ours: what is in them, and why it cannot be used.
Json inspect_foreign(const ForeignSummary& summary, const char* kind, const char* format,
                     const std::string& problem) {
  Json facts = {{"kind", kind},
                {"state", "cannot be used"},
                {"format", format},
                {"architecture", summary.architecture},
                {"parameters", summary.parameters}};
  facts["tensors"] = summary.tensors;
  if (!summary.base_model.empty()) facts["base_model"] = summary.base_model;
  add_sizes(facts, summary.layers, summary.hidden, summary.vocab, summary.seq_len);
  facts["tokenizer"] = summary.tokenizer;
  facts["problem"] = problem;
  return facts;
}

// An export, or a model that another program wrote in the same formats.
Json inspect_export(const std::string& path, std::optional<VerifyLevel> level) {
  const bool gguf = is_gguf(path);
  const char* format = gguf ? "gguf" : "safetensors";
  ForeignModel model;
  try {
    model = gguf ? open_gguf(path) : open_hugging_face(path);
  } catch (const UserError& error) {
    if (level) throw;
    return inspect_foreign(gguf ? summarize_gguf(path) : summarize_hugging_face(path), "export",
                           format, error.what());
  }
  if (level) verify_export(path, /*checksums=*/*level != VerifyLevel::kQuick);
  if (level == VerifyLevel::kDeep) require_finite_tensors(*model.weights, path);
  const std::string report = export_report_path(path);
  const ModelConfig& config = model.config;
  Json facts = {{"kind", "export"},
                {"state", level ? "verified" : "not verified"},
                {"format", format},
                {"architecture", config.architecture},
                {"parameters", parameter_count(config)}};
  add_coverage(facts, level, kExportSums);
  facts["tensors"] = stored_types(*model.weights);
  facts["dtype"] = model.dtype;
  add_sizes(facts, config.layers, config.hidden, config.vocab, config.seq_len);
  facts["int8_activations"] = model.int8_activations;
  facts["tokenizer"] =
      model.tokenizer == nullptr
          ? model.tokenizer_error
          : fmt::format("{}, {} entries", model.tokenizer->name(), model.tokenizer->vocab_size());
  facts["end_tokens"] = model.generation.eos;
  if (!report.empty()) facts["state_digest"] = exported_state_digest(report);
  return facts;
}

Json inspect_adapter(const std::string& path) {
  return inspect_foreign(summarize_adapter(path), "adapter", "safetensors",
                         "an adapter without its model: merge it into the base model first");
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
  if (!fs::is_directory(path, ignored)) return inspect_shard(path, level);
  if (is_checkpoint(path)) return inspect_checkpoint(behind_link(path), level);
  if (looks_like_run(path)) return inspect_run_directory(path, level);
  if (is_hugging_face(path)) return inspect_export(path, level);
  if (is_adapter(path)) return inspect_adapter(path);
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
  return 0;
}

}  // namespace

Command add_inspect_command(ProgramFlags& program) {
  CommandFlags flags =
      program.add_command("inspect", "What a run, a checkpoint, an export or a shard holds");
  auto arguments = std::make_shared<InspectArguments>();
  flags
      .add("PATH", &arguments->path,
           "run, checkpoint or export directory, .gguf file or .bin shard")
      .required()
      .called("");
  flags.add_switch("--verify", "full", &arguments->verify,
                   "check it: --verify=quick (names and sizes), full (every checksum; the default "
                   "of a bare --verify), deep (and every dataset and value)");
  flags.add_switch("--json", &arguments->json, "print one JSON object");
  return {.flags = flags, .run = [arguments](MpiSession&) { return run_inspect(*arguments); }};
}

}  // namespace lockstep
