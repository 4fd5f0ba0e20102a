// What op tests share: one device with its stream (Machine), guarded tensors whose surroundings are
// checked (Buffers), random values that are the same on every machine, and relative errors.
// Outputs start as NaN, so an element that a kernel forgets cannot pass a comparison.
#pragma once

#include "core/tensor.h"
#include "device/device.h"
#include "device/stream.h"
#include "kernels/table.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace lockstep::test {

// A device and a stream on it.
struct Machine {
  std::unique_ptr<Device> device;
  std::unique_ptr<Stream> stream;
  std::int64_t shift = 0;  // elements by which tensors of Buffers begin after a 256-byte boundary

  DeviceKind kind() const { return device->kind(); }
};
Machine open_cpu(int threads = 2);
// GPU 0; device is null where there is none, and `why` then says what is missing.
Machine open_cuda(std::string& why);

// Skips the rest of the test body, with the reason, unless a GPU can be opened as `machine`.
#define LOCKSTEP_OPEN_CUDA(machine)                                               \
  std::string machine##_why;                                                      \
  ::lockstep::test::Machine machine = ::lockstep::test::open_cuda(machine##_why); \
  if (machine.device == nullptr) GTEST_SKIP() << machine##_why

// The storage dtypes, and their unit roundoff (half the gap above 1): 2^-24, 2^-8, 2^-11.
inline constexpr DType kStorageTypes[] = {DType::kF32, DType::kBF16, DType::kF16};
double unit_roundoff(DType dtype);

// values[i] rounded to dtype.
std::vector<double> rounded(const std::vector<double>& values, DType dtype);
// scale * (uniform in [-1, 1)), a function of (seed, index) alone.
std::vector<double> random_values(std::int64_t count, std::uint64_t seed, double scale = 1.0);
std::vector<std::int32_t> random_ints(std::int64_t count, std::uint64_t seed, std::int32_t bound);

// ||out - ref|| / ||ref||; infinite when sizes differ or an element of out is NaN.
double relative_error(const std::vector<double>& out, const std::vector<double>& ref);
double dot(const std::vector<double>& a, const std::vector<double>& b);

// The gradient of sum(f(x) * weights) by central differences, one element of x at a time.
using VectorFunction = std::function<std::vector<double>(const std::vector<double>&)>;
std::vector<double> numeric_gradient(const VectorFunction& f, const std::vector<double>& x,
                                     const std::vector<double>& weights);

// What one run of an op wrote, by name; doubles hold every dtype exactly.
using Outputs = std::map<std::string, std::vector<double>>;
// What it should have written, and the relative error that is allowed.
struct Expected {
  std::vector<double> values;
  double tolerance = 0.0;
};
using Expectations = std::map<std::string, Expected>;
// Every expected output is there and near enough.
void expect_close(const Outputs& outputs, const Expectations& expected);
// Bit for bit the same outputs.
void expect_identical(const Outputs& outputs, const Outputs& other);
// Another machine's outputs as the expectation, each tolerance times `factor`.
Expectations like(const Outputs& outputs, const Expectations& expected, double factor);
// Runs with tensors that begin on a boundary, then with tensors that begin one element after it.
void at_any_alignment(Machine& machine, const std::function<void()>& run);
// Runs on the CPU with 1, 2 and 3 threads; all three must agree bit for bit.
void expect_thread_independent(const std::function<Outputs(Machine&)>& run);

// Device memory of one test case. Every tensor lies between guard bytes; in a strided tensor the
// gaps between rows are guards too. check() reads all guards back, and inputs for changes.
class Buffers {
 public:
  explicit Buffers(Machine& machine);
  ~Buffers();
  Buffers(const Buffers&) = delete;
  Buffers& operator=(const Buffers&) = delete;

  // Every byte 0xff: NaN in all float types. row_stride 0 means contiguous.
  Tensor output(Shape shape, DType dtype, std::int64_t row_stride = 0);
  // Values rounded to dtype; must be the same when check() is called.
  Tensor input(Shape shape, DType dtype, const std::vector<double>& values,
               std::int64_t row_stride = 0);
  // Values rounded to dtype; may change.
  Tensor inout(Shape shape, DType dtype, const std::vector<double>& values,
               std::int64_t row_stride = 0);
  Tensor ints(const std::vector<std::int32_t>& values);
  // uint8; its contents are not compared, its guards are. Null when bytes is 0.
  Tensor scratch(std::size_t bytes);

  // Structs for arguments that are pointers into device memory.
  template <typename T>
  T* objects(const std::vector<T>& values) {
    return static_cast<T*>(place(values.data(), values.size() * sizeof(T)));
  }
  template <typename T>
  T object(const T* on_device) {
    T value;
    read_bytes(&value, on_device, sizeof(T));
    return value;
  }

  // The elements in row order, whatever the dtype (uint8 and integers too).
  std::vector<double> read(const Tensor& tensor);
  // The elements' bits in row order, for exact comparisons.
  std::vector<std::uint8_t> read_bits(const Tensor& tensor);
  // Reports, as test failures, changed guards and changed inputs.
  void check();

 private:
  struct Block;
  Block& allocate(std::size_t bytes);
  Tensor place_tensor(Shape shape, DType dtype, const std::vector<double>* values,
                      std::int64_t row_stride, bool constant, std::int64_t shift);
  void* place(const void* bytes, std::size_t size);
  void read_bytes(void* dst, const void* src, std::size_t size);
  void write_bytes(void* dst, const void* src, std::size_t size);

  Machine& machine_;
  std::vector<Block> blocks_;
};

}  // namespace lockstep::test
