// `lockstep doctor`: what this build and this machine can do, and whether the ranks reach each
// other. Everything is gathered first and printed once, by rank 0; a session that cannot be opened
// is part of the report and decides the exit code.
#include "app/commands.h"

#include "app/cpu_share.h"
#include "app/session.h"
#include "app/slurm.h"
#include "app/timed_all_reduce.h"
#include "app/version.h"
#include "core/error.h"
#include "kernels/backend.h"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>
#include <vector>

namespace lockstep {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

// The value after "key :" in /proc/cpuinfo; "" if there is none.
std::string cpuinfo(const std::string& key) {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(": ");
    if (line.rfind(key, 0) == 0 && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "";
}

// The vector instruction sets that matter to the kernels, of those the processor has.
std::string instruction_sets() {
  std::istringstream flags(cpuinfo("flags"));
  std::string found;
  for (std::string flag; flags >> flag;) {
    for (const char* known : {"avx2", "fma", "f16c", "avx512f", "avx512_bf16", "amx_bf16"}) {
      if (flag == known) found += (found.empty() ? "" : " ") + flag;
    }
  }
  return found;
}

Json cpu_facts() {
  const CoreList cores = usable_cores();
  std::size_t cpus = 0;
  for (const auto& core : cores) cpus += core.size();
  return {{"model", cpuinfo("model name")},
          {"cores", cores.size()},
          {"logical_cpus", cpus},
          {"isa", instruction_sets()}};
}

Json gpu_facts() {
  Json gpus = Json::array();
  for (const Backend* backend : accelerators()) {
    for (int i = 0; i < backend->count(); ++i) {
      const DeviceInfo info = backend->info(i);
      gpus.push_back({{"ordinal", i},
                      {"name", info.name},
                      {"uuid", info.uuid},
                      {"memory_bytes", info.memory},
                      {"peak_flops", info.peak_flops}});
    }
  }
  return gpus;
}

Json backend_facts() {
  Json backends = {kCpuBackend.name};
  for (const Backend* backend : accelerators()) {
    if (backend->kernels != nullptr) backends.push_back(backend->name);
  }
  return backends;
}

Json timed_all_reduce(Session& session) {
  const AllReduceTiming timing = time_all_reduce(session, std::int64_t{4} << 20, /*rounds=*/11);
  return {{"backend", session.communicator->name()},
          {"ranks", session.world->size()},
          {"bytes", timing.bytes},
          {"ms", timing.ms},
          {"gigabytes_per_second", timing.gigabytes_per_second}};
}

// Null where there is no Slurm.
Json slurm_facts() {
  const std::optional<SlurmSite> site = this_slurm_site();
  if (!site) return nullptr;
  return {{"version", site->version},     {"pmix", site->pmix},
          {"preempts", site->preempts},   {"signals_preempted", site->signals_preempted},
          {"kill_wait", site->kill_wait}, {"advice", slurm_advice(*site)}};
}

Json machine_facts(const MpiSession& mpi) {
  Json versions;
  for (const auto& [name, version] : library_versions()) versions[name] = version;
  std::error_code ignored;
  const fs::space_info space = fs::space(".", ignored);
  return {{"versions", versions},
          {"backends", backend_facts()},
          {"cpu", cpu_facts()},
          {"gpus", gpu_facts()},
          {"launched_by_mpi", mpi.active()},
          {"slurm", mpi.rank() == 0 ? slurm_facts() : Json(nullptr)},
          {"free_disk_bytes", ignored ? 0 : space.available}};
}

void print_report(const Json& report) {
  for (const auto& [name, version] : report["versions"].items()) {
    fmt::print("{:<14} {}\n", name, version.get<std::string>());
  }
  std::string backends;
  for (const Json& name : report["backends"]) {
    backends += (backends.empty() ? "" : ", ") + name.get<std::string>();
  }
  fmt::print("{:<14} {}\n", "backends", backends);
  const Json& cpu = report["cpu"];
  fmt::print("{:<14} {}, {} cores ({} logical), {}\n", "processor", cpu["model"].get<std::string>(),
             cpu["cores"].get<int>(), cpu["logical_cpus"].get<int>(),
             cpu["isa"].get<std::string>());
  for (const Json& gpu : report["gpus"]) {
    fmt::print("{:<14} {} {}, {:.1f} GiB, {}\n", "GPU", gpu["ordinal"].get<int>(),
               gpu["name"].get<std::string>(), gpu["memory_bytes"].get<double>() / (1u << 30),
               gpu["uuid"].get<std::string>());
  }
  if (report["gpus"].empty()) fmt::print("{:<14} none usable\n", "GPU");
  fmt::print("{:<14} {}\n", "launcher",
             report["launched_by_mpi"].get<bool>() ? "MPI" : "none (a single process)");
  if (const Json& slurm = report["slurm"]; !slurm.is_null()) {
    fmt::print("{:<14} {}, {} between TERM and KILL\n", "Slurm",
               slurm["version"].get<std::string>(), slurm["kill_wait"].get<std::string>());
    for (const Json& line : slurm["advice"]) fmt::print("  {}\n", line.get<std::string>());
  }
  fmt::print("{:<14} {:.1f} GiB free in the current directory\n", "disk",
             report["free_disk_bytes"].get<double>() / (1u << 30));
  for (const Json& rank : report["ranks"]) fmt::print("{}\n", rank.get<std::string>());
  if (report["all_reduce"].is_null()) return;
  const Json& timed = report["all_reduce"];
  fmt::print("{:<14} 4 MiB over {}, ranks {}: {:.3f} ms\n", "all-reduce",
             timed["backend"].get<std::string>(), timed["ranks"].get<int>(),
             timed["ms"].get<double>());
}

int run_doctor(MpiSession& mpi, bool json) {
  mpi.start(CommOptions{}.start_timeout_seconds);
  Json report = machine_facts(mpi);
  report["ranks"] = Json::array();
  report["all_reduce"] = nullptr;
  std::optional<CollectiveError> problem;
  try {
    Session session = open_session(mpi, RunOptions{}, CommOptions{});
    report["ranks"] = describe_ranks(session);
    report["all_reduce"] = timed_all_reduce(session);
  } catch (const CollectiveError& error) {
    problem = error;
    report["problem"] = error.what();
  }
  if (mpi.rank() == 0) {
    if (json) {
      fmt::print("{}\n", report.dump(2, ' ', false, Json::error_handler_t::replace));
    } else {
      print_report(report);
    }
  }
  if (problem) throw *problem;
  return 0;
}

}  // namespace

Command add_doctor_command(ProgramFlags& program) {
  CommandFlags flags =
      program.add_command("doctor", "What this build and machine can do; try it under mpirun");
  auto json = std::make_shared<bool>(false);
  flags.add_switch("--json", json.get(), "print one JSON object");
  return {.flags = flags, .run = [json](MpiSession& mpi) { return run_doctor(mpi, *json); }};
}

}  // namespace lockstep
