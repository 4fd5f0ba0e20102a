// GemmPlanner: cuBLASLt behind one call. For every problem it sees it keeps the descriptors and the
// algorithm, so a later call costs one lookup; the choice can be printed and adopted.
//
// The choice is the library's first suggestion, which is the same for one build and card, unless a
// search has timed all suggestions or a saved choice names another. Reductions are in fp32 and in
// fixed order.
// One workspace serves all calls, so the calls of a device must be ordered: one stream at a time.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace lockstep::cuda {

// What a choice of algorithm depends on. Column-major, as cuBLASLt counts: D is (m, n).
struct GemmKey {
  std::int64_t m = 0, n = 0, k = 0;
  std::int64_t transpose_a = 0, transpose_b = 0;
  std::int64_t lda = 0, ldb = 0, ldc = 0, ldd = 0, ld_aux = 0;
  std::int64_t in_type = 0, out_type = 0;                           // cudaDataType
  std::int64_t epilogue = 0;                                        // cublasLtEpilogue_t
  std::int64_t has_c = 0;                                           // beta = 1: 1, or 2 when C is D
  std::int64_t align_a = 0, align_b = 0, align_c = 0, align_d = 0;  // bytes, at most 256
  std::int64_t tf32 = 0;                                            // fp32 operands are rounded
};

// D = epilogue(alpha op(A) op(B) + beta C). C is D or another matrix; read when beta is 1.
struct Matmul {
  GemmKey key;
  float alpha = 1.0f;
  float beta = 0.0f;
  const void* a = nullptr;
  const void* b = nullptr;
  const void* c = nullptr;
  void* d = nullptr;
  const void* bias = nullptr;  // (m), out_type
  void* aux = nullptr;         // (m, n), out_type
};

struct CudaFree {
  void operator()(void* data) const noexcept { cudaFree(data); }
};
using DeviceMemory = std::unique_ptr<void, CudaFree>;

class GemmPlanner {
 public:
  static constexpr std::size_t kWorkspaceBytes = std::size_t{128} << 20;
  static constexpr std::size_t kSpillBytes = std::size_t{64} << 20;

  GemmPlanner();
  ~GemmPlanner();
  GemmPlanner(const GemmPlanner&) = delete;
  GemmPlanner& operator=(const GemmPlanner&) = delete;

  // Enqueues the product. Returns false, with nothing enqueued, when cuBLASLt has no algorithm.
  bool run(const Matmul& call, cudaStream_t stream);

  // The choices in use, as one line of text.
  std::string text() const;
  // Takes the choices of a text() of the same library and card. False: it is of another library or
  // card, or not a plan.
  bool adopt(const std::string& plan);

  // While on, the first call of a kind that no saved choice names times all suggestions on its own
  // operands, again and again until the card's power limit tells, and keeps the fastest. Such a
  // call waits for the device; its result is that of any other call.
  void search(bool on) { searching_ = on; }

  // kSpillBytes of device memory for products that need a separate epilogue, made at first use.
  float* spill();

 private:
  using Words = std::array<std::int64_t, sizeof(GemmKey) / sizeof(std::int64_t)>;
  struct Plan;

  Plan& find(const Matmul& call, cudaStream_t stream);
  cublasStatus_t execute(Plan& plan, int candidate, const Matmul& call, cudaStream_t stream);
  int fastest(Plan& plan, Matmul call, cudaStream_t stream);
  float milliseconds(Plan& plan, int candidate, int count, const Matmul& call, cudaStream_t stream);

  std::string identity_;  // library version and card
  cublasLtHandle_t handle_ = nullptr;
  DeviceMemory workspace_;
  DeviceMemory spill_;
  bool searching_ = false;
  std::map<Words, int> adopted_;
  std::map<Words, std::unique_ptr<Plan>> plans_;
};

}  // namespace lockstep::cuda
