"""The sbatch script of one job array, written by submitit. Imports no torch."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from submitit import SlurmExecutor

from benchmark.slurm.further import as_arguments
from benchmark.slurm.notation import Tag
from benchmark.slurm.profile import NO_MEM, Profile, Resources

# A line of a profile's setup that fails may matter or not (some sites' `module purge` ends with 1):
# it is said in the log and in the result. What a sourced file does inside is its own affair.
_SAY_FAILED = (
    'trap \'bench_code=$?; [ "${#BASH_SOURCE[@]}" -ne 1 ] ||'
    ' { export BENCH_SETUP="exit code $bench_code of: $BASH_COMMAND";'
    ' echo "$(hostname): a line of the setup failed, $BENCH_SETUP" >&2; }\' ERR'
)


class ArrayExecutor(SlurmExecutor):
    """submitit's executor with a command of our own in place of its pickles.

    A task is told the file of its array and finds its pack there by its number. Nothing is
    pickled, so there is nothing that another user could have written and we would load; an
    array of 10,000 tasks is three files rather than 10,000.
    """

    @classmethod
    def affinity(cls) -> int:
        """Scripts can be written if there is no Slurm; submitting looks for it itself."""
        return 2

    def text(self, command: str, tasks: int | None) -> str:
        """Return the script of an array of ``tasks`` tasks that each run ``command``.

        None: of a job that is no array.
        """
        self.parameters["map_count"] = tasks
        text = str(self._make_submission_file_text(command, uid=""))
        # In the names of logs Slurm reads %j and its like; a folder's own % is doubled there.
        folder = str(self.folder)
        # submitit, which means its own names alone, may have written it otherwise.
        written = folder if tasks is None else folder.replace("%j", "%A_%a")
        escaped = folder.replace("%", "%%")
        for found in (written, folder):
            text = text.replace(f"{found}/%", f"{escaped}/%")
        return text


def script_text(
    *,
    folder: Path,
    tag: Tag,
    tasks: int | None,
    command: list[str],
    profile: Profile,
    resources: Resources,
    environment: Mapping[str, str],
    code: Path,
    after: tuple[str, ...] = (),
) -> str:
    """Return the sbatch script of one array, or of one job (``tasks`` None).

    ``folder`` is the private submission folder: the tasks' working directory and where their
    logs go. ``command``: what Python is given. ``code``: the copy that it starts from. ``after``:
    the tasks (``1234_5``) that must have ended first, however they ended.
    """
    executor = ArrayExecutor(folder)
    executor.update_parameters(
        **_sbatch_options(profile, resources, after),
        job_name=tag.job_name,
        comment=tag.comment,
        array_parallelism=profile.array_parallelism or tasks or 1,
        signal_delay_s=profile.signal_seconds,
        stderr_to_stdout=True,
        wckey=profile.wckey,  # submitit sends one of its own otherwise
        # A step does not inherit the task's CPUs (since Slurm 22.05), nor, where jobs start with
        # --export=NONE, what the script exports.
        srun_args=[f"--cpus-per-task={resources.cpus}", "--export=ALL", *_several(resources)],
        setup=_setup(folder, code, profile, environment),
        additional_parameters={**profile.asked, "chdir": folder, "requeue": True},
    )
    # A signal that comes before Python handles it would kill the task, and Slurm would take a
    # preempted job for a failed one. Ignored, it leaves the end to Slurm, which requeues.
    start = ["sh", "-c", 'trap "" TERM USR2; exec "$@"', "sh", sys.executable, *command]
    return executor.text(shlex.join(start), tasks)


def _sbatch_options(
    profile: Profile, resources: Resources, after: tuple[str, ...]
) -> dict[str, Any]:
    options = {
        "partition": profile.partition,
        "account": profile.account,
        "qos": profile.qos,
        "time": profile.time,
        "nodes": resources.nodes,
        "ntasks_per_node": resources.tasks if resources.processes > 1 else None,
        "gpus_per_node": resources.gpus if resources.gpus != "0" else None,
        "cpus_per_task": resources.cpus,
        "mem": None if resources.mem == NO_MEM else resources.mem,
        "mem_per_cpu": resources.mem_per_cpu,
        "dependency": "afterany:" + ":".join(after) if after else None,
    }
    return {name: value for name, value in options.items() if value is not None}


def _several(resources: Resources) -> list[str]:
    """Return what srun is told of a run's several processes.

    The first one saves after another one died, so it must be left to end by itself.
    """
    return [] if resources.processes == 1 else ["--kill-on-bad-exit=0", "--wait=0"]


def _setup(folder: Path, code: Path, profile: Profile, environment: Mapping[str, str]) -> list[str]:
    variables = {"BENCH_SUBMISSION": str(folder), "BENCH_CODE": str(code), **environment}
    exports = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    # The script itself is kept by slurmctld; what it reads must be there and still be ours.
    guard = (
        'for d in "$BENCH_SUBMISSION" "$BENCH_CODE"; do [ -O "$d" ] || { echo "$(hostname): $d is'
        ' not visible here, or not owned by $(id -un)" >&2; exit 1; }; done'
    )
    return [
        *exports,
        guard,
        *([_SAY_FAILED, *profile.setup, "trap - ERR"] if profile.setup else []),
    ]


def test_options(profile: Profile, resources: Resources) -> list[str]:
    """Return sbatch's options for a question about one task, without any script."""
    # Not named as our jobs are, since it is none of a table's.
    options = {**_sbatch_options(profile, resources, ()), "job_name": "benchprobe"}
    named = {name.replace("_", "-"): value for name, value in options.items()}
    return as_arguments({**named, **profile.asked})
