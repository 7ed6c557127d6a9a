"""Are the logits of a network of timm, put together from its parts, those that it gives itself?

Families differ in what their ``forward`` does after the last map (a second head, a batch norm
before the linear layer), and a wrapper that leaves it out trains another network under the same
name. Fresh weights hide much of that: a batch norm starts as the identity, a head often at zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from benchmark.base.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmark.models.features import Model

# Three positions a side remain at stride 32, so that kinds of pooling can be told apart.
_SMALL = 96
# The same operations give the same numbers but for rounding; what is left out is worth 0.1.
_TOLERANCE = 1e-3


@torch.no_grad()
def check_logits(name: str, network: Any, wrapped: Callable[[nn.Module], Model]) -> None:
    """Raise UserError unless ``wrapped(network)`` gives the logits of ``network`` in eval mode.

    ``network`` is a copy to be spoilt: its weights and statistics are moved. The global RNG is
    left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        generator = torch.Generator().manual_seed(0)
        _move(network, generator)
        network.eval()
        images, own = _answer(network, generator)
        ours = wrapped(network).eval().features(images).logits
    if not isinstance(own, Tensor) or own.shape != ours.shape:
        raise UserError(
            f"model 'timm:{name}' answers with more than logits, which is not known here"
        )
    difference = ((ours - own).abs().max() / own.abs().max()).item()
    if not difference <= _TOLERANCE:
        raise UserError(
            f"model 'timm:{name}' does more to its logits than one linear layer (they would differ"
            f" by {difference:.2g} of the largest), so it has no features here"
        )


def _move(network: nn.Module, generator: torch.Generator) -> None:
    """Move every weight and every statistic of a batch norm away from what it starts at."""

    def noise(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator).to(like.dtype)

    for parameter in network.parameters():
        parameter.add_(noise(parameter), alpha=0.1 if parameter.dim() < 2 else 0.01)
    for key, buffer in network.named_buffers():
        if key.endswith("running_mean"):
            buffer.add_(noise(buffer), alpha=0.1)
        elif key.endswith("running_var"):
            buffer.mul_(noise(buffer).mul_(0.2).exp_())


def _answer(network: Any, generator: torch.Generator) -> tuple[Tensor, Any]:
    """Return a small image, or one of the network's own size, and what it says to it."""
    config = network.pretrained_cfg
    channels, height, width = config["input_size"]
    # Transformers know for which size they were built.
    own = getattr(getattr(network, "patch_embed", None), "img_size", None)
    sizes = [own or (height, width)]
    if not config.get("fixed_input_size") and min(height, width) > _SMALL:
        sizes.insert(0, (_SMALL, _SMALL))
    for size in sizes:
        images = torch.randn(1, channels, *size, generator=generator)
        try:
            return images, network(images)
        except (RuntimeError, AssertionError, ValueError):
            if size == sizes[-1]:
                raise
    raise AssertionError("there is a size")
