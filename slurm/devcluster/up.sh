#!/bin/bash
# Bring up a real Slurm on this machine: up.sh [ROOT]
#
# munge, slurmctld, N slurmd, and slurmdbd with MariaDB for sacct; no systemd, no cgroups.
# Installs the packages where they are missing (Debian, Ubuntu; needs root), starts whatever of
# the cluster is not running, and prints the line that points Slurm's commands at it:
#
#     eval "$(slurm/devcluster/up.sh)"
#
# Settings, from the environment: NODES=4 CPUS=2 MEMORY=4000 (MB) GPUS=4 (a node),
# ACCOUNTING=yes|no (slurmdbd and MariaDB). They are read when the controller starts.
set -euo pipefail
HERE=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
ROOT=$(realpath -m "${1:-${BENCH_DEVCLUSTER:-/tmp/bench-devcluster-$(id -u)}}")
NODES=${NODES:-4} CPUS=${CPUS:-2} MEMORY=${MEMORY:-4000} GPUS=${GPUS:-4}
ACCOUNTING=${ACCOUNTING:-yes}
. "$HERE/common.sh"

# Clusters under different roots get different ports, below the range that the kernel hands out.
CTLD_PORT=$((20000 + $(printf %s "$ROOT" | cksum | cut -d' ' -f1) % 50 * 200))
DBD_PORT=$((CTLD_PORT + 1)) FIRST_NODE_PORT=$((CTLD_PORT + 2))
export SLURM_CONF=$ROOT/etc/slurm.conf

install_packages() {
    local wanted=() policy=/usr/sbin/policy-rc.d
    command -v munged >/dev/null || wanted+=(munge)
    command -v slurmctld >/dev/null || wanted+=(slurmctld)
    command -v slurmd >/dev/null || wanted+=(slurmd)
    command -v sbatch >/dev/null || wanted+=(slurm-client)
    if [ "$ACCOUNTING" = yes ]; then
        command -v slurmdbd >/dev/null || wanted+=(slurmdbd slurm-wlm-mysql-plugin)
        command -v mariadbd >/dev/null || wanted+=(mariadb-server)
    fi
    [ ${#wanted[@]} -gt 0 ] || return 0
    # Exit code 101 keeps packages from starting daemons of their own.
    if [ ! -e "$policy" ]; then
        trap "rm -f $policy" EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -yqq --no-install-recommends \
        "${wanted[@]}" >/dev/null
}

make_folders() {
    mkdir -p "$ROOT"/{etc,log,run,state,spool,mysql,dev}
    for i in $(seq "$NODES"); do mkdir -p "$ROOT/spool/n$i"; done
    chmod 755 "$ROOT" "$ROOT"/*
}

fill_in() {
    sed -e "s|@ROOT@|$ROOT|g; s|@HOST@|$(hostname -s)|g; s|@USER@|$(id -un)|g" \
        -e "s|@NODES@|$NODES|g; s|@CPUS@|$CPUS|g; s|@MEMORY@|$MEMORY|g; s|@GPUS@|$GPUS|g" \
        -e "s|@CTLD_PORT@|$CTLD_PORT|g; s|@DBD_PORT@|$DBD_PORT|g" \
        -e "s|@FIRST_NODE_PORT@|$FIRST_NODE_PORT|g" \
        -e "s|@LAST_NODE_PORT@|$((FIRST_NODE_PORT + NODES - 1))|g" "$HERE/$1"
}

write_config() {
    fill_in slurm.conf.in >"$ROOT/etc/slurm.conf"
    : >"$ROOT/etc/plugstack.conf"
    # A node with GPUs that have no device file is drained, so each GPU is a copy of /dev/null
    # or, where nodes cannot be made, a terminal.
    local gpu_files="$ROOT/dev/gpu[0-$((GPUS - 1))]"
    for i in $(seq 0 $((GPUS - 1))); do
        [ -c "$ROOT/dev/gpu$i" ] || mknod "$ROOT/dev/gpu$i" c 1 3 2>/dev/null ||
            gpu_files="/dev/tty[0-$((GPUS - 1))]"
    done
    echo "Name=gpu File=$gpu_files" >"$ROOT/etc/gres.conf"
    [ "$ACCOUNTING" = yes ] || return 0
    cat >>"$ROOT/etc/slurm.conf" <<CONF
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort=$DBD_PORT
AccountingStoragePass=$ROOT/run/munge.sock
AccountingStorageTRES=gres/gpu
AccountingStorageEnforce=associations,limits,qos
AccountingStoreFlags=job_comment
CONF
    (umask 077 && fill_in slurmdbd.conf.in >"$ROOT/etc/slurmdbd.conf")
}

# munged refuses a socket below a folder that others may not enter, without a word here.
check_root() {
    local place=$ROOT
    while [ "$place" != / ]; do
        case $(stat -Lc %A "$place") in
        *[xt]) ;;
        *)
            echo "others may not enter $place, so munged does not start below it; choose another" \
                "folder: $0 /tmp/devcluster" >&2
            exit 1
            ;;
        esac
        place=$(dirname "$place")
    done
}

start_munge() {
    daemon_pid "$ROOT/run/munged.pid" >/dev/null && return
    [ -s "$ROOT/etc/munge.key" ] || (umask 077 && head -c 128 /dev/urandom >"$ROOT/etc/munge.key")
    munged --force --key-file="$ROOT/etc/munge.key" --socket="$ROOT/run/munge.sock" \
        --pid-file="$ROOT/run/munged.pid" --log-file="$ROOT/log/munged.log" \
        --seed-file="$ROOT/state/munge.seed" --num-threads=2
}

start_mariadb() {
    daemon_pid "$ROOT/run/mariadbd.pid" >/dev/null && return
    local socket=$ROOT/mysql/sock user
    user=$(id -un)
    if [ "$(id -u)" = 0 ]; then
        user=mysql
        chown mysql "$ROOT/mysql"
    fi
    [ -d "$ROOT/mysql/data/mysql" ] || mariadb-install-db --no-defaults --user="$user" \
        --datadir="$ROOT/mysql/data" --skip-test-db >"$ROOT/log/mariadb-install.log" 2>&1
    setsid mariadbd --no-defaults --user="$user" --datadir="$ROOT/mysql/data" --socket="$socket" \
        --pid-file="$ROOT/mysql/pid" --log-error="$ROOT/mysql/log" --skip-networking \
        --innodb-log-file-size=8M --innodb-buffer-pool-size=32M \
        --innodb-flush-log-at-trx-commit=0 </dev/null >/dev/null 2>&1 &
    echo $! >"$ROOT/run/mariadbd.pid"
    wait_for mariadb-admin --no-defaults -S "$socket" ping
    mariadb --no-defaults -S "$socket" -e "create user if not exists slurm@localhost
        identified by 'slurm'; grant all on slurm_acct_db.* to slurm@localhost"
}

start_slurmdbd() {
    daemon_pid "$ROOT/run/slurmdbd.pid" >/dev/null && return
    MYSQL_UNIX_PORT=$ROOT/mysql/sock slurmdbd
    wait_for sacctmgr -n show cluster && return
    local known=""
    [ "$(. "${OS_RELEASE:-/etc/os-release}" && echo "$ID $VERSION_ID")" = "debian 13" ] &&
        known=", as Debian 13's package is known not to"
    echo "slurmdbd does not answer$known; without accounting everything but sacct works:" \
        "ACCOUNTING=no $0 $ROOT" >&2
    return 1
}

# slurmctld refuses accounts that the database does not know, so they come first.
add_account() {
    sacctmgr -nP show user "$(id -un)" withassoc format=account | grep -qx lab && return
    sacctmgr -iQ add cluster devcluster >/dev/null || true
    sacctmgr -iQ add account lab cluster=devcluster >/dev/null
    sacctmgr -iQ add user "$(id -un)" account=lab cluster=devcluster >/dev/null
    sacctmgr -iQ modify user "$(id -un)" set defaultaccount=lab >/dev/null
}

start_slurm() {
    daemon_pid "$ROOT/run/slurmctld.pid" >/dev/null || slurmctld
    wait_for sh -c 'scontrol ping | grep -q "is UP"'
    for i in $(seq "$NODES"); do
        daemon_pid "$ROOT/run/slurmd.n$i.pid" >/dev/null || slurmd -N "n$i"
    done
}

# A drained or failed node stays so across restarts: hand it back.
resume_nodes() {
    local bad
    bad=$(sinfo -h -N -p main -o '%N %T' | awk '/drain|down|fail/ {print $1}' | paste -sd,)
    [ -z "$bad" ] || scontrol update nodename="$bad" state=resume 2>/dev/null || true
}

nodes_are_usable() {
    resume_nodes
    [ "$(sinfo -h -N -p main -o %T | grep -cxE 'idle|mixed|allocated')" = "$NODES" ]
}

# Sourced, this file is a set of functions.
[ "${BASH_SOURCE[0]}" = "$0" ] || return 0

install_packages
make_folders
check_root
if daemon_pid "$ROOT/run/slurmctld.pid" >/dev/null; then
    NODES=$(sed -n 's/^NodeName=n\[1-\([0-9]*\)\].*/\1/p' "$SLURM_CONF")
else
    write_config
fi
start_munge
if grep -q accounting_storage/slurmdbd "$SLURM_CONF"; then
    start_mariadb
    start_slurmdbd
    add_account
fi
start_slurm
wait_for nodes_are_usable
echo "export SLURM_CONF=$SLURM_CONF"
