"""Networks of timm as :class:`Model`: features, one linear head, timm's own state_dict keys.

Three kinds, since timm's networks share no features of the form that distillation needs:

- its ResNets (ResNeXt, SE and the like): stem and four stages with pre-activations;
- its plain vision transformers (ViT, DeiT): tokens [B, N, C] after the embedding and after each
  quarter of the blocks, class and distillation tokens included;
- any other network with ``forward_intermediates`` (RegNet, EfficientNet, ConvNeXt, Swin ...):
  the maps that timm lists, which start with the stem in most families but not in all, and no
  pre-activations (``preacts`` are the stages).
"""

from __future__ import annotations

import copy
from collections.abc import MutableMapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.base.errors import UserError
from benchmark.base.torchvision_shim import make_torchvision_importable
from benchmark.models.features import Features, Model
from benchmark.models.layers import batch_norms, mean_head, sum_of
from benchmark.models.timm_check import check_logits

# Families whose head is the mean over the last map and a linear layer, nothing between.
_MEAN_HEADS = ("RegNet", "EfficientNet", "ResNetV2")
# Whose logits were found to be timm's in this process.
_checked: set[str] = set()


def build(
    name: str, num_classes: int, drop_path: float = 0.0, image_size: int | None = None
) -> Model:
    """Build timm's network ``name`` without downloaded weights.

    ``image_size`` is for networks with one input size (vision transformers). Raises UserError
    if it has no linear head or lists no intermediate maps, no stochastic depth if that is
    asked for, or cannot see images of that size, or if the logits from the maps are not
    timm's own (tried once a process, on a copy).
    """
    make_torchvision_importable()
    network = _create(name, num_classes, drop_path, image_size)
    copied = None if name in _checked else copy.deepcopy(network)
    model = _wrapped(name, network)
    if copied is not None:
        check_logits(name, copied, partial(_wrapped, name))
        _checked.add(name)
    return model


def _create(name: str, num_classes: int, drop_path: float, image_size: int | None) -> nn.Module:
    import timm

    settings: dict[str, Any] = {"drop_path_rate": drop_path} if drop_path else {}
    published = timm.get_pretrained_cfg(name)
    own = published.input_size[-1] if published is not None and published.fixed_input_size else None
    if own is not None and image_size not in (None, own):
        settings["img_size"] = image_size
    try:
        return timm.create_model(name, pretrained=False, num_classes=num_classes, **settings)
    except (TypeError, AssertionError, ValueError) as error:
        if not settings:
            raise
        asked = " and ".join(f"{key} {value}" for key, value in settings.items())
        raise UserError(
            f"model 'timm:{name}' cannot be built with {asked}"
            f" ({' '.join(str(error).split())[:120]})"
        ) from error


def _wrapped(name: str, network: nn.Module) -> Model:
    from timm.models.resnet import BasicBlock, Bottleneck, ResNet
    from timm.models.vision_transformer import VisionTransformer

    if isinstance(network, ResNet):
        last = list(network.get_submodule("layer4"))[-1]  # type: ignore[call-overload]
        # Some have blocks of their own, which end otherwise.
        if type(last) in (BasicBlock, Bottleneck):
            return TimmResNet(name, network)
    if isinstance(network, VisionTransformer):
        return TimmTransformer(name, network)
    return TimmModel(name, network)


class TimmModel(Model):
    """Any network of timm; state_dict keys are those of the network itself.

    A head that is a 1x1 convolution on the pooled map (BiT's) becomes the linear layer that it
    is; its weights keep their name, and timm's own files load.
    """

    def __init__(self, name: str, network: nn.Module) -> None:
        super().__init__()
        self.name = name
        # timm's networks are typed nn.Module alone, their methods are not in it.
        self.network: Any = network
        self.register_state_dict_post_hook(_hide_network)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_restore_network)  # type: ignore[no-untyped-call]
        if not hasattr(network, "forward_intermediates"):
            raise UserError(f"model 'timm:{name}' has no forward_intermediates, so no features")
        self._check_head()

    def _check_head(self) -> None:
        if isinstance(self.network.get_classifier(), nn.Conv2d):
            _make_linear(self.network)
        if not isinstance(self.network.get_classifier(), nn.Linear):
            raise UserError(f"model 'timm:{self.name}' does not end in one linear layer")

    def features(self, images: Tensor) -> Features:
        """Run the network on [B, 3, H, W]."""
        last, stages = self.network.forward_intermediates(images)
        pooled = self.network.forward_head(last, pre_logits=True)
        mean_head = type(self.network).__name__ in _MEAN_HEADS
        return Features(
            logits=self.head(pooled),
            pooled=pooled,
            stages=tuple(stages),
            preacts=tuple(stages),
            last_map=last if mean_head else None,
        )

    @property
    def head(self) -> nn.Linear:
        """The classifier."""
        linear: nn.Linear = self.network.get_classifier()
        return linear

    def no_weight_decay(self) -> frozenset[str]:
        """Return what timm's network lists: tokens, position embeddings."""
        listed: set[str] = getattr(self.network, "no_weight_decay", set)()
        return frozenset(f"{_PREFIX}{name}" for name in listed)

    def batch_norms_before_relu(self) -> tuple[nn.BatchNorm2d, ...]:
        """Raise UserError: which of timm's layers end before a ReLU is known for ResNets only."""
        raise UserError(
            f"model 'timm:{self.name}' does not say which batch norms end before its ReLUs; "
            "methods that read them need a CIFAR, torchvision or timm ResNet"
        )


class TimmResNet(TimmModel):
    """timm's ResNets. The last activation of each stage is taken out of its last block.

    The block then ends before it and the activation is applied here, out of place, which gives
    both sides from one run. Activations hold no weights, so the keys stay timm's.
    """

    def __init__(self, name: str, network: nn.Module) -> None:
        super().__init__(name, network)
        self.activations = nn.ModuleList()
        for layer in self._layers():
            last = layer[-1]
            attribute = "act3" if hasattr(last, "act3") else "act2"
            activation = getattr(last, attribute)
            activation.inplace = False
            self.activations.append(activation)
            setattr(last, attribute, nn.Identity())

    def _layers(self) -> tuple[Any, ...]:
        net = self.network
        return (net.layer1, net.layer2, net.layer3, net.layer4)

    def features(self, images: Tensor) -> Features:
        """Run the network on [B, 3, H, W]; the stem's map stands in preacts[0] as it is."""
        net = self.network
        stem = net.act1(net.bn1(net.conv1(images)))
        stages, preacts = [stem], [stem]
        x = net.maxpool(stem)
        for layer, activation in zip(self._layers(), self.activations, strict=True):
            before = layer(x)
            x = activation(before)
            stages.append(x)
            preacts.append(before)
        pooled = net.forward_head(x, pre_logits=True)
        last_map = x if net.global_pool.pool_type == "avg" else None
        return Features(self.head(pooled), pooled, tuple(stages), tuple(preacts), last_map)

    def batch_norms_before_relu(self) -> tuple[nn.BatchNorm2d, ...]:
        """Return the last batch norm of stages 2 to 4, as for torchvision's ResNets."""
        blocks = (layer[-1] for layer in self._layers()[1:])
        return batch_norms(*(getattr(b, "bn3", None) or b.bn2 for b in blocks))


class TimmTransformer(TimmModel):
    """timm's plain vision transformers, with DeiT's distilled form.

    The distilled form has two heads, one a token, and its logits are their mean in train and in
    eval mode, as timm's are until its ``set_distilled_training``; each head's own are
    ``Features.heads``. ``pooled`` is then [class token, distillation token] and ``head`` a
    detached copy of the two heads as one layer, equal in value; the heads themselves get their
    gradients through the logits.
    """

    def _check_head(self) -> None:
        if len(self.heads) == 1:
            super()._check_head()

    @property
    def heads(self) -> tuple[nn.Linear, ...]:
        """The classifiers, each of which reads one token: the first, the second, ..."""
        net = self.network  # whose classifier is a pair if it has two heads
        return (net.head, net.head_dist) if hasattr(net, "head_dist") else (super().head,)

    def tokens(self, images: Tensor) -> Tensor:
        """Return what the blocks are given [B, N, C]: all tokens with their positions."""
        net = self.network
        found: Tensor = net.norm_pre(net.patch_drop(net._pos_embed(net.patch_embed(images))))
        return found

    def features(self, images: Tensor) -> Features:
        """Run the network on [B, 3, H, W]; five stages of tokens [B, N, C]."""
        net = self.network
        x = self.tokens(images)
        stages = [x]
        depth = len(net.blocks)
        ends = {(quarter * depth + 3) // 4 for quarter in range(1, 5)}
        for done, block in enumerate(net.blocks, start=1):
            x = block(x)
            if done in ends:
                stages.append(x)
        tokens, count = net.norm(x), len(self.heads)
        maps = tuple(stages), tuple(stages), None
        if count == 1:
            pooled = net.forward_head(tokens, pre_logits=True)
            return Features(net.head(pooled), pooled, *maps, patches=self._patches(tokens))
        read = net.head_drop(tokens[:, :count]).unbind(1)
        each = tuple(head(token) for head, token in zip(self.heads, read, strict=True))
        pooled = torch.cat(read, dim=1)
        return Features(sum_of(each) / count, pooled, *maps, each, self._patches(tokens))

    def _patches(self, tokens: Tensor) -> Tensor:
        return tokens[:, self.network.num_prefix_tokens :]

    @property
    def head(self) -> nn.Linear:
        """The classifier; a detached copy where it stands for two heads."""
        return super().head if len(self.heads) == 1 else mean_head(self.heads)


def _make_linear(network: Any) -> None:
    """Put a linear layer of the same weights in the place of a classifier that is a convolution.

    Nothing is changed if it is more than a product with the pooled vector.
    """
    conv: nn.Conv2d = network.get_classifier()
    if conv.kernel_size != (1, 1) or conv.groups != 1 or conv.bias is None:
        return
    # Born on the meta device: its own initialisation would draw from the global RNG.
    linear = nn.Linear(conv.in_channels, conv.out_channels, device="meta")
    linear.weight = nn.Parameter(conv.weight.detach().flatten(1))
    linear.bias = nn.Parameter(conv.bias.detach())
    for parent in network.modules():
        for name, child in parent.named_children():
            if child is conv:
                setattr(parent, name, linear)


_PREFIX = "network."


def _hide_network(
    module: nn.Module, state: MutableMapping[str, Any], prefix: str, metadata: Any
) -> None:
    """Give the state_dict timm's own keys, so that timm's files load and ours load in timm."""
    for key in [key for key in state if key.startswith(prefix + _PREFIX)]:
        state[prefix + key.removeprefix(prefix + _PREFIX)] = state.pop(key)


def _restore_network(
    module: nn.Module, state: MutableMapping[str, Any], prefix: str, *rest: Any
) -> None:
    for key in [key for key in state if key.startswith(prefix)]:
        state[prefix + _PREFIX + key.removeprefix(prefix)] = state.pop(key)
