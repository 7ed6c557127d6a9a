"""A network together with the precision and memory format that its recipe fixes."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.models.features import Features, Model
from benchmark.models.parts import Tail
from benchmark.table.recipe import Recipe
from benchmark.train.fold import folded

Affine = tuple[tuple[float, ...], tuple[float, ...]]
Form = tuple[int | None, bool, bool]


class Network:
    """Runs a model as its recipe says: device, autocast, memory format.

    ``input_size`` is the side of the images that it reads; None takes them as they come.
    ``renormalise``: factors and summands of the channels that turn the images' normalisation
    into its own.
    """

    def __init__(
        self,
        name: str,
        model: Model,
        recipe: Recipe,
        input_size: int | None = None,
        renormalise: Affine | None = None,
    ) -> None:
        self.name = name
        self.renormalise = renormalise
        self.input_size = input_size
        precision, self.channels_last = recipe.settings(name)
        self._autocast = precision == "bf16"
        # Networks of one form see images and a teacher's features in the same way.
        self.form: Form = (input_size, self.channels_last, self._autocast)
        self._device = recipe.device
        self._probes: dict[tuple[int, int, int], Features] = {}
        self.model = self.placed(model)
        self._passes = self.model

    def placed(self, model: Model) -> Model:
        """Bring a network to this one's device and memory format; returns the same object."""
        model.to(self._device)
        if self.channels_last:
            # mypy: torch's stub of Module.to leaves memory_format out.
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model

    def run(self, model: Model, images: Tensor) -> Features:
        """Return another network's features as this one would be run: precision and layout.

        What follows a stage reads that stage's maps, which are no images and keep their size.
        """
        with self.autocast():
            if isinstance(model, Tail):
                return model.features(self._placed_in_memory(images))
            return model.features(self.layout(images))

    def fold(self, shape: tuple[int, int, int]) -> None:
        """Let a copy with folded batch norms compute the features of images of ``shape``.

        For frozen networks in eval mode; ``model`` stays as it is, to be read and copied.
        """
        images = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
        self._passes = folded(self.model, self.layout(images.to(self._device)))

    @property
    def folded(self) -> bool:
        """Whether a copy with folded batch norms computes the features."""
        return self._passes is not self.model

    @property
    def num_hooks(self) -> int:
        """How many hooks see the passes of ``model``, or would."""
        modules = self.model.modules()
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules)

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """Return the context in which this network and its losses are computed."""
        if not self._autocast:
            return contextlib.nullcontext()
        return torch.autocast(self._device, dtype=torch.bfloat16)

    def layout(self, images: Tensor) -> Tensor:
        """Return the images as this network reads them: at its size, in its memory format.

        The same tensor if they are so already.
        """
        images = resized(images, self.input_size)
        if self.renormalise is not None:
            factor, summand = (images.new_tensor(v)[:, None, None] for v in self.renormalise)
            images = images * factor + summand
        return self._placed_in_memory(images)

    def _placed_in_memory(self, images: Tensor) -> Tensor:
        wanted = torch.channels_last if self.channels_last else torch.contiguous_format
        return images.contiguous(memory_format=wanted)

    def reads(self, features: Features) -> Features:
        """Return another network's features as this one's losses take them.

        Autocast mixes precisions; outside it a teacher's bfloat16 is lifted to float32.
        """
        if self._autocast or features.logits.dtype != torch.bfloat16:
            return features
        return features.map(Tensor.float)

    def features(self, images: Tensor) -> Features:
        """Return the features of images [B, C, H, W]."""
        with self.autocast():
            return self._passes.features(self.layout(images))

    def probe(self, shape: tuple[int, int, int]) -> Features:
        """Return the features of two blank images [2, *shape] in eval mode, for their shapes.

        ``shape`` is that of the data's images, before the network reads them at its own size.

        Computed once, since every run of a pack asks the same teacher; the model stays as it was.
        """
        if shape not in self._probes:
            training = self.model.training
            self.model.eval()
            with torch.no_grad():
                self._probes[shape] = self.features(torch.zeros(2, *shape, device=self._device))
            self.model.train(training)
        return self._probes[shape]


def resized(images: Tensor, size: int | None) -> Tensor:
    """Return images [B, C, H, W] at a side of ``size`` pixels, by bilinear interpolation."""
    if size is None or images.shape[-1] == size:
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False)
