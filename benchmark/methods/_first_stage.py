"""What a first stage on features trains of the student."""

from __future__ import annotations

from torch import nn

from benchmark.models.features import Model


def body_parameters(student: Model) -> list[nn.Parameter]:
    """Return the student's parameters without the classifier's.

    Layers behind the last stage (the 1x1 convolution of MobileNetV2) get no gradient from a
    loss on stages and so stay as they are.
    """
    head = {id(parameter) for parameter in student.head.parameters()}
    return [parameter for parameter in student.parameters() if id(parameter) not in head]
