// What is read from Slurm's answers, as Slurm 22.05 gives them.
#include "app/slurm.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

bool cancelled(const std::string& state, const std::string& reason) {
  return was_cancelled(parse_slurm_job("JobId=1 JobName=JobState=CANCELLED JobState=" + state +
                                       " Reason=" + reason + " Dependency=(null)\n"));
}

TEST(Slurm, TellsACancelledJobFromOneThatMayComeBack) {
  EXPECT_TRUE(cancelled("COMPLETING", "None"));
  EXPECT_TRUE(cancelled("CANCELLED", "None"));
  EXPECT_FALSE(cancelled("RUNNING", "None")) << "it ended by itself, or for another job";
  EXPECT_FALSE(cancelled("COMPLETING", "TimeLimit"));
  EXPECT_FALSE(cancelled("COMPLETING", "NodeDown"));
  EXPECT_FALSE(was_cancelled(parse_slurm_job("")));
}

const char* const kConfig =
    "Configuration data as of 2026-12-01T03:00:00\n"
    "JobRequeue              = 1\n"
    "KillWait                = 30 sec\n"
    "PreemptMode             = REQUEUE\n"
    "PreemptType             = preempt/partition_prio\n"
    "SLURM_VERSION           = 22.05.8\n"
    "SlurmctldParameters     = (null)\n";

TEST(Slurm, ReadsTheSite) {
  const SlurmSite site = parse_slurm_site(kConfig, "MPI plugin types are...\n\tpmix\n\tnone\n");
  EXPECT_EQ(site.version, "22.05.8");
  EXPECT_EQ(site.kill_wait, "30 sec");
  EXPECT_TRUE(site.pmix && site.preempts && site.requeues);
  EXPECT_FALSE(site.signals_preempted);
}

TEST(Slurm, SaysWhatWouldCostWork) {
  SlurmSite site = parse_slurm_site(kConfig, "pmix");
  ASSERT_EQ(slurm_advice(site).size(), 1u);
  EXPECT_NE(slurm_advice(site)[0].find("preempt_send_user_signal"), std::string::npos);
  site.signals_preempted = true;
  EXPECT_TRUE(slurm_advice(site).empty());
  site.pmix = false;
  site.requeues = false;
  EXPECT_EQ(slurm_advice(site).size(), 2u);
}

TEST(Slurm, WithoutAJobThereIsNoAnswer) {
  unsetenv("SLURM_JOB_ID");
  unsetenv("SLURM_JOB_END_TIME");
  EXPECT_FALSE(this_slurm_job());
  EXPECT_EQ(slurm_seconds_left(), -1.0);
}

}  // namespace
}  // namespace lockstep
