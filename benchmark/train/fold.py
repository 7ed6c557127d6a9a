"""Fold a frozen network's batch norms into the convolutions before them.

In eval mode a batch norm is a scale and a shift for each channel, which the weights of a
convolution can take over: the same function, up to the last digits, and a pass over memory less.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from benchmark.models.features import Model

ConvAndNorm = tuple[nn.Conv2d, nn.BatchNorm2d]
# Of the largest value: float32 moves by a millionth, TF32 by a thousandth, a mistake by far more.
TOLERANCE = 1e-2


def folded(model: Model, images: Tensor) -> Model:
    """Return a copy of ``model``, which is in eval mode, without the batch norms that can go.

    A trial pass over ``images`` [B, C, H, W] finds them; nothing is known of the network. Where
    none can, or the copy computes anything else after all, the network itself is returned.
    """
    result = copy.deepcopy(model)
    pairs = list(foldable(result, images))
    if not pairs:
        return model
    for conv, norm in pairs:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        conv.weight, conv.bias = fuse_conv_bn_weights(
            *(conv.weight, conv.bias, norm.running_mean, norm.running_var),
            *(norm.eps, norm.weight, norm.bias),
        )
    gone = {norm for _, norm in pairs}
    for module in list(result.modules()):
        for name, child in module._modules.items():  # every name of a module that has several
            if child in gone:
                module._modules[name] = nn.Identity()
    result.requires_grad_(False)
    return result if _alike(model, result, images) else model


def _alike(model: Model, other: Model, images: Tensor) -> bool:
    """Tell whether two networks compute the same features, up to what folding moves."""
    with torch.no_grad():
        pairs = zip(model.features(images), other.features(images), strict=True)
        leaves = [zip(tree_leaves(a), tree_leaves(b), strict=True) for a, b in pairs]
    return all(
        bool((a - b).abs().max() <= TOLERANCE * a.abs().max())
        for pair in leaves
        for a, b in pair
        if isinstance(a, Tensor)
    )


def foldable(model: Model, images: Tensor) -> Iterator[ConvAndNorm]:
    """Yield batch norms that are all that sees a convolution's output, if both run once."""
    convs, norms = {}, {}
    for module in model.modules():
        # Not what derives from them, nor what hooks look at: more happens there than seen here.
        if module._forward_hooks or module._forward_pre_hooks or module.training:
            continue
        if type(module) is nn.Conv2d:
            convs[id(module.weight)] = module
        elif type(module) is nn.BatchNorm2d:
            norms[id(module.running_mean)] = module
    with _Uses() as uses, torch.no_grad():
        shown = {id(tensor) for tensor in tree_leaves(tuple(model.features(images)))}
    for made, weight in uses.convolved.items():
        readers = uses.of[made]
        if len(readers) != 1 or made in shown or readers[0] not in uses.normed:
            continue
        mean = uses.normed[readers[0]]
        if weight in convs and mean in norms and len(uses.of[weight]) == len(uses.of[mean]) == 1:
            yield convs[weight], norms[mean]


class _Uses(TorchFunctionMode):
    """Notes, by the ids of tensors, which calls see them; keeps all alive, so that ids stay."""

    def __init__(self) -> None:
        super().__init__()
        self.of: defaultdict[int, list[int]] = defaultdict(list)  # tensor: calls
        self.convolved: dict[int, int] = {}  # the output of a convolution: its weight
        self.normed: dict[int, int] = {}  # a call of batch norm: its running mean
        self._alive: list[Any] = []

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        found = function(*args, **(kwargs or {}))
        call = len(self._alive)
        self._alive.append((args, kwargs, found))
        if not isinstance(found, Tensor | tuple | list):
            return found  # a shape, a dtype: nothing is computed from the values
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, Tensor):
                self.of[id(tensor)].append(call)
        given = kwargs or {}
        if function in (torch.conv2d, nn.functional.conv2d):
            self.convolved[id(found)] = id(args[1] if len(args) > 1 else given.get("weight"))
        elif function in (torch.batch_norm, nn.functional.batch_norm):
            self.normed[call] = id(args[1] if len(args) > 1 else given.get("running_mean"))
        return found
