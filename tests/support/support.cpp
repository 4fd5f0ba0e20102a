// Guarded device memory, seeded values and error measures for the op tests.
#include "support/support.h"

#include "core/rng.h"
#include "kernels/backend.h"

#include <cmath>
#include <cstring>
#include <limits>

namespace lockstep::test {
namespace {

constexpr std::size_t kGuardBytes = 256;  // keeps what follows 256-byte aligned
constexpr std::uint8_t kGuard = 0xa5;
constexpr std::uint8_t kUnwritten = 0xff;

void encode(std::byte* dst, double value, DType dtype) {
  const auto put = [dst](auto x) { std::memcpy(dst, &x, sizeof(x)); };
  switch (dtype) {
    case DType::kF64: return put(value);
    case DType::kF32: return put(static_cast<float>(value));
    case DType::kBF16: return put(to_bf16(static_cast<float>(value)));
    case DType::kF16: return put(to_f16(static_cast<float>(value)));
    case DType::kI32: return put(static_cast<std::int32_t>(value));
    case DType::kI64: return put(static_cast<std::int64_t>(value));
    case DType::kU8: return put(static_cast<std::uint8_t>(value));
  }
}

template <typename T>
T get(const std::byte* src) {
  T x;
  std::memcpy(&x, src, sizeof(x));
  return x;
}

double decode(const std::byte* src, DType dtype) {
  switch (dtype) {
    case DType::kF64: return get<double>(src);
    case DType::kF32: return static_cast<double>(get<float>(src));
    case DType::kBF16: return static_cast<double>(to_float(get<bf16>(src)));
    case DType::kF16: return static_cast<double>(to_float(get<f16>(src)));
    case DType::kI32: return get<std::int32_t>(src);
    case DType::kI64: return static_cast<double>(get<std::int64_t>(src));
    case DType::kU8: return get<std::uint8_t>(src);
  }
  return 0.0;
}

Machine on_device(std::unique_ptr<Device> device) {
  Machine machine;
  machine.device = std::move(device);
  machine.stream = std::make_unique<Stream>(*machine.device, "test");
  return machine;
}

}  // namespace

Machine open_cpu(int threads) { return on_device(kCpuBackend.open(/*ordinal=*/0, threads)); }

Machine open_cuda(std::string& why) {
  if (kCudaBackend.kernels == nullptr || kCudaBackend.count() == 0) {
    why = "no GPU to compare with: " + kCudaBackend.status();
    return {};
  }
  return on_device(kCudaBackend.open(/*ordinal=*/0, /*threads=*/1));
}

double unit_roundoff(DType dtype) {
  switch (dtype) {
    case DType::kBF16: return 0x1p-8;
    case DType::kF16: return 0x1p-11;
    case DType::kF64: return 0x1p-53;
    default: return 0x1p-24;
  }
}

std::vector<double> rounded(const std::vector<double>& values, DType dtype) {
  std::vector<double> out(values.size());
  std::byte bytes[8];
  for (std::size_t i = 0; i < values.size(); ++i) {
    encode(bytes, values[i], dtype);
    out[i] = decode(bytes, dtype);
  }
  return out;
}

std::vector<double> random_values(std::int64_t count, std::uint64_t seed, double scale) {
  std::vector<double> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = scale * (2.0 * uniform(seed, i) - 1.0);
  }
  return values;
}

std::vector<std::int32_t> random_ints(std::int64_t count, std::uint64_t seed, std::int32_t bound) {
  std::vector<std::int32_t> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<std::int32_t>(uniform(seed, i) * bound);
  }
  return values;
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

double relative_error(const std::vector<double>& out, const std::vector<double>& ref) {
  if (out.size() != ref.size()) return std::numeric_limits<double>::infinity();
  double difference = 0.0;
  double norm = 0.0;
  for (std::size_t i = 0; i < ref.size(); ++i) {
    difference += (out[i] - ref[i]) * (out[i] - ref[i]);
    norm += ref[i] * ref[i];
  }
  if (!std::isfinite(difference)) return std::numeric_limits<double>::infinity();
  if (norm == 0.0) return std::sqrt(difference);
  return std::sqrt(difference / norm);
}

std::vector<double> numeric_gradient(const VectorFunction& f, const std::vector<double>& x,
                                     const std::vector<double>& weights) {
  constexpr double kStep = 1e-5;  // truncation h^2 = 1e-10, rounding 1e-16 / h = 1e-11
  std::vector<double> gradient(x.size());
  std::vector<double> moved = x;
  for (std::size_t i = 0; i < x.size(); ++i) {
    moved[i] = x[i] + kStep;
    const double above = dot(f(moved), weights);
    moved[i] = x[i] - kStep;
    const double below = dot(f(moved), weights);
    moved[i] = x[i];
    gradient[i] = (above - below) / (2.0 * kStep);
  }
  return gradient;
}

void expect_close(const Outputs& outputs, const Expectations& expected) {
  for (const auto& [name, want] : expected) {
    const auto found = outputs.find(name);
    if (found == outputs.end()) {
      ADD_FAILURE() << name << " was not written";
      continue;
    }
    EXPECT_LE(relative_error(found->second, want.values), want.tolerance) << name;
  }
}

void expect_identical(const Outputs& outputs, const Outputs& other) {
  ASSERT_EQ(outputs.size(), other.size());
  for (const auto& [name, values] : outputs) {
    const std::vector<double>& others = other.at(name);
    ASSERT_EQ(values.size(), others.size()) << name;
    const std::size_t bytes = values.size() * sizeof(double);
    EXPECT_TRUE(bytes == 0 || std::memcmp(values.data(), others.data(), bytes) == 0) << name;
  }
}

Expectations like(const Outputs& outputs, const Expectations& expected, double factor) {
  Expectations result;
  for (const auto& [name, want] : expected) {
    result[name] = {outputs.at(name), factor * want.tolerance};
  }
  return result;
}

void at_any_alignment(Machine& machine, const std::function<void()>& run) {
  for (const std::int64_t shift : {0, 1}) {
    SCOPED_TRACE(fmt::format("tensors begin {} elements after a boundary", shift));
    machine.shift = shift;
    run();
  }
  machine.shift = 0;
}

void expect_thread_independent(const std::function<Outputs(Machine&)>& run) {
  Machine one = open_cpu(1);
  const Outputs outputs = run(one);
  for (const int threads : {2, 3}) {
    SCOPED_TRACE(fmt::format("{} threads against 1", threads));
    Machine more = open_cpu(threads);
    expect_identical(run(more), outputs);
  }
}

// [guard | payload | guard] in device memory; `expected` is what the bytes should be now, and
// `fixed` marks those that must still be it at check().
struct Buffers::Block {
  std::byte* base = nullptr;
  std::vector<std::byte> expected;
  std::vector<bool> fixed;

  std::byte* payload() const { return base + kGuardBytes; }
};

Buffers::Buffers(Machine& machine) : machine_(machine) {}

Buffers::~Buffers() {
  for (const Block& block : blocks_) machine_.device->release(block.base);
}

Buffers::Block& Buffers::allocate(std::size_t bytes) {
  Block block;
  const std::size_t total = bytes + 2 * kGuardBytes;
  block.base = static_cast<std::byte*>(machine_.device->allocate(total));
  CHECK(block.base != nullptr, "no memory for a test tensor of {} bytes", bytes);
  block.expected.assign(total, std::byte{kGuard});
  block.fixed.assign(total, true);
  blocks_.push_back(std::move(block));
  return blocks_.back();
}

Tensor Buffers::place_tensor(Shape shape, DType dtype, const std::vector<double>* values,
                             std::int64_t row_stride, bool constant, std::int64_t shift) {
  Tensor tensor(nullptr, shape, dtype, machine_.kind());
  if (row_stride != 0) tensor.row_stride = row_stride;
  CHECK(values == nullptr || static_cast<std::int64_t>(values->size()) == shape.count(),
        "{} values for {}", values->size(), shape.str());
  const std::size_t size = size_of(dtype);
  const auto last = static_cast<std::size_t>((tensor.rows() - 1) * tensor.row_stride);
  const std::size_t lead = static_cast<std::size_t>(shift) * size;
  Block& block = allocate(lead + (last + static_cast<std::size_t>(tensor.cols())) * size);
  for (std::int64_t i = 0; i < tensor.count(); ++i) {
    const std::int64_t index = i / tensor.cols() * tensor.row_stride + i % tensor.cols();
    const std::size_t at = kGuardBytes + lead + static_cast<std::size_t>(index) * size;
    std::memset(&block.expected[at], kUnwritten, size);
    if (values != nullptr)
      encode(&block.expected[at], (*values)[static_cast<std::size_t>(i)], dtype);
    for (std::size_t b = 0; b < size; ++b) block.fixed[at + b] = constant;
  }
  write_bytes(block.base, block.expected.data(), block.expected.size());
  tensor.data = block.payload() + lead;
  return tensor;
}

Tensor Buffers::output(Shape shape, DType dtype, std::int64_t row_stride) {
  return place_tensor(shape, dtype, nullptr, row_stride, /*constant=*/false, machine_.shift);
}

Tensor Buffers::input(Shape shape, DType dtype, const std::vector<double>& values,
                      std::int64_t row_stride) {
  return place_tensor(shape, dtype, &values, row_stride, /*constant=*/true, machine_.shift);
}

Tensor Buffers::inout(Shape shape, DType dtype, const std::vector<double>& values,
                      std::int64_t row_stride) {
  return place_tensor(shape, dtype, &values, row_stride, /*constant=*/false, machine_.shift);
}

Tensor Buffers::ints(const std::vector<std::int32_t>& values) {
  const std::vector<double> wide(values.begin(), values.end());
  return input({static_cast<std::int64_t>(values.size())}, DType::kI32, wide);
}

Tensor Buffers::scratch(std::size_t bytes) {
  if (bytes == 0) return {};
  return place_tensor({static_cast<std::int64_t>(bytes)}, DType::kU8, nullptr, 0,
                      /*constant=*/false, /*shift=*/0);
}

void* Buffers::place(const void* bytes, std::size_t size) {
  Block& block = allocate(size);
  std::memcpy(&block.expected[kGuardBytes], bytes, size);
  for (std::size_t i = 0; i < size; ++i) block.fixed[kGuardBytes + i] = false;
  write_bytes(block.base, block.expected.data(), block.expected.size());
  return block.payload();
}

void Buffers::read_bytes(void* dst, const void* src, std::size_t size) {
  machine_.stream->copy(dst, src, size);
  machine_.stream->synchronize();
}

void Buffers::write_bytes(void* dst, const void* src, std::size_t size) {
  machine_.stream->copy(dst, src, size);
  machine_.stream->synchronize();
}

std::vector<std::uint8_t> Buffers::read_bits(const Tensor& tensor) {
  const std::size_t row = static_cast<std::size_t>(tensor.cols()) * size_of(tensor.dtype);
  const std::size_t stride = static_cast<std::size_t>(tensor.row_stride) * size_of(tensor.dtype);
  const auto rows = static_cast<std::size_t>(tensor.rows());
  if (rows == 0) return {};
  std::vector<std::uint8_t> all((rows - 1) * stride + row);
  read_bytes(all.data(), tensor.data, all.size());
  std::vector<std::uint8_t> packed(rows * row);
  for (std::size_t r = 0; r < rows; ++r) std::memcpy(&packed[r * row], &all[r * stride], row);
  return packed;
}

std::vector<double> Buffers::read(const Tensor& tensor) {
  const std::vector<std::uint8_t> bits = read_bits(tensor);
  const std::size_t size = size_of(tensor.dtype);
  std::vector<double> values(static_cast<std::size_t>(tensor.count()));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = decode(reinterpret_cast<const std::byte*>(&bits[i * size]), tensor.dtype);
  }
  return values;
}

void Buffers::check() {
  for (std::size_t index = 0; index < blocks_.size(); ++index) {
    const Block& block = blocks_[index];
    std::vector<std::byte> now(block.expected.size());
    read_bytes(now.data(), block.base, now.size());
    for (std::size_t i = 0; i < now.size(); ++i) {
      if (!block.fixed[i] || now[i] == block.expected[i]) continue;
      ADD_FAILURE() << "tensor " << index << " of this case (in order of creation): byte "
                    << static_cast<std::int64_t>(i) - static_cast<std::int64_t>(kGuardBytes)
                    << " of " << now.size() - 2 * kGuardBytes << " was overwritten";
      break;
    }
  }
}

}  // namespace lockstep::test
