// Allocating, filling, timing and printing for perf mode.
#include "support/perf.h"

#include "kernels/backend.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <thread>

namespace lockstep::test {
namespace {

constexpr std::int64_t kPattern = 65536;  // values that repeat
constexpr double kSeconds = 0.2;

class PerfTest final : public testing::Test {
 public:
  PerfTest(const Backend& backend, void (*run)(Perf&)) : backend_(backend), run_(run) {}
  void TestBody() override {
    const int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
    Machine machine;
    machine.device = backend_.open(/*ordinal=*/0, threads);
    machine.stream = std::make_unique<Stream>(*machine.device, "perf");
    Perf perf(machine);
    run_(perf);
  }

 private:
  const Backend& backend_;
  void (*run_)(Perf&);
};

template <typename T>
std::vector<std::byte> as_bytes(const std::vector<double>& values) {
  std::vector<std::byte> bytes(values.size() * sizeof(T));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const T x = from_float<T>(static_cast<float>(values[i]));
    std::memcpy(&bytes[i * sizeof(T)], &x, sizeof(T));
  }
  return bytes;
}

std::vector<std::byte> pattern(DType dtype) {
  const std::vector<double> values = random_values(kPattern, /*seed=*/1);
  switch (dtype) {
    case DType::kBF16: return as_bytes<bf16>(values);
    case DType::kF16: return as_bytes<f16>(values);
    default: return as_bytes<float>(values);
  }
}

// Device time of `calls` calls, in ms.
double timed(const std::function<void()>& run, int calls, Machine& machine) {
  Event begin(*machine.device, /*timed=*/true);
  Event end(*machine.device, /*timed=*/true);
  begin.record(*machine.stream);
  for (int i = 0; i < calls; ++i) run();
  end.record(*machine.stream);
  end.synchronize();
  return Event::elapsed_ms(begin, end);
}

}  // namespace

Perf::~Perf() {
  for (void* data : memory_) machine_.device->release(data);
}

void* Perf::allocate(std::size_t bytes) {
  void* data = machine_.device->allocate(std::max<std::size_t>(bytes, 1));
  CHECK(data != nullptr, "no memory for {} bytes", bytes);
  memory_.push_back(data);
  return data;
}

void* Perf::place(const void* host, std::size_t bytes) {
  void* data = allocate(bytes);
  stream().copy(data, host, bytes);
  stream().synchronize();
  return data;
}

Tensor Perf::values(Shape shape, DType dtype) {
  const Tensor tensor(nullptr, shape, dtype, machine_.kind());
  const std::vector<std::byte> piece = pattern(dtype);
  auto* data = static_cast<std::byte*>(allocate(tensor.bytes()));
  for (std::size_t at = 0; at < tensor.bytes(); at += piece.size()) {
    stream().copy(data + at, piece.data(), std::min(piece.size(), tensor.bytes() - at));
  }
  stream().synchronize();
  return Tensor(data, shape, dtype, machine_.kind());
}

Tensor Perf::ints(Shape shape, std::int32_t bound) {
  const std::vector<std::int32_t> host = random_ints(shape.count(), /*seed=*/2, bound);
  return Tensor(place(host.data(), host.size() * sizeof(std::int32_t)), shape, DType::kI32,
                machine_.kind());
}

Tensor Perf::bytes(std::size_t count) {
  const Shape shape{static_cast<std::int64_t>(count)};
  return count == 0 ? Tensor{} : Tensor(allocate(count), shape, DType::kU8, machine_.kind());
}

void Perf::measure(const std::string& what, Work work, const std::function<void()>& run) {
  const double first = timed(run, 1, machine_);
  const double once = std::max(std::min(first, timed(run, 1, machine_)), 1e-3);
  const int calls = std::clamp(static_cast<int>(1e3 * kSeconds / once), 1, 1000);
  const double ms = timed(run, calls, machine_) / calls;
  const std::string rate = work.flops > 0.0 ? fmt::format("{:8.2f} TFLOP/s", work.flops / ms / 1e9)
                                            : fmt::format("{:8.1f} GB/s", work.bytes / ms / 1e6);
  fmt::print("{:<5} {:<52} {:10.4f} ms {}\n", machine_.kind().name(), what, ms, rate);
}

bool register_perf(const char* suite, const char* file, int line, void (*run)(Perf&)) {
  const char* wanted = std::getenv("LOCKSTEP_PERF");
  if (wanted == nullptr || std::strcmp(wanted, "1") != 0) return false;
  for (const Backend* backend : kBackends) {
    if (backend->kernels == nullptr || backend->count() == 0) continue;
    const std::string name = fmt::format("Perf_{}", backend->name);
    testing::RegisterTest(
        suite, name.c_str(), nullptr, nullptr, file, line,
        [backend, run]() -> testing::Test* { return new PerfTest(*backend, run); });
  }
  return true;
}

}  // namespace lockstep::test
