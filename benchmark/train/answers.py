"""Ask a pack's teacher, but nothing that it was asked before.

On CIFAR an augmentation makes 162 images of one, and a frozen teacher is shown the same pixels
again and again, by one run, and more so by the next seed or student. If a kernel's bits for an
image do not depend on its place in a batch, its neighbours and how many they are, an answer that
was kept is the answer. That is proved for each size of batch before it is used; if it does not
hold the teacher is asked every time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmark.base.errors import UserError
from benchmark.data.augmentations import augmentation_info
from benchmark.data.batches import Batch, Batches
from benchmark.data.datasets import described
from benchmark.models import model_info
from benchmark.models.features import Features
from benchmark.run.answers import answers_root, limit
from benchmark.run.identity import ENGINE_VERSION, Run
from benchmark.train.answer_file import Rows
from benchmark.train.answer_store import (
    AnswerStore,
    as_bytes,
    machine,
    rows_of,
)
from benchmark.train.asked import KEPT, kept_among
from benchmark.train.claims import Mask
from benchmark.train.network import Network
from benchmark.train.teacher import LoadedTeacher

# Below this many images kernels may take another way; such batches are asked as they are.
SMALLEST = 4
# Images are asked for in multiples of this: with two threads the bits of others differ.
_STEP = 4
# Every size is proved against this one, so that rows of all sizes are the same bits.
_REFERENCE = 16


class Answers:
    """A teacher's features of training batches, from ``store`` as far as they lie there.

    ``store`` is None where nothing is kept, or no longer; ``say`` is told once why. ``asked``
    counts the images that the teacher was shown for training, ``probed`` those of the proof.
    """

    def __init__(
        self,
        network: Network,
        store: AnswerStore | None = None,
        num_variants: int = 1,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.network = network
        self.store = store
        self.num_variants = num_variants
        self._say = say
        self._full_said = False
        self._proved: set[int] = set()
        self._refused: set[int] = set()
        self.asked = self.probed = 0

    def features(self, batch: Batch, maps: Collection[str]) -> Features:
        """Return the teacher's features of a batch, without the maps that are not wanted."""
        size = len(batch.labels)
        asked_anew = batch.targets is not None or size < SMALLEST or size in self._refused
        if self.store is None or batch.variants is None or asked_anew:
            return self._ask(batch.images).only(maps)
        rows = rows_of(batch.indices, batch.variants, self.num_variants)
        try:
            return self._kept(self.store, batch.images, rows, maps)
        except (OSError, UserError) as error:  # no file can be made, or one not be read
            self._stop(getattr(error, "strerror", None) or str(error))
            return self._ask(batch.images).only(maps)

    def _kept(
        self, store: AnswerStore, images: Tensor, rows: Rows, maps: Collection[str]
    ) -> Features:
        size = len(rows)
        names = kept_among(maps)
        if size in self._proved and not set(maps) - set(KEPT):
            return self._recall(store, images, rows, names)
        if size in self._proved:
            found = self._ask(images)
            self._keep(rows, found, names)
        else:
            with store.claimed(rows, wait=False) as ours:
                found = self._prove(store, images, rows, ours, bool(set(maps) - set(KEPT)))
                if size in self._proved:
                    self._keep(rows, found, names)
        return found.only(maps)

    def _ask(self, images: Tensor, wanted: int | None = None) -> Features:
        self.asked += len(images) if wanted is None else wanted
        return self._again(images)

    def _again(self, images: Tensor) -> Features:
        with torch.no_grad():
            return self.network.features(images)

    def _recall(self, store: AnswerStore, images: Tensor, rows: Rows, names: list[str]) -> Features:
        values, there = self._read(store, rows, names)
        first = _first(rows)
        once = first == torch.arange(len(rows))
        there |= ~once  # repeats may show a picture twice, which is one question
        while not there.all():
            missing = (~there).nonzero()[:, 0]
            with store.claimed(rows[missing.numpy()], wait=True) as ours:
                mine = missing[torch.from_numpy(ours)]
                # Others may have kept some of them in between.
                again, known = self._read(store, rows[mine.numpy()], names)
                for name in names:
                    values[name][mine] = again[name]
                if not known.all():
                    self._ask_for(mine[~known], images, rows, values)
                there[mine] = True
        values = {name: value[first] for name, value in values.items()}
        found = Features(values["logits"], values.get("pooled"), (), ())  # type: ignore[arg-type]
        return found.only(KEPT if "pooled" in names else ())

    def _read(
        self, store: AnswerStore, rows: Rows, names: list[str]
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return the values [n, width] of each output, and which rows [n] have all of them."""
        read = {name: store.part(name, self._like[name]).read(rows) for name in names}
        there = torch.stack([known for _, known in read.values()]).all(0)
        return {name: value for name, (value, _) in read.items()}, there

    def _ask_for(
        self, wanted: Tensor, images: Tensor, rows: Rows, values: dict[str, Tensor]
    ) -> None:
        """Ask for the images at the places ``wanted`` of a batch, among others, and keep that."""
        others = torch.ones(len(rows), dtype=torch.bool)
        others[wanted] = False
        count = len(wanted)
        shown = torch.cat([wanted, others.nonzero()[:, 0]])[: _padded(count, len(rows))]
        made = self._ask(images[shown], count).only(KEPT)
        new = made._replace(**{name: getattr(made, name)[:count] for name in values})
        for name, value in values.items():
            value[wanted] = getattr(new, name)
        self._keep(rows[wanted.numpy()], new, list(values))

    def _keep(self, rows: Rows, features: Features, names: list[str]) -> None:
        if self.store is None or not self.store.has_room():
            if self.store is not None and self.store.full and not self._full_said:
                self._full_said = True
                self._say("the teacher's answers take all the room they may: no more are kept")
            return
        try:
            for name in names:
                value = getattr(features, name)
                self.store.part(name, value).write(rows, value)
        except OSError as error:
            self.store.full = True
            self._say(f"the teacher's answers are no longer kept: {error.strerror}")

    def _prove(
        self, store: AnswerStore, images: Tensor, rows: Rows, ours: Mask, maps: bool
    ) -> Features:
        """Return what a whole batch is answered, and compare with it what else would be.

        The same images in other places, among others and as many as are ever asked for at once;
        and what lies on disk of them. ``ours`` [B]: those that no other process is asking for.
        """
        size = len(rows)
        # Without its maps, which would lie beside those of every pass of the proof.
        found = self._ask(images).only(KEPT)
        self._like = {name: getattr(found, name) for name in KEPT}
        read = {name: store.part(name, self._like[name]).read(rows) for name in KEPT}
        once = _first(rows) == torch.arange(size)
        again = int((read["logits"][1] | ~torch.from_numpy(ours) | ~once).sum())
        self.asked, self.probed = self.asked - again, self.probed + again
        if not self._holds(images, found):
            self._refused.add(size)
            self._say(
                f"the teacher's answers to batches of {size} are not kept:"
                " the bits of an answer depend on the batch it is asked in"
            )
        elif not all(_same(v[known], self._like[name][known]) for name, (v, known) in read.items()):
            self._stop("what lies there is not what this teacher answers")
        else:
            self._proved.add(size)
        if maps:  # once more: one pass for each size of batch
            self.probed += size
            found = self._again(images)
        return found

    def _holds(self, images: Tensor, found: Features) -> bool:
        size = len(images)
        order = torch.randperm(size, generator=torch.Generator().manual_seed(size))
        for count in {_padded(number, size) for number in range(1, size + 1)} | {_REFERENCE}:
            shown = order[:count] if count <= size else order.repeat(-(-count // size))[:count]
            self.probed += count
            again = self._again(images[shown]).only(KEPT)
            if not all(_same(getattr(again, n), getattr(found, n)[shown]) for n in KEPT):
                return False
        return True

    def _stop(self, reason: str) -> None:
        self._say(f"the teacher's answers are not kept: {reason}")
        self.store = None


def _padded(missing: int, size: int) -> int:
    """Return how many images to ask for: an eighth or quarters of a batch, few enough to prove."""
    eighth, quarter = (_STEP * -(-size // (_STEP * parts)) for parts in (8, 4))
    wanted = eighth if missing <= eighth else -(-missing // quarter) * quarter
    return min(size, wanted)


def _first(rows: Rows) -> Tensor:
    """Return for each row [n] the place where it stands first."""
    _, first, where = np.unique(rows, return_index=True, return_inverse=True)
    return torch.from_numpy(first[where])


def _same(ours: Tensor, theirs: Tensor) -> bool:
    return bool(np.array_equal(as_bytes(ours), as_bytes(theirs)))


def open_answers(
    run: Run, teacher: LoadedTeacher, batches: Batches, runs_dir: Path, say: Callable[[str], None]
) -> Answers:
    """Return what a pack asks its teacher by, with what was asked before if that can be kept.

    Not on a GPU, where nothing was measured, and not for augmentations without number.
    """
    network, recipe = teacher.network, run.recipe
    info = augmentation_info(recipe.augmentation)
    size = limit()
    if recipe.device != "cpu" or info.num_variants is None or not size:
        return Answers(network)
    dataset = described(run.dataset.name, run.dataset.own)
    precision, channels_last = recipe.settings(network.name)
    about = {
        "teacher": teacher.digest,
        "model": network.name,
        "versions": {
            "engine": ENGINE_VERSION,
            "augmentation": info.version,
            "model": model_info(network.name).version,
        },
        "data": run.dataset.digest,
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "augmentation": info.name,
        "image_shape": list(batches.image_shape),
        "input_size": network.input_size,
        "precision": precision,
        "channels_last": channels_last,
        "folded": network.folded,
        "machine": machine(),
    } | ({"reading": teacher.reading} if teacher.reading else {})
    try:
        store = AnswerStore(answers_root(runs_dir), about, size)
    except (UserError, OSError) as error:
        say(f"the teacher's answers are not kept: {error}")
        return Answers(network)
    return Answers(network, store, info.num_variants, say)
