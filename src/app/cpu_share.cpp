// The arithmetic of sharing, and the few Linux calls around it.
#include "app/cpu_share.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <string>

#include <sched.h>

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

}  // namespace

CpuShare plan_cpu_share(const CpuRequest& request) {
  const int cores = static_cast<int>(request.cores.size());
  const int share = std::max(1, cores / std::max(1, request.local_size));
  const int wanted = request.threads > 0 ? request.threads : share;
  const int bound = static_cast<int>(
      std::count_if(request.cores.begin(), request.cores.end(),
                    [&](const std::vector<int>& core) { return touches(core, request.bound); }));
  if (bound >= wanted) return {.threads = wanted, .bind_to = {}};
  if (request.keep_binding) {
    return {.threads = request.threads > 0 ? request.threads : std::max(1, bound), .bind_to = {}};
  }
  CpuShare plan{.threads = wanted, .bind_to = {}};
  // More threads than the fair share: the user wants the node shared, so no slice is cut.
  const bool slice = wanted <= share && share * request.local_size <= cores;
  const int begin = slice ? request.local_rank * share : 0;
  const int end = slice ? begin + share : cores;
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
  std::map<std::string, std::vector<int>> by_core;
  for (const int cpu : cpus) by_core[core_name(cpu)].push_back(cpu);
  CoreList cores;
  for (const auto& [name, siblings] : by_core) cores.push_back(siblings);
  std::sort(cores.begin(), cores.end());
  return cores;
}

void bind_to_cpus(const std::vector<int>& cpus) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int cpu : cpus) CPU_SET(cpu, &set);
  sched_setaffinity(0, sizeof set, &set);
}

}  // namespace lockstep
