"""Trained adapters that bring a student's feature map to the shape of the teacher's."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Size, Tensor, nn


class ConvReg(nn.Module):
    """One convolution from a student's map to the shape of the teacher's, batch norm, ReLU.

    ``student`` and ``teacher`` are shapes [B, C, H, W]. The convolution (with bias) follows
    the sizes, as in Tian et al. 2020 (CRD's FitNet and AB): half the height: 4x4 transposed,
    stride 2; double: 3x3, stride 2; equal or larger otherwise: unpadded, kernel 1 + the
    difference. Their code stops if the teacher's map is larger by another factor; here
    nearest-neighbour upsampling precedes a 1x1 convolution.
    """

    def __init__(self, student: Size, teacher: Size, relu: bool = True) -> None:
        super().__init__()
        (_, s_channels, s_height, s_width), (_, t_channels, t_height, t_width) = student, teacher
        self.relu = relu
        self.upsample: tuple[int, int] | None = None
        self.conv: nn.Conv2d | nn.ConvTranspose2d
        if (s_height, s_width) == (2 * t_height, 2 * t_width):
            self.conv = nn.Conv2d(s_channels, t_channels, 3, stride=2, padding=1)
        elif (2 * s_height, 2 * s_width) == (t_height, t_width):
            self.conv = nn.ConvTranspose2d(s_channels, t_channels, 4, stride=2, padding=1)
        elif s_height >= t_height and s_width >= t_width:
            kernel = (1 + s_height - t_height, 1 + s_width - t_width)
            self.conv = nn.Conv2d(s_channels, t_channels, kernel)
        else:
            self.upsample = (t_height, t_width)
            self.conv = nn.Conv2d(s_channels, t_channels, 1)
        self.bn = nn.BatchNorm2d(t_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C_s, H_s, W_s] to [B, C_t, H_t, W_t]."""
        if self.upsample is not None:
            x = F.interpolate(x, size=self.upsample)
        x = self.bn(self.conv(x))
        return F.relu(x) if self.relu else x
