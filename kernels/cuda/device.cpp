// One NVIDIA GPU as a Device, through the static CUDA runtime: the program starts, and does CPU
// work, on a machine without a driver. Streams never synchronise with the legacy default stream.
// Every entry makes its GPU current first, because another thread may be calling.
#include "device/device.h"

#include "kernels/backend.h"
#include "kernels/cuda/kernels.cuh"

#include <cuda_runtime.h>

#include <algorithm>
#include <string>
#include <string_view>

namespace lockstep {
namespace {

// Throws CheckError with CUDA's own text. A sticky error stays: the GPU context is lost anyway.
void require(cudaError_t status, const char* call) {
  if (status == cudaSuccess) [[likely]]
    return;
  cudaGetLastError();
  throw CheckError(fmt::format("CUDA: {} failed: {} ({})", call, cudaGetErrorString(status),
                               cudaGetErrorName(status)));
}

// Dense peaks as the vendor states them, without sparsity: 16-bit tensor cores, and fp32 outside
// the tensor cores. The first row whose text the name contains counts.
struct Peak {
  std::string_view name;
  double flops;
  double flops_fp32;
};
constexpr Peak kPeaks[] = {
    {"H100 PCIe", 756e12, 51e12},  {"H100 NVL", 835.5e12, 60e12}, {"H100", 989.4e12, 67e12},
    {"H200 NVL", 835.5e12, 60e12}, {"H200", 989.4e12, 67e12},     {"A100", 312e12, 19.5e12},
    {"L40S", 362e12, 91.6e12},
};
constexpr Peak kRtx4090 = {"NVIDIA GeForce RTX 4090", 165.2e12, 82.6e12};

void set_peaks(DeviceInfo& info) {
  const std::string_view name = info.name;
  if (name.find("MIG") != name.npos) return;  // a slice of a card has a slice of its peak
  const auto row = std::find_if(std::begin(kPeaks), std::end(kPeaks), [&](const Peak& peak) {
    return name.find(peak.name) != name.npos;
  });
  const Peak* peak = row != std::end(kPeaks) ? row : name == kRtx4090.name ? &kRtx4090 : nullptr;
  if (peak == nullptr) return;
  info.peak_flops = peak->flops;
  info.peak_flops_fp32 = peak->flops_fp32;
}

// "GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", as nvidia-smi prints it.
std::string uuid_text(const cudaUUID_t& uuid) {
  std::string text = "GPU";
  for (int i = 0; i < 16; ++i) {
    if (i == 0 || i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", static_cast<unsigned char>(uuid.bytes[i]));
  }
  return text;
}

std::string version_text(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

int device_count() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    cudaGetLastError();
    return 0;
  }
  return count;
}

DeviceInfo device_info(int ordinal) {
  cudaDeviceProp properties{};
  require(cudaGetDeviceProperties(&properties, ordinal), "cudaGetDeviceProperties");
  DeviceInfo info;
  info.kind = DeviceKind("cuda");
  info.asynchronous = true;
  info.nccl = true;
  info.ordinal = ordinal;
  info.name = properties.name;
  info.uuid = uuid_text(properties.uuid);
  info.memory = properties.totalGlobalMem;
  set_peaks(info);
  return info;
}

std::string status() {
  int runtime = 0;
  int driver = 0;
  int count = 0;
  cudaRuntimeGetVersion(&runtime);
  cudaDriverGetVersion(&driver);
  const cudaError_t found = cudaGetDeviceCount(&count);
  cudaGetLastError();
  const std::string built = fmt::format("CUDA runtime {}", version_text(runtime));
  if (driver == 0) return built + ", no NVIDIA driver on this machine";
  const std::string both = fmt::format("{}, driver for CUDA {}", built, version_text(driver));
  if (found != cudaSuccess) return fmt::format("{}: {}", both, cudaGetErrorString(found));
  return fmt::format("{}, {} visible", both, count == 1 ? "1 GPU" : fmt::format("{} GPUs", count));
}

class CudaDevice final : public Device {
 public:
  // The GPU is current already: the context belongs to it.
  explicit CudaDevice(int ordinal)
      : Device(cuda::kKernels, cuda::create_context()), info_(device_info(ordinal)) {}

  const DeviceInfo& info() const override { return info_; }

  void* allocate(std::size_t bytes) override {
    use();
    void* data = nullptr;
    const cudaError_t status = cudaMalloc(&data, std::max<std::size_t>(bytes, 1));
    if (status == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      return nullptr;
    }
    require(status, "cudaMalloc");
    return data;
  }
  void release(void* data) noexcept override {
    use_quietly();
    cudaFree(data);
  }
  void* allocate_pinned(std::size_t bytes) override {
    use();
    void* data = nullptr;
    const std::size_t wanted = std::max<std::size_t>(bytes, 1);
    if (cudaHostAlloc(&data, wanted, cudaHostAllocPortable) != cudaSuccess) {
      const cudaError_t status = cudaGetLastError();
      fail(ExitCode::kConfig, "out of page-locked host memory: {:.1f} MiB does not fit ({})",
           static_cast<double>(bytes) / (1024.0 * 1024.0), cudaGetErrorString(status));
    }
    return data;
  }
  void release_pinned(void* data) noexcept override {
    use_quietly();
    cudaFreeHost(data);
  }
  std::size_t memory_used() const override {
    use();
    std::size_t free_bytes = 0;
    std::size_t total = 0;
    require(cudaMemGetInfo(&free_bytes, &total), "cudaMemGetInfo");
    return total - free_bytes;
  }

  void* create_stream(const char*, bool high_priority) override {
    use();
    int least = 0;
    int greatest = 0;
    require(cudaDeviceGetStreamPriorityRange(&least, &greatest),
            "cudaDeviceGetStreamPriorityRange");
    cudaStream_t stream = nullptr;
    require(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking,
                                         high_priority ? greatest : least),
            "cudaStreamCreateWithPriority");
    return stream;
  }
  void destroy_stream(void* stream) noexcept override {
    use_quietly();
    cudaStreamDestroy(static_cast<cudaStream_t>(stream));
  }
  void synchronize_stream(void* stream) override {
    use();
    require(cudaStreamSynchronize(static_cast<cudaStream_t>(stream)), "cudaStreamSynchronize");
  }
  void copy(void* dst, const void* src, std::size_t bytes, void* stream) override {
    use();
    const auto native = static_cast<cudaStream_t>(stream);
    require(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDefault, native), "cudaMemcpyAsync");
    complete_if_null(native);
  }
  void zero(void* dst, std::size_t bytes, void* stream) override {
    use();
    const auto native = static_cast<cudaStream_t>(stream);
    require(cudaMemsetAsync(dst, 0, bytes, native), "cudaMemsetAsync");
    complete_if_null(native);
  }

  void* create_event(bool timed) override {
    use();
    cudaEvent_t event = nullptr;
    require(cudaEventCreateWithFlags(&event, timed ? cudaEventDefault : cudaEventDisableTiming),
            "cudaEventCreateWithFlags");
    return event;
  }
  void destroy_event(void* event) noexcept override {
    use_quietly();
    cudaEventDestroy(static_cast<cudaEvent_t>(event));
  }
  void record_event(void* event, void* stream) override {
    use();
    require(cudaEventRecord(static_cast<cudaEvent_t>(event), static_cast<cudaStream_t>(stream)),
            "cudaEventRecord");
  }
  void wait_event(void* event, void* stream) override {
    use();
    require(
        cudaStreamWaitEvent(static_cast<cudaStream_t>(stream), static_cast<cudaEvent_t>(event), 0),
        "cudaStreamWaitEvent");
  }
  bool event_done(void* event) override {
    use();
    const cudaError_t status = cudaEventQuery(static_cast<cudaEvent_t>(event));
    if (status == cudaErrorNotReady) {
      cudaGetLastError();  // or the next kernel launch would be blamed for it
      return false;
    }
    require(status, "cudaEventQuery");
    return true;
  }
  void synchronize_event(void* event) override {
    use();
    require(cudaEventSynchronize(static_cast<cudaEvent_t>(event)), "cudaEventSynchronize");
  }
  double elapsed_ms(void* begin, void* end) override {
    use();
    float ms = 0.0f;
    require(
        cudaEventElapsedTime(&ms, static_cast<cudaEvent_t>(begin), static_cast<cudaEvent_t>(end)),
        "cudaEventElapsedTime");
    return ms;
  }

 private:
  void use() const { require(cudaSetDevice(info_.ordinal), "cudaSetDevice"); }
  void use_quietly() const noexcept { cudaSetDevice(info_.ordinal); }
  static void complete_if_null(cudaStream_t stream) {
    if (stream == nullptr) require(cudaStreamSynchronize(nullptr), "cudaStreamSynchronize");
  }

  DeviceInfo info_;
};

std::unique_ptr<Device> open(int ordinal, int /*threads*/) {
  const int count = device_count();
  if (count == 0) {
    fail(ExitCode::kConfig, "run.device=cuda, but there is no GPU to use: {}; use run.device=cpu",
         status());
  }
  if (ordinal < 0 || ordinal >= count) {
    fail(ExitCode::kConfig,
         "GPU {} does not exist: {} visible here; start at most {} ranks per host, check "
         "CUDA_VISIBLE_DEVICES, or set comm.share_gpu=true",
         ordinal, count, count);
  }
  if (const cudaError_t error = cudaSetDevice(ordinal); error != cudaSuccess) {
    cudaGetLastError();
    fail(ExitCode::kConfig, "GPU {} cannot be opened: {} ({}); see nvidia-smi for who uses it",
         ordinal, cudaGetErrorString(error), cudaGetErrorName(error));
  }
  return std::make_unique<CudaDevice>(ordinal);
}

}  // namespace

const Backend kCudaBackend{.name = "cuda",
                           .library = "CUDA",
                           .kernels = &cuda::kKernels,
                           .count = device_count,
                           .info = device_info,
                           .status = status,
                           .open = open};

}  // namespace lockstep
