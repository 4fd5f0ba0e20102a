// A session of one process: what it opens, and what it refuses.
#include "app/session.h"

#include "app/support.h"
#include "kernels/backend.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

using test::catch_error;
using test::Caught;

TEST(Session, OpensAloneOnTheCpu) {
  MpiSession mpi;
  Session session = open_session(mpi, {.device = "cpu", .threads = 2}, {});
  EXPECT_FALSE(mpi.active());
  EXPECT_EQ(session.placement().size, 1);
  EXPECT_EQ(session.device->kind(), DeviceKind::kCpu);
  EXPECT_EQ(session.communicator->name(), "self");
  EXPECT_EQ(session.threads, 2);
  const auto lines = describe_ranks(session);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_NE(lines[0].find("rank 0"), std::string::npos);
  EXPECT_NE(lines[0].find("2 threads"), std::string::npos);
}

TEST(Session, RefusesBackendsThatCannotBe) {
  MpiSession mpi;
  const RunOptions cpu{.device = "cpu", .threads = 1};
  const Caught no_launcher =
      catch_error([&] { open_session(mpi, cpu, {.backend = CommBackend::kMpi}); });
  EXPECT_EQ(no_launcher.code, ExitCode::kConfig);
  EXPECT_NE(no_launcher.message.find("mpirun"), std::string::npos) << no_launcher.message;
  const Caught nccl = catch_error([&] { open_session(mpi, cpu, {.backend = CommBackend::kNccl}); });
  EXPECT_EQ(nccl.code, ExitCode::kConfig);
  EXPECT_NE(nccl.message.find("run.device"), std::string::npos) << nccl.message;
}

TEST(Session, CudaThatIsAbsentIsAConfigurationError) {
  if (kCudaBackend.count() > 0) GTEST_SKIP() << "this machine has a GPU: " << kCudaBackend.status();
  MpiSession mpi;
  const Caught caught = catch_error([&] { open_session(mpi, {.device = "cuda"}, {}); });
  EXPECT_EQ(caught.code, ExitCode::kConfig);
  EXPECT_EQ(caught.message.rfind("run.device=cuda, but no GPU can be used: ", 0), 0u)
      << caught.message;
}

}  // namespace
}  // namespace lockstep
