"""The networks and methods of a run, each from random numbers of its own."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmark.base.errors import UserError
from benchmark.methods import build_method
from benchmark.methods.base import Method, Probe, Setup
from benchmark.methods.composition import undivided
from benchmark.models import build_model, model_info
from benchmark.models.features import Model
from benchmark.run.identity import Run
from benchmark.train.losses import Objective
from benchmark.train.network import Network
from benchmark.train.rng import seeded


class World(NamedTuple):
    """What a trainee is told of the data: shape, labels, sizes."""

    image_shape: tuple[int, int, int]
    num_classes: int
    labels: Tensor
    steps_per_epoch: int


def build_student(run: Run, world: World) -> Network:
    """Return the network that is trained; its weights depend on its name and the seed alone."""
    with seeded(run.seed, f"init/{run.model}"):
        model = build_model(
            run.model,
            world.num_classes,
            drop_path=run.recipe.drop_path,
            image_size=run.recipe.input_size or world.image_shape[1],
            norm_updates=run.recipe.norm_updates,
        )
    return Network(run.model, model, run.recipe, run.recipe.input_size)


def build_methods(
    run: Run, world: World, student: Network, teacher: Network | None
) -> nn.ModuleList:
    """Return the row's methods on the run's device, trained parts and all.

    Raises UserError if one is undefined for the networks, or hooks the teacher.
    """
    student_probe = Probe(run.model, student.model, student.probe(world.image_shape))
    teacher_probe = None
    if teacher is not None:
        teacher_probe = Probe(teacher.name, teacher.model, teacher.probe(world.image_shape))
    channels, height, width = world.image_shape
    size = run.recipe.input_size
    setup = Setup(
        student=student_probe,
        teacher=teacher_probe,
        num_classes=world.num_classes,
        labels=world.labels,
        batch_size=run.recipe.batch_size // run.recipe.replicas,
        epochs=run.recipe.epochs,
        seed=run.seed,
        pair=run.pair,
        steps_per_epoch=run.recipe.steps_per_epoch or world.steps_per_epoch,
        image_shape=(channels, size or height, size or width),
        make=_Maker(run, world, student),
    )
    methods = nn.ModuleList()
    for ref in run.methods:
        hooks = 0 if teacher is None else teacher.num_hooks
        with seeded(run.seed, f"method/{ref.name}"):
            methods.append(build_method(ref.name, setup, **ref.options))
        if teacher is not None and teacher.num_hooks > hooks:
            raise UserError(
                f"{ref.name} hooks the teacher, but a copy of it computes the features: read"
                " what Step.teacher holds"
            )
    return methods.to(run.recipe.device)


def build_objective(run: Run, methods: nn.ModuleList) -> Objective:
    """Return what the row minimises. UserError if its methods contradict each other."""
    recipe = run.recipe
    return Objective(
        list(methods),  # type: ignore[arg-type]
        [ref.name for ref in run.methods],
        run.ce_weight,
        run.predict,
        recipe.label_smoothing,
        recipe.clip_norm,
        recipe.accumulate,
        run.reported,
    )


class _Maker:
    """Builds the further networks of a run, each for one role."""

    def __init__(self, run: Run, world: World, student: Network) -> None:
        self._run, self._world, self._student = run, world, student
        self._made: set[tuple[str, str]] = set()

    def __call__(self, role: str, name: str) -> Model:
        if (role, name) in self._made:  # it would be the same network again
            raise UserError(f"two networks {name} of the run are built for the role '{role}'")
        self._made.add((role, name))
        recipe = self._run.recipe
        with seeded(self._run.seed, f"init/{name}/{role}"):
            model = build_model(
                name,
                self._world.num_classes,
                drop_path=recipe.drop_path if "drop_path" in model_info(name).takes else 0.0,
                image_size=recipe.input_size or self._world.image_shape[1],
                norm_updates=recipe.norm_updates,
            )
        return self._student.placed(model)


def check_divisible(methods: nn.ModuleList, run: Run) -> None:
    """Refuse a row whose steps cannot be divided between replicas."""
    for ref, method in zip(run.methods, methods, strict=True):
        assert isinstance(method, Method)
        reason = undivided(
            keeps_memory=method.keeps_memory,
            turns=type(method).turns is not Method.turns,
            uses_images=method.uses_images,
        )
        if reason is not None:
            raise UserError(f"{ref.name} {reason}; set recipe.replicas to 1")


def private_teacher(run: Run, methods: nn.ModuleList, teacher: Network | None) -> Network | None:
    """Return a run's own copy of the teacher, in train mode, if a method asks for one."""
    if not any(isinstance(m, Method) and m.private_teacher for m in methods):
        return None
    assert teacher is not None
    with torch.no_grad():
        model = copy.deepcopy(teacher.model)
    model.requires_grad_(False)
    network = Network(teacher.name, model, run.recipe, teacher.input_size, teacher.renormalise)
    network.model.train()
    return network
