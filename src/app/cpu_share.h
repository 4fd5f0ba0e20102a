// How the ranks of one node share its cores. mpirun binds one or two ranks to one core each unless
// told otherwise, which would leave the rest of the node idle: such a binding is widened to the
// rank's fair share, a chosen one is kept.
#pragma once

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
};

struct CpuShare {
  int threads = 1;
  std::vector<int> bind_to;  // logical CPUs to bind to; empty: leave the binding alone
};
CpuShare plan_cpu_share(const CpuRequest& request);

// The cores that the job's cpuset holds, whatever this process is bound to.
CoreList usable_cores();
std::vector<int> bound_cpus();
// Binds the calling thread, and so the threads it makes from now on. A refusal is harmless and
// ignored: the share only becomes narrower.
void bind_to_cpus(const std::vector<int>& cpus);

}  // namespace lockstep
