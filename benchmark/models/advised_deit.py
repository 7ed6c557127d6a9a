"""DeiTs with convolutional stems and tokens made of them: co-advising's, and the projector's.

Both are DeiT (timm's blocks, heads and initialisation) with another embedding. A convolutional
stem gives 64 channels at half the size, an 8x8 convolution at stride 8 the tokens; further tokens
are means of patch tokens and no parameters; each of the first tokens has a head, and predictions
are the mean of all heads.

* Co-advising: Ren et al. 2022, "Co-advise: Cross Inductive Bias Distillation" (arXiv:2106.12378),
  as OliverRensu/co-advise@8049918, models.py: two stems, of convolutions and of an involution,
  whose tokens are added; [class, mean of the first stem's, mean of the second's, sums].
* The projector paper: Miles and Mikolajczyk 2024 (arXiv:2303.11098), as
  roymiles/Simple-Recipe-Distillation@31e8477, deit/models.py: the convolutional stem alone;
  [class, mean of the stem's tokens, the stem's tokens].

Keys are the released ones. Not taken over: the projector's code keeps its loss, of the width of
the tiny network alone, inside the network (here it is the method's), and neither it nor
co-advising's hands the drop path of its configuration to the network (here the recipe does).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmark.base.errors import UserError
from benchmark.base.torchvision_shim import make_torchvision_importable
from benchmark.models import model
from benchmark.models.rednet import rednet_stem
from benchmark.models.timm_networks import TimmTransformer

_PATCH = 16
_SIZES = {"tiny": (192, 3), "small": (384, 6)}  # width and attention heads


class ConvTokens(nn.Module):
    """Convolutions 7x7 at stride 2, 3x3 and 3x3, then 8x8 at stride 8: [B, N, D]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for inputs, kernel, stride in ((3, 7, 2), (64, 3, 1), (64, 3, 1)):
            conv = nn.Conv2d(inputs, 64, kernel, stride, kernel // 2, bias=False)
            parts += [conv, nn.BatchNorm2d(64), nn.ReLU()]
        self.conv = nn.Sequential(*parts)
        self.proj = nn.Conv2d(64, width, 8, 8)

    def forward(self, images: Tensor) -> Tensor:
        """Return the tokens of the images [B, 3, H, W]."""
        return _as_tokens(self.proj(self.conv(images)))


class InvolutionTokens(nn.Module):
    """RedNet's stem, then 8x8 at stride 8: [B, N, D]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = rednet_stem()
        self.proj = nn.Conv2d(64, width, 8, 8)

    def forward(self, images: Tensor) -> Tensor:
        """Return the tokens of the images [B, 3, H, W]."""
        return _as_tokens(self.proj(self.stem(images)))


def _as_tokens(maps: Tensor) -> Tensor:
    return maps.flatten(2).transpose(1, 2)


class AdvisedTransformer(TimmTransformer):
    """A DeiT whose further tokens come from its stems, one or two, each with a head."""

    def __init__(
        self, size: str, stems: int, num_classes: int, drop_path: float, image_size: int | None
    ) -> None:
        side = image_size or 224
        if side % _PATCH:
            raise UserError(f"the network cuts images into {_PATCH} x {_PATCH} pixels, not {side}")
        super().__init__(size, _network(size, stems, num_classes, drop_path, side))
        self.side = side

    @property
    def heads(self) -> tuple[nn.Linear, ...]:
        """The classifiers of the class token and of each stem's mean token."""
        own = (getattr(self.network, name, None) for name in ("head", "head_conv", "head_inv"))
        return tuple(head for head in own if head is not None)

    def tokens(self, images: Tensor) -> Tensor:
        """Return the class token, the stems' means and the sums of their tokens."""
        if images.shape[-1] != self.side or images.shape[-2] != self.side:
            raise UserError(
                f"the network was built for images of {self.side} pixels, not"
                f" {images.shape[-2]} x {images.shape[-1]}"
            )
        net = self.network
        stems = [net.conv_embed(images)]
        if len(self.heads) == 3:
            stems.append(net.inv_embed(images))
        first = net.cls_token.expand(len(images), -1, -1)
        means = [tokens.mean(1, keepdim=True) for tokens in stems]
        patches = stems[0] if len(stems) == 1 else stems[0] + stems[1]
        found: Tensor = torch.cat([first, *means, patches], dim=1) + net.pos_embed
        return found


def _network(size: str, stems: int, num_classes: int, drop_path: float, side: int) -> nn.Module:
    make_torchvision_importable()
    from timm.layers.weight_init import trunc_normal_
    from timm.models.vision_transformer import VisionTransformer

    width, heads = _SIZES[size]
    network = VisionTransformer(
        img_size=side,
        patch_size=_PATCH,
        embed_dim=width,
        depth=12,
        num_heads=heads,
        num_classes=num_classes,
        drop_path_rate=drop_path,
    )
    del network.patch_embed
    network.num_prefix_tokens = 1 + stems
    length = network.num_prefix_tokens + (side // _PATCH) ** 2
    network.pos_embed = nn.Parameter(torch.zeros(1, length, width))
    trunc_normal_(network.pos_embed, std=0.02)
    for name, tokens in (("conv", ConvTokens), ("inv", InvolutionTokens))[:stems]:
        embed = tokens(width)
        network.add_module(f"{name}_embed", embed)
        for module in embed.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
    for name in ("conv", "inv")[:stems]:
        head = nn.Linear(width, num_classes)
        trunc_normal_(head.weight, std=0.02)
        nn.init.zeros_(head.bias)
        network.add_module(f"head_{name}", head)
    return network


@model(stages=0)
def projector_deit_tiny(
    num_classes: int, drop_path: float = 0.0, image_size: int | None = None
) -> AdvisedTransformer:
    """The projector paper's tiny student."""
    return AdvisedTransformer("tiny", 1, num_classes, drop_path, image_size)


@model(stages=0)
def projector_deit_small(
    num_classes: int, drop_path: float = 0.0, image_size: int | None = None
) -> AdvisedTransformer:
    """The projector paper's small student."""
    return AdvisedTransformer("small", 1, num_classes, drop_path, image_size)


@model(stages=0)
def civt_tiny(
    num_classes: int, drop_path: float = 0.0, image_size: int | None = None
) -> AdvisedTransformer:
    """Co-advising's tiny student."""
    return AdvisedTransformer("tiny", 2, num_classes, drop_path, image_size)


@model(stages=0)
def civt_small(
    num_classes: int, drop_path: float = 0.0, image_size: int | None = None
) -> AdvisedTransformer:
    """Co-advising's small student."""
    return AdvisedTransformer("small", 2, num_classes, drop_path, image_size)
