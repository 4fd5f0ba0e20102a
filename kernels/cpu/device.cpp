// The CPU as a Device. A stream is the calling thread: every operation is complete on return, and
// an event is a host clock reading. Nothing is ever in flight, so a null stream stands for all.
#include "device/device.h"

#include "kernels/backend.h"
#include "kernels/cpu/kernels.h"

#include <cblas.h>
#include <omp.h>
#include <sys/sysinfo.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <string_view>

namespace lockstep {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::size_t kAlignment = 256;

struct HostEvent {
  Clock::time_point time;
  bool recorded = false;
};

// The value after "key ... :" in a file of such lines ("" if there is none).
std::string proc_field(const char* path, std::string_view key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.compare(0, key.size(), key) != 0) continue;
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const std::size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

std::size_t total_memory() {
  struct sysinfo system {};
  if (sysinfo(&system) != 0) return 0;
  return static_cast<std::size_t>(system.totalram) * system.mem_unit;
}

std::string processor_name() {
  const std::string name = proc_field("/proc/cpuinfo", "model name");
  return name.empty() ? "CPU" : name;
}

// The kernels beside this file are compiled for x86-64-v3 by default, unlike this file itself; on
// an older processor they would die of SIGILL. Whoever chose another LOCKSTEP_CPU_ARCH chose it for
// their processors.
void require_instruction_sets() {
  if (std::string_view(LOCKSTEP_CPU_ARCH) != "x86-64-v3") return;
#if defined(__x86_64__)
  std::string missing;
  if (!__builtin_cpu_supports("avx2")) missing += " AVX2";
  if (!__builtin_cpu_supports("fma")) missing += " FMA";
  if (!__builtin_cpu_supports("f16c")) missing += " F16C";
  if (!missing.empty()) {
    fail(ExitCode::kConfig,
         "this processor ({}) lacks{}, which the CPU kernels were compiled for; configure the "
         "build with -DLOCKSTEP_CPU_ARCH= set to this processor's -march value",
         processor_name(), missing);
  }
#endif
}

void* allocate_aligned(std::size_t bytes) {
  if (bytes > SIZE_MAX - kAlignment) return nullptr;
  const std::size_t whole = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  return std::aligned_alloc(kAlignment, whole == 0 ? kAlignment : whole);
}

DeviceInfo processor_info(int /*ordinal*/) {
  DeviceInfo info;
  info.name = processor_name();
  info.memory = total_memory();
  return info;
}

class CpuDevice final : public Device {
 public:
  CpuDevice() : Device(cpu::kKernels, cpu::create_context()), info_(processor_info(0)) {}

  const DeviceInfo& info() const override { return info_; }

  void* allocate(std::size_t bytes) override { return allocate_aligned(bytes); }
  void release(void* data) noexcept override { std::free(data); }
  void* allocate_pinned(std::size_t bytes) override {
    void* data = allocate_aligned(bytes);
    if (data == nullptr) {
      fail(ExitCode::kConfig, "out of host memory: a buffer of {} bytes does not fit", bytes);
    }
    return data;
  }
  void release_pinned(void* data) noexcept override { std::free(data); }
  std::size_t memory_used() const override {
    const std::string kib = proc_field("/proc/self/status", "VmHWM");
    return std::strtoull(kib.c_str(), nullptr, 10) * 1024;
  }

  void* create_stream(const char*, bool) override { return nullptr; }
  void destroy_stream(void*) noexcept override {}
  void synchronize_stream(void*) override {}
  void copy(void* dst, const void* src, std::size_t bytes, void*) override {
    std::memcpy(dst, src, bytes);
  }
  void zero(void* dst, std::size_t bytes, void*) override { std::memset(dst, 0, bytes); }

  void* create_event(bool) override { return new HostEvent; }
  void destroy_event(void* event) noexcept override { delete static_cast<HostEvent*>(event); }
  void record_event(void* event, void*) override {
    *static_cast<HostEvent*>(event) = {Clock::now(), true};
  }
  void wait_event(void*, void*) override {}
  bool event_done(void*) override { return true; }
  void synchronize_event(void*) override {}
  double elapsed_ms(void* begin, void* end) override {
    const auto& from = *static_cast<HostEvent*>(begin);
    const auto& to = *static_cast<HostEvent*>(end);
    CHECK(from.recorded && to.recorded, "elapsed_ms of an event that was never recorded");
    return std::chrono::duration<double, std::milli>(to.time - from.time).count();
  }

 private:
  DeviceInfo info_;
};

std::unique_ptr<Device> open(int /*ordinal*/, int threads) {
  CHECK(threads >= 1, "threads {}", threads);
  require_instruction_sets();
  omp_set_num_threads(threads);
  return std::make_unique<CpuDevice>();
}

}  // namespace

std::string_view cpu_library_kernels() { return openblas_get_corename(); }

const Backend kCpuBackend{.name = "cpu",
                          .library = "OpenBLAS",
                          .kernels = &cpu::kKernels,
                          .count = [] { return 1; },
                          .info = processor_info,
                          .status = [] { return std::string(openblas_get_config()); },
                          .open = open};

}  // namespace lockstep
