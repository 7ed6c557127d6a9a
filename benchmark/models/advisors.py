"""Two networks that teach as one: a convolutional one and an involution one (co-advising).

Ren et al. 2022, "Co-advise: Cross Inductive Bias Distillation" (arXiv:2106.12378). Each one's
logits are a head of the pair, which its students' heads are taught by; the pair's own prediction
is the mean of both.

If no file is registered for it the pair is trained as one network, on the cross-entropy of
that mean, which is not what was published: there each teacher was trained alone. A file holds
both networks, the first under ``conv.``, the second under ``inv.``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmark.models import build_model, model
from benchmark.models.features import Features, Model
from benchmark.models.layers import mean_head


class Advisors(Model):
    """Two networks side by side; maps are those of the first, the pooled vector has both."""

    def __init__(self, conv: Model, inv: Model) -> None:
        super().__init__()
        self.conv, self.inv = conv, inv

    def features(self, images: Tensor) -> Features:
        """Run both on [B, 3, H, W]; ``heads`` holds the logits of each."""
        first, second = self.conv.features(images), self.inv.features(images)
        return first._replace(
            logits=(first.logits + second.logits) / 2,
            pooled=torch.cat([first.pooled, second.pooled], dim=1),
            last_map=None,
            heads=(first.logits, second.logits),
        )

    @property
    def heads(self) -> tuple[nn.Linear, ...]:
        """The classifiers of both."""
        return self.conv.head, self.inv.head

    @property
    def head(self) -> nn.Linear:
        """A detached copy of both classifiers as one, equal in value."""
        return mean_head(self.heads)


@model(stages=0)
def regnety040_rednet101(num_classes: int) -> Advisors:
    """Co-advising's teachers as released: RegNetY-040 (timm's network) and RedNet-101."""
    return Advisors(
        build_model("timm:regnety_040", num_classes), build_model("rednet101", num_classes)
    )


@model(stages=0)
def resnet8_rednet26(num_classes: int) -> Advisors:
    """A small pair, for small images."""
    return Advisors(build_model("resnet8", num_classes), build_model("rednet26", num_classes))
