"""dataset.json: what lies beside the .beton files, and where all of them lie. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from benchmark.base.errors import UserError
from benchmark.base.files import read_json
from benchmark.base.words import count
from benchmark.base.yamlfile import validate
from benchmark.table.own_data import OwnData

SCHEMA = 1
SplitName = Literal["train", "test"]


def sidecar_path(name: str, data_dir: Path) -> Path:
    """Return where the sidecar of a dataset lies."""
    return data_dir / name / "dataset.json"


def split_path(name: str, data_dir: Path, split: SplitName) -> Path:
    """Return where one split of a dataset lies."""
    return data_dir / name / f"{split}.beton"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Split(_Record):
    """One .beton file: number of images, length in bytes, digest of its content.

    ``turned``: of how many images EXIF names an orientation, which was not applied.
    """

    num_samples: int = Field(gt=0)
    bytes: int = Field(gt=0)
    digest: str
    turned: int = Field(default=0, ge=0)


class WriteSettings(_Record):
    """How images were stored: JPEG quality and longest side hold if images were encoded.

    ``side``: every image was scaled and cut to a square of that side.
    """

    storage: Literal["raw", "jpeg"]
    max_resolution: int | None = None
    jpeg_quality: int | None = None
    side: int | None = None


class Sidecar(_Record):
    """What ``bench data write`` recorded.

    ``official``: the content is the published dataset's; else ``altered`` says what is not.
    ``image_size`` is (H, W), or None if images differ; ``sources`` holds the md5 of each file
    that was read (of class folders: of the sorted list of names and sizes). ``own``: of data that
    no list of this project knows, what it would say.
    """

    schema_version: int = Field(default=SCHEMA, alias="schema")
    name: str
    official: bool
    altered: str | None = None
    num_classes: int = Field(gt=0)
    image_size: tuple[int, int] | None
    classes: tuple[str, ...]
    write: WriteSettings
    sources: dict[str, str]
    splits: dict[SplitName, Split]
    digest: str
    own: OwnData | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what dataset.json holds."""
        data = self.model_dump(mode="json", by_alias=True)
        later = [(data, "own"), (data["write"], "side")]
        later += [(split, "turned") for split in data["splits"].values()]
        for place, name in later:
            if not place[name]:
                del place[name]
        return data

    @property
    def images(self) -> str:
        """How many images there are, for people: ``100 train images, 1,697 test images``."""
        splits = self.splits.items()
        return ", ".join(count(split.num_samples, f"{name} image") for name, split in splits)

    @property
    def notes(self) -> tuple[str, ...]:
        """What else is worth a line of what was written."""
        turned = sum(split.turned for split in self.splits.values())
        if not turned:
            return ()
        return (
            f"{self.name}: EXIF names an orientation for {count(turned, 'image')}; it is not"
            " applied, as torchvision's ImageFolder does not",
        )


def read_sidecar(name: str, data_dir: Path) -> Sidecar | None:
    """Return the sidecar of a dataset, None if there is none.

    Raises UserError for a file that is no sidecar, belongs to another dataset, or was written by
    a newer version of this project.
    """
    path = sidecar_path(name, data_dir)
    if not path.exists():
        return None
    sidecar = validate(Sidecar, read_json(path, SCHEMA), str(path))
    if sidecar.name != name or set(sidecar.splits) != {"train", "test"}:
        raise UserError(f"{path} does not describe the dataset '{name}'")
    return sidecar
