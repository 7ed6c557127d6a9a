"""The datasets by name, and the identity that a run's key hashes. Imports neither torch nor numpy.

An identity is known before any data is there: the official dataset's is declared here. Where
other data (a subset, altered files) lies on disk, its real digest takes that place.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmark.base.errors import UserError, nearest
from benchmark.data.sidecar import Sidecar, SplitName, read_sidecar, sidecar_path, split_path
from benchmark.table.own_data import OwnData
from benchmark.table.recipe import Recipe

OfficialFile = tuple[str, SplitName, str]  # name, split, md5
_OWN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True)
class DatasetInfo:
    """A dataset as it was published.

    ``mean`` and ``std`` are a channel's, of pixels in [0, 1]; ``image_size`` is the side that
    models see; ``files`` maps each official file to (split, md5), in index order;
    ``official_digest`` is the declared identity.
    """

    name: str
    summary: str
    kind: Literal["digits", "cifar", "folders", "own"]
    num_classes: int
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    num_train: int
    num_test: int
    official_digest: str
    files: tuple[OfficialFile, ...] = ()

    @property
    def write_command(self) -> str:
        """The command that makes the dataset; FOLDER stands for where its class folders lie."""
        if self.kind == "own":
            return f"bench data write --dataset {self.name} FOLDER"
        return f"bench data write {self.name}" + (" FOLDER" if self.kind == "folders" else "")


def _declared(files: tuple[OfficialFile, ...]) -> str:
    lines = "".join(f"{name} {md5}\n" for name, _, md5 in files)
    return "official:" + hashlib.sha256(lines.encode()).hexdigest()


_CIFAR10_FILES: tuple[OfficialFile, ...] = (
    ("data_batch_1", "train", "c99cafc152244af753f735de768cd75f"),
    ("data_batch_2", "train", "d4bba439e000b95fd0a9bffe97cbabec"),
    ("data_batch_3", "train", "54ebc095f3ab1f0389bbae665268c751"),
    ("data_batch_4", "train", "634d18415352ddfa80567beed471001a"),
    ("data_batch_5", "train", "482c414d41f54cd18b22e5b47cb7c3cb"),
    ("test_batch", "test", "40351d587109b95175f43aff81a1287e"),
)
_CIFAR100_FILES: tuple[OfficialFile, ...] = (
    ("train", "train", "16019d7e3df5f24257cddd939b257f8d"),
    ("test", "test", "f0ef6b0ae62326f3e7ffdfab6717acfc"),
)
# The archives of ILSVRC2012, which hold the class folders.
_IMAGENET_FILES: tuple[OfficialFile, ...] = (
    ("ILSVRC2012_img_train.tar", "train", "1d675b47d978889d74fa0da5fadfb00e"),
    ("ILSVRC2012_img_val.tar", "test", "29b22e2961454d5413ddabcf34fc5622"),
)
_IMAGENETTE_FILES: tuple[OfficialFile, ...] = (
    ("imagenette2.tgz", "train", "fe2fc210e6bb7c5664d602c3cd71e612"),
)
# Of the content itself: scikit-learn ships the images.
_DIGITS_DIGEST = "sha256:73e66d1c7ecdd1fbc3b601ca52336eb8b44417dcc44a25b9704c973424977e7e"
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

DATASETS: dict[str, DatasetInfo] = {
    info.name: info
    for info in (
        DatasetInfo(
            name="digits",
            summary="scikit-learn's handwritten digits; 10 training labels a class",
            kind="digits",
            num_classes=10,
            image_size=8,
            mean=(0.3053, 0.3053, 0.3053),
            std=(0.3759, 0.3759, 0.3759),
            num_train=100,
            num_test=1697,
            official_digest=_DIGITS_DIGEST,
        ),
        DatasetInfo(
            name="cifar10",
            summary="CIFAR-10, from the python pickles or from class folders of JPEG images",
            kind="cifar",
            num_classes=10,
            image_size=32,
            mean=(0.4914, 0.4822, 0.4465),
            std=(0.2470, 0.2435, 0.2616),
            num_train=50_000,
            num_test=10_000,
            official_digest=_declared(_CIFAR10_FILES),
            files=_CIFAR10_FILES,
        ),
        DatasetInfo(
            name="cifar100",
            summary="CIFAR-100, from the python pickles",
            kind="cifar",
            num_classes=100,
            image_size=32,
            mean=(0.5071, 0.4867, 0.4408),
            std=(0.2675, 0.2565, 0.2761),
            num_train=50_000,
            num_test=10_000,
            official_digest=_declared(_CIFAR100_FILES),
            files=_CIFAR100_FILES,
        ),
        DatasetInfo(
            name="imagenet",
            summary="ImageNet (ILSVRC2012), from class folders train/ and val/",
            kind="folders",
            num_classes=1000,
            image_size=224,
            mean=_IMAGENET_MEAN,
            std=_IMAGENET_STD,
            num_train=1_281_167,
            num_test=50_000,
            official_digest=_declared(_IMAGENET_FILES),
        ),
        DatasetInfo(
            name="imagenette",
            summary="ten classes of ImageNet, from class folders train/ and val/",
            kind="folders",
            num_classes=10,
            image_size=224,
            mean=_IMAGENET_MEAN,
            std=_IMAGENET_STD,
            num_train=9469,
            num_test=3925,
            official_digest=_declared(_IMAGENETTE_FILES),
        ),
    )
}


def image_side(info: DatasetInfo, recipe: Recipe) -> int:
    """Return the side of the images that a run's student reads."""
    return recipe.input_size or recipe.crop_size or info.image_size


def dataset_infos() -> dict[str, DatasetInfo]:
    """Return every dataset of this project by name."""
    return DATASETS


def described(name: str, own: OwnData | None) -> DatasetInfo:
    """Return a dataset of this project, or what ``own`` says of one of the user's."""
    if own is None:
        return dataset_info(name)
    return DatasetInfo(
        name=name, summary="data of your own", kind="own", official_digest="", **own.model_dump()
    )


def dataset_info(name: str, where: str = "", data_dir: Path | None = None) -> DatasetInfo:
    """Return one dataset; one of the user's own is known by what lies in ``data_dir``.

    Raises UserError with the nearest guess if there is none.
    """
    if name in DATASETS:
        return DATASETS[name]
    sidecar = read_sidecar(name, data_dir) if data_dir is not None and is_own_name(name) else None
    if sidecar is not None and sidecar.own is not None:
        return described(name, sidecar.own)
    known = [*DATASETS, *(own_datasets(data_dir) if data_dir is not None else ())]
    place = f" in {where}" if where else ""
    raise UserError(
        f"unknown dataset '{name}'{place}{nearest(name, known)} (valid: {', '.join(known)}); data"
        f" of your own is written by: bench data write --dataset {name} FOLDER"
    )


def own_datasets(data_dir: Path) -> list[str]:
    """Return the names of the user's own datasets in a data directory."""
    found = []
    for path in sorted(data_dir.glob("*/dataset.json")):
        name = path.parent.name
        if name not in DATASETS and is_own_name(name):
            with contextlib.suppress(UserError):
                sidecar = read_sidecar(name, data_dir)
                found += [name] if sidecar is not None and sidecar.own is not None else []
    return found


def is_own_name(name: str) -> bool:
    """Say whether data of the user's own may bear a name."""
    return _OWN_NAME.fullmatch(name) is not None and name not in (*DATASETS, "downloads")


def write_command(name: str) -> str:
    """Return the command that makes a dataset, whoever's it is."""
    own = name not in DATASETS
    return f"bench data write --dataset {name} FOLDER" if own else DATASETS[name].write_command


def dataset_identity(name: str, data_dir: Path) -> dict[str, Any]:
    """Return what a run's key hashes of its dataset: name and digest.

    The declared identity if no data is there or the official data is; else the digest of what
    lies on disk, with the facts of data of the user's own.
    """
    info = dataset_info(name, data_dir=data_dir)
    sidecar = read_sidecar(name, data_dir)
    if sidecar is not None and sidecar.own is not None:
        return {"name": name, "digest": sidecar.digest, "own": sidecar.own.model_dump(mode="json")}
    digest = info.official_digest if sidecar is None or sidecar.official else sidecar.digest
    return {"name": name, "digest": digest}


def require_dataset(name: str, data_dir: Path) -> Sidecar:
    """Return the sidecar of a dataset whose files are there and as long as it says.

    Raises UserError that names the path searched and the command that makes the data.
    """
    info = dataset_info(name, data_dir=data_dir)
    sidecar = read_sidecar(name, data_dir)
    if sidecar is None:
        raise UserError(
            f"dataset '{name}' is not in {sidecar_path(name, data_dir).parent};"
            f" make it with: {info.write_command} --data {data_dir}"
        )
    for split, record in sidecar.splits.items():
        path = split_path(name, data_dir, split)
        length = path.stat().st_size if path.is_file() else None
        if length != record.bytes:
            state = "is missing" if length is None else f"has {length} bytes, not {record.bytes}"
            raise UserError(
                f"{path} {state}; write it again with: {info.write_command} --data {data_dir}"
            )
    return sidecar
