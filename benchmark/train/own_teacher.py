"""Teachers from the user's own files: loaded, held against the data's classes, and measured.

A file may know more classes than the data has, or have them in another order. Its classes are
matched by name: the names that were given beside it, those that a student.safetensors of this
project carries, or, for 1000 classes, ImageNet's. Without names the count must be the data's, and
the order is taken to be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmark.base.errors import UserError, nearest
from benchmark.data.datasets import require_dataset
from benchmark.models import build_model
from benchmark.models.checkpoint import load_into, load_state
from benchmark.models.features import Model
from benchmark.models.layouts import converted
from benchmark.table.imagenet_classes import imagenet_classes
from benchmark.table.own_teachers import FileOfTeacher
from benchmark.table.teachers import file_digest
from benchmark.train.about import read_about
from benchmark.train.rng import seeded

# A teacher that is no better than this many times guessing says nothing: its classes, their
# order or its normalisation are not the data's.
_GUESSING = 1.5


class OwnNetwork(NamedTuple):
    """A network from a file, with the logits of the data's classes alone.

    ``kept``: the places of the data's classes among the file's, empty if they are the same.
    """

    model: Model
    kept: tuple[int, ...]


def read_own(
    model: str,
    sha256: str,
    files: Mapping[str, FileOfTeacher],
    num_classes: int,
    classes: Sequence[str],
    image_size: int | None = None,
) -> OwnNetwork:
    """Load a teacher from the file with that digest.

    ``classes`` are the data's, by name; ``image_size``: the side that it reads. Raises UserError
    if the file is gone, was changed, does not fit the network, or does not say which of its
    classes are the data's.
    """
    if sha256 not in files:
        raise UserError(
            f"the file of teacher {model} (sha256 {sha256[:12]}) is not known here; submit the"
            " table again, with its teacher.files or --teacher"
        )
    file = files[sha256]
    if not file.path.is_file():
        raise UserError(f"the file of teacher {model} is gone: {file.path}")
    if file_digest(file.path) != sha256:  # read anew, whatever was noted when the run was planned
        raise UserError(f"{file.path} changed since the runs were planned; submit them again")
    state = load_state(file.path)
    with seeded(0, "teacher"):  # its initial weights are overwritten
        network = build_model(model, num_classes, image_size=image_size)
        known = classes_of(network, state, num_classes)
        if known != num_classes:
            network = build_model(model, known, image_size=image_size)
    load_into(network, state, str(file.path))
    kept = _places(file, known, num_classes, classes, model)
    if kept:
        pick_classes(network, kept)
    return OwnNetwork(network.requires_grad_(False).eval(), tuple(kept))


def pick_classes(model: Model, kept: Sequence[int]) -> Model:
    """Give a network the logits of some of its classes alone, in the order of ``kept``."""
    chosen = torch.tensor(kept)
    for head in model.heads:
        head.weight = nn.Parameter(head.weight[chosen], requires_grad=False)
        if head.bias is not None:
            head.bias = nn.Parameter(head.bias[chosen], requires_grad=False)
        head.out_features = len(kept)
    return model


def classes_of(network: Model, state: Mapping[str, Tensor], usual: int) -> int:
    """Return how many classes a file's head has."""
    expected: dict[str, Tensor] = network.state_dict(keep_vars=True)
    key = next((k for k, value in expected.items() if value is network.heads[0].weight), None)
    head = converted(state, expected).get(key) if key is not None else None
    return int(head.shape[0]) if head is not None and head.dim() else usual


def _places(
    file: FileOfTeacher, known: int, num_classes: int, classes: Sequence[str], model: str
) -> list[int]:
    """Return where the data's classes stand among a file's, empty if they are the same."""
    names = file.classes or _carried(file.path)
    if not names and known == len(imagenet_classes()) != num_classes:
        names = imagenet_classes()
    if not names:
        if known == num_classes:
            return []
        raise UserError(
            f"{file.path} is a {model} for {known} classes,"
            f" the data has {num_classes}: name its classes, a line each, in a file:"
            f" teacher: {{files: {{{model}: {{path: {file.path}, classes: NAMES.txt}}}}}}"
        )
    if len(names) != known:
        raise UserError(f"{file.path} has {known} logits, but {len(names)} names of classes")
    places = {name: number for number, name in enumerate(names)}
    odd = [name for name in classes if name not in places]
    if odd:
        raise UserError(
            f"the teacher {model} in {file.path} does not know the data's class"
            f" '{odd[0]}'{nearest(odd[0], names)} (its classes: {', '.join(names[:3])}, ...)"
        )
    found = [places[name] for name in classes]
    return [] if found == list(range(known)) else found


def _carried(path: Path) -> tuple[str, ...]:
    """Return the class names that a safetensors file carries, empty if it has none."""
    if path.suffix != ".safetensors":
        return ()
    names = read_about(path).get("classes")
    return tuple(str(name) for name in names) if isinstance(names, list) else ()


def check_file(
    dataset: str,
    model: str,
    sha256: str,
    side: int,
    files: Mapping[str, FileOfTeacher],
    data_dir: Path,
) -> None:
    """Load a file as its runs will. Raises UserError if they would fail."""
    sidecar = require_dataset(dataset, data_dir)
    read_own(model, sha256, files, sidecar.num_classes, sidecar.classes, side)


def check_above_guessing(model: str, top1: float, num_classes: int) -> None:
    """Refuse to be taught by a network that knows nothing of the data. Raises UserError."""
    if num_classes > 1 and top1 <= _GUESSING * 100 / num_classes:
        raise UserError(
            f"your own {model} has {top1:.2f} % on the test images, and guessing has"
            f" {100 / num_classes:.2f} %: its classes, their order or its normalisation are not the"
            " data's (a table's teacher.files takes classes, mean and std)"
        )
