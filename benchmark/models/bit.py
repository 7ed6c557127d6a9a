"""Big Transfer's ResNets: pre-activation, group norm, standardised weights.

Kolesnikov et al. 2020, "Big Transfer (BiT): General Visual Representation Learning"
(arXiv:1912.11370). The networks are timm's (``timm:resnetv2_50x1_bit``), whose head, a 1x1
convolution, is the linear layer that it amounts to.
"""

from __future__ import annotations

from torch import nn

from benchmark.models import model
from benchmark.models.features import Model
from benchmark.models.timm_networks import build


@model(stages=0)
def bit_resnet50x1(num_classes: int) -> Model:
    """FunMatch's student, BiT's ResNet-50x1 with a head of zeros (big_vision, bit_paper.py).

    timm draws the head; its other weights are drawn as timm does. Images have values in [-1, 1].
    """
    network = build("resnetv2_50x1_bit", num_classes)
    nn.init.zeros_(network.head.weight)
    nn.init.zeros_(network.head.bias)
    return network
