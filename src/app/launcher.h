// What mpirun or srun say through the environment, before and beside MPI: this process's rank, how
// many tasks there should be, and whether the user chose a CPU binding.
#pragma once

#include <functional>
#include <optional>
#include <string>

namespace lockstep {

// A look-up of environment variables: std::getenv, or a table in tests.
using Environment = std::function<const char*(const char*)>;
Environment process_environment();

// This process's rank as the launcher numbers it; 0 when nothing launched it.
int launcher_rank(const Environment& environment);

// How to start as many ranks again, with a blank at the end: "mpirun -n 4 ", "srun -n 4 ", or "".
std::string launcher_command(const Environment& environment);

// Throws UserError(kConfig) when the launcher announces more tasks than MPI sees: every process
// would then train alone, believing to be the whole job.
void check_announced_tasks(const Environment& environment, int mpi_size);

// True if the binding to cores must be left alone: mpirun was told --bind-to, pe= or a rank file,
// or something else than mpirun (srun, taskset) started this process.
bool keeps_binding(const Environment& environment);

// The logical CPUs that Slurm gave each of this node's `local_size` ranks, by SLURM_CPUS_PER_TASK
// and SLURM_CPUS_ON_NODE; 0 outside a job. A job that is not bound must keep to it by itself.
int granted_cpus(const Environment& environment, int local_size);

// OMP_NUM_THREADS (of a list its first); 0 when it is not set.
int omp_threads(const Environment& environment);

}  // namespace lockstep
