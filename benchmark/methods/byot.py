"""Be your own teacher: shallow classifiers on the stages learn from the deepest one.

Zhang et al. 2019, "Be Your Own Teacher" (arXiv:1905.08094), equations 2 to 6: after every stage but
the last a bottleneck branch to the deepest feature size and a classifier of its own, which vanish
after training; each shallow classifier learns labels, the deepest's softened answers, and its
features. No term grows over the epochs. The reported network is the deepest classifier; the shallow
ones and the mean of all logits stand beside it.

The default: (1 - alpha) CE + alpha T^2 KL + lambda times the squared feature distance, a mean over
samples and features, with alpha 0.3, T 3, lambda 0.03; the deepest's CE has weight 1. Codes and
prints differ, so ``form`` has the others:

- printed: the deepest's CE weighs 1 - alpha, too; squared distances summed over features.
- reimplementation (luanyunteng/pytorch-be-your-own-teacher@8045079): soft cross-entropy for KL (the
  same gradient), 0.9 on every CE, 0.1 on it, and 1e-6 times the squared differences if either
  feature is positive, SUMMED over the batch.
- journal (ArchipLab-LinfengZhang/pytorch-self-distillation-final@47ca93b): soft cross-entropy
  without T^2; 0.03 times the L2 norm over the whole batch (a root, so the batch size is a part of
  its weight) behind linear adapters, not for the classifier next to the deepest.
- collection (winycg/Self-KD-Lib, at temperature 4): every CE weighs 1, T^2 KL weighs 1, and 0.05
  the mean squared difference of MAPS, before they are pooled; branches after the last two stages
  but the very last alone, which there are residual blocks, one for each stage that follows.

Branches are those of the re-implementation: 1x1, k x k with stride k, 1x1 to the deepest's
channels, of a quarter of its width inside.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import Field
from torch import Tensor, nn

from benchmark.base.errors import UserError
from benchmark.methods import _byot_losses as losses
from benchmark.methods._maps import need_maps
from benchmark.methods._online import mean_logits
from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.options import MethodOptions, numbered
from benchmark.models.features import Features
from benchmark.models.layers import global_average


class Shallow(NamedTuple):
    """A shallow classifier's logits [B, K], features [B, D], and the map [B, D, h, w] of these."""

    logits: Tensor
    pooled: Tensor
    map: Tensor


class Branch(nn.Module):
    """A bottleneck from a stage's map to the deepest feature, and a classifier."""

    def __init__(self, channels: int, width: int, shrink: int, num_classes: int) -> None:
        super().__init__()
        middle = max(width // 4, 1)
        layers: list[nn.Module] = []
        for given, out, kernel in (
            (channels, middle, 1),
            (middle, middle, shrink),
            (middle, width, 1),
        ):
            layers += [nn.Conv2d(given, out, kernel, stride=kernel), nn.BatchNorm2d(out), nn.ReLU()]
        self.bottleneck = nn.Sequential(*layers)
        self.fc = nn.Linear(width, num_classes)

    def forward(self, map_: Tensor) -> Shallow:
        """Return what the classifier says of a map [B, C, H, W]."""
        own = self.bottleneck(map_)
        pooled = global_average(own)
        return Shallow(self.fc(pooled), pooled, own)


class Options(MethodOptions):
    """Weights; null takes those of the form."""

    form: Literal["default", "printed", "reimplementation", "journal", "collection"] = Field(
        "default", description="whose loss"
    )
    alpha: float | None = Field(None, ge=0, le=1, description="weight of the deepest's answers")
    temperature: float = Field(3.0, gt=0, description="divides all logits")
    feature_weight: float | None = Field(None, ge=0, description="weight of the feature distance")

    @property
    def mixed(self) -> float:
        """The weight of the deepest's answers."""
        given = {"reimplementation": 0.1, "collection": 1.0}.get(self.form, 0.3)
        return given if self.alpha is None else self.alpha

    @property
    def hinted(self) -> float:
        """The weight of the feature distance."""
        given = {"reimplementation": 1e-6, "collection": 0.05}.get(self.form, 0.03)
        return given if self.feature_weight is None else self.feature_weight

    @property
    def shallow_weight(self) -> float:
        """The weight of a shallow classifier's labels."""
        return 1.0 if self.form == "collection" else 1.0 - self.mixed

    @property
    def ce_weight(self) -> float:
        """Weight of the deepest classifier's labels."""
        return 1.0 - self.mixed if self.form in ("printed", "reimplementation") else 1.0

    def first(self, num_stages: int) -> int:
        """Return the stage that the first shallow classifier stands on."""
        return max(num_stages - 2, 1) if self.form == "collection" else 1

    def of_stages(self, num_stages: int) -> tuple[str, ...]:
        """Return the shallow classifiers, one after every stage from the first but the last."""
        return numbered("c", 1, num_stages - self.first(num_stages))


class BYOT(Method[Options]):
    """A classifier after every stage but the last, taught by the network's own."""

    needs_teacher = False
    evaluates: tuple[str, ...] = ("ensemble",)  # after the classifiers of its stages

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        need_maps("byot", setup.student)
        maps, width = setup.student.features, setup.student.features.pooled.shape[1]
        stages = maps.stages[1:]
        deepest = stages[-1].shape[2]
        self._first = options.first(len(stages))
        self.branches = nn.ModuleList(
            Branch(s.shape[1], width, max(s.shape[2] // deepest, 1), setup.num_classes)
            for s in stages[self._first - 1 : -1]
        )
        count = len(self.branches) - 1 if options.form == "journal" else 0
        self.adapters = nn.ModuleList(nn.Linear(width, width) for _ in range(count))
        self.evaluates = (*options.of_stages(len(stages)), "ensemble")
        last = maps.last_map
        if options.form == "collection" and (last is None or last.shape[2] != deepest):
            raise UserError(
                f"byot compares maps in the form 'collection', and {setup.student.name}'s last one"
                " is not of its last stage's size; choose another byot.form"
            )

    def _shallow(self, student: Features) -> list[Shallow]:
        maps = student.stages[self._first : -1]
        return [branch(map_) for branch, map_ in zip(self.branches, maps, strict=True)]

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return the shallow classifiers' labels, answers and features."""
        options, student = self.options, step.student
        seen = self._shallow(student)
        logits, deepest = [s.logits for s in seen], student.logits
        if options.form in ("default", "printed", "collection"):
            answers = losses.divergences(logits, deepest, options.temperature)
        else:
            squared = options.form == "reimplementation"
            answers = losses.soft_label_loss(logits, deepest, options.temperature, squared=squared)
        terms = {
            "labels": options.shallow_weight * losses.labels_loss(logits, step.labels),
            "answers": options.mixed * answers,
        }
        features, target = [s.pooled for s in seen], student.pooled
        if options.form == "collection":
            assert student.last_map is not None, "refused before"
            features, target = [s.map for s in seen], student.last_map
        if options.form == "journal":
            features = [a(f) for a, f in zip(self.adapters, features, strict=False)]
        distance = {
            "default": losses.mean_squared_features,
            "printed": losses.squared_features,
            "reimplementation": losses.positive_features,
            "journal": losses.root_features,
            "collection": losses.mean_squared_features,
        }[options.form]
        if features:
            terms["features"] = options.hinted * distance(features, target)
        return terms

    def outputs(self, images: Tensor, student: Features) -> dict[str, Tensor]:
        """Return the shallow classifiers' logits, and the mean of all."""
        found = {f"c{i}": shallow.logits for i, shallow in enumerate(self._shallow(student), 1)}
        return found | {"ensemble": mean_logits([*found.values(), student.logits])}
