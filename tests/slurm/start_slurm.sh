#!/usr/bin/env bash
# A SLURM of one node for the tests marked slurm: munge, a controller and a node daemon on this machine, by hand.
#
# Needs root and the packages slurm-wlm and munge (apt-get install slurm-wlm munge). Does nothing where a controller
# answers already, and refuses to touch a configuration that it has not written itself.
#
#   start_slurm.sh          starts what does not run yet
#   start_slurm.sh node     starts the node daemons alone again, after a test has stopped them
#
# The node pretends to have 4 cores and 2 GPUs, whatever the machine has. Partition "main" is preempted by "high":
# its jobs get the signal they asked for, 20 seconds to save, and are requeued. Partition "pair" has the node and a
# second one, which is another daemon on this machine, for jobs of several nodes.
set -euo pipefail

readonly CONF=/etc/slurm/slurm.conf
readonly MARK="# Written by start_slurm.sh of velm_train's tests."
host=$(hostname -s)
second="$host-second"
memory_mb=$(($(awk '/^MemTotal/ { print $2 }' /proc/meminfo) / 1024 - 512))

fail() { echo "start_slurm.sh: $1" >&2; exit 3; }
answers() { timeout 5 scontrol ping 2>/dev/null | grep -q 'is UP'; }

# Waits up to $1 seconds until the command succeeds.
await() {
  local deadline=$((SECONDS + $1)); shift
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.2
  done
}

munge_works() { munge -n 2>/dev/null | unmunge >/dev/null 2>&1; }
node_is_up() { timeout 5 sinfo -h -N -n "$1" -o %T 2>/dev/null | grep -qE '^(idle|mixed|allocated)$'; }

start_nodes() {
  local node
  for node in "$host" "$second"; do
    pgrep -f "^slurmd -N $node\$" >/dev/null || slurmd -N "$node"
  done
  for node in "$host" "$second"; do
    await 5 node_is_up "$node" || timeout 5 scontrol update "NodeName=$node" State=RESUME || true
    await 30 node_is_up "$node" || fail "node $node does not come up; see /var/log/slurm/slurmd-$node.log"
  done
}

write_configuration() {
  mkdir -p /etc/slurm
  cat >"$CONF" <<CONFIGURATION
$MARK
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
MpiDefault=none
# Plain processes: no cgroups, which containers often do not allow.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=256
GresTypes=gpu
# The numbers below count, not what the machine has.
SlurmdParameters=config_overrides
ReturnToService=2
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd-%n
SlurmctldPidFile=/run/slurm/slurmctld.pid
SlurmdPidFile=/run/slurm/slurmd-%n.pid
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd-%n.log
# Tests do not wait for a scheduler that looks once a minute.
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=0,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
JobRequeue=1
KillWait=5
MinJobAge=3600
SlurmdTimeout=60
NodeName=$host NodeAddr=127.0.0.1 CPUs=4 Boards=1 SocketsPerBoard=1 CoresPerSocket=4 ThreadsPerCore=1 RealMemory=$memory_mb Gres=gpu:2 State=UNKNOWN
NodeName=$second NodeHostname=$host NodeAddr=127.0.0.1 Port=6828 CPUs=4 Boards=1 SocketsPerBoard=1 CoresPerSocket=4 ThreadsPerCore=1 RealMemory=$memory_mb State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
PartitionName=high Nodes=$host MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
PartitionName=pair Nodes=$host,$second MaxTime=INFINITE State=UP PreemptMode=OFF
CONFIGURATION
  printf 'AutoDetect=off\nNodeName=%s Name=gpu File=/dev/null,/dev/zero\n' "$host" >/etc/slurm/gres.conf
}

start_munge() {
  pidof munged >/dev/null && return
  mkdir -p /run/munge /var/log/munge /var/lib/munge
  chown munge: /run/munge /var/log/munge /var/lib/munge /etc/munge /etc/munge/munge.key
  chmod 755 /run/munge
  chmod 400 /etc/munge/munge.key
  runuser -u munge -- "$(command -v munged)"
}

[ "$(id -u)" = 0 ] || fail "only root can start SLURM"
for program in munged slurmctld slurmd; do
  command -v "$program" >/dev/null || fail "$program is not installed (apt-get install slurm-wlm munge)"
done
if [ "${1:-}" = node ]; then
  start_nodes
  exit
fi
if answers; then
  echo "a controller answers already"
  exit
fi
[ ! -e "$CONF" ] || [ "$(head -n 1 "$CONF")" = "$MARK" ] || fail "$CONF is not of this script; start SLURM yourself"
mkdir -p /var/spool/slurmctld "/var/spool/slurmd-$host" "/var/spool/slurmd-$second" /var/log/slurm /run/slurm
write_configuration
start_munge
await 10 munge_works || fail "munge does not answer; see /var/log/munge/munged.log"
pidof slurmctld >/dev/null || slurmctld
await 30 answers || fail "the controller does not answer; see /var/log/slurm/slurmctld.log"
start_nodes
timeout 5 sinfo
