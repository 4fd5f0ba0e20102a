// Perf mode of the op tests: with LOCKSTEP_PERF=1 in the environment, and only then, every
// LOCKSTEP_PERF(Suite) is a test Suite.Perf_BACKEND that times ops at production shapes on each
// backend and prints ms with GB/s or TFLOP/s. Nothing is compared: the numbers are for people.
#pragma once

#include "support/support.h"

#include <functional>
#include <string>
#include <vector>

namespace lockstep::test {

// What one call does at least: floating-point operations, or bytes read and written.
struct Work {
  double flops = 0.0;
  double bytes = 0.0;
};

// Tensors of one measurement on one device, and the clock.
class Perf {
 public:
  explicit Perf(Machine& machine) : machine_(machine) {}
  ~Perf();
  Perf(const Perf&) = delete;
  Perf& operator=(const Perf&) = delete;

  Machine& machine() const { return machine_; }
  Stream& stream() const { return *machine_.stream; }
  // fp32, bf16 or fp16, uniform in [-1, 1), repeating.
  Tensor values(Shape shape, DType dtype);
  // int32 in [0, bound).
  Tensor ints(Shape shape, std::int32_t bound);
  Tensor bytes(std::size_t count);
  // Copies of objects, in device memory.
  template <typename T>
  const T* objects(const std::vector<T>& host) {
    return static_cast<const T*>(place(host.data(), host.size() * sizeof(T)));
  }

  // Calls `run` once to warm up, then for at least 0.2 s; prints the mean.
  void measure(const std::string& what, Work work, const std::function<void()>& run);

 private:
  void* allocate(std::size_t bytes);
  void* place(const void* host, std::size_t bytes);

  Machine& machine_;
  std::vector<void*> memory_;
};

// Registers the test on each backend that has a device here, in perf mode.
bool register_perf(const char* suite, const char* file, int line, void (*run)(Perf&));

#define LOCKSTEP_PERF(suite)                                                     \
  static void suite##_perf(::lockstep::test::Perf& perf);                        \
  [[maybe_unused]] static const bool suite##_perf_registered =                   \
      ::lockstep::test::register_perf(#suite, __FILE__, __LINE__, suite##_perf); \
  static void suite##_perf(::lockstep::test::Perf& perf)

}  // namespace lockstep::test
