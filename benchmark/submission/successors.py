"""Students that wait for a teacher's task whose place another task has taken wait for that one.

A task that waits for its teacher starts when the teacher's task ends, however it ends. If the
teacher was killed and sent again, its students are put behind the new task: those that still wait
when it is sent (:func:`lead_students`), and those that start and find no teacher yet
(:func:`follow_teacher`). Imports no torch.
"""

from __future__ import annotations

from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.base.files import read_json
from benchmark.base.log import say
from benchmark.run.directory import RunDir
from benchmark.run.pack_file import PackFile
from benchmark.run.reading import read
from benchmark.run.state import ENDED
from benchmark.slurm import commands, queue
from benchmark.submission.folder import SCHEMA, Folder
from benchmark.submission.sent import Work, own_folders, runs_in_queue, slurm_work


def lead_students(runs_dir: Path, sent: Folder) -> None:
    """Put students that wait for what ``sent`` trains anew behind its tasks.

    Tasks that have started meanwhile are left alone: they look for their teacher themselves.
    """
    works = slurm_work(runs_dir)
    new = {key: work for work in works if work.folder == sent for key in work.keys}
    taken: dict[str, Work] = {}  # the new pack for each earlier one
    for work in works:
        if work.folder != sent:
            taken.update((work.id, new[key]) for key in work.keys if key in new)
    if not taken:
        return
    tasks = {work.id: work.task for work in works}
    for folder in own_folders(runs_dir):
        for job, after in [] if folder == sent else _waiting_arrays(folder):
            if taken.keys().isdisjoint(after):
                continue
            names = [taken[name].task if name in taken else tasks.get(name) for name in after]
            dependency = "afterany:" + ":".join(sorted({name for name in names if name}))
            # Refused for arrays of which nothing waits any more.
            commands.call(["scontrol", "update", f"JobId={job}", f"Dependency={dependency}"])


def _waiting_arrays(folder: Folder) -> list[tuple[int, list[str]]]:
    """Return the jobs of a submission's arrays, with the packs that they wait for."""
    try:
        arrays = read_json(folder.record, SCHEMA)["arrays"]
        return [(int(a["job"]), list(a["after"])) for a in arrays if a["job"] and a["after"]]
    except (UserError, KeyError, TypeError, ValueError):
        return []


def follow_teacher(pack: PackFile, task: str) -> bool:
    """Go back into the queue behind the task that trains this pack's teacher now.

    Tells whether that was done: only if the teacher has no result, and a later submission of this
    user's has it in Slurm's queue. Without an answer of Slurm's the pack starts as it is.
    """
    keys = {
        run.teacher.key
        for run in pack.runs
        if run.teacher is not None and run.teacher.source != "registry"
    }
    missing = [key for key in keys if read(RunDir(pack.runs_dir, key)).state not in ENDED]
    if not missing:
        return False
    try:
        queued = runs_in_queue(pack.runs_dir, queue.read(0.0, accounting=False))
        behind = {queued[key].task for key in missing if key in queued}
        names = sorted(name for name in behind if name is not None and name != task)
        if not names:
            return False
        commands.ask(["scontrol", "requeue", task])
    except commands.SlurmError as error:
        say(f"could not wait for the teacher {missing[0]}: {error}")
        return False
    say(f"the teacher {missing[0]} is being trained anew: waiting for task {names[0]}")
    # Slurm is ending this start by now; what is asked of the task that waits is taken meanwhile.
    dependency = "afterany:" + ":".join(names)
    try:
        commands.ask(["scontrol", "update", f"JobId={task}", f"Dependency={dependency}"])
    except commands.SlurmError as error:  # it starts again sooner, and looks again
        say(str(error))
    return True
