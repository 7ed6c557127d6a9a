#!/bin/bash
# End the cluster that up.sh started: down.sh [ROOT]
#
# Ends only processes that belong to ROOT and keeps its files; up.sh brings the same cluster back,
# without its jobs. `rm -r ROOT` afterwards forgets it.
set -uo pipefail
HERE=$(dirname "$(realpath "$0")")
ROOT=$(realpath -m "${1:-${BENCH_DEVCLUSTER:-/tmp/bench-devcluster-$(id -u)}}")
. "$HERE/common.sh"
export SLURM_CONF=$ROOT/etc/slurm.conf

# Jobs first: a job outlives its slurmd.
cancel_jobs() {
    daemon_pid "$ROOT/run/slurmctld.pid" >/dev/null || return
    squeue -h -o %A | sort -u | xargs -r scancel
    squeue -h -o %A -t running,completing | sort -u | xargs -r scancel --full -s KILL 2>/dev/null
    wait_for sh -c '[ -z "$(squeue -h)" ]'
}

stop() {
    local pid
    pid=$(daemon_pid "$1") || return 0
    kill "$pid"
    for _ in $(seq 200); do
        is_alive "$pid" || return 0
        sleep 0.05
    done
    kill -9 "$pid"
}

cancel_jobs
pid_files | while read -r file; do stop "$file"; done
