// The arithmetic of sharing, and the few Linux calls around it.
#include "app/cpu_share.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>
#include <string>

#include <sched.h>
#include <unistd.h>

namespace lockstep {
namespace {

std::vector<int> cpus_of(const cpu_set_t& set) {
  std::vector<int> cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

// Names the physical core of a logical CPU; without the kernel's topology each CPU is a core.
std::string core_name(int cpu) {
  std::ifstream file(
      fmt::format("/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list", cpu));
  std::string name;
  return std::getline(file, name) ? name : fmt::format("{}", cpu);
}

bool touches(const std::vector<int>& core, const std::vector<int>& cpus) {
  return std::any_of(core.begin(), core.end(), [&](int cpu) {
    return std::find(cpus.begin(), cpus.end(), cpu) != cpus.end();
  });
}

// Each physical core with those of `cpus` that are its own.
CoreList cores_of(const std::vector<int>& cpus) {
  std::map<std::string, std::vector<int>> by_core;
  for (const int cpu : cpus) by_core[core_name(cpu)].push_back(cpu);
  CoreList cores;
  for (const auto& [name, siblings] : by_core) cores.push_back(siblings);
  std::sort(cores.begin(), cores.end());
  return cores;
}

// The grant counts logical CPUs, we count cores.
int granted_cores(const CpuRequest& request) {
  std::size_t cpus = 0;
  for (const auto& core : request.cores) cpus += core.size();
  if (request.granted <= 0 || cpus == 0) return 0;
  return std::max(
      1, request.granted * static_cast<int>(request.cores.size()) / static_cast<int>(cpus));
}

// run.threads counts first, then OMP_NUM_THREADS as far as the share goes.
int chosen_threads(const CpuRequest& request, int share, std::string& note) {
  const int omp = request.omp_threads;
  const int threads = request.threads > 0 ? request.threads : share;
  if (omp <= 0 || omp == threads) return threads;
  if (request.threads > 0) {
    note = fmt::format("run.threads, not OMP_NUM_THREADS={}", omp);
  } else if (omp > share) {
    note = fmt::format("its share; OMP_NUM_THREADS={} is more", omp);
  } else {
    note = "OMP_NUM_THREADS";
    return omp;
  }
  return threads;
}

// The parent and the name of a process; parent 0 when it cannot be seen.
struct Process {
  int parent = 0;
  std::string name;
};
Process read_process(int pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  const std::size_t open = text.find('(');
  const std::size_t close = text.rfind(')');
  if (open == std::string::npos || close == std::string::npos || close + 4 >= text.size())
    return {};
  return {.parent = std::atoi(text.c_str() + close + 4),
          .name = text.substr(open + 1, close - open - 1)};
}

bool is_mpirun(const std::string& name) {
  for (const char* known : {"mpirun", "mpiexec", "orterun", "orted", "prterun", "prted", "prte"}) {
    if (name.rfind(known, 0) == 0) return true;
  }
  return false;
}

}  // namespace

CpuShare plan_cpu_share(const CpuRequest& request) {
  const int cores = static_cast<int>(request.cores.size());
  const int fair = std::max(1, cores / std::max(1, request.local_size));
  const int granted = granted_cores(request);
  const int share = granted > 0 ? std::min(fair, granted) : fair;
  CpuShare plan;
  const int wanted = chosen_threads(request, share, plan.note);
  const int bound = static_cast<int>(
      std::count_if(request.cores.begin(), request.cores.end(),
                    [&](const std::vector<int>& core) { return touches(core, request.bound); }));
  plan.threads = wanted;
  if (bound >= wanted) return plan;
  if (request.keep_binding) {
    if (request.threads == 0) plan.threads = std::max(1, bound);
    return plan;
  }
  // No slice is cut when other jobs may be on these cores, nor for more threads than the fair
  // share: then the user wants the node shared.
  const bool slice = share == fair && wanted <= fair && fair * request.local_size <= cores;
  const int begin = slice ? request.local_rank * fair : 0;
  const int end = slice ? begin + fair : cores;
  for (int core = begin; core < end; ++core) {
    const std::vector<int>& cpus = request.cores[static_cast<std::size_t>(core)];
    plan.bind_to.insert(plan.bind_to.end(), cpus.begin(), cpus.end());
  }
  return plan;
}

std::vector<int> bound_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return {};
  return cpus_of(set);
}

CoreList usable_cores() {
  // The kernel cuts a request for all CPUs down to the cpuset: asking is the way to learn it.
  cpu_set_t before, all;
  CPU_ZERO(&before);
  std::vector<int> cpus = bound_cpus();
  if (sched_getaffinity(0, sizeof before, &before) == 0) {
    CPU_ZERO(&all);
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) CPU_SET(cpu, &all);
    if (sched_setaffinity(0, sizeof all, &all) == 0) {
      cpus = bound_cpus();
      sched_setaffinity(0, sizeof before, &before);
    }
  }
  return cores_of(cpus);
}

CoreList launcher_cores() {
  for (Process process = read_process(getpid()); process.parent > 0;) {
    const int pid = process.parent;
    process = read_process(pid);
    if (!is_mpirun(process.name)) continue;
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(pid, sizeof set, &set) == 0) return cores_of(cpus_of(set));
  }
  return cores_of(bound_cpus());
}

void bind_to_cpus(const std::vector<int>& cpus) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int cpu : cpus) CPU_SET(cpu, &set);
  sched_setaffinity(0, sizeof set, &set);
}

}  // namespace lockstep
