from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.base.errors import UserError
from benchmark.data.datasets import dataset_info
from benchmark.data.formats import JPEG, RAW, read_layout
from benchmark.data.sidecar import WriteSettings, split_path
from benchmark.data.sources.folders import encode, folder_source
from benchmark.data.verify import verify
from benchmark.data.write import write_dataset

AS_IT_IS = WriteSettings(storage="jpeg", jpeg_quality=90)


def test_photographs_keep_their_bytes(imagenette: Path, imagenette_dir: Path) -> None:
    sidecar = verify("imagenette", imagenette_dir)
    assert (sidecar.splits["train"].num_samples, sidecar.splits["test"].num_samples) == (60, 30)
    assert sidecar.write == AS_IT_IS
    layout = read_layout(split_path("imagenette", imagenette_dir, "train"))
    files = sorted((imagenette / "train").glob("*/*"))
    memory = layout.map()
    for index in (0, 17, 59):
        assert layout.stored(index, memory).tobytes() == files[index].read_bytes()
        assert sidecar.classes[layout.labels[index]] == files[index].parent.name
        with Image.open(files[index]) as image:
            assert image.size == (layout.widths[index], layout.heights[index])


def test_workers_do_not_change_the_file(imagenette: Path, tmp_path: Path) -> None:
    for workers in (1, 3):
        write_dataset(
            "imagenette", imagenette, tmp_path / str(workers), allow_altered=True, workers=workers
        )
    one, three = (split_path("imagenette", tmp_path / n, "test") for n in ("1", "3"))
    assert one.read_bytes() == three.read_bytes()


def test_resized_and_raw(imagenette: Path, tmp_path: Path) -> None:
    sidecar = write_dataset(
        "imagenette", imagenette, tmp_path, allow_altered=True, storage="raw", max_resolution=64
    )
    assert sidecar.write == WriteSettings(storage="raw", max_resolution=64)
    layout = read_layout(split_path("imagenette", tmp_path, "test"))
    assert np.maximum(layout.heights, layout.widths).max() == 64
    assert (layout.modes == RAW).all()


def photograph(path: Path, mode: str, size: tuple[int, int] = (90, 60)) -> Path:
    gradient = np.linspace(0, 255, size[0] * size[1]).astype(np.uint8).reshape(size[1], size[0])
    Image.fromarray(gradient).convert(mode).save(path)
    return path


def test_what_is_no_plain_jpeg_is_encoded(tmp_path: Path) -> None:
    grey = photograph(tmp_path / "grey.jpg", "L")
    assert encode(grey, 3, AS_IT_IS).data == grey.read_bytes()
    for path in (photograph(tmp_path / "a.png", "RGBA"), photograph(tmp_path / "b.jpg", "CMYK")):
        sample = encode(path, 3, AS_IT_IS)
        assert (sample.mode, sample.label) == (JPEG, 3)
        with Image.open(io.BytesIO(sample.data)) as image:
            assert (image.mode, image.format, image.size) == ("RGB", "JPEG", (90, 60))
    small = encode(grey, 0, WriteSettings(storage="raw", max_resolution=45))
    assert (small.height, small.width, len(small.data)) == (30, 45, 30 * 45 * 3)
    assert encode(grey, 0, WriteSettings(storage="raw", max_resolution=90)).width == 90


def test_a_broken_image_is_named(imagenette: Path, tmp_path: Path) -> None:
    path = photograph(tmp_path / "broken.jpg", "RGB")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"cannot decode .*broken\.jpg"):
        encode(path, 0, AS_IT_IS)


def test_classes_must_fit(imagenette: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds 10 classes; imagenet has 1000"):
        folder_source(dataset_info("imagenet"), imagenette, AS_IT_IS, 1)
    for name in ("train/a", "train/b", "val/a"):
        (tmp_path / name).mkdir(parents=True)
        photograph(tmp_path / name / "0.png", "RGB")
    with pytest.raises(UserError, match="class 'b' is in one of train and val only"):
        folder_source(dataset_info("imagenette"), tmp_path, AS_IT_IS, 1)
    (tmp_path / "val/b").mkdir()
    (tmp_path / "val/a/0.png").unlink()
    with pytest.raises(UserError, match="val holds no images in class folders"):
        folder_source(dataset_info("imagenette"), tmp_path, AS_IT_IS, 1)
