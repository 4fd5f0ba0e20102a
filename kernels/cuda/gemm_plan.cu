// The plan cache over cuBLASLt: descriptors, the heuristic's candidates, and the plan as text.
#include "kernels/cuda/gemm_plan.cuh"

#include "kernels/cuda/check.cuh"

#include <algorithm>
#include <bit>
#include <sstream>

namespace lockstep::cuda {
namespace {

constexpr int kCandidates = 8;  // what the heuristic is asked for

// A name for cuBLASLt's nameless struct: nvcc 13 cannot put those in containers.
struct Candidate {
  cublasLtMatmulAlgo_t algorithm;
};

template <auto kDestroy>
struct Destroy {
  template <typename Handle>
  void operator()(Handle handle) const noexcept {
    kDestroy(handle);
  }
};
using Desc = std::unique_ptr<cublasLtMatmulDescOpaque_t, Destroy<cublasLtMatmulDescDestroy>>;
using Layout = std::unique_ptr<cublasLtMatrixLayoutOpaque_t, Destroy<cublasLtMatrixLayoutDestroy>>;
using Preference =
    std::unique_ptr<cublasLtMatmulPreferenceOpaque_t, Destroy<cublasLtMatmulPreferenceDestroy>>;

template <typename Value>
void set(const Desc& desc, cublasLtMatmulDescAttributes_t attribute, const Value& value) {
  check(cublasLtMatmulDescSetAttribute(desc.get(), attribute, &value, sizeof(value)),
        "cublasLtMatmulDescSetAttribute");
}

template <typename Value>
void set(const Preference& preference, cublasLtMatmulPreferenceAttributes_t attribute,
         const Value& value) {
  check(cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof(value)),
        "cublasLtMatmulPreferenceSetAttribute");
}

Desc make_desc(const GemmKey& key) {
  cublasLtMatmulDesc_t raw = nullptr;
  check(cublasLtMatmulDescCreate(&raw, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate");
  Desc desc(raw);
  set(desc, CUBLASLT_MATMUL_DESC_TRANSA, key.transpose_a != 0 ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(desc, CUBLASLT_MATMUL_DESC_TRANSB, key.transpose_b != 0 ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(desc, CUBLASLT_MATMUL_DESC_EPILOGUE, static_cast<cublasLtEpilogue_t>(key.epilogue));
  if (key.ld_aux != 0) set(desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, key.ld_aux);
  return desc;
}

// The pointers are the only part of a descriptor that changes from call to call.
void set_pointers(const Desc& desc, const Matmul& call) {
  if (call.bias != nullptr) set(desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, call.bias);
  if (call.aux != nullptr) set(desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, call.aux);
}

Layout make_layout(std::int64_t type, std::int64_t rows, std::int64_t cols, std::int64_t ld) {
  cublasLtMatrixLayout_t raw = nullptr;
  check(cublasLtMatrixLayoutCreate(&raw, static_cast<cudaDataType>(type),
                                   static_cast<std::uint64_t>(rows),
                                   static_cast<std::uint64_t>(cols), ld),
        "cublasLtMatrixLayoutCreate");
  return Layout(raw);
}

Preference make_preference(const GemmKey& key) {
  cublasLtMatmulPreference_t raw = nullptr;
  check(cublasLtMatmulPreferenceCreate(&raw), "cublasLtMatmulPreferenceCreate");
  Preference preference(raw);
  set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, GemmPlanner::kWorkspaceBytes);
  // Split products are added in fp32 and in a step of their own, never in order of arrival.
  set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  const auto align = [&](cublasLtMatmulPreferenceAttributes_t attribute, std::int64_t bytes) {
    set(preference, attribute, static_cast<std::uint32_t>(bytes));
  };
  align(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, key.align_a);
  align(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, key.align_b);
  align(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, key.align_c);
  align(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, key.align_d);
  return preference;
}

DeviceMemory allocate(std::size_t bytes, const char* what) {
  void* data = nullptr;
  if (cudaMalloc(&data, bytes) != cudaSuccess) {
    cudaGetLastError();
    fail(ExitCode::kConfig,
         "out of device memory: {} MiB for {} do not fit; lower train.micro_batch_size",
         bytes >> 20, what);
  }
  return DeviceMemory(data);
}

// "cublaslt-130100 NVIDIA-H100-80GB-HBM3": what a choice of algorithm is only valid for.
std::string identify() {
  int ordinal = 0;
  cudaDeviceProp properties{};
  check(cudaGetDevice(&ordinal), "cudaGetDevice");
  check(cudaGetDeviceProperties(&properties, ordinal), "cudaGetDeviceProperties");
  std::string card = properties.name;
  std::replace(card.begin(), card.end(), ' ', '-');
  return fmt::format("cublaslt-{} {}", cublasLtGetVersion(), card);
}

}  // namespace

struct GemmPlanner::Plan {
  Desc desc;
  Layout a, b, c, d;
  std::vector<Candidate> candidates;  // best guess first; may be empty
  int chosen = 0;

  explicit Plan(const GemmKey& key)
      : desc(make_desc(key)),
        a(make_layout(key.in_type, key.transpose_a != 0 ? key.k : key.m,
                      key.transpose_a != 0 ? key.m : key.k, key.lda)),
        b(make_layout(key.in_type, key.transpose_b != 0 ? key.n : key.k,
                      key.transpose_b != 0 ? key.k : key.n, key.ldb)),
        c(make_layout(key.out_type, key.m, key.n, key.ldc)),
        d(make_layout(key.out_type, key.m, key.n, key.ldd)) {}

  void ask(cublasLtHandle_t handle, const GemmKey& key) {
    std::array<cublasLtMatmulHeuristicResult_t, kCandidates> results{};
    int found = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        handle, desc.get(), a.get(), b.get(), c.get(), d.get(), make_preference(key).get(),
        kCandidates, results.data(), &found);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) return;
    check(status, "cublasLtMatmulAlgoGetHeuristic");
    for (int i = 0; i < found; ++i) {
      const auto& result = results[static_cast<std::size_t>(i)];
      if (result.state == CUBLAS_STATUS_SUCCESS) candidates.push_back({result.algo});
    }
  }
};

GemmPlanner::GemmPlanner()
    : identity_(identify()), workspace_(allocate(kWorkspaceBytes, "matrix product workspace")) {
  check(cublasLtCreate(&handle_), "cublasLtCreate");
}

GemmPlanner::~GemmPlanner() { cublasLtDestroy(handle_); }

bool GemmPlanner::run(const Matmul& call, cudaStream_t stream) {
  Plan& plan = find(call);
  if (plan.candidates.empty()) return false;
  check(execute(plan, plan.chosen, call, stream), "cublasLtMatmul");
  return true;
}

GemmPlanner::Plan& GemmPlanner::find(const Matmul& call) {
  const auto words = std::bit_cast<Words>(call.key);
  const auto known = plans_.find(words);
  if (known != plans_.end()) return *known->second;
  auto plan = std::make_unique<Plan>(call.key);
  set_pointers(plan->desc, call);
  plan->ask(handle_, call.key);
  const auto saved = adopted_.find(words);
  if (saved != adopted_.end()) {
    CHECK(plan->candidates.empty() || saved->second < static_cast<int>(plan->candidates.size()),
          "the saved gemm plan names algorithm {} of {}", saved->second, plan->candidates.size());
    plan->chosen = saved->second;
  }
  return *plans_.emplace(words, std::move(plan)).first->second;
}

cublasStatus_t GemmPlanner::execute(Plan& plan, int candidate, const Matmul& call,
                                    cudaStream_t stream) {
  set_pointers(plan.desc, call);
  const auto& algorithm = plan.candidates[static_cast<std::size_t>(candidate)].algorithm;
  const void* c = call.key.has_c != 0 ? call.c : call.d;
  return cublasLtMatmul(handle_, plan.desc.get(), &call.alpha, call.a, plan.a.get(), call.b,
                        plan.b.get(), &call.beta, c, plan.c.get(), call.d, plan.d.get(), &algorithm,
                        workspace_.get(), kWorkspaceBytes, stream);
}

std::string GemmPlanner::text() const {
  std::string line = identity_;
  for (const auto& [words, plan] : plans_) {
    char separator = ' ';
    for (const std::int64_t word : words) {
      line += fmt::format("{}{}", separator, word);
      separator = '.';
    }
    line += fmt::format("={}", plan->chosen);
  }
  return line;
}

bool GemmPlanner::adopt(const std::string& plan) {
  if (plan.compare(0, identity_.size(), identity_) != 0) return false;
  std::istringstream in(plan.substr(identity_.size()));
  std::map<Words, int> parsed;
  std::string entry;
  while (in >> entry) {
    std::istringstream fields(entry);
    Words words{};
    char separator = '.';
    for (std::int64_t& word : words) {
      if (separator != '.' || !(fields >> word >> separator)) return false;
    }
    int chosen = -1;
    if (separator != '=' || !(fields >> chosen) || chosen < 0) return false;
    parsed[words] = chosen;
  }
  adopted_ = std::move(parsed);
  plans_.clear();
  return true;
}

float* GemmPlanner::spill() {
  if (!spill_) spill_ = allocate(kSpillBytes, "unfused matrix products");
  return static_cast<float*>(spill_.get());
}

}  // namespace lockstep::cuda
