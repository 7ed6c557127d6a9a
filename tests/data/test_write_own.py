"""Data of the user's own: folders and arrays become datasets, and what cannot be meant is said."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmark.base.errors import UserError
from benchmark.data.datasets import dataset_identity, dataset_info, own_datasets
from benchmark.data.formats import read_layout, read_pixels
from benchmark.data.open import open_batches
from benchmark.data.sidecar import Sidecar, read_sidecar, split_path
from benchmark.data.verify import verify
from benchmark.data.write_own import numbers, write_own

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (24, 6, 6, 3), np.uint8)
LABELS = np.arange(24) % 3


def tree(folder: Path, side: int = 6) -> Path:
    """Write 24 images of three classes in class folders, 18 of them for training."""
    for number, (image, label) in enumerate(zip(PIXELS, LABELS, strict=True)):
        place = folder / ("train" if number < 18 else "val") / "cab"[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).resize((side, side)).save(place / f"{number:02}.png")
    return folder


def stored(data: Path, split: str = "train") -> tuple[np.ndarray, list[int]]:
    layout = read_layout(split_path("mine", data, split))  # type: ignore[arg-type]
    return np.asarray(read_pixels(layout)), layout.labels.tolist()


def test_class_folders_are_kept_as_pixels(tmp_path: Path) -> None:
    sidecar = write_own("mine", tree(tmp_path / "tree"), tmp_path / "data")
    assert (sidecar.classes, sidecar.official) == (("a", "b", "c"), False)
    assert verify("mine", tmp_path / "data") == sidecar
    pixels, labels = stored(tmp_path / "data")
    assert labels == [0] * 6 + [1] * 6 + [2] * 6
    own = [n for label in (1, 2, 0) for n in range(18) if LABELS[n] == label]  # a, b, c
    assert np.array_equal(pixels, PIXELS[own])
    assert sidecar.own is not None
    train = PIXELS[:18].reshape(-1, 3) / 255
    assert sidecar.own.mean == pytest.approx(train.mean(0), abs=6e-5)
    assert sidecar.own.std == pytest.approx(train.std(0), abs=6e-5)
    info = dataset_info("mine", data_dir=tmp_path / "data")
    assert (info.num_classes, info.image_size, info.num_test) == (3, 6, 6)
    assert own_datasets(tmp_path / "data") == ["mine"]


def test_what_is_normalised_has_mean_0_and_std_1(tmp_path: Path) -> None:
    write_own("mine", tree(tmp_path / "tree"), tmp_path)
    batches = open_batches("mine", tmp_path, seed=0, batch_size=18, augmentation="none")
    (batch,) = batches.epoch(1)
    assert batch.images.mean((0, 2, 3)).abs().max() < 1e-3
    assert (batch.images.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-3


def test_tiny_imagenet_as_it_unpacks(tmp_path: Path) -> None:
    folder = tree(tmp_path / "tree")
    (folder / "val").rename(tmp_path / "val")
    for name in "abc":
        images = sorted((folder / "train" / name).glob("*.png"))
        (folder / "train" / name / "images").mkdir()
        for path in images:
            path.rename(folder / "train" / name / "images" / path.name)
        (folder / "train" / name / f"{name}_boxes.txt").write_text("0\t0\t62\t62\n")
    (folder / "val/images").mkdir(parents=True)
    lines = []
    for path in sorted((tmp_path / "val").glob("*/*.png")):
        path.rename(folder / "val/images" / path.name)
        lines.append(f"{path.name}\t{path.parent.name}\t0\t0\t62\t62\n")
    annotations = folder / "val/val_annotations.txt"
    annotations.write_text("".join(reversed(lines)))
    told: list[str] = []
    sidecar = write_own("mine", folder, tmp_path / "one", note=told.append)
    assert "passed over 3 files" in told[0]
    moved = write_own("mine", tree(tmp_path / "plain"), tmp_path / "two")
    assert sidecar.digest == moved.digest
    annotations.write_text(lines[0].replace("\ta\t", "\tz\t"))
    with pytest.raises(UserError, match=r"the class 'z' of 19.png is not in train/"):
        write_own("mine", folder, tmp_path / "three")


def test_one_tree_is_divided_always_alike(tmp_path: Path) -> None:
    folder = tree(tmp_path / "tree") / "train"
    with pytest.raises(UserError, match=r"no folders train/ and val/.*--test-fraction 0.2"):
        write_own("mine", folder, tmp_path)
    first = write_own("mine", folder, tmp_path / "one", test_fraction=0.3)
    folder = folder.rename(tmp_path / "moved")
    second = write_own("mine", folder, tmp_path / "two", test_fraction=0.3)
    assert first.digest == second.digest
    assert (first.splits["train"].num_samples, first.splits["test"].num_samples) == (12, 6)
    assert stored(tmp_path / "one", "test")[1] == [0, 0, 1, 1, 2, 2]


def test_photographs_of_many_sizes(tmp_path: Path) -> None:
    folder = tree(tmp_path / "tree")
    Image.fromarray(PIXELS[0]).resize((20, 10)).save(folder / "train/a/long.png")
    plain = write_own("mine", folder, tmp_path / "one")
    assert (plain.write.storage, plain.own and plain.own.image_size) == ("jpeg", 224)
    square = write_own("mine", folder, tmp_path / "two", side=8)
    assert (square.write.storage, square.image_size) == ("raw", (8, 8))
    with pytest.raises(UserError, match="must be squares of one size; make them so with --size"):
        write_own("mine", folder, tmp_path / "three", storage="raw")


@pytest.mark.parametrize("kind", ["npz", "pkl", "old.pkl", "folder", "flat"])
def test_arrays(tmp_path: Path, kind: str) -> None:
    train, test = (PIXELS[:18], LABELS[:18]), (PIXELS[18:], LABELS[18:])
    named = {"x_train": train[0], "y_train": train[1], "x_test": test[0], "y_test": test[1]}
    path = tmp_path / f"mine.{kind}"
    if kind == "npz":
        np.savez(path, **named, classes=np.array(["red", "green", "blue"]))
    elif kind == "folder":
        path.mkdir()
        for split, (images, labels) in {"train": train, "test": test}.items():
            (path / split).write_bytes(pickle.dumps({"data": images, "labels": labels.tolist()}))
    elif kind == "flat":
        path = tmp_path / "mine.npz"
        turned = {
            key: value.transpose(0, 3, 1, 2).reshape(len(value), -1) if key[0] == "x" else value
            for key, value in named.items()
        }
        np.savez(path, **turned)
    else:
        path.write_bytes(pickle.dumps(named, protocol=2 if kind == "old.pkl" else 5))
    sidecar = write_own("mine", path, tmp_path / "data")
    pixels, labels = stored(tmp_path / "data")
    assert np.array_equal(pixels, PIXELS[:18])
    assert labels == LABELS[:18].tolist()
    assert sidecar.classes == (("red", "green", "blue") if kind == "npz" else ("0", "1", "2"))


def test_grey_images_and_labels_in_columns(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", train_images=PIXELS[..., 0], train_labels=LABELS[:, None])
    write_own("mine", tmp_path / "a.npz", tmp_path, test_fraction=0.25)
    pixels, _ = stored(tmp_path)
    assert (pixels == pixels[..., :1]).all()
    assert len(pixels) == 18


def bad(**changed: Any) -> dict[str, Any]:
    return {"x_train": PIXELS, "y_train": LABELS, "x_test": PIXELS, "y_test": LABELS, **changed}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (bad(x_train=PIXELS / 255), "x_train must be bytes.*not float64; convert"),
        (bad(y_train=LABELS + 1), "no training image has label 0; labels count from 0"),
        (bad(y_test=LABELS - 1), "labels must lie between 0 and 2"),
        (bad(y_train=LABELS[:5]), "holds 24 images but 5 labels"),
        (bad(x_test=PIXELS[..., :2]), r"x_test has shape \[24, 6, 6, 2\]; wanted"),
        ({"x_train": PIXELS, "y_train": LABELS}, "holds no test images; set some aside"),
        ({"pictures": PIXELS}, "holds pictures; wanted are train_images, train_labels"),
        (bad(classes=np.array(["one", "two"])), "labels must lie between 0 and 1"),
        (bad(x_train=np.array([{}], dtype=object)), "cannot read .*Object arrays cannot be loaded"),
    ],
)
def test_arrays_that_are_refused(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(UserError, match=message):
        write_own("mine", tmp_path / "a.npz", tmp_path)
    assert read_sidecar("mine", tmp_path) is None


def test_an_array_larger_than_its_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    header = io.BytesIO()
    described = {"descr": "|u1", "fortran_order": False, "shape": (1 << 40, 32, 32, 3)}
    np.lib.format.write_array_header_1_0(header, described)
    for packed in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "a.npz", "w", packed) as archive:
            archive.writestr("x_train.npy", header.getvalue() + bytes(100))
        with pytest.raises(UserError, match=r"a\.npz: x_train\.npy says that it has shape"):
            write_own("mine", tmp_path / "a.npz", tmp_path)
    np.savez_compressed(tmp_path / "b.npz", **bad(x_test=np.zeros((24, 64, 64, 3), np.uint8)))
    with pytest.raises(UserError, match="size"):  # read whole, however well it is packed
        write_own("mine", tmp_path / "b.npz", tmp_path)


class Harm:
    """Would leave a file behind if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_runs_nothing(tmp_path: Path) -> None:
    content = bad() | {"extra": Harm(tmp_path / "harm")}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match="which no dataset needs"):
        write_own("mine", tmp_path / "a.pkl", tmp_path)
    assert not (tmp_path / "harm").exists()
    (tmp_path / "b.pkl").write_bytes(pickle.dumps(bad(x_train=PIXELS / 255)))
    with pytest.raises(UserError, match="arrays must be of whole numbers"):
        write_own("mine", tmp_path / "b.pkl", tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "cifar100"}, "'cifar100' cannot be the name of data of your own"),
        ({"name": "../up"}, "cannot be the name"),
        ({"mean": (0.5, 0.5, 0.5)}, "--mean and --std go together"),
        ({"mean": (0.5,) * 3, "std": (0.5, 0.0, 0.5)}, "--std must be positive"),
        ({"side": 0}, "--size must be at least 1"),
        ({"path": Path("/nowhere")}, "/nowhere does not exist"),
        ({"path": Path(__file__)}, "is neither a folder nor arrays"),
        ({"test_fraction": 0.2}, "has its test images in val/: no --test-fraction"),
    ],
)
def test_options_that_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    given = {"name": "mine", "path": tree(tmp_path / "tree"), **options}
    with pytest.raises(UserError, match=message):
        write_own(given.pop("name"), given.pop("path"), tmp_path / "data", **given)


def test_other_data_of_that_name_stays(tmp_path: Path) -> None:
    folder = tree(tmp_path / "tree")
    first = write_own("mine", folder, tmp_path)
    assert write_own("mine", folder, tmp_path) == first
    with pytest.raises(UserError, match=r"holds other mine data.*--overwrite"):
        write_own("mine", folder, tmp_path, mean=(0.5,) * 3, std=(0.5,) * 3)
    half = write_own("mine", folder, tmp_path, mean=(0.5,) * 3, std=(0.5,) * 3, overwrite=True)
    assert half.digest == first.digest
    assert dataset_identity("mine", tmp_path)["own"]["mean"] == [0.5, 0.5, 0.5]


def test_names_are_guessed(tmp_path: Path) -> None:
    write_own("mine", tree(tmp_path / "tree"), tmp_path)
    with pytest.raises(UserError, match=r"unknown dataset 'mime'; did you mean 'mine'.*--dataset"):
        dataset_info("mime", data_dir=tmp_path)
    assert numbers("--mean", "0.5") == (0.5, 0.5, 0.5)
    with pytest.raises(UserError, match=r"expected a number, or three"):
        numbers("--mean", "0.5,x")


def test_sidecars_of_others_stay_as_they_were() -> None:
    names = set(Sidecar.model_fields) - {"schema_version", "own"} | {"schema"}
    sidecar = Sidecar.model_validate(
        {
            "name": "digits",
            "official": True,
            "num_classes": 10,
            "image_size": (8, 8),
            "classes": ("a",),
            "write": {"storage": "raw"},
            "sources": {},
            "splits": {},
            "digest": "sha256:0",
        }
    )
    assert set(sidecar.to_json()) == names
    assert set(sidecar.to_json()["write"]) == {"storage", "max_resolution", "jpeg_quality"}


def annotated(folder: Path) -> Path:
    """Write Tiny-ImageNet's layout; return the file that names the classes."""
    tree(folder)
    (folder / "val/images").mkdir()
    lines = []
    for name in "abc":
        for path in sorted((folder / "val" / name).iterdir()):
            path.rename(folder / "val/images" / path.name)
            lines.append(f"{path.name}\t{name}\t0\t0\t5\t5\n")
        (folder / "val" / name).rmdir()
    (folder / "val/val_annotations.txt").write_text("".join(lines))
    return folder / "val/val_annotations.txt"


def test_annotations_name_each_image_once_and_each_class(tmp_path: Path) -> None:
    annotations = annotated(tmp_path / "tree")
    notes: list[str] = []
    Image.fromarray(PIXELS[0]).save(tmp_path / "tree/val/images/unnamed.png")
    sidecar = write_own("mine", tmp_path / "tree", tmp_path / "data", note=notes.append)
    assert sidecar.splits["test"].num_samples == 6
    (note,) = notes
    assert note.endswith("val: passed over 1 file that no class has: images/unnamed.png")
    first, *rest = annotations.read_text().splitlines(keepends=True)
    annotations.write_text("".join([first, first, *rest]))
    with pytest.raises(UserError, match=r"val_annotations\.txt names .*\.png twice"):
        write_own("mine", tmp_path / "tree", tmp_path / "data")
    annotations.write_text("".join(line for line in (first, *rest) if "\tb\t" not in line))
    with pytest.raises(UserError, match="names no image of the class 'b'"):
        write_own("mine", tmp_path / "tree", tmp_path / "data")


def test_a_second_split_of_test_arrays_is_said(tmp_path: Path) -> None:
    content = {
        f"{split}_{what}": values[:18]
        for split in ("train", "val", "test")
        for what, values in (("images", PIXELS), ("labels", LABELS))
    }
    np.savez(tmp_path / "a.npz", **content)
    notes: list[str] = []
    write_own("mine", tmp_path / "a.npz", tmp_path / "data", note=notes.append)
    (note,) = notes
    assert note.endswith("the test images are those of test; those of val are not read")
