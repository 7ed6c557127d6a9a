"""Train on a Slurm cluster: everything is checked first, then packs go out as job arrays.

Imports no torch.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.base.files import shared_directory
from benchmark.base.log import say
from benchmark.base.words import count
from benchmark.data.sidecar import sidecar_path
from benchmark.planning.device_estimate import estimate
from benchmark.planning.pack_size import Limits
from benchmark.planning.packs import Pack
from benchmark.planning.remaining import Queued
from benchmark.run.directory import runs_dir as usual_runs_dir
from benchmark.run.identity import Run
from benchmark.run.index import RunIndex
from benchmark.run.state import ENDED
from benchmark.slurm import commands, queue
from benchmark.slurm.check import check_profile, read_nodes
from benchmark.slurm.check_limits import check_limits
from benchmark.slurm.notation import Tag, gpu_count
from benchmark.slurm.probe import check_visible
from benchmark.slurm.profile import (
    Profile,
    Resources,
    cap_resources,
    load_profile,
    profile_as_sent,
    profile_files,
)
from benchmark.slurm.site import Site, load_site
from benchmark.submission.arrays import Arrays, fitting
from benchmark.submission.folder import Folder
from benchmark.submission.sending import leaving_nothing, sending, sent_meanwhile
from benchmark.submission.sent import (
    Work,
    in_queue,
    latest,
    runs_in_queue,
    sent_arrays,
    slurm_work,
)
from benchmark.submission.simulation import task_limits
from benchmark.submission.snapshot import CodeCopy, code_store, take_snapshot
from benchmark.submission.submission import Prepared, Queue, Submission
from benchmark.submission.successors import lead_students
from benchmark.submission.wait import wait_for, wait_for_tasks
from benchmark.table.teachers import teachers_dir


def executor(profile: str | None = None) -> SlurmExecutor:
    """Return the executor for a profile. Raises UserError for an unknown profile, key or value."""
    site = load_site()
    return SlurmExecutor(load_profile(profile or "default", site), site)


def executor_as_sent(profile: str, options: object) -> SlurmExecutor:
    """Return the executor of an earlier submission; if its profile is no file any more, as sent."""
    if profile in profile_files():
        return executor(profile)
    site = load_site()
    return SlurmExecutor(profile_as_sent(profile, options, site), site)


def executor_for_show(profile: str | None = None) -> SlurmExecutor:
    """Return an executor for a dry run, which needs no Slurm at hand."""
    found = executor(profile)
    try:
        commands.read_limits()
    except commands.SlurmError as error:
        say(f"{error}; the script is shown as it would be sent, held against no cluster")
        return replace(found, offline=True)
    return found


# What Slurm's own defaults allow, for a dry run if nothing can be asked.
_UNASKED = commands.ClusterLimits("not asked", "", 1001, 10_000, accounting=False)


@dataclass(frozen=True)
class SlurmExecutor:
    """Sends packs to Slurm. ``offline``: shows what it would send, and asks nothing."""

    profile: Profile
    site: Site
    name: str = "slurm"
    offline: bool = False

    @property
    def device(self) -> str:
        """cuda if the profile sets ``gpus``, cpu if it does not or sets 0.

        A recipe whose own device is cuda gets a GPU either way.
        """
        gpus = self.profile.gpus
        return "cuda" if gpus is not None and gpu_count(gpus) > 0 else "cpu"

    @property
    def runs_dir(self) -> Path | None:
        """Where the profile puts runs, None if it leaves that open."""
        return self.profile.runs

    @property
    def data_dir(self) -> Path | None:
        """Where the profile finds data, None if it leaves that open."""
        return self.profile.data

    def limits(self, run: Run) -> Limits:
        """Return the time limit and the memory of a task that trains such runs."""
        return task_limits(self.profile, run)

    def queue(self, runs_dir: Path) -> Queue:
        """Ask squeue once, and sacct once if runs of earlier submissions ended without a result."""
        known = frozenset(array.folder for array in sent_arrays(runs_dir))
        if self.offline:
            return Queue()
        try:
            snapshot = queue.read(time.time(), accounting=False)
        except commands.SlurmError as error:
            raise type(error)(
                f"{error}; without a cluster: --cluster local trains on this machine, and --dry-run"
                " shows the script"
            ) from error
        found = {}
        for key, work in runs_in_queue(runs_dir, snapshot).items():
            assert work.task is not None
            state = f"{work.state.name} ({work.state.detail})"
            found[key] = Queued(work.id, work.task, state)
        tasks = sum(len(record.tasks) for record in snapshot.queued)
        past = _past(runs_dir, found)
        dead = [work for work in past if work.state.detail == "OUT_OF_MEMORY"]
        over = [work for work in past if work.state.name in ("ended", "ending")]
        return Queue(
            runs=found,
            known=known,
            tasks=tasks,
            killed={key: len(work.keys) for work in dead for key in work.keys},
            ended={key: work.task for work in over for key in work.keys if work.task is not None},
            ending=frozenset(str(work.task) for work in over if work.state.name == "ending"),
        )

    def prepare(self, submission: Submission, queue: Queue) -> Prepared:
        """Hold the submission against the cluster, and say what would be sent.

        Raises UserError if the cluster would refuse it or let it wait for ever.
        """
        if not submission.packs:
            return Prepared((), partial(self._wait, submission, ()))
        arrays = self._arrays(submission, queue)
        needs = Counter(arrays.resources[pack.id] for pack in arrays.packs)
        nodes = () if self.offline else read_nodes()
        notes = []
        for need in () if self.offline else needs:
            if arrays.limits.limits:
                notes.append(check_limits(self.profile, need, arrays.limits.cluster))
            notes.append(check_profile(self.profile, need, nodes))
        said = dict.fromkeys(note for note in notes if note is not None)
        return Prepared(
            (*self._told(submission, arrays, needs), *said),
            partial(self._send, submission, arrays, queue),
            lambda: replace(arrays, code=_code(submission, write=False)).scripts(),
        )

    def _told(
        self, submission: Submission, arrays: Arrays, needs: Counter[Resources]
    ) -> Iterator[str]:
        sent = {pack.id for pack in arrays.packs}
        packs = [pack for pack in submission.packs if pack.id in sent]
        plans = arrays.plans()
        waiting = sum(bool(plan.after) for plan in plans)
        yield (
            f"cluster {arrays.limits.cluster}, profile {self.profile.name}: partition"
            f" {self.profile.partition or '(the default)'}, time {self.profile.time}"
        )
        yield (
            f"{count(sum(len(pack.trained) for pack in packs), 'run')} in "
            + " and ".join(f"{count(n, 'task')} of {_describe(need)}" for need, n in needs.items())
            + (
                f", {count(len(plans), 'job array')}"
                if arrays.limits.arrays
                else ", a job for each: this cluster takes no arrays, so none keeps others back"
            )
            + (f", of which {waiting} wait{'s' * (waiting == 1)} for a teacher" if waiting else "")
        )
        yield estimate(packs, arrays.resources, submission.runs_dir, submission.data_dir).words()
        if submission.runs_dir.resolve() != usual_runs_dir().resolve():
            yield f"runs lie in {submission.runs_dir}; set BENCH_RUNS to it to collect them"
        keys = {run.key for pack in packs for run in pack.trained}
        yield from _sent_elsewhere(keys, submission.runs_dir, arrays.limits.cluster)
        left_out = len(submission.packs) - len(packs)
        if left_out:
            yield f"no room in the queue for {count(left_out, 'task')} more; submit again later"

    def _send(self, submission: Submission, arrays: Arrays, queue: Queue, wait: bool) -> int:
        runs_dir = submission.runs_dir
        keys = [key for pack in arrays.packs for key in pack.keys]
        with leaving_nothing(arrays.folder.path, runs_dir):
            note = check_visible(runs_dir, self.profile, _reads(submission))
            if note is not None:
                say(note)
            with sending(runs_dir):
                if sent_meanwhile(keys, runs_dir, queue.known):
                    say(
                        "another submission of yours sent these runs at this moment: nothing to"
                        " send"
                    )
                else:
                    say(_sent(submission, arrays))
        if not wait:
            return 0
        rest = 1 if len(arrays.packs) < len(submission.packs) else 0
        return max(rest, self._wait(submission, keys, wait))

    def _wait(self, submission: Submission, keys: Iterable[str], wait: bool) -> int:
        if not wait:
            return 0
        every, wanted = self.site.refresh_seconds, [*keys, *submission.queued]
        code = wait_for(wanted, submission.runs_dir, every) if wanted else 0
        if any(pack.fills for pack in submission.packs):
            folder = Folder(submission.folder.path.absolute())
            code = max(code, wait_for_tasks(folder, submission.runs_dir, every))
        return code

    def _arrays(self, submission: Submission, waiting: Queue) -> Arrays:
        limits = _UNASKED if self.offline else commands.read_limits()
        folder = Folder(submission.folder.path.absolute())
        room = limits.max_job_count - (0 if self.offline else queue.tasks_of_everybody())
        if self.profile.max_jobs is not None:
            room = min(room, self.profile.max_jobs - waiting.tasks)
        # Copies, so that edits made while tasks wait change nothing.
        copies = [folder.plugin(path) for path in submission.plugins]
        return Arrays(
            table=submission.table,
            nonce=submission.nonce,
            folder=folder,
            packs=fitting(submission.files(copies), room),
            profile=self.profile,
            resources={pack.id: self._resources(pack) for pack in submission.packs},
            limits=limits,
            plugins=submission.plugins,
            environment={"BENCH_TEACHERS": str(teachers_dir().absolute())},
            elsewhere={queued.pack: queued.task for queued in submission.queued.values()},
            ended=waiting.ended,
            ending=waiting.ending,
        )

    def _resources(self, pack: Pack) -> Resources:
        recipes = [run.recipe for run in pack.runs]
        cuda = any(recipe.device == "cuda" for recipe in recipes)
        threads = max(recipe.threads for recipe in recipes)
        asked = self.profile.resources(threads, cuda, recipes[0].replicas)
        need = cap_resources(self.profile, asked, self.site)
        if cuda and gpu_count(need.gpus) == 0:
            raise UserError(
                f"profile {self.profile.name} asks for no GPUs and {pack.label} trains on cuda;"
                " set gpus in the profile, or add --set recipe.device=cpu"
            )
        return need


def _code(submission: Submission, write: bool = True) -> CodeCopy:
    return take_snapshot(code_store(submission.runs_dir), write=write)


def _sent(submission: Submission, arrays: Arrays) -> str:
    """Send the arrays, and say what became of them."""
    shared_directory(code_store(submission.runs_dir).parent)
    code = _code(submission)
    environment = {**arrays.environment, **code.environment}
    jobs = replace(arrays, code=code, environment=environment).send()
    lead_students(submission.runs_dir, arrays.folder)
    named = ", ".join(map(str, jobs[:8])) + (", ..." if len(jobs) > 8 else "")
    return (
        f"sent {count(len(arrays.packs), 'task')} as job{'s' * (len(jobs) != 1)} {named}; logs:"
        f" {arrays.folder.path}"
    )


def _past(runs_dir: Path, queued: Collection[str]) -> list[Work]:
    """Return the packs that last had runs which have no result and are not queued."""
    works = latest(slurm_work(runs_dir))
    index = RunIndex(runs_dir)
    index.refresh()
    over = {run.key for run in index.all_runs() if run.state in ENDED}.union(queued)
    lost = [work for key, work in works.items() if key not in over and work.job is not None]
    if not lost:
        return []
    since = min(work.array.sent for work in lost) - queue.EARLIER_SECONDS
    names = {Tag(work.table, "", "").job_name for work in lost}
    try:
        snapshot = queue.read(since, names)
    except commands.SlurmError:
        return []
    return in_queue(lost, snapshot)


def _sent_elsewhere(keys: Collection[str], runs_dir: Path, cluster: str) -> Iterator[str]:
    """Say which runs another cluster may have, of whose queue this one knows nothing."""
    works = latest(slurm_work(runs_dir))
    sent = Counter(works[key].array.cluster for key in keys if key in works)
    for name in sorted(sent.keys() - {"", cluster}):
        yield (
            f"{count(sent[name], 'run')} of these went to the cluster {name} before, whose queue is"
            " not known here: what still waits there is trained by whoever starts first"
        )


def _reads(submission: Submission) -> list[Path]:
    """Return what tasks read beside the runs: datasets, and teachers that are files."""
    runs = [run for pack in submission.packs for run in pack.runs]
    names = sorted({run.dataset.name for run in runs})
    found = [sidecar_path(name, submission.data_dir) for name in names]
    public = any(
        (run.weights and not run.reads) or (run.teacher and run.teacher.source == "registry")
        for run in runs
    )
    found += [file.path for file in submission.teachers.values()]
    return [*found, teachers_dir()] if public else found


def _describe(need: Resources) -> str:
    gpus = f"gpus {need.gpus}" if gpu_count(need.gpus) else "no GPU"
    several = f", {need.processes} processes a run" if need.processes > 1 else ""
    several += f" on {need.nodes} nodes" if need.nodes > 1 else ""
    return f"{count(need.cpus, 'CPU')}, {gpus}, {need.memory}{several}"
