"""Which augmentations there are, with their versions. Imports no torch.

The version is part of every run's key: raise it whenever the pixels of a training batch change.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmark.base.errors import UserError, unknown

READERS = ("resident", "ffcv")


@dataclass(frozen=True)
class AugmentationInfo:
    """One augmentation of training images; test images are never augmented.

    ``padding``: zero pixels added on each side before a random crop of the image's own size;
    ``flip``: horizontal flips with probability 1/2; ``crop_size``: side of a random resized crop
    (training) and of the centre crop after a resize (test), or None where images keep their size.
    """

    name: str
    version: int
    summary: str
    padding: int = 0
    flip: bool = False
    crop_size: int | None = None

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
    )
}


def augmentation_info(name: str, where: str = "") -> AugmentationInfo:
    """Return one augmentation; UserError with the nearest guess where there is none."""
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
