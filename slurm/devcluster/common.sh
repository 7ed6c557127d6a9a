# Shared by up.sh and down.sh: where things lie, and which processes are this cluster's own.

# Every daemon leaves its pid in a file under the root; the order is the order of stopping.
pid_files() {
    printf '%s\n' "$ROOT"/run/slurmd.*.pid "$ROOT"/run/slurmctld.pid "$ROOT"/run/slurmdbd.pid \
        "$ROOT"/run/mariadbd.pid "$ROOT"/run/munged.pid
}

# A zombie counts as dead: in a container, PID 1 may reap it late or never.
is_alive() { [ -d "/proc/$1" ] && ! grep -qs '^State:.*Z' "/proc/$1/status"; }

# The pid in FILE where that process lives and is ours; pids are reused, so its command line or
# environment must name the root.
daemon_pid() {
    local pid
    pid=$(cat "$1" 2>/dev/null) && is_alive "$pid" || return 1
    grep -qsF "$ROOT" "/proc/$pid/cmdline" "/proc/$pid/environ" || return 1
    echo "$pid"
}

# Wait for a command to succeed: 30 s, and longer where each try takes its time.
wait_for() {
    for _ in $(seq 600); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.05
    done
    echo "gave up waiting for: $* (logs are in $ROOT/log)" >&2
    return 1
}
