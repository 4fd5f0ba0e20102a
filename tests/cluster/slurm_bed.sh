#!/usr/bin/env bash
# A real Slurm with two nodes on one machine, for as long as one command runs. All of it lives in
# namespaces of its own (network, process ids, mounts, host name): nothing on the machine changes,
# nothing listens outside, and everything is gone when the command ends.
#
# Usage: slurm_bed.sh run DIR COMMAND [ARGUMENT...]   exit code of COMMAND; 77 where it cannot work
# and, called by COMMAND:
#        slurm_bed.sh settings [KEY=VALUE...]   extra lines of slurm.conf, instead of those before
#        slurm_bed.sh cut NODE                  its link and then its power go
#        slurm_bed.sh node NODE                 it comes back
#        slurm_bed.sh silence NODE              what is sent to it or by it vanishes from now on
#        slurm_bed.sh hear NODE                 no longer
#
# The nodes n1 and n2 have two cores each; host name, process ids, /dev/shm and address are their
# own, the file systems are shared; DIR/small is one of 1 MiB. Partition "low" (the default) is
# preempted by "high", with $BED_GRACE seconds (60) between notice and end. DIR must be readable by
# the user who submits.
set -euo pipefail

nodes=(n1 n2)
control=10.77.0.1
address() { echo "10.77.0.1${1#n}"; }

skip() {
  echo "skipped: a Slurm of our own needs $*"
  exit 77
}

require_tools() {
  [ "$(id -u)" -eq 0 ] || skip "root"
  local tool
  for tool in slurmctld slurmd sbatch munged mungekey ip unshare nsenter; do
    command -v "$tool" > /dev/null ||
      skip "$tool; scripts/install_packages.sh --tests installs it"
  done
  [ -d /sys/fs/cgroup ] || skip "/sys/fs/cgroup"
  local refusal
  refusal=$(unshare --net --pid --mount --uts --fork --mount-proc \
    ip link add br0 type bridge 2>&1) ||
    skip "the right to make namespaces and a network bridge ($refusal)"
}

write_settings() {
  cat > "$BED/etc/slurm.conf" << END
ClusterName=bed
SlurmctldHost=control($control)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# A requeued job waits until its credential has expired: two minutes, unless this says less.
AuthInfo=socket=$BED/munge.socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=2,batch_sched_delay=0
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
StateSaveLocation=$BED/state
SlurmctldPidFile=$BED/slurmctld.pid
SlurmctldLogFile=$BED/slurmctld.log
SlurmdSpoolDir=$BED/spool.%n
SlurmdPidFile=$BED/slurmd.%n.pid
SlurmdLogFile=$BED/slurmd.%n.log
SlurmdParameters=config_overrides
SlurmdTimeout=8
KillWait=10
ReturnToService=2
MinJobAge=3600
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=low Nodes=n1,n2 Default=YES State=UP PriorityTier=1 GraceTime=${BED_GRACE:-60}
PartitionName=high Nodes=n1,n2 State=UP PriorityTier=10 PreemptMode=OFF
END
  local node
  for node in "${nodes[@]}"; do
    echo "NodeName=$node NodeAddr=$(address "$node") CPUs=2 CoresPerSocket=2 RealMemory=1000"
  done >> "$BED/etc/slurm.conf"
  [ $# -eq 0 ] || printf '%s\n' "$@" >> "$BED/etc/slurm.conf"
  # The nodes share /tmp, where both would make the same directory.
  echo "PMIxCliTmpDirBase=/run/node" > "$BED/etc/mpi.conf"
}

start_network() {
  ip link set lo up
  ip link add br0 type bridge
  ip addr add $control/24 dev br0
  ip link set br0 up
  printf '127.0.0.1 localhost\n%s control\n' $control > "$BED/etc/hosts"
  local node
  for node in "${nodes[@]}"; do
    ip netns add "$node"
    ip link add "v-$node" type veth peer name eth0 netns "$node"
    ip link set "v-$node" master br0
    ip -n "$node" addr add "$(address "$node")/24" dev eth0
    ip -n "$node" link set lo up
    ip -n "$node" link set eth0 up
    echo "$(address "$node") $node" >> "$BED/etc/hosts"
  done
  mount --bind "$BED/etc/hosts" /etc/hosts
}

# Killing the waiting shell is the power cut: it is the first process of the node's namespace.
start_node() {
  ip link set "v-$1" up
  # Empty, as after a boot: a socket that a step left would refuse the same job's next attempt.
  rm -rf "$BED/spool.$1"
  # Not `ip netns exec`: that mounts a /sys without cgroups, and slurmd then refuses to start.
  nsenter --net="/run/netns/$1" \
    unshare --uts --pid --mount --fork --kill-child --mount-proc bash -c "
      hostname $1
      mount -t tmpfs -o mode=1777 tmpfs /dev/shm
      mkdir -p /run/node && mount -t tmpfs -o mode=1777 tmpfs /run/node
      slurmd -D -N $1 &
      wait" > "$BED/$1.out" 2>&1 < /dev/null &
  echo $! > "$BED/$1.pid"
}

cut_node() {
  ip link set "v-$1" down
  kill -KILL "$(cat "$BED/$1.pid")"
}

# Its link stays up, so nobody is told; there is only no answer.
silence_node() { ip link set "v-$1" nomaster; }
hear_node() { ip link set "v-$1" master br0; }

wait_for_nodes() {
  local seconds
  for seconds in $(seq 30); do
    for _ in $(seq 10); do
      [ "$(sinfo -h -N -p low -t idle -o %n 2> /dev/null | wc -l)" -lt ${#nodes[@]} ] || return 0
      sleep 0.1
    done
  done
  echo "the nodes of the test's Slurm are not there after $seconds s:"
  tail -n 5 "$BED"/*.log "$BED"/*.out
  exit 1
}

# In the new namespaces, as their first process.
inside() {
  mount -t tmpfs -o mode=755 tmpfs /run
  hostname control
  mkdir -p "$BED/etc" "$BED/state" "$BED/small"
  mount -t tmpfs -o size=1m,mode=1777 tmpfs "$BED/small"
  chmod 755 "$BED" "$BED/etc"
  start_network
  write_settings
  mungekey --create --keyfile="$BED/munge.key"
  munged --force --socket="$BED/munge.socket" --key-file="$BED/munge.key" \
    --pid-file="$BED/munge.pid" --log-file="$BED/munge.log" --seed-file="$BED/munge.seed" \
    2> "$BED/munge.out"
  slurmctld -i 2> "$BED/slurmctld.out"
  local node
  for node in "${nodes[@]}"; do start_node "$node"; done
  wait_for_nodes
  "$@"
}

case "${1:-}" in
  run)
    require_tools
    export BED=$2 SLURM_CONF=$2/etc/slurm.conf
    exec unshare --net --pid --mount --uts --fork --kill-child --mount-proc \
      bash "$0" inside "${@:3}"
    ;;
  inside) inside "${@:2}" ;;
  settings)
    write_settings "${@:2}"
    scontrol reconfigure
    ;;
  cut) cut_node "$2" ;;
  node) start_node "$2" ;;
  silence) silence_node "$2" ;;
  hear) hear_node "$2" ;;
  *)
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p;}' "$0"
    exit 64
    ;;
esac
