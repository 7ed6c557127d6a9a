"""How a network is trained: everything that moves its numbers, fixed before it starts.

Named recipes are the published ones (facts and sources in docs/reproducing.md); a table may
override single fields, and every override is shown with the results.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from benchmark.base.errors import unknown
from benchmark.base.yamlfile import validate
from benchmark.table.imagenet_recipes import IMAGENET_RECIPES
from benchmark.table.schedule import (
    Cosine,
    Count,
    Grown,
    Milestones,
    Number,
    Plateau,
    Positive,
    Rate,
    Strict,
)

__all__ = [
    "RECIPES",
    "Averaging",
    "Cosine",
    "Count",
    "Grown",
    "Lamb",
    "Milestones",
    "Mixing",
    "ModelSettings",
    "Number",
    "Plateau",
    "Positive",
    "Precision",
    "Rate",
    "Recipe",
    "Strict",
    "named_recipe",
    "override",
]

Precision = Literal["fp32", "bf16"]
Share = Annotated[float, Field(strict=True, ge=0, lt=1)]


class ModelSettings(Strict):
    """Settings of one network that were tuned offline and are part of a run's key."""

    precision: Precision | None = None
    channels_last: bool | None = None


class Lamb(Strict):
    """What timm's LAMB does beside its steps, which has no agreed default.

    ``max_grad_norm`` clips the global norm (timm: 1.0; null: never); ``trust_clip`` bounds the
    trust ratio by 1; ``always_adapt`` gives undecayed parameters a trust ratio, too.
    """

    max_grad_norm: Rate | None
    trust_clip: bool = False
    always_adapt: bool = False


class Averaging(Strict):
    """An average of the weights, evaluated beside the trained ones and never in their place.

    ``decay`` a step; with ``warmup`` it is at most 1 - step ** (-2/3), as timm's ModelEmaV3.
    """

    decay: Annotated[float, Field(strict=True, ge=0, lt=1)]
    warmup: bool = False


class Mixing(Strict):
    """Mix every batch with itself, images and labels: mixup, CutMix, or either by chance.

    With probability ``prob`` a batch is mixed; by CutMix (lambda ~ Beta(cutmix, cutmix)) with
    probability ``switch_prob`` if both are set, else by mixup. ``partner``: the batch reversed
    (timm), the previous sample (FunMatch), or a random permutation (mmpretrain). ``larger``: an
    image keeps the larger share (FunMatch). ``even_boxes``: CutMix's boxes of timm 0.3.2, with
    which DeiT was trained, where odd sides lose a pixel.
    """

    mixup: Annotated[float, Field(strict=True, ge=0)] = 0.0
    cutmix: Annotated[float, Field(strict=True, ge=0)] = 0.0
    prob: Annotated[float, Field(strict=True, gt=0, le=1)] = 1.0
    switch_prob: Annotated[float, Field(strict=True, ge=0, le=1)] = 0.5
    partner: Literal["reversed", "previous", "random"] = "reversed"
    larger: bool = False
    even_boxes: bool = False

    @model_validator(mode="after")
    def _something(self) -> Mixing:
        if not self.mixup and not self.cutmix:
            raise ValueError("neither mixup nor cutmix is set")
        return self


class Recipe(Grown):
    """One training protocol.

    ``device`` auto becomes cuda or cpu when runs are planned, from what the executor offers.
    ``holdout`` training images are kept for validation; ``input_size`` upscales the images
    inside the network; ``eval_every`` epochs lie between evaluations (the last five epochs
    are always evaluated, so that every protocol can be reported); ``keep_drops`` keeps the
    checkpoint at each drop of the learning rate; ``steps_per_epoch`` is for runs that read no
    image (others take an epoch's batches).

    ``decay_on`` matrices: no decay on one-dimensional parameters, biases, and what the network
    lists (tokens, position embeddings), but for names in ``also_decay``. ``accumulate`` batches
    make one optimiser step. ``drop_path``: stochastic depth, of networks that take it.
    ``average``: weights averaged beside the trained ones. ``mix``: mixup and CutMix, whose soft
    targets carry ``label_smoothing``. ``repeats``: views of an image in an epoch that is no
    longer for it (repeated augmentation). ``crop_size`` and ``test_interpolation`` replace the
    augmentation's own. ``replicas``: into how many parts a batch is cut, each with batch statistics
    and losses of its own, as on so many GPUs; on how many it is trained moves no number.

    ``probes`` are recorded beside the run's numbers and move none (benchmark/train/probes/).

    ``norm_updates``: how often a step wide ResNets move the running statistics of the batch norms
    after their stages: twice in mdistiller, once in RepDistiller, DHKD, CAT-KD and ReviewKD.
    ``tf32``: where GPUs since Ampere round the factors of fp32 products to 10 bits. torch's own
    default, which it is here, does so in convolutions and in no other product.
    """

    epochs: Positive
    batch_size: Positive
    lr: Rate
    optimizer: Literal["sgd", "adam", "adamw", "lamb"] = "sgd"
    momentum: Number = 0.9
    nesterov: bool = False
    weight_decay: Number = 5e-4
    clip_norm: Rate | None = None
    schedule: Annotated[Milestones | Plateau | Cosine, Field(discriminator="kind")]
    augmentation: str
    drop_last: bool = False
    steps_per_epoch: Positive | None = None
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
    betas: tuple[Share, Share] = (0.9, 0.999)
    eps: Rate | None = None
    lamb: Lamb | None = None
    decay_on: Literal["all", "matrices"] = "all"
    also_decay: tuple[str, ...] = ()
    label_smoothing: Share = 0.0
    accumulate: Positive = 1
    drop_path: Share = 0.0
    average: Averaging | None = None
    mix: Mixing | None = None
    repeats: Positive = 1
    crop_size: Positive | None = None
    test_interpolation: Literal["bilinear", "bicubic"] | None = None
    norm_updates: Literal["twice", "once"] = "twice"
    tf32: Literal["convolutions", "everywhere", "nowhere"] = "convolutions"
    replicas: Positive = 1
    probes: tuple[str, ...] = ()
    # Neither keeping a copy of a checkpoint nor looking at a run moves a number.
    unhashed: ClassVar[frozenset[str]] = frozenset({"keep_drops", "probes"})
    later: ClassVar[frozenset[str]] = frozenset(
        {
            "betas",
            "eps",
            "lamb",
            "decay_on",
            "also_decay",
            "label_smoothing",
            "accumulate",
            "drop_path",
            "average",
            "mix",
            "repeats",
            "crop_size",
            "test_interpolation",
            "steps_per_epoch",
            "norm_updates",
            "tf32",
            "replicas",
            "probes",
        }
    )

    @field_validator("probes", mode="before")
    @classmethod
    def _one_probe(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        if self.optimizer == "lamb" and self.lamb is None:
            raise ValueError(
                "optimizer lamb needs lamb.max_grad_norm (timm clips at 1.0 by default; null: no"
                " clipping)"
            )
        if self.lamb is not None and self.lamb.max_grad_norm and self.clip_norm:
            raise ValueError("clip_norm and lamb.max_grad_norm would both clip")
        if self.mix is not None and self.batch_size % 2 and self.mix.partner == "reversed":
            raise ValueError(
                f"mix pairs a batch with itself reversed, so batch_size {self.batch_size} must be"
                " even"
            )
        if self.mix is not None and self.mix.partner == "reversed" and not self.drop_last:
            raise ValueError(
                "mix pairs a batch with itself reversed: set drop_last, or the last batch may be"
                " odd"
            )
        if self.batch_size % self.replicas:
            raise ValueError(f"replicas {self.replicas} must divide batch_size {self.batch_size}")
        part = self.batch_size // self.replicas
        if self.mix is not None and part % 2 and self.mix.partner == "reversed":
            raise ValueError(
                f"mix pairs each replica's part of a batch with itself reversed, so {part} images"
                " must be an even number; set batch_size or replicas"
            )
        return self

    def settings(self, model: str) -> tuple[Precision, bool]:
        """Return the precision and the channels_last flag of one network."""
        own = self.per_model.get(model, ModelSettings())
        precision = self.precision if own.precision is None else own.precision
        channels_last = self.channels_last if own.channels_last is None else own.channels_last
        return precision, channels_last


# What most protocols on CIFAR and on ImageNet have in common.
_cifar = partial(Recipe, batch_size=128, lr=0.1, augmentation="crop_flip", channels_last=True)
_imagenet = partial(Recipe, batch_size=256, augmentation="imagenet", eval_batch=250, threads=8)

RECIPES: dict[str, Recipe] = {
    # CRD's CIFAR-100 protocol, which most CIFAR-100 tables share.
    "crd_240": _cifar(
        epochs=240,
        batch_size=64,
        lr=0.05,
        schedule=Milestones(milestones=(150, 180, 210)),
    ),
    # The thesis' tables 3 to 8; it states no batch size, 128 is assumed.
    "thesis_200": _cifar(
        epochs=200,
        schedule=Milestones(milestones=(60, 120, 160), gamma=0.2),
    ),
    # The thesis' table 2: ResNet-152/50 on CIFAR-10 upscaled inside the network.
    "thesis_plateau": _cifar(
        epochs=20,
        schedule=Plateau(kind="plateau"),
        input_size=224,
        holdout=5000,
    ),
    # mdistiller's and torchvision's ImageNet protocol.
    "imagenet_100": _imagenet(
        epochs=100,
        lr=0.1,
        weight_decay=1e-4,
        schedule=Milestones(milestones=(30, 60, 90)),
        channels_last=True,
    ),
    # The protocol of the online tables (ONE, OKDDip, PCL and those after them).
    "online_300": _cifar(
        epochs=300,
        nesterov=True,
        schedule=Milestones(milestones=(150, 225)),
    ),
    # The protocol of Self-KD-Lib, whose table has most of the self-distillation methods.
    "self_200": _cifar(
        epochs=200,
        schedule=Milestones(milestones=(100, 150), warmup_epochs=5),
    ),
    # Deep mutual learning's own; it states no weight decay, 5e-4 is a re-implementation's.
    "dml_200": _cifar(
        epochs=200,
        batch_size=64,
        nesterov=True,
        schedule=Milestones(milestones=(60, 120, 180)),
    ),
    # Snapshot distillation: a cosine a cycle, the rate set before every step.
    "snapshot_200": _cifar(
        epochs=200,
        nesterov=True,
        weight_decay=1e-4,
        schedule=Cosine(kind="cosine", per="iteration", cycles=4),
    ),
    # Zero-shot transfer: 80,000 batches of noise, which an epoch of 1,000 counts.
    "zskt_80": _cifar(
        epochs=80,
        lr=2e-3,
        optimizer="adam",
        weight_decay=0.0,
        clip_norm=5.0,
        schedule=Cosine(kind="cosine", per="iteration"),
        steps_per_epoch=1000,
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

    ``from`` among them is a named recipe that takes the place of ``recipe``. Raises UserError for
    an unknown field or name, or a wrong value.
    """
    if "from" in fields:
        recipe = named_recipe(str(fields["from"]), where)
    changes = {name: value for name, value in fields.items() if name != "from"}
    if not changes:
        return recipe
    data = recipe.model_dump()
    for name, value in changes.items():
        _replace(data, name.split("."), value, where)
    return validate(Recipe, data, where or "recipe")


_OPTIONAL = ("average", "mix", "lamb")  # sections that may be opened by one of their fields


def _replace(data: dict[str, Any], path: list[str], value: Any, where: str) -> None:
    head, *rest = path
    if rest:
        if head in _OPTIONAL and data.get(head) is None:
            data[head] = {}
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


for _name, _changes in IMAGENET_RECIPES.items():
    RECIPES[_name] = override(RECIPES["imagenet_100"], _changes, f"recipe {_name}")
