// The report names files beside itself only, so a made-up one cannot make anything else be read.
#include "formats/export_verify.h"

#include "core/error.h"
#include "core/json_nesting.h"
#include "files/input_file.h"
#include "files/sha256.h"

#include <nlohmann/json.hpp>

#include <filesystem>

namespace lockstep {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::int64_t kMaxReportBytes = std::int64_t{16} << 20;
constexpr const char* kBeside = ".export.json";  // behind the name of a GGUF file

json read_report(const std::string& path) {
  const std::string text = read_file(path, kMaxReportBytes);
  check_json_nesting(text, path);
  json report = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!report.is_object()) fail(ExitCode::kData, "{}: not JSON; export the model again", path);
  return report;
}

void verify_file(const json& entry, const fs::path& folder, const std::string& report,
                 bool checksums) {
  const bool whole = entry.is_object() && entry.contains("name") && entry["name"].is_string() &&
                     entry.contains("bytes") && entry["bytes"].is_number_integer() &&
                     entry.contains("sha256") && entry["sha256"].is_string();
  if (!whole || !is_bare_name(entry["name"].get<std::string>())) {
    fail(ExitCode::kData,
         "{}: its \"files\" are not names, bytes and sha256; export the model again", report);
  }
  const std::string path = (folder / entry["name"].get<std::string>()).string();
  std::int64_t bytes = 0;
  open_regular(bytes, path);
  if (bytes != entry["bytes"].get<std::int64_t>()) {
    fail(ExitCode::kData, "{}: has {} bytes, {} says {}; export the model again", path, bytes,
         report, entry["bytes"].get<std::int64_t>());
  }
  if (checksums && sha256_file(path) != entry["sha256"].get<std::string>()) {
    fail(ExitCode::kData, "{}: its SHA-256 is not the one in {}; it is damaged, export again", path,
         report);
  }
}

// The name under which a GGUF file was exported: its own, or that behind a link to it.
std::string name_with_report(const std::string& path) {
  std::error_code ignored;
  return fs::is_regular_file(path + kBeside, ignored) ? path : behind_link(path);
}

}  // namespace

std::string export_report_path(const std::string& path) {
  std::error_code ignored;
  const std::string report = fs::is_directory(path, ignored)
                                 ? (fs::path(path) / "export.json").string()
                                 : name_with_report(path) + kBeside;
  return fs::is_regular_file(report, ignored) ? report : "";
}

std::string exported_state_digest(const std::string& report) {
  const json facts = read_report(report);
  const auto digest = facts.find("state_digest");
  return digest != facts.end() && digest->is_string() ? digest->get<std::string>() : "";
}

void verify_export(const std::string& path, bool checksums) {
  const std::string report = export_report_path(path);
  if (report.empty()) {
    fail(ExitCode::kData,
         "{}: no export.json says what its files should be; only what `lockstep "
         "export` wrote can be verified",
         path);
  }
  const json facts = read_report(report);
  if (!facts.contains("files") || !facts["files"].is_array() || facts["files"].empty()) {
    fail(ExitCode::kData, "{}: has no list \"files\"; export the model again", report);
  }
  std::error_code ignored;
  const std::string only =
      fs::is_directory(path, ignored) ? "" : fs::path(name_with_report(path)).filename().string();
  for (const json& entry : facts["files"]) {
    verify_file(entry, fs::path(report).parent_path(), report, checksums);
    if (!only.empty() && entry["name"] != only) {
      fail(ExitCode::kData, "{}: is of {}, not of {}; keep the names that the export gave", report,
           entry["name"].get<std::string>(), only);
    }
  }
}

}  // namespace lockstep
