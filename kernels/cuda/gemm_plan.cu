// The plan cache over cuBLASLt: descriptors, the heuristic's candidates, and the plan as text.
#include "kernels/cuda/gemm_plan.cuh"

#include "kernels/cuda/check.cuh"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <span>
#include <sstream>
#include <utility>

namespace lockstep::cuda {
namespace {

constexpr int kCandidates = 16;  // what the heuristic is asked for

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
  const auto compute = key.tf32 != 0 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
  check(cublasLtMatmulDescCreate(&raw, compute, CUDA_R_32F), "cublasLtMatmulDescCreate");
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

// Two events around work on a stream.
struct Stopwatch {
  cudaEvent_t begin = nullptr, end = nullptr;

  Stopwatch() {
    check(cudaEventCreate(&begin), "cudaEventCreate");
    check(cudaEventCreate(&end), "cudaEventCreate");
  }
  ~Stopwatch() {
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

  float elapsed() const {
    float ms = 0.0f;
    check(cudaEventSynchronize(end), "cudaEventSynchronize");
    check(cudaEventElapsedTime(&ms, begin, end), "cudaEventElapsedTime");
    return ms;
  }
};

// A call that can be run again and again: one that reads what it writes writes to a copy instead.
// False when there is no memory for one.
bool make_repeatable(Matmul& call, DeviceMemory& copy, cudaStream_t stream) {
  if (call.key.has_c != 2 && call.d != call.aux) return true;
  const std::size_t element = call.key.out_type == CUDA_R_32F ? 4 : 2;
  const auto bytes = static_cast<std::size_t>(call.key.n * call.key.ldd) * element;
  void* data = nullptr;
  if (cudaMalloc(&data, bytes) != cudaSuccess) {
    cudaGetLastError();
    return false;
  }
  copy.reset(data);
  check(cudaMemsetAsync(data, 0, bytes, stream), "cudaMemsetAsync");
  if (call.key.has_c == 2) call.c = data;
  call.d = data;
  return true;
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
  Plan& plan = find(call, stream);
  if (plan.candidates.empty()) return false;
  check(execute(plan, plan.chosen, call, stream), "cublasLtMatmul");
  return true;
}

GemmPlanner::Plan& GemmPlanner::find(const Matmul& call, cudaStream_t stream) {
  const auto words = std::bit_cast<Words>(call.key);
  const auto known = plans_.find(words);
  if (known != plans_.end()) return *known->second;
  auto plan = std::make_unique<Plan>(call.key);
  set_pointers(plan->desc, call);
  plan->ask(handle_, call.key);
  const auto saved = adopted_.find(words);
  if (saved != adopted_.end() && saved->second < static_cast<int>(plan->candidates.size())) {
    plan->chosen = saved->second;
  } else if (searching_) {
    plan->chosen = fastest(*plan, call, stream);
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

// Milliseconds of `count` products in a row; infinity when the algorithm refuses this call.
float GemmPlanner::milliseconds(Plan& plan, int candidate, int count, const Matmul& call,
                                cudaStream_t stream) {
  const Stopwatch watch;
  check(cudaEventRecord(watch.begin, stream), "cudaEventRecord");
  for (int i = 0; i < count; ++i) {
    if (execute(plan, candidate, call, stream) != CUBLAS_STATUS_SUCCESS) {
      return std::numeric_limits<float>::infinity();
    }
  }
  check(cudaEventRecord(watch.end, stream), "cudaEventRecord");
  return watch.elapsed();
}

// Two rounds: all suggestions for a moment each, then the best few in turns, long enough that a
// card at its power limit shows what each one's energy costs. The first suggestion stays unless
// another is clearly faster.
int GemmPlanner::fastest(Plan& plan, Matmul call, cudaStream_t stream) {
  constexpr float kShortMs = 3.0f, kLongMs = 40.0f, kClearly = 0.99f, kHopeful = 1.06f;
  constexpr float kTooShortMs = 0.02f;  // then launching is what takes the time
  constexpr std::size_t kFinalists = 4;
  const int candidates = static_cast<int>(plan.candidates.size());
  DeviceMemory copy;
  if (candidates < 2 || !make_repeatable(call, copy, stream)) return 0;
  milliseconds(plan, 0, 1, call, stream);
  const float once = milliseconds(plan, 0, 3, call, stream) / 3.0f;
  if (!(once > kTooShortMs)) return 0;
  const auto runs = [&](float ms) { return static_cast<int>(std::ceil(ms / once)); };
  std::vector<std::pair<float, int>> ranking;  // milliseconds of one product, candidate
  for (int candidate = 0; candidate < candidates; ++candidate) {
    milliseconds(plan, candidate, 1, call, stream);
    const int count = runs(kShortMs);
    ranking.emplace_back(milliseconds(plan, candidate, count, call, stream) / count, candidate);
  }
  std::sort(ranking.begin(), ranking.end());
  if (ranking.size() > kFinalists) ranking.resize(kFinalists);
  std::erase_if(ranking, [best = ranking.front().first](const auto& entry) {
    return !(entry.first <= kHopeful * best);
  });
  if (std::none_of(ranking.begin(), ranking.end(), [](const auto& e) { return e.second == 0; })) {
    ranking.emplace_back(once, 0);
  }
  std::map<int, float> total;
  for (int round = 0; round < 3; ++round) {
    for (const auto& [ms, candidate] : ranking) {
      total[candidate] += milliseconds(plan, candidate, runs(kLongMs), call, stream);
    }
  }
  const auto best = std::min_element(
      total.begin(), total.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return best->second < kClearly * total.at(0) ? best->first : 0;
}

std::string GemmPlanner::text() const {
  std::string line = identity_;
  for (const auto& [words, plan] : plans_) {
    char separator = ' ';
    // Plans were without the last word once: it is only there when it says something.
    const std::size_t count = words.back() == 0 ? words.size() - 1 : words.size();
    for (const std::int64_t word : std::span(words).first(count)) {
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
      if (separator == '=' && &word == &words.back()) break;
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
