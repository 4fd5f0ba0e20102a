// export.json. No time and no machine stands in it: the same export gives the same bytes.
#include "formats/export_report.h"

#include "files/sha256.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>

namespace lockstep {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

double percent(double after, double before) { return 100.0 * (after / before - 1.0); }

Json compared(double before, double after) {
  return {{"before", before}, {"after", after}, {"change_percent", percent(after, before)}};
}

void add_evaluation(Json& out, const ExportReport& report) {
  if (!report.before || !report.after) {
    out["loss"] = out["perplexity"] = out["accuracy"] = out["tokens"] = out["comparison"] = nullptr;
    out["evaluation"] = "skipped: no data was given, and the source names none";
    return;
  }
  const Evaluation &before = *report.before, &after = *report.after;
  out["loss"] = compared(before.loss, after.loss);
  out["perplexity"] = compared(before.perplexity(), after.perplexity());
  out["accuracy"] = {{"before", before.accuracy}, {"after", after.accuracy}};
  out["tokens"] = after.tokens;
  out["comparison"] = report.comparison ? Json::parse(comparison_json(*report.comparison)) : Json();
  out["evaluation"] = {{"data", report.data}, {"seq_len", report.seq_len}};
}

Json pruning_json(const PruningReport& pruning) {
  Json out;
  for (const auto& [name, change] :
       {std::pair{"ffn", pruning.ffn}, {"heads", pruning.heads}, {"kv_heads", pruning.kv_heads}}) {
    out[name] = {{"before", change.before}, {"after", change.after}};
  }
  out["rank"] = pruning.rank;
  out["reconstruct"] = pruning.reconstruct;
  out["calibration"] = {
      {"data", pruning.data}, {"fingerprint", pruning.fingerprint}, {"tokens", pruning.tokens}};
  return out;
}

}  // namespace

std::int64_t ExportReport::bytes() const {
  std::int64_t sum = 0;
  for (const File& file : files) sum += file.bytes;
  return sum;
}

double ExportReport::perplexity_change() const {
  return before && after ? percent(after->perplexity(), before->perplexity()) : 0.0;
}

std::vector<ExportReport::File> hash_files(const std::string& directory) {
  std::vector<ExportReport::File> files;
  for (const auto& entry : fs::recursive_directory_iterator(directory)) {
    if (!entry.is_regular_file()) continue;
    const std::string path = entry.path().string();
    files.push_back({entry.path().lexically_relative(directory).string(),
                     static_cast<std::int64_t>(entry.file_size()), sha256_file(path)});
  }
  std::sort(files.begin(), files.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  return files;
}

std::string export_report_text(const ExportReport& report) {
  Json out;
  out["format"] = report.format;
  out["scheme"] = report.scheme;
  out["dtype"] = report.dtype;
  out["source"] = report.source;
  out["state_digest"] = report.state_digest.empty() ? Json() : Json(report.state_digest);
  out["pruning"] = report.pruning ? pruning_json(*report.pruning) : Json();
  out["parameters"] = report.parameters;
  out["bytes"] = report.bytes();
  add_evaluation(out, report);
  out["fallbacks"] = report.fallbacks;
  out["files"] = Json::array();
  for (const ExportReport::File& file : report.files) {
    out["files"].push_back({{"name", file.name}, {"bytes", file.bytes}, {"sha256", file.sha256}});
  }
  for (const auto& [name, version] : report.versions) out["versions"][name] = version;
  return out.dump(2, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace) + "\n";
}

}  // namespace lockstep
