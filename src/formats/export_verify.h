// What export.json says of an export, and whether its files still are what it says.
#pragma once

#include <string>

namespace lockstep {

// export.json of a directory, NAME.export.json of a GGUF file; "" if there is none.
std::string export_report_path(const std::string& path);

// The digest of the checkpoint that the export was made of; "" where the report has none.
std::string exported_state_digest(const std::string& report);

// Compares the size of every file with the report, and with `checksums` its SHA-256. Throws
// UserError(kData) naming the file that differs, or saying that there is no report.
void verify_export(const std::string& path, bool checksums);

}  // namespace lockstep
