"""A recipe that clips gradients and a method that replaces the optimiser step."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmark.base.errors import UserError
from benchmark.methods.catalog import method_info
from benchmark.models import build_model
from benchmark.run.identity import DatasetRef, MethodRef, Run, TeacherRef
from benchmark.table.recipe import named_recipe, override
from benchmark.train.network import Network
from benchmark.train.trainee import Trainee, World

WORLD = World((3, 8, 8), 10, torch.arange(20) % 10, steps_per_epoch=2)


def build(method: str, clip_norm: float | None, options: dict[str, Any]) -> Trainee:
    recipe = override(named_recipe("digits_60"), {"clip_norm": clip_norm, "device": "cpu"})
    info = method_info(method)
    run = Run(
        dataset=DatasetRef(name="digits", digest="-"),
        model="resnet8",
        teacher=TeacherRef(model="resnet8", source="train", key="-"),
        methods=(MethodRef(name=method, version=info.version, options=info.resolve(options)),),
        recipe=recipe,
        seed=0,
        versions={},
    )
    return Trainee(run, WORLD, Network("resnet8", build_model("resnet8", 10), recipe))


@pytest.mark.parametrize("method", ["dot", "dhkd"])
def test_clipping_that_would_not_apply_is_refused(method: str) -> None:
    with pytest.raises(UserError, match=rf"{method} replaces .* clip_norm 1 would not apply"):
        build(method, 1.0, {})


@pytest.mark.parametrize(
    ("method", "clip_norm", "options"),
    [
        ("dot", None, {}),
        ("kd", 1.0, {}),
        ("dhkd", 1.0, {"clip_norm": 0.5}),
        ("dhkd", 1.0, {"gradient_alignment": False}),
    ],
)
def test_other_combinations_are_built(
    method: str, clip_norm: float | None, options: dict[str, Any]
) -> None:
    assert build(method, clip_norm, options).recipe.clip_norm == clip_norm
