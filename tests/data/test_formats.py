from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

from benchmark.base.errors import UserError
from benchmark.data import formats
from benchmark.data.digest import Tally, layout_digest
from benchmark.data.formats import JPEG, MIN_PAGE, Sample, read_layout, read_pixels, write_beton


def pictures(count: int, size: int = 8) -> list[Sample]:
    bits = np.random.default_rng(count).integers(0, 256, (count, size * size * 3), dtype=np.uint8)
    return [Sample(image.tobytes(), size, size, number % 3) for number, image in enumerate(bits)]


def written(path: Path, samples: list[Sample]) -> Path:
    with path.open("wb") as file:
        length = write_beton(file, iter(samples), len(samples))
    assert length == path.stat().st_size
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    samples = pictures(10)
    layout = read_layout(written(tmp_path / "a.beton", samples))
    assert layout.labels.tolist() == [sample.label for sample in samples]
    assert read_pixels(layout).tobytes() == b"".join(sample.data for sample in samples)


def test_images_fill_pages_without_crossing_them(tmp_path: Path) -> None:
    samples = pictures(30, size=256)  # 196,608 bytes, ten a page
    layout = read_layout(written(tmp_path / "a.beton", samples))
    pages = layout.pointers // MIN_PAGE
    assert ((layout.pointers + layout.sizes - 1) // MIN_PAGE == pages).all()
    assert np.unique(pages, return_counts=True)[1].tolist() == [10, 10, 10]
    assert read_pixels(layout).tobytes() == b"".join(sample.data for sample in samples)


def test_the_digest_is_that_of_the_samples(tmp_path: Path) -> None:
    samples = pictures(10)
    tally = Tally()
    assert list(tally.watch(samples)) == samples
    layout = read_layout(written(tmp_path / "a.beton", samples))
    assert tally.digest() == layout_digest(layout) == layout_digest(layout, read_pixels(layout))
    swapped = Tally()
    list(swapped.watch([samples[1], samples[0], *samples[2:]]))
    relabelled = Tally()
    list(relabelled.watch([samples[0]._replace(label=2), *samples[1:]]))
    assert len({tally.digest(), swapped.digest(), relabelled.digest()}) == 3


def test_nothing_to_write(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file, pytest.raises(UserError, match="no images to write"):
        write_beton(file, iter([]), 0)


def test_an_image_larger_than_a_page(tmp_path: Path) -> None:
    huge = Sample(bytes(MIN_PAGE + 1), 1, 1, 0, JPEG)
    with (tmp_path / "a").open("wb") as file, pytest.raises(UserError, match="more than a page"):
        write_beton(file, iter([huge]), 1)


def test_images_of_several_sizes_are_not_one_array(tmp_path: Path) -> None:
    path = written(tmp_path / "a.beton", [*pictures(1, 8), *pictures(1, 16)])
    with pytest.raises(UserError, match="several sizes"):
        read_pixels(read_layout(path))


@pytest.mark.parametrize("left", [0, 10, 24, 2000, 3147, 3300, MIN_PAGE, -1, -24])
def test_truncated_files(tmp_path: Path, left: int) -> None:
    path = written(tmp_path / "a.beton", pictures(10))
    content = path.read_bytes()
    path.write_bytes(content[:left])
    with pytest.raises(UserError, match=r"truncated|too few"):
        read_layout(path)


def test_bytes_after_the_end(tmp_path: Path) -> None:
    path = written(tmp_path / "a.beton", pictures(10))
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(UserError, match="bytes after its end"):
        read_layout(path)


def test_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "a.beton"
    path.write_bytes(b"PK" + bytes(10_000))
    with pytest.raises(UserError, match=r"no \.beton file of this project \(format version"):
        read_layout(path)
    with pytest.raises(UserError, match=r"cannot read .*No such file"):
        read_layout(tmp_path / "missing.beton")


def edit(path: Path, offset: int, dtype: str, value: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(np.array(value, dtype).tobytes())


ROWS = formats._METADATA_START


@pytest.mark.parametrize(
    ("offset", "dtype", "value", "message"),
    [
        (0, "<u2", 3, "format version 3, not 2"),
        (2, "<u2", 4, "unexpected header"),
        (4, "<u4", 3_000_000, "unexpected header"),
        (8, "<u8", 0, "holds no images"),
        (8, "<u8", 2**60, "truncated"),
        (16, "<u8", 2**63, "truncated"),
        (24, "u1", 1, "its fields are not image, label, index"),
        (ROWS, "u1", 7, "entry of image 0 is wrong"),
        (ROWS, "u1", 255, "entry of image 0 is wrong"),
        (ROWS + 32 + 1, "<u2", 9, "entry of image 1 is wrong"),
        (ROWS + 32 + 5, "<u8", 2**64 - 1, "entry of image 1 is wrong"),
        (ROWS + 32 + 5, "<u8", 0, "entry of image 1 is wrong"),
        (ROWS + 64 + 16, "<i8", -1, "entry of image 2 is wrong"),
        (ROWS + 64 + 24, "<i8", 5, "entry of image 2 is wrong"),
        (-24, "<u8", 0, "entry of image 1 is wrong"),
        (-8, "<u8", 2**63, "entry of image 9 is wrong"),
    ],
)
def test_damaged_files(tmp_path: Path, offset: int, dtype: str, value: int, message: str) -> None:
    path = written(tmp_path / "a.beton", pictures(10))
    edit(path, offset % path.stat().st_size, dtype, value)
    with pytest.raises(UserError, match=message) as caught:
        read_layout(path)
    assert "\n" not in str(caught.value)


def test_any_changed_byte_of_the_tables_is_noticed_or_harmless(tmp_path: Path) -> None:
    """Whatever a byte becomes, reading ends in an error or in pixels of the file, never a crash."""
    path = written(tmp_path / "a.beton", pictures(10))
    content = bytearray(path.read_bytes())
    random = np.random.default_rng(0)
    for _ in range(100):
        head = random.integers(2) == 0
        where = random.integers(ROWS + 320) if head else -1 - random.integers(240)
        changed = content.copy()
        changed[where] ^= 1 << random.integers(8)
        path.write_bytes(changed)
        with contextlib.suppress(UserError):
            assert read_pixels(read_layout(path)).shape == (10, 8, 8, 3)
