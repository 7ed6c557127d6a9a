"""Load the teacher of a pack: a public checkpoint, or the network that a run of ours left."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from safetensors.torch import load as load_safetensors
from torch import Tensor

from benchmark.base.errors import UserError
from benchmark.base.files import open_regular
from benchmark.models import build_model
from benchmark.models.checkpoint import load_into, load_state
from benchmark.models.features import Model
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run, TeacherRef
from benchmark.run.reading import read
from benchmark.run.state import RunState
from benchmark.table.teachers import checkpoint_file, file_digest, registered
from benchmark.train.network import Network
from benchmark.train.rng import seeded
from benchmark.train.session import AVERAGE_PREFIX, METHOD_PREFIX


class TeacherMissingError(UserError):
    """The teacher is not there (yet); the message says why."""


class LoadedTeacher(NamedTuple):
    """A teacher ready to teach, and the sha256 of the file that it came from."""

    network: Network
    digest: str


def load_teacher(run: Run, num_classes: int, root: Path) -> LoadedTeacher:
    """Load the teacher that ``run`` declares. Raises TeacherMissingError or UserError."""
    assert run.teacher is not None
    if run.teacher.source == "registry":
        state, digest, source = _public(run.dataset.name, run.teacher.model, run.teacher.key)
    else:
        state, digest, source = _trained(run.teacher, root)
    model = _model(run.teacher.model, num_classes, state, source)
    network = Network(run.teacher.model, model, run.recipe, run.teacher_input_size)
    return LoadedTeacher(network, digest)


def load_public(run: Run, num_classes: int) -> LoadedTeacher:
    """Load the public checkpoint that an evaluation run is about."""
    assert run.weights is not None
    state, digest, source = _public(run.dataset.name, run.model, run.weights)
    model = _model(run.model, num_classes, state, source)
    return LoadedTeacher(Network(run.model, model, run.recipe, run.recipe.input_size), digest)


def _model(name: str, num_classes: int, state: dict[str, Tensor], source: str) -> Model:
    with seeded(0, "teacher"):  # its initial weights are overwritten
        model = build_model(name, num_classes)
    load_into(model, state, source)
    model.requires_grad_(False)
    return model.eval()


def _public(dataset: str, model: str, digest: str) -> tuple[dict[str, Tensor], str, str]:
    teacher = registered(dataset, model)
    path = checkpoint_file(teacher) if teacher else None
    if teacher is None or path is None:
        raise TeacherMissingError(
            f"the public checkpoint of {model} on {dataset} is not on this machine;"
            " run `bench teachers fetch` or point BENCH_TEACHERS at it"
        )
    if file_digest(path) != digest:  # read anew, whatever was noted when the run was planned
        raise UserError(f"{path} changed since the runs were planned; submit them again")
    return load_state(path), digest, str(path)


_STANDS = {RunState.STOPPED: "was started and has not finished"}


def _trained(teacher: TeacherRef, root: Path) -> tuple[dict[str, Tensor], str, str]:
    rundir = RunDir(root, teacher.key)
    found = read(rundir)
    if found.state is RunState.DAMAGED:
        raise UserError(f"the teacher {teacher.key} is damaged: {found.reason}")
    if found.state is RunState.DIVERGED:
        raise TeacherMissingError(
            f"the teacher {teacher.key} diverged, so nothing can learn from it; change"
            " teacher.recipe in the table, or take other seeds"
        )
    if found.state is not RunState.DONE:
        stands = _STANDS.get(found.state, f"is {found.state}")
        raise TeacherMissingError(
            f"the teacher {teacher.key} is not there (it {stands});"
            " train it first:"
            f" bench submit --only teacher={teacher.model} trains it with its students"
        )
    try:
        with open_regular(rundir.weights) as file:
            content = file.read()
        tensors = load_safetensors(content)
    except Exception as error:  # safetensors raises its own kinds for broken files
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{rundir.weights} cannot be read ({reason}); delete {rundir.path} and submit again"
            " to train this teacher anew"
        ) from error
    own = {k: v for k, v in tensors.items() if not k.startswith((METHOD_PREFIX, AVERAGE_PREFIX))}
    return own, hashlib.sha256(content).hexdigest(), str(rundir.weights)
