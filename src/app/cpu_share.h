// How the ranks of one node share the cores that their job has there. mpirun binds one or two ranks
// to one core each unless told otherwise, which would leave the rest idle: such a binding is
// widened to the rank's fair share of what mpirun itself may use. A binding that the user or the
// batch system chose is kept.
#pragma once

#include <string>
#include <vector>

namespace lockstep {

// Each physical core as the logical CPUs that share it.
using CoreList = std::vector<std::vector<int>>;

struct CpuRequest {
  CoreList cores;          // of the node, as far as this job may use them
  std::vector<int> bound;  // logical CPUs this process may run on now
  int local_rank = 0;
  int local_size = 1;
  int threads = 0;            // run.threads; 0: the fair share
  bool keep_binding = false;  // keeps_binding()
  int granted = 0;            // granted_cpus(): logical CPUs for this rank; 0: not told
  int omp_threads = 0;        // omp_threads(); 0: not set
};

struct CpuShare {
  int threads = 1;
  std::vector<int> bind_to;  // logical CPUs to bind to; empty: leave the binding alone
  std::string note;          // what became of OMP_NUM_THREADS; "" when it changes nothing
};
CpuShare plan_cpu_share(const CpuRequest& request);

// The cores that the job's cpuset holds, whatever this process is bound to.
CoreList usable_cores();
// The cores that the mpirun, or its daemon on this node, that started this process may use: the
// job's own, when the batch system binds. Where none is found, those this process is bound to.
CoreList launcher_cores();
std::vector<int> bound_cpus();
// Binds the calling thread, and so the threads it makes from now on. A refusal is harmless and
// ignored: the share only becomes narrower.
void bind_to_cpus(const std::vector<int>& cpus);

}  // namespace lockstep
