"""Load the teacher of a pack: a public checkpoint, or the network that a run of ours left."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor

from benchmark.base.errors import UserError, first_line
from benchmark.base.files import LARGEST_WEIGHTS, read_bytes, read_json
from benchmark.data.augment import normalised_by
from benchmark.data.augmentations import augmentation_info
from benchmark.data.datasets import DatasetInfo, described
from benchmark.models import build_model
from benchmark.models.checkpoint import load_into, load_state
from benchmark.models.features import Model
from benchmark.run.directory import RunDir
from benchmark.run.identity import SCHEMA, DatasetRef, Run, TeacherRef
from benchmark.run.reading import read
from benchmark.run.state import RunState
from benchmark.table.imagenet_classes import imagenet_classes, positions
from benchmark.table.own_teachers import FileOfTeacher, Reads
from benchmark.table.teachers import (
    Preprocessing,
    RegisteredTeacher,
    checkpoint_file,
    file_digest,
    registered,
)
from benchmark.train.network import Affine, Network
from benchmark.train.own_teacher import classes_of, pick_classes, read_own
from benchmark.train.rng import seeded
from benchmark.train.session import AVERAGE_PREFIX, METHOD_PREFIX


class TeacherMissingError(UserError):
    """The teacher is not there (yet); the message says why."""


class LoadedTeacher(NamedTuple):
    """A teacher ready to teach, and the sha256 of the file that it came from.

    ``reading``: what else decides its answers, if it is the user's own.
    """

    network: Network
    digest: str
    reading: str = ""


def load_teacher(
    run: Run,
    num_classes: int,
    root: Path,
    classes: Sequence[str] = (),
    files: Mapping[str, FileOfTeacher] | None = None,
) -> LoadedTeacher:
    """Load the teacher that ``run`` declares.

    ``classes`` are the data's, by name, for teachers that know more of them; ``files``: where
    the user's own lie, by sha256. Raises TeacherMissingError or UserError.
    """
    assert run.teacher is not None
    name, size = run.teacher.model, run.teacher_input_size
    if run.teacher.reads is not None:
        key, reads = run.teacher.key, run.teacher.reads
        return _own(run, name, key, reads, size, num_classes, classes, files or {})
    if run.teacher.source == "registry":
        return _public(run, name, run.teacher.key, size, num_classes, classes)
    state, digest, source = _trained(run.teacher, root)
    side = size or run.recipe.crop_size or _info(run).image_size
    model = _model(name, num_classes, state, source, side)
    renormalise = renormalisation(run, _trained_with(RunDir(root, run.teacher.key)))
    return LoadedTeacher(Network(name, model, run.recipe, size, renormalise), digest)


def load_public(
    run: Run,
    num_classes: int,
    classes: Sequence[str] = (),
    files: Mapping[str, FileOfTeacher] | None = None,
) -> LoadedTeacher:
    """Load the checkpoint that an evaluation run is about, public or the user's own."""
    assert run.weights is not None
    size = run.recipe.input_size
    if run.reads is not None:
        own = (run.weights, run.reads, size, num_classes, classes)
        return _own(run, run.model, *own, files or {})
    return _public(run, run.model, run.weights, size, num_classes, classes)


def _model(
    name: str, num_classes: int, state: dict[str, Tensor], source: str, side: int | None = None
) -> Model:
    with seeded(0, "teacher"):  # its initial weights are overwritten
        model = build_model(name, num_classes, image_size=side)
    load_into(model, state, source)
    model.requires_grad_(False)
    return model.eval()


def _info(run: Run) -> DatasetInfo:
    return described(run.dataset.name, run.dataset.own)


def renormalisation(run: Run, own: Preprocessing | None) -> Affine | None:
    """Return what turns the normalisation of a run's images into a teacher's own.

    None if they are the same.
    """
    if own is None:
        return None
    info = normalised_by(_info(run), augmentation_info(run.recipe.augmentation))
    if (info.mean, info.std) == (own.mean, own.std):
        return None
    channels = list(zip(info.mean, info.std, own.mean, own.std, strict=True))
    factors = tuple(std / own_std for _, std, _, own_std in channels)
    summands = tuple((mean - own_mean) / own_std for mean, _, own_mean, own_std in channels)
    return factors, summands


def _own(
    run: Run,
    model: str,
    sha256: str,
    reads: Reads,
    size: int | None,
    num_classes: int,
    classes: Sequence[str],
    files: Mapping[str, FileOfTeacher],
) -> LoadedTeacher:
    side = size or run.recipe.crop_size or _info(run).image_size
    loaded, kept = read_own(model, sha256, files, num_classes, classes, side)
    own = None
    if reads.mean is not None and reads.std is not None:
        own = Preprocessing(mean=reads.mean, std=reads.std)
    network = Network(model, loaded, run.recipe, size, renormalisation(run, own))
    return LoadedTeacher(network, sha256, f"{reads.model_dump_json()} {kept}")


def _public(
    run: Run,
    model: str,
    digest: str,
    size: int | None,
    num_classes: int,
    classes: Sequence[str],
) -> LoadedTeacher:
    dataset = run.dataset.name
    teacher = registered(dataset, model)
    path = checkpoint_file(teacher) if teacher else None
    if teacher is None or path is None:
        raise TeacherMissingError(
            f"the public checkpoint of {model} on {dataset} is not on this machine;"
            " run `bench teachers fetch` or point BENCH_TEACHERS at it"
        )
    if file_digest(path) != digest:  # read anew, whatever was noted when the run was planned
        raise UserError(f"{path} changed since the runs were planned; submit them again")
    known = num_known(teacher, _info(run))
    if known > num_classes and not classes:
        raise UserError(f"{model} knows more classes than {dataset}: the data must be there")
    loaded = _model(model, known, load_state(path), str(path))
    if known > num_classes:
        loaded = pick_classes(loaded, positions(classes, model))
    renormalise = renormalisation(run, teacher.preprocessing)
    return LoadedTeacher(Network(model, loaded, run.recipe, size, renormalise), digest)


def _trained_with(rundir: RunDir) -> Preprocessing:
    """Return the normalisation that a teacher of ours was trained with."""
    cell = read_json(rundir.cell, SCHEMA)
    augmentation = augmentation_info(cell["recipe"]["augmentation"])
    data = DatasetRef.model_validate(cell["dataset"])
    info = normalised_by(described(data.name, data.own), augmentation)
    return Preprocessing(mean=info.mean, std=info.std)


def num_known(teacher: RegisteredTeacher, data: DatasetInfo) -> int:
    """Return how many classes a public teacher knows: what lies here may have some of them."""
    return len(imagenet_classes()) if teacher.classes else data.num_classes


def check_trained(run: Run, root: Path) -> None:
    """Load the teacher of ours that a run names, whatever number of classes it was trained on.

    Raises UserError if it cannot teach.
    """
    assert run.teacher is not None
    state, _, source = _trained(run.teacher, root)
    info, name = _info(run), run.teacher.model
    side = run.teacher_input_size or run.recipe.crop_size or info.image_size
    with torch.device("meta"):
        network = build_model(name, info.num_classes, image_size=side)
    known = classes_of(network, state, info.num_classes)
    _model(name, known, state, source, side)


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
        content = read_bytes(rundir.weights, LARGEST_WEIGHTS)
        tensors = load_safetensors(content)
    except Exception as error:  # safetensors raises its own kinds for broken files
        reason = first_line(error)
        raise UserError(
            f"{rundir.weights} cannot be read ({reason}); delete {rundir.path} and submit again"
            " to train this teacher anew"
        ) from error
    own = {k: v for k, v in tensors.items() if not k.startswith((METHOD_PREFIX, AVERAGE_PREFIX))}
    return own, hashlib.sha256(content).hexdigest(), str(rundir.weights)
