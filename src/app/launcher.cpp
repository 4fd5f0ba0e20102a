// Reading the launchers' variables.
#include "app/launcher.h"

#include "core/error.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <string_view>

namespace lockstep {
namespace {

std::optional<int> number(const Environment& environment, const char* name) {
  const char* text = environment(name);
  if (text == nullptr) return std::nullopt;
  const std::string_view view = text;
  int value = 0;
  const auto [stop, error] = std::from_chars(view.data(), view.data() + view.size(), value);
  if (error != std::errc() || stop != view.data() + view.size()) return std::nullopt;
  return value;
}

}  // namespace

Environment process_environment() {
  return [](const char* name) -> const char* { return std::getenv(name); };
}

int launcher_rank(const Environment& environment) {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"}) {
    if (const auto rank = number(environment, name)) return *rank;
  }
  return 0;
}

std::string launcher_command(const Environment& environment) {
  if (const auto tasks = number(environment, "OMPI_COMM_WORLD_SIZE")) {
    return fmt::format("mpirun -n {} ", *tasks);
  }
  const auto tasks = number(environment, "SLURM_STEP_NUM_TASKS");
  if (!tasks || environment("PMIX_RANK") == nullptr) return "";
  const char* mpi = environment("SLURM_MPI_TYPE");
  return fmt::format("srun -n {} {}", *tasks, mpi == nullptr ? "" : fmt::format("--mpi={} ", mpi));
}

void check_announced_tasks(const Environment& environment, int mpi_size) {
  // mpirun's own number first: under it, Slurm's step is the one of mpirun's daemons.
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}) {
    const auto tasks = number(environment, name);
    if (!tasks) continue;
    if (*tasks <= mpi_size) return;
    if (!number(environment, "SLURM_STEP_NUM_TASKS")) {
      fail(ExitCode::kConfig,
           "the launcher started {} tasks ({}), but MPI sees {}: use the mpirun that belongs to "
           "the MPI library this program was built with (lockstep doctor names it)",
           *tasks, name, mpi_size);
    }
    break;
  }
  const auto tasks = number(environment, "SLURM_STEP_NUM_TASKS");
  if (tasks && *tasks > mpi_size) {
    fail(ExitCode::kConfig,
         "srun started {} tasks (SLURM_STEP_NUM_TASKS), but MPI sees {}: start the job with "
         "srun --mpi=pmix, or with mpirun",
         *tasks, mpi_size);
  }
}

bool keeps_binding(const Environment& environment) {
  // Only mpirun binds without being asked.
  if (environment("OMPI_COMM_WORLD_SIZE") == nullptr) return true;
  for (const char* name :
       {"OMPI_MCA_hwloc_base_binding_policy", "PRTE_MCA_hwloc_default_binding_policy",
        "OMPI_MCA_rmaps_rank_file_path", "OMPI_MCA_orte_rankfile"}) {
    if (environment(name) != nullptr) return true;
  }
  const char* mapping = environment("OMPI_MCA_rmaps_base_mapping_policy");
  return mapping != nullptr && std::string_view(mapping).find("pe=") != std::string_view::npos;
}

int granted_cpus(const Environment& environment, int local_size) {
  if (environment("SLURM_JOB_ID") == nullptr) return 0;
  const int per_task = number(environment, "SLURM_CPUS_PER_TASK").value_or(0);
  const int on_node = number(environment, "SLURM_CPUS_ON_NODE").value_or(0);
  const int fair = on_node > 0 ? std::max(1, on_node / std::max(1, local_size)) : 0;
  return per_task > 0 && fair > 0 ? std::min(per_task, fair) : std::max(per_task, fair);
}

int omp_threads(const Environment& environment) {
  const char* text = environment("OMP_NUM_THREADS");
  return text == nullptr ? 0 : std::max(0, std::atoi(text));
}

}  // namespace lockstep
