// The list of backends: order, names, and what a plan is made for.
#include "kernels/backend.h"

#include <gtest/gtest.h>

#include <set>

namespace lockstep {
namespace {

TEST(Backends, TheCpuIsLastAndAlwaysThere) {
  EXPECT_EQ(*std::rbegin(kBackends), &kCpuBackend);
  EXPECT_EQ(accelerators().size() + 1, std::size(kBackends));
  ASSERT_NE(kCpuBackend.kernels, nullptr);
  EXPECT_EQ(kCpuBackend.count(), 1);
  EXPECT_EQ(kCpuBackend.info(0).kind, DeviceKind::kCpu);
}

TEST(Backends, HaveNamesOfTheirOwn) {
  std::set<std::string_view> names;
  for (const Backend* backend : kBackends) {
    EXPECT_TRUE(names.insert(backend->name).second) << backend->name;
    EXPECT_EQ(find_backend(backend->name), backend);
    EXPECT_FALSE(backend->status().empty()) << backend->name;
    if (backend->kernels != nullptr) EXPECT_EQ(backend->kernels->name, backend->name);
  }
  EXPECT_EQ(find_backend("auto"), nullptr);
  EXPECT_EQ(device_names().size(), std::size(kBackends) + 1);
  EXPECT_EQ(device_names().front(), "auto");
}

TEST(Backends, PlansNeedNoDevice) {
  EXPECT_EQ(&planned_backend("cpu"), &kCpuBackend);
  const Backend& best = planned_backend("auto");
  EXPECT_NE(best.kernels, nullptr);
  EXPECT_EQ(&best, kCudaBackend.kernels != nullptr ? &kCudaBackend : &kCpuBackend);
  EXPECT_EQ(&planned_backend("cuda"), &best);  // a build without CUDA plans for what it has
}

}  // namespace
}  // namespace lockstep
