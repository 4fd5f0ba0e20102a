// The backends: every kind of device that the program can compute on. Each is one folder here, with
// a Device and the kernels behind kernels/table.h, and one line in the list below.
#pragma once

#include "device/device.h"
#include "kernels/table.h"

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lockstep {

struct Backend {
  std::string_view name;            // what run.device calls it
  std::string_view library;         // what its kernels are built on: status() tells its version
  const KernelTable* kernels;       // null: not in this build
  int (*count)();                   // devices that can be used here and now; 0 when there are none
  DeviceInfo (*info)(int ordinal);  // of one of them, without opening it
  std::string (*status)();          // one line: the library's version, or why it cannot be used
  // Device number `ordinal`, with `threads` (>= 1) host threads for the CPU's kernels. Throws
  // UserError(kConfig) when it cannot be had, naming what is missing.
  std::unique_ptr<Device> (*open)(int ordinal, int threads);
};

// The list, most wanted first: the order in which run.device = auto looks. The CPU is the last.
extern const Backend kCudaBackend, kCpuBackend;
inline constexpr const Backend* kBackends[] = {&kCudaBackend, &kCpuBackend};

// OpenBLAS's name for the kernels that it chose for this processor: "Haswell", "SkylakeX".
std::string_view cpu_library_kernels();

// All but the CPU.
inline std::span<const Backend* const> accelerators() {
  return std::span(kBackends).first(std::size(kBackends) - 1);
}

// "auto", the CPU's name, then all others: what run.device may be.
std::vector<std::string> device_names();
// By name; null when there is none of that name.
const Backend* find_backend(std::string_view name);
// What run.device = `device` would compute on, were the devices there: plans need none.
const Backend& planned_backend(std::string_view device);

}  // namespace lockstep
