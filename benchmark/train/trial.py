"""Build each run's networks and methods without memory for them, to see whether it can start.

Shapes are all that is computed (torch's meta device), so a table takes seconds. Whatever raises
there is built again for real: only what fails then, too, is a problem.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from benchmark.base.errors import UserError, first_line
from benchmark.base.share import Shard
from benchmark.data.datasets import described, image_side
from benchmark.data.order import BatchPlan
from benchmark.methods import build_method
from benchmark.methods.base import Probe, Setup
from benchmark.methods.catalog import add_plugin
from benchmark.models import build_model
from benchmark.run.identity import Run
from benchmark.table.recipe import Recipe
from benchmark.train.build import build_objective
from benchmark.train.rng import seeded
from benchmark.train.trial_step import why_not_one_image


def problems(runs: Sequence[Run], images: dict[str, int]) -> dict[str, str]:
    """Return why cells cannot be trained, by their keys.

    ``images``: the number of training images of each dataset.
    """
    found: dict[str, str] = {}
    trial = _Trial(images)
    with seeded(0, "trial"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for run in runs:
            problem = trial.problem(run)
            if problem is not None:
                found[run.cell_key] = problem
    return found


class _Trial:
    def __init__(self, images: dict[str, int]) -> None:
        self._images = images
        self._probes: dict[tuple[str, int, int, str], Probe] = {}
        self._alone: dict[tuple[str, int, int], str | None] = {}

    def problem(self, run: Run) -> str | None:
        info = described(run.dataset.name, run.dataset.own)
        recipe, count = run.recipe, self._images[run.dataset.name]
        try:
            share = Shard(recipe.replicas)
            BatchPlan(
                count, run.seed, recipe.batch_size, recipe.drop_last, recipe.holdout, share=share
            )
        except UserError as error:
            return str(error)
        side = image_side(info, recipe)
        taught = run.teacher_input_size or recipe.crop_size or info.image_size
        names = [(run.model, side)] + ([(run.teacher.model, taught)] if run.teacher else [])
        for name, size in names:
            problem = self._unreadable(name, size, info.num_classes)
            if problem is not None:
                return problem
        single = _leaves_single(count - recipe.holdout, recipe)
        problem = self._single(run.model, side, info.num_classes) if single else None
        if problem is not None:
            return _of_one(run, count, run.model, problem)
        unsuitable = self._unsuitable(run, names, info.num_classes)
        if unsuitable is None and single and run.methods:
            problem = why_not_one_image(run, count)
        if problem is not None:
            return _of_one(run, count, " + ".join(ref.name for ref in run.methods), problem)
        return unsuitable

    def _unreadable(self, name: str, side: int, num_classes: int) -> str | None:
        """Return why a network cannot read images of a size."""
        for device in ("meta", "cpu"):
            try:
                self._probe(name, side, num_classes, device)
            except UserError as error:
                return str(error)
            except Exception as error:  # of a network, for images that it is not made for
                reason = first_line(error)
            else:
                return None
        return (
            f"{name} cannot read images of {side} x {side} pixels ({reason}); set"
            " recipe.input_size to what it reads"
        )

    def _probe(self, name: str, side: int, num_classes: int, device: str) -> Probe:
        key = (name, side, num_classes, device)
        if key not in self._probes:
            with torch.device(device), torch.no_grad():
                model = build_model(name, num_classes, image_size=side).eval()
                features = model.features(torch.zeros(2, 3, side, side))
            self._probes[key] = Probe(name, model, features)
        return self._probes[key]

    def _single(self, name: str, side: int, num_classes: int) -> str | None:
        """Return why a network cannot be trained on one image."""
        key = (name, side, num_classes)
        if key not in self._alone:
            self._alone[key] = None
            with torch.no_grad():
                model = build_model(name, num_classes, image_size=side).train()
                try:
                    model.features(torch.zeros(1, 3, side, side))
                except ValueError as error:  # torch: more than one value per channel
                    self._alone[key] = first_line(error)
        return self._alone[key]

    def _unsuitable(self, run: Run, names: list[tuple[str, int]], num_classes: int) -> str | None:
        """Return why a method cannot be built between two networks."""
        for device in ("meta", "cpu"):
            try:
                self._build(run, names, num_classes, device)
            except UserError as error:
                return str(error)
            except Exception as error:  # of a method, on maps that it is not made for
                reason = f"{type(error).__name__}: {first_line(error)}"
            else:
                return None
        return reason

    def _build(self, run: Run, names: list[tuple[str, int]], num_classes: int, device: str) -> None:
        student, *teacher = (self._probe(name, s, num_classes, device) for name, s in names)
        setup = Setup(
            student=student,
            teacher=teacher[0] if teacher else None,
            num_classes=num_classes,
            labels=torch.arange(self._images[run.dataset.name]) % num_classes,
            batch_size=run.recipe.batch_size // run.recipe.replicas,
            epochs=run.recipe.epochs,
            seed=run.seed,
            pair=run.pair,
        )
        with torch.device(device):
            methods = [build_method(ref.name, setup, **ref.options) for ref in run.methods]
        build_objective(run, nn.ModuleList(methods))


def _leaves_single(images: int, recipe: Recipe) -> bool:
    """Tell whether some replica gets a single image of some batch."""
    last = 0 if recipe.drop_last else images % recipe.batch_size
    if recipe.replicas == recipe.batch_size and images > last:
        return True
    return 0 < last < 2 * recipe.replicas


def _of_one(run: Run, count: int, what: str, problem: str) -> str:
    recipe = run.recipe
    if recipe.replicas > 1:
        return (
            f"one of {recipe.replicas} replicas gets one image of a batch, and {what}"
            f" cannot be trained on one image ({problem}); set recipe.batch_size or"
            " recipe.replicas to another number, or recipe.drop_last"
        )
    return (
        f"{count - recipe.holdout} training images in batches of {recipe.batch_size}"
        f" leave a last batch of one, and {what} cannot be trained on one image"
        f" ({problem}); set recipe.batch_size to another number, or recipe.drop_last"
    )


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    for plugin in asked["plugins"]:
        add_plugin(Path(plugin))
    tried = problems([Run.model_validate(run) for run in asked["runs"]], asked["images"])
    sys.stdout.write(json.dumps(tried))
