// The launchers' variables, from tables instead of the environment.
#include "app/launcher.h"

#include "app/support.h"

#include <gtest/gtest.h>

#include <map>

namespace lockstep {
namespace {

using test::catch_error;
using test::Caught;
using Table = std::map<std::string, std::string>;

Environment from(const Table& table) {
  return [&table](const char* name) -> const char* {
    const auto found = table.find(name);
    return found == table.end() ? nullptr : found->second.c_str();
  };
}

Caught announced(const Table& table, int mpi_size) {
  return catch_error([&] { check_announced_tasks(from(table), mpi_size); });
}

TEST(Launcher, RankComesFromWhoeverLaunched) {
  EXPECT_EQ(launcher_rank(from({})), 0);
  EXPECT_EQ(launcher_rank(from({{"OMPI_COMM_WORLD_RANK", "3"}})), 3);
  EXPECT_EQ(launcher_rank(from({{"PMIX_RANK", "2"}})), 2);
  EXPECT_EQ(launcher_rank(from({{"PMI_RANK", "4"}})), 4);
  EXPECT_EQ(launcher_rank(from({{"SLURM_PROCID", "5"}})), 5);
  // mpirun inside a Slurm step: the step's number is the daemon's.
  EXPECT_EQ(launcher_rank(from({{"OMPI_COMM_WORLD_RANK", "3"}, {"SLURM_PROCID", "0"}})), 3);
  EXPECT_EQ(launcher_rank(from({{"SLURM_PROCID", "many"}})), 0);
}

TEST(Launcher, SrunWithoutPmixIsAConfigurationError) {
  const Caught caught = announced({{"SLURM_STEP_NUM_TASKS", "4"}}, 1);
  EXPECT_EQ(caught.code, ExitCode::kConfig);
  EXPECT_NE(caught.message.find("--mpi=pmix"), std::string::npos) << caught.message;
  EXPECT_NE(caught.message.find("4 tasks"), std::string::npos) << caught.message;
  const Caught pmi2 = announced({{"SLURM_STEP_NUM_TASKS", "4"}, {"PMI_SIZE", "4"}}, 1);
  EXPECT_NE(pmi2.message.find("--mpi=pmix"), std::string::npos) << pmi2.message;
}

TEST(Launcher, AForeignMpirunIsAConfigurationError) {
  const Caught caught = announced({{"PMI_SIZE", "2"}}, 1);
  EXPECT_EQ(caught.code, ExitCode::kConfig);
  EXPECT_NE(caught.message.find("mpirun that belongs to"), std::string::npos) << caught.message;
}

TEST(Launcher, MatchingWorldsPass) {
  EXPECT_EQ(announced({}, 1).message, "");
  EXPECT_EQ(announced({{"SLURM_STEP_NUM_TASKS", "1"}}, 1).message, "");
  EXPECT_EQ(announced({{"SLURM_STEP_NUM_TASKS", "4"}}, 4).message, "");
  // Under mpirun the step counts mpirun's daemons, of which there may be more than ranks.
  EXPECT_EQ(announced({{"SLURM_STEP_NUM_TASKS", "4"}, {"OMPI_COMM_WORLD_SIZE", "2"}}, 2).message,
            "");
}

TEST(Launcher, TheSameStartIsACommand) {
  EXPECT_EQ(launcher_command(from({})), "");
  EXPECT_EQ(launcher_command(from({{"OMPI_COMM_WORLD_SIZE", "4"}, {"PMIX_RANK", "0"}})),
            "mpirun -n 4 ");
  const Table step = {{"SLURM_STEP_NUM_TASKS", "8"}, {"PMIX_RANK", "0"}};
  EXPECT_EQ(launcher_command(from(step)), "srun -n 8 ");
  Table pmix = step;
  pmix["SLURM_MPI_TYPE"] = "pmix";
  EXPECT_EQ(launcher_command(from(pmix)), "srun -n 8 --mpi=pmix ");
}

TEST(Launcher, SlurmSaysHowManyCpusARankGets) {
  EXPECT_EQ(granted_cpus(from({{"SLURM_CPUS_ON_NODE", "64"}}), 1), 0) << "not in a job";
  Table job = {{"SLURM_JOB_ID", "1"}, {"SLURM_CPUS_ON_NODE", "64"}};
  EXPECT_EQ(granted_cpus(from(job), 4), 16);
  job["SLURM_CPUS_PER_TASK"] = "8";
  EXPECT_EQ(granted_cpus(from(job), 4), 8);
  EXPECT_EQ(granted_cpus(from(job), 16), 4) << "more ranks than tasks";
  EXPECT_EQ(granted_cpus(from({{"SLURM_JOB_ID", "1"}, {"SLURM_CPUS_PER_TASK", "8"}}), 1), 8);
  EXPECT_EQ(granted_cpus(from({{"SLURM_JOB_ID", "1"}}), 1), 0);
  EXPECT_EQ(omp_threads(from({})), 0);
  EXPECT_EQ(omp_threads(from({{"OMP_NUM_THREADS", "4,2"}})), 4);
  EXPECT_EQ(omp_threads(from({{"OMP_NUM_THREADS", "all"}})), 0);
}

TEST(Launcher, OnlyMpirunsOwnBindingMayBeWidened) {
  EXPECT_TRUE(keeps_binding(from({})));
  EXPECT_TRUE(keeps_binding(from({{"SLURM_STEP_NUM_TASKS", "2"}, {"PMIX_RANK", "0"}})));
  const Table plain = {{"OMPI_COMM_WORLD_SIZE", "2"}};
  EXPECT_FALSE(keeps_binding(from(plain)));
  Table bound = plain;
  bound["OMPI_MCA_hwloc_base_binding_policy"] = "core";
  EXPECT_TRUE(keeps_binding(from(bound)));
  Table mapped = plain;
  mapped["OMPI_MCA_rmaps_base_mapping_policy"] = "core:pe=4";
  EXPECT_TRUE(keeps_binding(from(mapped)));
  mapped["OMPI_MCA_rmaps_base_mapping_policy"] = "node";
  EXPECT_FALSE(keeps_binding(from(mapped)));
}

}  // namespace
}  // namespace lockstep
