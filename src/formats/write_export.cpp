// The only place that asks which format it is; the writers know their own.
#include "formats/write_export.h"

#include "core/error.h"
#include "files/durable.h"
#include "files/file_system.h"
#include "files/free_space.h"
#include "files/sha256.h"
#include "formats/gguf_export.h"
#include "formats/gguf_vocabulary.h"

#include <filesystem>

namespace lockstep {
namespace {

namespace fs = std::filesystem;

GgufType gguf_type(const ExportRequest& request) {
  if (request.scheme == "q8_0") return GgufType::kQ8_0;
  if (request.dtype == "bf16") return GgufType::kBF16;
  return request.dtype == "fp16" ? GgufType::kF16 : GgufType::kF32;
}

void write_file(const std::string& path, const ExportModel& model, const ExportRequest& request,
                ExportReport& report, const ExportProgress& progress) {
  const GgufExport gguf{.config = model.config,
                        .name = request.name,
                        .type = gguf_type(request),
                        .tokenizer_pre = request.tokenizer_pre,
                        .tokenizer = model.tokenizer,
                        .generation = model.generation,
                        .formats = request.formats,
                        .origin = model.origin};
  report.fallbacks = write_gguf(path, gguf, *model.weights, progress).as_f16;
  report.files = {{fs::path(request.out).filename().string(),
                   static_cast<std::int64_t>(fs::file_size(path)), sha256_file(path)}};
}

void write_directory(const std::string& path, const ExportModel& model,
                     const ExportRequest& request, ExportReport& report,
                     const ExportProgress& progress) {
  const HuggingFaceOptions options{.dtype = request.dtype,
                                   .quantize = request.scheme,
                                   .formats = request.formats,
                                   .progress = progress};
  require_free_space(fs::path(path).parent_path().string(),
                     hugging_face_bytes(model.config, options));
  make_directories(path);
  write_hugging_face(path, model, options);
  report.files = hash_files(path);
}

}  // namespace

std::string ExportRequest::report_path() const {
  return out + (gguf() ? ".export.json" : "/export.json");
}

void resolve_export(ExportRequest& request) {
  std::string& scheme = request.scheme;
  if (scheme == "int8") scheme = request.gguf() ? "q8_0" : "w8a16";
  if (scheme == "q8_0" && !request.gguf()) {
    fail(ExitCode::kUsage,
         "--quantize q8_0: is a type of GGUF; use --format gguf, or --quantize w8a16 or w8a8");
  }
  if (scheme.starts_with("w8") && request.gguf()) {
    fail(ExitCode::kUsage,
         "--quantize {}: is a scheme of safetensors; use --format safetensors, or --quantize q8_0",
         scheme);
  }
  if (!request.tokenizer_pre.empty() && !request.gguf()) {
    fail(ExitCode::kUsage, "--tokenizer-pre: names llama.cpp's pre-tokenizer; use --format gguf");
  }
  check_pre_tokenizer(request.tokenizer_pre);
  while (request.out.size() > 1 && request.out.ends_with('/')) request.out.pop_back();
}

void check_export(ExportRequest& request, const ModelConfig& config, bool overwrite) {
  request.out = behind_link(request.out);
  if (!request.gguf()) check_hugging_face(config, request.scheme);
  check_export_target(request.out, request.kind(), overwrite);
}

void write_export(const std::string& path, const ExportModel& model, const ExportRequest& request,
                  ExportReport& report, const ExportProgress& progress) {
  report.format = request.format;
  report.scheme = request.scheme;
  report.dtype = request.dtype;
  report.parameters = parameter_count(model.config);
  const auto write = request.gguf() ? write_file : write_directory;
  write(path, model, request, report, progress);
}

void publish_export(ExportStaging& staging, const std::string& name, const ExportRequest& request,
                    const ExportReport& report) {
  const std::string text = export_report_text(report);
  if (!request.gguf()) {
    write_new_file(staging.path(name) + "/export.json", text);
    staging.publish(name, request.out);
    return;
  }
  // A report without its file says nothing wrong; one of another file would.
  std::error_code ignored;
  fs::remove(request.report_path(), ignored);
  write_new_file(staging.path("report"), text);
  staging.publish(name, request.out);
  staging.publish("report", request.report_path());
}

}  // namespace lockstep
