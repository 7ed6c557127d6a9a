"""Which augmentations there are, with their versions. Imports no torch.

The version is part of every run's key: raise it whenever the pixels of a training batch change.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from benchmark.base.errors import UserError, unknown

READERS = ("resident", "ffcv")
Interpolation = Literal["bilinear", "bicubic", "linear"]


@dataclass(frozen=True)
class AugmentationInfo:
    """One augmentation of training images; test images are never augmented.

    ``padding``: zero pixels added on each side before a random crop of the image's own size;
    ``flip``: horizontal flips with probability 1/2; ``crop_size``: side of a random resized crop
    (training) and of the centre crop after a resize (test), or None if images keep their size.

    Of photographs: ``area`` and ``ratio`` bound the random crop; ``interpolation`` resizes it and
    ``test_interpolation`` the test images (linear: bilinear without averaging, as TensorFlow's);
    ``randaugment``: timm's rand-m9-mstd0.5-inc1; ``erasing``: the probability of random erasing;
    ``mean`` and ``std`` replace the dataset's; ``resize`` is the short side of test images before
    their crop, 256 for a crop of 224 otherwise.
    """

    name: str
    version: int
    summary: str
    padding: int = 0
    flip: bool = False
    crop_size: int | None = None
    area: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: Interpolation = "bilinear"
    test_interpolation: Interpolation = "bilinear"
    randaugment: bool = False
    erasing: float = 0.0
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    resize: int | None = None

    def changed(
        self, crop_size: int | None, test_interpolation: Interpolation | None
    ) -> AugmentationInfo:
        """Return it with a recipe's own sizes; UserError where it cuts no crops of any size."""
        if crop_size is None and test_interpolation is None:
            return self
        if self.crop_size is None:
            raise UserError(
                f"augmentation '{self.name}' keeps the size of its images; crop_size and"
                " test_interpolation are for: imagenet"
            )
        return replace(
            self,
            crop_size=crop_size or self.crop_size,
            test_interpolation=test_interpolation or self.test_interpolation,
        )

    @property
    def num_variants(self) -> int | None:
        """How many different images it makes of one; None if they cannot be numbered."""
        if self.crop_size is not None or self.randaugment or self.erasing:
            return None
        return int((2 * self.padding + 1) ** 2 * (1 + self.flip))

    @property
    def readers(self) -> tuple[str, ...]:
        """The readers that offer it."""
        return READERS if self.crop_size is None else ("ffcv",)


AUGMENTATIONS: dict[str, AugmentationInfo] = {
    info.name: info
    for info in (
        AugmentationInfo("none", 1, "normalisation alone"),
        AugmentationInfo("shift1", 1, "random shifts of one pixel, zero fill", padding=1),
        AugmentationInfo(
            "crop_flip", 1, "random crops of 4-pixel zero padding, flips", padding=4, flip=True
        ),
        AugmentationInfo(
            "imagenet",
            1,
            "random resized crops to 224 and flips; tests resize to 256 and crop the centre",
            flip=True,
            crop_size=224,
        ),
        AugmentationInfo(
            "imagenet_timm",
            2,
            "timm's: bicubic crops, flips, RandAugment (m9, mstd0.5, inc1), random erasing (0.25)",
            flip=True,
            crop_size=224,
            interpolation="bicubic",
            test_interpolation="bicubic",
            randaugment=True,
            erasing=0.25,
        ),
        AugmentationInfo(
            "imagenet_dali",
            1,
            "the loaders of SimKD and DHKD: crops of 10 % to 100 % at ratios of 4:5 to 5:4, flips",
            flip=True,
            crop_size=224,
            area=(0.1, 1.0),
            ratio=(0.8, 1.25),
        ),
        AugmentationInfo(
            "imagenet_funmatch",
            1,
            "FunMatch's: crops of 5 % to 100 %, flips, values from -1 to 1",
            flip=True,
            crop_size=224,
            area=(0.05, 1.0),
            interpolation="linear",
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
        ),
    )
}


def augmentation_info(name: str, where: str = "") -> AugmentationInfo:
    """Return one augmentation; UserError with the nearest guess if there is none."""
    if name not in AUGMENTATIONS:
        raise unknown("augmentation", name, AUGMENTATIONS, where)
    return AUGMENTATIONS[name]


def check_reader(name: str, reader: str) -> AugmentationInfo:
    """Return the augmentation; UserError where ``reader`` does not offer it."""
    info = augmentation_info(name)
    if reader not in info.readers:
        raise UserError(
            f"augmentation '{name}' needs the {' or '.join(info.readers)} reader, not '{reader}'"
        )
    return info
