// One export from begin to end, whatever its format: what can be asked for, the files under a
// hidden name, and their final names together with the report.
#pragma once

#include "formats/export.h"
#include "formats/export_report.h"
#include "formats/export_staging.h"
#include "nn/model_config.h"
#include "nn/parameters.h"

#include <string>

namespace lockstep {

// What `lockstep export` was asked for.
struct ExportRequest {
  std::string out;              // the final name
  std::string format;           // safetensors | gguf
  std::string scheme = "none";  // none | int8 | q8_0 | w8a16 | w8a8
  std::string dtype;            // fp32 | bf16 | fp16, of what is not quantized
  std::string name;             // of the model, in the files
  std::string tokenizer_pre;    // llama.cpp's name of the pre-tokenizer, or ""
  WeightFormats formats{};      // which tensor takes which format under the scheme

  bool gguf() const { return format == "gguf"; }
  ExportKind kind() const { return gguf() ? ExportKind::kFile : ExportKind::kDirectory; }
  std::string report_path() const;  // where the report will stand
};

// int8 becomes the format's own scheme. Throws UserError(kUsage) for a combination that does not
// exist.
void resolve_export(ExportRequest& request);

// A link as target becomes what it leads to. Throws UserError when the target cannot be written, or
// when this model cannot be written so; everything that is known before the long work.
void check_export(ExportRequest& request, const ModelConfig& config, bool overwrite);

// Writes the file or directory `path` and says in `report` what was written. Throws UserError.
void write_export(const std::string& path, const ExportModel& model, const ExportRequest& request,
                  ExportReport& report, const ExportProgress& progress);

// Gives what was written as `name` in `staging` its final name, and the report: inside a directory,
// beside a file. Throws UserError(kIo).
void publish_export(ExportStaging& staging, const std::string& name, const ExportRequest& request,
                    const ExportReport& report);

}  // namespace lockstep
