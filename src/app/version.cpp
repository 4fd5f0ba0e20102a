// Library versions: as loaded where the library can say so, as compiled where it is headers only.
#include "app/version.h"

#include "app/config.h"
#include "app/flags.h"
#include "comm/communicator.h"
#include "files/sha256.h"
#include "formats/json_keys.h"
#include "io/checkpoint.h"
#include "kernels/backend.h"

#include <fmt/core.h>
#include <lockstep_version.h>

#include <string_view>

namespace lockstep {
namespace {

// Some MPI libraries report a paragraph, or count a final NUL; the first line names them.
std::string first_line(const std::string& text) {
  return text.substr(0, text.find_first_of(std::string_view("\n\0", 2)));
}

}  // namespace

std::vector<std::pair<std::string, std::string>> library_versions() {
  const std::string nccl = nccl_version();
  std::vector<std::pair<std::string, std::string>> versions = {
      {"lockstep", fmt::format("{} (git {}, {})", kVersion, kGitRevision, kBuildType)},
      {"compiler", __VERSION__}};
  for (const Backend* backend : kBackends) {
    versions.emplace_back(backend->library, backend->status());
  }
  versions.insert(versions.end(),
                  {
                      {"NCCL", nccl.empty() ? "not in this build" : nccl},
                      {"MPI", first_line(mpi_version())},
                      {"HDF5", hdf5_version()},
                      {"OpenSSL", openssl_version()},
                      {"fmt", fmt::format("{}.{}.{}", FMT_VERSION / 10000, FMT_VERSION / 100 % 100,
                                          FMT_VERSION % 100)},
                      {"CLI11", cli11_version()},
                      {"toml++", toml_version()},
                      {"nlohmann-json", json_version()},
                  });
  return versions;
}

std::vector<std::string> version_lines() {
  std::vector<std::string> lines;
  for (const auto& [name, version] : library_versions()) {
    lines.push_back(fmt::format("{:<14} {}", name, version));
  }
  return lines;
}

}  // namespace lockstep
