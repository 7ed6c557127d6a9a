"""Options of sbatch that a profile may add beyond its keys, each by its full name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from benchmark.base.errors import nearest

# What a script of ours says of every task, which a profile cannot change.
_OURS = """
    array chdir comment dependency error hold input job-name nodes no-requeue ntasks ntasks-per-node
    open-mode output parsable quiet requeue signal test-only uid gid usage verbose version wait wrap
"""
_OTHERS = """
    acctg-freq batch bb bbf begin cluster-constraint container contiguous core-spec cores-per-socket
    cpu-freq cpus-per-gpu deadline delay-boot distribution extra extra-node-info get-user-env
    gpu-bind gpu-freq gpus gpus-per-socket gpus-per-task gres-flags ignore-pbs kill-on-invalid-dep
    mcs-label mem-bind mem-per-gpu mincpus network nice no-kill nodefile ntasks-per-core
    ntasks-per-gpu ntasks-per-socket oom-kill-step overcommit oversubscribe power prefer priority
    profile propagate reboot resv-ports segment sockets-per-node spread-job stepmgr switches
    thread-spec threads-per-core time-min tmp tres-bind tres-per-task use-min-nodes wait-all-nodes
    x11
"""


def check_options(lines: Iterable[str], keys: Iterable[str]) -> None:
    """Raise ValueError for what is no further option; ``keys`` are those of a profile.

    sbatch takes any unambiguous beginning of a name; here names are whole, so that a site can
    forbid them.
    """
    own, others = set(keys), _OTHERS.split()
    for line in lines:
        match = re.fullmatch(r"--([a-z0-9-]+)(=\S.*)?", line)
        if match is None:
            raise ValueError(f"'{line}' is no option; write '--name=value' or '--name'")
        name = match[1]
        if name in own or name == "gpus-per-node":
            key = "gpus" if name == "gpus-per-node" else name
            raise ValueError(f"--{name} has a key of its own: {key}")
        if name in _OURS.split():
            raise ValueError(f"--{name} is set by bench itself")
        if name not in others:
            raise ValueError(f"sbatch has no option --{name}{nearest(name, others)}")


def parse_options(lines: Iterable[str]) -> dict[str, str | bool]:
    """Return further options by name; True for those without a value."""
    found: dict[str, str | bool] = {}
    for line in lines:
        name, equals, value = line.removeprefix("--").partition("=")
        found[name] = value if equals else True
    return found


def as_arguments(options: Mapping[str, object]) -> list[str]:
    """Return options as sbatch takes them on its command line."""
    return [
        f"--{name}" if value is True else f"--{name}={value}" for name, value in options.items()
    ]
