"""Train on a Slurm cluster: everything is checked first, then packs go out as job arrays.

What a user sees of it; the parts are check, snapshot, sending, submit and wait. Imports no torch.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.base.words import count
from benchmark.data.sidecar import sidecar_path
from benchmark.planning.device_estimate import estimate
from benchmark.planning.pack_size import Limits
from benchmark.planning.packs import Pack
from benchmark.planning.remaining import Queued
from benchmark.run.directory import runs_dir as usual_runs_dir
from benchmark.run.identity import Run
from benchmark.slurm import commands, queue
from benchmark.slurm.check import check_profile, check_visible, read_nodes
from benchmark.slurm.notation import gpu_count
from benchmark.slurm.profile import Profile, Resources, Site, cap_resources, load_profile
from benchmark.slurm.profile import load_site as read_site
from benchmark.slurm.send import Request, dry_run, fitting, shared_directory, submit
from benchmark.submission.folders import runs_in_queue
from benchmark.submission.sending import leaving_nothing, sending, sent_folders, sent_since
from benchmark.submission.simulation import task_limits
from benchmark.submission.snapshot import code_store, take_snapshot
from benchmark.submission.submission import Submission
from benchmark.submission.task import checkpoint_seconds
from benchmark.submission.wait import wait_for
from benchmark.table.teachers import teachers_dir


def slurm_executor(profile_name: str | None) -> tuple[SlurmExecutor, str]:
    """Return the executor for a profile, and what ``device: auto`` means there.

    That is cuda where the profile sets ``gpus``, and cpu where it does not or sets 0; a recipe
    whose own device is cuda gets a GPU either way. Raises UserError for an unknown profile,
    key or value.
    """
    site = read_site()
    profile = load_profile(profile_name or "default", site)
    wanted = profile.gpus is not None and gpu_count(profile.gpus) > 0
    return SlurmExecutor(profile, site), "cuda" if wanted else "cpu"


class SlurmExecutor:
    """Sends packs to Slurm (a submission.QueueExecutor)."""

    def __init__(self, profile: Profile, site: Site) -> None:
        self._profile = profile
        self._site = site
        self._own_tasks = 0
        self._known: frozenset[Path] | None = None  # what had been sent when we looked
        self._request: Request | None = None

    @property
    def runs_dir(self) -> Path | None:
        """Where the profile puts runs, None where it leaves that open."""
        return self._profile.runs

    @property
    def data_dir(self) -> Path | None:
        """Where the profile finds data, None where it leaves that open."""
        return self._profile.data

    def limits(self, run: Run) -> Limits:
        """Return the time limit and the memory of a task that trains such runs."""
        return task_limits(self._profile, run)

    def in_flight(self, runs_dir: Path) -> dict[str, Queued]:
        """Ask squeue once for the runs that wait or run in an earlier submission, by key."""
        self._known = sent_folders(runs_dir)
        snapshot = queue.read(time.time(), accounting=False)
        self._own_tasks = sum(len(record.tasks) for record in snapshot.queued)
        found: dict[str, Queued] = {}
        for key, (pack, state) in runs_in_queue(runs_dir, snapshot).items():
            assert pack.task is not None
            found[key] = Queued(pack.pack_id, pack.task, f"{state.name} ({state.detail})")
        return found

    def announce(self, submission: Submission) -> list[str]:
        """Hold the submission against the cluster, and say what would be sent.

        Raises UserError where the cluster would refuse it or let it wait for ever.
        """
        checkpoint_seconds()  # which tasks would refuse
        request = self._request = self._make_request(submission)
        needs = Counter(request.resources[pack["id"]] for pack in request.packs)
        nodes = read_nodes()
        for need in needs:
            check_profile(self._profile, need, nodes)
        return self._told(submission, request, needs)

    def _told(
        self, submission: Submission, request: Request, needs: Counter[Resources]
    ) -> list[str]:
        sent = {pack["id"] for pack in request.packs}
        packs = [pack for pack in submission.packs if pack.id in sent]
        arrays = request.plans()
        waiting = sum(bool(array.after) for array in arrays)
        lines = [
            f"cluster {request.limits.cluster}, profile {self._profile.name}: partition"
            f" {self._profile.partition or '(the default)'}, time {self._profile.time}",
            f"{count(sum(len(pack.runs) for pack in packs), 'run')} in "
            + " and ".join(f"{count(n, 'task')} of {_describe(need)}" for need, n in needs.items())
            + f", {count(len(arrays), 'job array')}"
            + (f", of which {waiting} wait{'s' * (waiting == 1)} for a teacher" if waiting else ""),
            estimate(packs, request.resources, submission.runs_dir).words(),
        ]
        if submission.runs_dir.resolve() != usual_runs_dir().resolve():
            lines.append(f"runs lie in {submission.runs_dir}; set BENCH_RUNS to it to collect them")
        left_out = len(submission.packs) - len(packs)
        if left_out:
            lines.append(
                f"no room in the queue for {count(left_out, 'task')} more; submit again later"
            )
        return lines

    def rehearse(self, submission: Submission) -> str:
        """Return the sbatch scripts of an announced submission; nothing is written or queued."""
        assert self._request is not None
        code = take_snapshot(code_store(submission.runs_dir), write=False)
        return dry_run(replace(self._request, code=code.path))

    def start(self, submission: Submission, wait: bool) -> int:
        """Send an announced submission; with ``wait`` return when its runs have ended."""
        assert self._request is not None
        request, runs_dir = self._request, submission.runs_dir
        packs = {pack["id"] for pack in request.packs}
        keys = [run.key for pack in submission.packs if pack.id in packs for run in pack.runs]
        store = code_store(runs_dir)
        places = (runs_dir, runs_dir / ".submissions", store.parent, store)
        with leaving_nothing(request.folder, places, store):
            note = check_visible(runs_dir, self._profile, _reads(submission))
            if note is not None:
                _say(note)
            with sending(runs_dir):
                if not self._sent_meanwhile(keys, runs_dir):
                    self._send(request, store)
        if not wait:
            return 0
        code_of_rest = 1 if len(packs) < len(submission.packs) else 0
        return max(code_of_rest, self.wait_for([*keys, *submission.queued], submission.runs_dir))

    def _sent_meanwhile(self, keys: Iterable[str], runs_dir: Path) -> bool:
        """Tell whether another submission sent all of these runs since we looked.

        Raises UserError where it sent some of them.
        """
        if self._known is None:
            return False
        theirs = sent_since(runs_dir, self._known).intersection(keys)
        left = set(keys) - theirs
        if theirs and left:
            raise UserError(
                f"another submission of yours sent {len(theirs)} of these"
                f" {count(len(theirs | left), 'run')} at this moment: submit again for the rest"
            )
        if theirs:
            _say("another submission of yours sent these runs at this moment: nothing to send")
        return bool(theirs)

    def _send(self, request: Request, store: Path) -> None:
        shared_directory(store.parent)
        code = take_snapshot(store)
        environment = {**request.environment, **code.environment}
        sent = submit(replace(request, code=code.path, environment=environment))
        jobs = ", ".join(map(str, sent.jobs[:8])) + (", ..." if len(sent.jobs) > 8 else "")
        jobs = f"job{'s' * (len(sent.jobs) != 1)} {jobs}"
        _say(f"sent {count(len(request.packs), 'task')} as {jobs}; logs: {request.folder}")

    def wait_for(self, keys: Iterable[str], runs_dir: Path) -> int:
        """Return when none of these runs is queued: 0 if each has its result, else 1."""
        return wait_for(keys, runs_dir, self._site.refresh_seconds)

    def _make_request(self, submission: Submission) -> Request:
        limits = commands.read_limits()
        folder = submission.folder.resolve()
        resources = {pack.id: self._resources(pack) for pack in submission.packs}
        room = limits.max_job_count - queue.tasks_of_everybody()
        if self._profile.max_jobs is not None:
            room = min(room, self._profile.max_jobs - self._own_tasks)
        # Copies, so that edits made while tasks wait change nothing.
        copies = {path: f"plugins/{path.name}" for path in submission.plugins}
        copied = replace(submission, plugins=tuple(folder / name for name in copies.values()))
        return Request(
            table=submission.table,
            nonce=submission.nonce,
            folder=folder,
            packs=fitting([copied.content(pack) for pack in submission.packs], room),
            profile=self._profile,
            resources=resources,
            limits=limits,
            code=Path(),
            files={name: path.read_bytes() for path, name in copies.items()},
            environment={"BENCH_TEACHERS": str(teachers_dir().resolve())},
            elsewhere={queued.pack: queued.task for queued in submission.queued.values()},
        )

    def _resources(self, pack: Pack) -> Resources:
        recipes = [run.recipe for run in pack.runs]
        cuda = any(recipe.device == "cuda" for recipe in recipes)
        threads = max(recipe.threads for recipe in recipes)
        need = cap_resources(self._profile, self._profile.resources(threads, cuda), self._site)
        if cuda and gpu_count(need.gpus) == 0:
            raise UserError(
                f"profile {self._profile.name} asks for no GPUs and {pack.label} trains on cuda;"
                " set gpus in the profile, or add --set recipe.device=cpu"
            )
        return need


def _reads(submission: Submission) -> list[Path]:
    """Return what tasks read beside the runs: datasets, and public teachers where there are."""
    runs = [run for pack in submission.packs for run in pack.runs]
    names = sorted({run.dataset.name for run in runs})
    found = [sidecar_path(name, submission.data_dir) for name in names]
    public = any(run.weights or (run.teacher and run.teacher.source == "registry") for run in runs)
    return [*found, teachers_dir()] if public else found


def _describe(need: Resources) -> str:
    gpus = f"gpus {need.gpus}" if gpu_count(need.gpus) else "no GPU"
    return f"{count(need.cpus, 'CPU')}, {gpus}, {need.mem}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
