#!/usr/bin/env bash
# A Slurm cluster of this one machine, for tests: `one_node_slurm.sh start FOLDER` and `... stop FOLDER`.
#
# Configuration, state, sockets and logs lie in FOLDER, and the ports are its own, so that a real Slurm beside it is left alone; clients
# find it with SLURM_CONF=FOLDER/slurm.conf. Needs root and Debian's packages, which it installs where they are missing.
# Partition `all` is the default one; a job of `urgent` pre-empts its jobs, which are queued again. Exit code 3, and a line that says why, where that can't be.
set -euo pipefail

refuse() {
    echo "$1" >&2
    exit 3
}

end() { # the process of a pid file
    if [ -s "$1" ] && kill "$(cat "$1")" 2>/dev/null; then
        for _ in $(seq 50); do
            kill -0 "$(cat "$1" 2>/dev/null || echo none)" 2>/dev/null || return 0
            sleep 0.1
        done
    fi
}

command=${1:?start or stop} folder=$(realpath -m "${2:?a folder}")

if [ "$command" = stop ]; then
    export SLURM_CONF=$folder/slurm.conf
    # A step that outlives the daemons would wait for them for ever.
    if [ -s "$folder/slurmctld.pid" ] && scancel --user="$(id -un)" 2>/dev/null; then
        for _ in $(seq 60); do
            [ -n "$(squeue --noheader 2>/dev/null)" ] || break
            sleep 0.5
        done
    fi
    for daemon in slurmd slurmctld munged; do
        end "$folder/$daemon.pid"
    done
    exit 0
fi

[ "$(id -u)" = 0 ] || refuse "a Slurm of one's own needs root"
installed() {
    local program
    for program in slurmctld slurmd munged sbatch srun; do
        command -v "$program" >/dev/null || return 1
    done
}
if ! installed; then
    command -v apt-get >/dev/null || refuse "slurmctld, slurmd, munged or sbatch is missing, and there is no apt-get to install them"
    export DEBIAN_FRONTEND=noninteractive
    apt=(timeout 300 apt-get -o Acquire::Retries=1 -o Acquire::http::Timeout=20 install --yes --no-install-recommends slurmctld slurmd slurm-client munge)
    mkdir -p "$folder"
    { "${apt[@]}" || { timeout 120 apt-get -o Acquire::http::Timeout=20 update && "${apt[@]}"; }; } >/dev/null 2>"$folder/apt.log" ||
        refuse "apt-get can't install slurmctld, slurmd, slurm-client, munge: $(tail -n 1 "$folder/apt.log")"
fi

mkdir -p "$folder/state" "$folder/spool"
chmod 755 "$folder"
[ -s "$folder/munge.key" ] || head -c 1024 /dev/urandom >"$folder/munge.key"
chmod 600 "$folder/munge.key"
port=$((20000 + $$ % 20000))
host=$(hostname -s)
# cred_expire: a job that is queued again waits so long at least, two minutes by default.
cat >"$folder/slurm.conf" <<CONF
ClusterName=tests
SlurmctldHost=$host
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=5
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
KillWait=5
NodeName=$host CPUs=$(getconf _NPROCESSORS_ONLN) State=UNKNOWN
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10
CONF
printf 'CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n' >"$folder/cgroup.conf"
export SLURM_CONF=$folder/slurm.conf

munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
    --log-file="$folder/munged.log" --seed-file="$folder/munge.seed" 2>/dev/null || refuse "munged doesn't start: see $folder/munged.log"
slurmctld || refuse "slurmctld doesn't start: see $folder/slurmctld.log"
slurmd -n "$(nice)" || refuse "slurmd doesn't start: see $folder/slurmd.log"
for _ in $(seq 100); do
    if sinfo --noheader --format=%T 2>/dev/null | grep -q idle; then
        exit 0
    fi
    sleep 0.3
done
"$0" stop "$folder"
refuse "the node doesn't become idle: $(sinfo --noheader --format='%T %E' 2>&1 | tail -n 1)"
