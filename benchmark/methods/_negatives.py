"""Negatives for contrastive methods: samples of other classes, as a pure function of the sample.

The negatives of a sample are the first K elements of a random permutation of all samples of
other classes, which is sampling without replacement. The permutation is not stored but computed:
rounds of an affine map modulo 2^n and a xor-shift, both one-to-one on n bits, with multipliers and
offsets drawn from (seed, epoch, index); what falls outside the M others is permuted again until
it falls inside (cycle walking), so the result is one-to-one on M. The table of 50,000 x 16,384
indices that a list of negatives per sample would be never exists, and nothing depends on the
batch, the device, the pack or a resume. Inclusion counts, pairs, overlaps of rows and class
counts are those of independent uniform draws as far as tests of 2,560 rows can tell, from four
rounds on; five are used.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmark.base.errors import UserError
from benchmark.data.rng import draws_tensor, stream_key

ROUNDS = 5


def permute(x: Tensor, keys: Tensor, num_bits: int) -> Tensor:
    """Permute values of ``num_bits`` bits in place; returns ``x``.

    x [B, K] with keys [B, ROUNDS, 2], or x [L] with keys [L, ROUNDS, 2]: an odd multiplier and
    an offset for each round, of ``num_bits`` bits, in the integer type of ``x``.
    """
    mask, shift = (1 << num_bits) - 1, (num_bits + 1) // 2
    spread = keys[:, :, :, None] if x.dim() == 2 else keys
    shifted = torch.empty_like(x)
    for r in range(keys.shape[1]):
        x.mul_(spread[:, r, 0]).add_(spread[:, r, 1]).bitwise_and_(mask)
        torch.bitwise_right_shift(x, shift, out=shifted)
        x.bitwise_xor_(shifted)
    return x


def permutation_heads(keys: Tensor, sizes: Tensor, length: int, num_bits: int) -> Tensor:
    """Return the first ``length`` elements of one permutation of range(size) per row [B, length].

    keys [B, ROUNDS, 2] as in :func:`permute`; sizes [B], at least ``length`` and at most
    2^num_bits, of the keys' integer type, which is the result's too.
    """
    limits = sizes[:, None]
    x = torch.arange(length, dtype=keys.dtype, device=keys.device)
    x = permute(x.expand(len(keys), length).contiguous(), keys, num_bits)
    # One walk of everything costs less than picking out what is outside, up to half of it;
    # what remains is little.
    again = permute(x.clone(), keys, num_bits)
    x = torch.where(x < limits, x, again)
    outside = (x >= limits).view(-1).nonzero()[:, 0]
    rows = outside // length
    values, keys, sizes = x.view(-1)[outside], keys[rows], sizes[rows]
    while len(outside):
        x.view(-1)[outside] = permute(values, keys, num_bits)
        still = values >= sizes
        outside, values, keys, sizes = outside[still], values[still], keys[still], sizes[still]
    return x


class Negatives(nn.Module):
    """Draws ``number`` samples of other classes for each sample of a training set.

    labels [N] int64. If some class has too few others (``number`` or fewer), draws are with
    replacement for every class: uniform, and independent. Holds no state that a checkpoint
    would need. Raises UserError where all samples have one class.
    """

    labels: Tensor
    by_class: Tensor
    sizes: Tensor
    starts: Tensor

    def __init__(self, labels: Tensor, number: int, seed: int) -> None:
        super().__init__()
        sizes = torch.bincount(labels)
        if int((sizes > 0).sum()) < 2:
            raise UserError("crd needs training samples of at least two classes")
        present = sizes[sizes > 0]
        self.number, self.seed = number, seed
        self.replacement = len(labels) - int(present.max()) <= number
        # Values stay below 2^num_bits and multipliers too: int32 if no product overflows it.
        self.num_bits = max(2, (len(labels) - int(present.min()) - 1).bit_length())
        self.dtype = torch.int32 if 2 * self.num_bits <= 32 else torch.int64
        tables = {
            "labels": labels,
            "by_class": labels.argsort(stable=True),
            "sizes": sizes,
            "starts": sizes.cumsum(0) - sizes,
        }
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)

    def forward(self, epoch: int, indices: Tensor) -> Tensor:
        """Return [B, 1 + number] positions: the sample itself, then its negatives."""
        own = self.labels[indices]
        others = len(self.labels) - self.sizes[own]  # [B]
        draw = self._with_replacement if self.replacement else self._without_replacement
        # One more than needed is drawn: its place is the sample's own.
        ranks = draw(epoch, indices, others, self.number + 1)
        # Samples ordered by class leave the own class as one block to step over.
        start, size = self.starts[own][:, None], self.sizes[own][:, None]
        ranks += (ranks >= start.to(ranks.dtype)) * size.to(ranks.dtype)
        chosen = self.by_class.index_select(0, ranks.view(-1)).view_as(ranks)
        chosen[:, 0] = indices
        return chosen

    def _without_replacement(
        self, epoch: int, indices: Tensor, others: Tensor, length: int
    ) -> Tensor:
        rounds = torch.arange(ROUNDS, device=indices.device)
        counters = indices[:, None] * ROUNDS + rounds
        bits = draws_tensor(stream_key(self.seed, epoch, "negatives"), counters)
        mask = (1 << self.num_bits) - 1
        keys = torch.stack([bits & mask | 1, bits >> 32 & mask], dim=2).to(self.dtype)
        return permutation_heads(keys, others.to(self.dtype), length, self.num_bits)

    def _with_replacement(self, epoch: int, indices: Tensor, others: Tensor, length: int) -> Tensor:
        places = torch.arange(length, device=indices.device)
        counters = indices[:, None] * length + places
        bits = draws_tensor(stream_key(self.seed, epoch, "negatives"), counters)
        return (bits >> 32 & 0xFFFFFFFF) * others[:, None] >> 32
