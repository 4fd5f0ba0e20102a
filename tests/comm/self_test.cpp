// A world of one, and what the process can tell before MPI: launcher variables, absent NCCL.
#include "comm/communicator.h"
#include "device/device.h"
#include "kernels/backend.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

namespace lockstep {
namespace {

TEST(SelfCommunicator, EveryCollectiveIsTheIdentity) {
  const auto device = kCpuBackend.open(/*ordinal=*/0, /*threads=*/1);
  Stream stream(*device, "test");
  const auto comm = make_self_communicator();
  EXPECT_EQ(comm->name(), "self");
  EXPECT_EQ(comm->rank(), 0);
  EXPECT_EQ(comm->size(), 1);
  const std::vector<float> source = {1.5f, -2.0f, 3.25f};
  std::vector<float> data = source;
  for (ReduceOp op : {ReduceOp::kSum, ReduceOp::kMax, ReduceOp::kMin}) {
    comm->all_reduce(std::span(data), op, stream);
    EXPECT_EQ(data, source);
  }
  comm->broadcast(std::span(data), 0, stream);
  EXPECT_EQ(data, source);
  std::vector<float> scattered(3);
  comm->reduce_scatter(std::span(scattered), std::span(data), ReduceOp::kSum, stream);
  EXPECT_EQ(scattered, source);
  std::vector<float> gathered(3);
  comm->all_gather(std::span(gathered), std::span(data), stream);
  EXPECT_EQ(gathered, source);
  comm->reduce_scatter(std::span(data), std::span(data), ReduceOp::kSum, stream);
  EXPECT_EQ(data, source);
  comm->check_async_error();
}

TEST(SelfCommunicator, RefusesWhatMpiWouldRefuse) {
  const auto device = kCpuBackend.open(/*ordinal=*/0, /*threads=*/1);
  Stream stream(*device, "test");
  const auto comm = make_self_communicator();
  std::vector<float> two(2);
  std::vector<float> three(3);
  std::vector<double> doubles(3);
  EXPECT_THROW(comm->broadcast(std::span(two), 1, stream), CheckError);
  EXPECT_THROW(comm->all_gather(std::span(three), std::span(two), stream), CheckError);
  EXPECT_THROW(comm->reduce_scatter(std::span(three), std::span(doubles), ReduceOp::kSum, stream),
               CheckError);
}

TEST(SelfWorld, IsAloneOnThisHost) {
  const auto world = make_self_world();
  EXPECT_EQ(world->rank(), 0);
  EXPECT_EQ(world->size(), 1);
  EXPECT_FALSE(world->placement().host.empty());
  world->barrier();
  EXPECT_EQ(world->broadcast("text", 0), "text");
  EXPECT_EQ(world->all_gather("text"), std::vector<std::string>{"text"});
  EXPECT_EQ(world->all_reduce({1, -2}, ReduceOp::kSum), (std::vector<std::int64_t>{1, -2}));
  EXPECT_TRUE(world->all_agree(true));
  EXPECT_FALSE(world->all_agree(false));
}

// Clears every launcher variable, so that the test means the same under mpirun or Slurm.
class LaunchedByMpi : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"OMPI_COMM_WORLD_SIZE", "MPI_LOCALRANKID", "PMI_RANK", "PMIX_RANK",
                             "SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_PROCID"}) {
      unsetenv(name);
    }
  }
  static void set(const char* name, const char* value) { setenv(name, value, /*overwrite=*/1); }
};

TEST_F(LaunchedByMpi, PlainShellIsNot) { EXPECT_FALSE(launched_by_mpi()); }

TEST_F(LaunchedByMpi, MpirunIs) {
  set("OMPI_COMM_WORLD_SIZE", "1");
  EXPECT_TRUE(launched_by_mpi());
}

TEST_F(LaunchedByMpi, HydraIsAlsoInsideASlurmBatchJob) {
  set("SLURM_JOB_ID", "12");
  set("PMI_RANK", "0");
  EXPECT_FALSE(launched_by_mpi());
  set("MPI_LOCALRANKID", "0");
  EXPECT_TRUE(launched_by_mpi());
}

TEST_F(LaunchedByMpi, SrunWithPmixIsButTheBatchShellIsNot) {
  set("SLURM_JOB_ID", "12");
  set("SLURM_PROCID", "0");
  EXPECT_FALSE(launched_by_mpi());
  set("PMIX_RANK", "0");
  EXPECT_FALSE(launched_by_mpi());
  set("SLURM_STEP_ID", "4294967291");
  EXPECT_FALSE(launched_by_mpi());
  set("SLURM_STEP_ID", "0");
  EXPECT_TRUE(launched_by_mpi());
}

TEST_F(LaunchedByMpi, SrunWithoutPmiIsNot) {
  set("SLURM_JOB_ID", "12");
  set("SLURM_STEP_ID", "0");
  set("SLURM_PROCID", "1");
  EXPECT_FALSE(launched_by_mpi());
}

TEST(Nccl, OnTheCpuIsAnErrorThatNamesTheWayOut) {
  const auto device = kCpuBackend.open(/*ordinal=*/0, /*threads=*/1);
  const auto world = make_self_world();
  try {
    make_nccl_communicator(*world, *device, {});
    FAIL() << "no error";
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::kConfig);
    EXPECT_NE(std::string(error.what()).find("comm.backend=mpi"), std::string::npos);
  }
}

}  // namespace
}  // namespace lockstep
