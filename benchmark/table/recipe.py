"""How a network is trained: everything that moves its numbers, fixed before it starts.

Named recipes are the published ones (facts and sources in docs/reproducing.md); a table may
override single fields, and every override is shown with the results.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from benchmark.base.errors import unknown
from benchmark.base.yamlfile import validate

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=0)]
Positive = Annotated[int, Field(strict=True, ge=1)]
Rate = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Precision = Literal["fp32", "bf16"]


class Strict(BaseModel):
    """The base of all specifications: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Grown(Strict):
    """A specification that got fields after runs had been made: ``later`` names them.

    They are neither written nor hashed while they have their default, so that those runs keep
    their keys.
    """

    later: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _as_before(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = serialise(self)
        fields = type(self).model_fields
        defaults = [name for name in self.later if getattr(self, name) == fields[name].default]
        return {name: value for name, value in data.items() if name not in defaults}


class Milestones(Strict):
    """Multiply the rate by ``gamma`` after each milestone.

    Epochs count from 1 and the new rate first applies in the epoch after a milestone: with
    milestones 150, 180, 210 in epochs 151, 181 and 211.
    """

    kind: Literal["milestones"] = "milestones"
    milestones: tuple[Positive, ...]
    gamma: Rate = 0.1


class Plateau(Strict):
    """Multiply the rate by ``factor`` when the evaluated accuracy has not improved.

    It has not improved for ``patience`` evaluations; after ``stop_patience`` evaluations
    without a better one the run ends early.
    """

    kind: Literal["plateau"]
    factor: Rate = 0.5
    patience: Positive = 2
    stop_patience: Positive | None = 3


class Cosine(Strict):
    """Linear warm-up over ``warmup_epochs``, then a cosine to ``min_lr``, set once an epoch."""

    kind: Literal["cosine"]
    warmup_epochs: Count = 0
    warmup_lr: Number = 0.0
    min_lr: Number = 0.0


class ModelSettings(Strict):
    """Settings of one network that were tuned offline and are part of a run's key."""

    precision: Precision | None = None
    channels_last: bool | None = None


class Recipe(Strict):
    """One training protocol.

    ``device`` auto becomes cuda or cpu when runs are planned, from what the executor offers.
    ``holdout`` training images are kept for validation; ``input_size`` upscales the images
    inside the network; ``eval_every`` epochs lie between evaluations (the last five epochs
    are always evaluated, so that every protocol can be reported); ``keep_drops`` keeps the
    checkpoint at each drop of the learning rate.
    """

    epochs: Positive
    batch_size: Positive
    lr: Rate
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: Number = 0.9
    nesterov: bool = False
    weight_decay: Number = 5e-4
    clip_norm: Rate | None = None
    schedule: Annotated[Milestones | Plateau | Cosine, Field(discriminator="kind")]
    augmentation: str
    drop_last: bool = False
    holdout: Count = 0
    input_size: Positive | None = None
    eval_every: Positive = 1
    eval_batch: Positive = 500
    keep_drops: bool = True
    precision: Precision = "fp32"
    channels_last: bool = False
    threads: Positive = 2
    device: Literal["auto", "cpu", "cuda"] = "auto"
    deterministic: bool = False
    per_model: dict[str, ModelSettings] = {}

    def settings(self, model: str) -> tuple[Precision, bool]:
        """Return the precision and the channels_last flag of one network."""
        own = self.per_model.get(model, ModelSettings())
        precision = self.precision if own.precision is None else own.precision
        channels_last = self.channels_last if own.channels_last is None else own.channels_last
        return precision, channels_last


RECIPES: dict[str, Recipe] = {
    # CRD's CIFAR-100 protocol, which most CIFAR-100 tables share.
    "crd_240": Recipe(
        epochs=240,
        batch_size=64,
        lr=0.05,
        schedule=Milestones(milestones=(150, 180, 210)),
        augmentation="crop_flip",
        channels_last=True,
    ),
    # The thesis' tables 3 to 8; it states no batch size, 128 is assumed.
    "thesis_200": Recipe(
        epochs=200,
        batch_size=128,
        lr=0.1,
        schedule=Milestones(milestones=(60, 120, 160), gamma=0.2),
        augmentation="crop_flip",
        channels_last=True,
    ),
    # The thesis' table 2: ResNet-152/50 on CIFAR-10 upscaled inside the network.
    "thesis_plateau": Recipe(
        epochs=20,
        batch_size=128,
        lr=0.1,
        schedule=Plateau(kind="plateau"),
        augmentation="crop_flip",
        input_size=224,
        holdout=5000,
        channels_last=True,
    ),
    # mdistiller's and torchvision's ImageNet protocol.
    "imagenet_100": Recipe(
        epochs=100,
        batch_size=256,
        lr=0.1,
        weight_decay=1e-4,
        schedule=Milestones(milestones=(30, 60, 90)),
        augmentation="imagenet",
        channels_last=True,
        eval_batch=250,
        threads=8,
    ),
    # DeiT's protocol as the projector paper runs it; training it is not supported yet.
    "deit_300": Recipe(
        epochs=300,
        batch_size=256,
        lr=2.5e-4,
        optimizer="adamw",
        weight_decay=0.05,
        schedule=Cosine(kind="cosine", warmup_epochs=20, warmup_lr=2.5e-7, min_lr=2.5e-6),
        augmentation="imagenet",
        drop_last=True,
        clip_norm=15.0,
        eval_batch=250,
        threads=8,
    ),
    # scikit-learn's digits with 100 labels: seconds, not hours. 20 divides 100: a small last
    # batch would spoil the batch-norm statistics. The rate is CIFAR's, scaled to such batches.
    "digits_60": Recipe(
        epochs=60,
        batch_size=20,
        lr=0.02,
        schedule=Milestones(milestones=(45, 52, 57)),
        augmentation="shift1",
        eval_every=30,
        keep_drops=False,
        threads=1,
    ),
}


# The same in bfloat16, network by network as perf/formats.py measured it: depthwise
# convolutions gain nothing or lose.
RECIPES["crd_240_bf16"] = RECIPES["crd_240"].model_copy(
    update={
        "precision": "bf16",
        "per_model": {
            name: ModelSettings(precision="fp32") for name in ("mobilenetv2", "shufflenetv2")
        },
    }
)


def named_recipe(name: str, where: str = "") -> Recipe:
    """Return a named recipe; UserError with the nearest guess."""
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES, where)
    return RECIPES[name]


def override(recipe: Recipe, fields: Mapping[str, Any], where: str = "") -> Recipe:
    """Return the recipe with some fields replaced; nested fields as mappings or dotted names.

    Raises UserError for an unknown field or a wrong value.
    """
    if not fields:
        return recipe
    data = recipe.model_dump()
    for name, value in fields.items():
        _replace(data, name.split("."), value, where)
    return validate(Recipe, data, where or "recipe")


def _replace(data: dict[str, Any], path: list[str], value: Any, where: str) -> None:
    head, *rest = path
    if rest:
        inner = data.get(head)
        if not isinstance(inner, dict):
            raise unknown("recipe field", ".".join(path), data, where)
        if head == "per_model":  # a network that has no settings of its own yet
            inner.setdefault(rest[0], {})
        _replace(inner, rest, value, where)
    elif isinstance(value, Mapping) and isinstance(data.get(head), dict) and "kind" not in value:
        data[head] = {**data[head], **value}
    else:
        data[head] = value  # an unknown name is refused by validation, with the nearest guess
