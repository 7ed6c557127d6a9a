from __future__ import annotations

import io
import os
import shutil
import struct
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image

from benchmark.base.errors import UserError
from benchmark.base.torchvision_shim import make_torchvision_importable
from benchmark.data.datasets import dataset_info
from benchmark.data.formats import JPEG, MIN_PAGE, RAW, read_layout
from benchmark.data.sidecar import WriteSettings, read_sidecar, split_path
from benchmark.data.sources.encode import _stored_size, encode
from benchmark.data.sources.folders import folder_source
from benchmark.data.sources.listing import list_images
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


def test_an_orientation_is_not_applied(tmp_path: Path) -> None:
    """As in torchvision's ImageFolder: pixels stay where the file has them."""
    path, exif = tmp_path / "turned.jpg", Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    with Image.open(photograph(tmp_path / "plain.png", "RGB")) as image:
        image.save(path, exif=exif)
    kept = encode(path, 0, AS_IT_IS)
    assert (kept.data, kept.height, kept.width) == (path.read_bytes(), 60, 90)
    assert kept.turned
    assert not encode(tmp_path / "plain.png", 0, AS_IT_IS).turned
    with Image.open(path) as image:
        assert image.getexif()[0x0112] == 6
        pixels = encode(path, 0, WriteSettings(storage="raw"))
        assert (pixels.height, pixels.width) == (60, 90)
        assert pixels.data == np.asarray(image).tobytes()


def test_orientations_are_counted_and_recorded(imagenette: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(imagenette, source)
    plain = write_dataset("imagenette", source, tmp_path / "plain", allow_altered=True)
    assert plain.notes == ()
    assert "turned" not in plain.to_json()["splits"]["train"]
    exif = Image.Exif()
    exif[0x0112] = 6
    for path in sorted((source / "train").glob("*/*"))[:2]:
        with Image.open(path) as image:
            image.load()
        image.save(path, exif=exif)
    write_dataset("imagenette", source, tmp_path / "data", allow_altered=True)
    sidecar = read_sidecar("imagenette", tmp_path / "data")
    assert sidecar is not None
    assert (sidecar.splits["train"].turned, sidecar.splits["test"].turned) == (2, 0)
    (note,) = sidecar.notes
    assert note.startswith("imagenette: EXIF names an orientation for 2 images; it is not applied")


def test_a_broken_image_is_named(imagenette: Path, tmp_path: Path) -> None:
    path = photograph(tmp_path / "broken.jpg", "RGB")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"cannot decode .*broken\.jpg"):
        encode(path, 0, AS_IT_IS)


def test_classes_must_fit(imagenette: Path, tmp_path: Path) -> None:
    for name in ("train/a", "train/b", "val/a"):
        (tmp_path / name).mkdir(parents=True)
        photograph(tmp_path / name / "0.png", "RGB")
    with pytest.raises(UserError, match="class 'b' is in one of train and val only"):
        folder_source(dataset_info("imagenette"), tmp_path, AS_IT_IS, 1)
    (tmp_path / "val/b").mkdir()
    with pytest.raises(
        UserError, match=r"class folder .*val/b holds no images \(files that end in"
    ):
        folder_source(dataset_info("imagenette"), tmp_path, AS_IT_IS, 1)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Ten classes of two small pictures each, as train and val."""
    root = tmp_path / "photographs"
    for split in ("train", "val"):
        for number in range(10):
            folder = root / split / f"class{number}"
            folder.mkdir(parents=True)
            for name in ("0.png", "1.JPG"):
                photograph(folder / name, "RGB", (24, 16))
    return root


def write(source: Path, data: Path, **settings: Any) -> list[str]:
    """Write the photographs; return what is said."""
    notes: list[str] = []
    write_dataset("imagenette", source, data, allow_altered=True, note=notes.append, **settings)
    return notes


def listed(root: Path) -> list[tuple[Path, int]]:
    return list(list_images(root).images)


def test_images_are_those_of_torchvision_in_its_order(photographs: Path, tmp_path: Path) -> None:
    root = photographs / "train"
    shutil.rmtree(root / "class0")
    for name in ("class0/b-c", "class0/b/d", "class0/B"):
        (root / name).mkdir(parents=True)
    for name in ("b/d/1.tif", "b/2.ppm", "b-c/3.pgm", "B/4.tiff", "z.bmp", "Z.webp", "a.PNG"):
        photograph(root / "class0" / name, "L" if name.endswith("pgm") else "RGB")
    (root / "class0" / ".png").write_bytes((root / "class0" / "a.PNG").read_bytes())
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    photograph(elsewhere / "5.jpg", "RGB")
    (root / "class0" / "linked").symlink_to(elsewhere)
    (root / "class0" / "c.jpg").symlink_to(elsewhere / "5.jpg")
    (root / "class00").symlink_to(elsewhere)
    make_torchvision_importable()
    from torchvision.datasets import ImageFolder

    assert listed(root) == [(Path(p), label) for p, label in ImageFolder(root).samples]
    for path, label in listed(root):
        encode(path, label, AS_IT_IS)


def test_what_is_passed_over_is_counted_and_named(photographs: Path, tmp_path: Path) -> None:
    assert write(photographs, tmp_path / "data") == []
    for name in ("class3/notes.txt", "class3/image.gif"):
        (photographs / "train" / name).write_bytes(b"-")
    (note,) = write(photographs, tmp_path / "data")
    assert note.endswith(
        "train: passed over 2 files without the suffix of an image: class3/image.gif,"
        " class3/notes.txt"
    )


def test_what_lies_beside_the_classes_is_named(photographs: Path, tmp_path: Path) -> None:
    photograph(photographs / "train/stray.png", "RGB")
    shutil.copytree(photographs / "val", photographs / "test")
    unread, stray = write(photographs, tmp_path / "data")
    assert unread.endswith("the images in val/ are the test images; those in test/ are not read")
    assert stray.endswith("train: passed over 1 file that no class has: stray.png")
    for split in ("train", "val"):
        (photographs / split / "class9x").symlink_to("/nowhere/class9x")
    with pytest.raises(UserError, match=r"class9x is a link to /nowhere/class9x, which is not"):
        write(photographs, tmp_path / "data")


def test_what_cannot_be_read_is_named(photographs: Path, tmp_path: Path) -> None:
    folder = photographs / "train/class3"

    def refused(what: str) -> None:
        with pytest.raises(UserError, match=what) as error:
            write(photographs, tmp_path / "data")
        str(error.value).encode()  # it can be printed

    def without(path: Path, what: str) -> None:
        refused(what)
        path.unlink()

    (folder / "2.jpg").symlink_to("/nowhere/2.jpg")
    without(folder / "2.jpg", r"class3/2\.jpg is a link to /nowhere/2\.jpg, which is not there")
    (folder / "again").symlink_to(folder.parent)
    without(folder / "again", "class3/again is a link to a folder that it lies in")
    (folder / "2.jpg").symlink_to("2.jpg")
    without(folder / "2.jpg", r"class3/2\.jpg is a link that leads to itself; remove it")
    (photographs / "train/circle").symlink_to("circle")
    without(photographs / "train/circle", "circle is a link that leads to itself")
    os.mkfifo(folder / "2.jpg")
    without(folder / "2.jpg", r"class3/2\.jpg is no plain file")
    broken = Path(os.fsdecode(os.fsencode(folder) + b"/\xff.jpg"))
    broken.write_bytes(b"no JPEG")
    without(broken, r"cannot decode .*class3/\\udcff\.jpg")
    folder.rename(os.fsdecode(os.fsencode(folder) + b"\xff"))
    refused(r"class3\\udcff is no UTF-8; rename it")


def test_names_that_are_no_utf8_are_written(photographs: Path, tmp_path: Path) -> None:
    folder = os.fsencode(photographs / "train/class3")
    os.rename(folder + b"/0.png", folder + b"/caf\xe9.png")
    write(photographs, tmp_path / "data")
    assert verify("imagenette", tmp_path / "data").splits["train"].num_samples == 20


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bits_are_scaled(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 257, 25_700, 32_768, 65_535, 128, 129]], np.uint16)
    path = tmp_path / f"deep.{suffix}"
    Image.fromarray(values).save(path)
    sample = encode(path, 0, WriteSettings(storage="raw"))
    assert list(sample.data[::3]) == [0, 1, 100, 128, 255, 0, 1]
    assert sample.data[::3] == sample.data[1::3] == sample.data[2::3]


def grey_tiff(
    path: Path, values: list[int], bits: int, photometric: int = 1, sample_format: int = 1
) -> None:
    """Write one line of samples; those of 12 bits are packed, the highest bit first."""
    if bits == 12:
        packed = "".join(f"{value:012b}" for value in values)
        data = int(packed, 2).to_bytes(len(packed) // 8, "big")
    else:
        data = np.array(values, f"<{'ui'[sample_format - 1]}{bits // 8}").tobytes()
    entries = [(256, len(values)), (257, 1), (258, bits), (259, 1), (262, photometric)]
    entries += [(273, 8), (277, 1), (278, 1), (279, len(data))]
    entries += [(339, sample_format)]
    directory = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in entries)
    head = b"II*\0" + struct.pack("<I", 8 + len(data)) + data
    path.write_bytes(head + struct.pack("<H", len(entries)) + directory + bytes(4))


@pytest.mark.parametrize(("bits", "photometric"), [(8, 0), (8, 1), (12, 1), (16, 0), (16, 1)])
def test_grey_tiffs_have_their_own_range(tmp_path: Path, bits: int, photometric: int) -> None:
    """Photometric 0: white is zero."""
    most = (1 << bits) - 1
    path = tmp_path / "grey.tif"
    grey_tiff(path, [0, most // 4, most // 2, most], bits, photometric)
    sample = encode(path, 0, WriteSettings(storage="raw"))
    expected = np.array([0, 63.75, 127.5, 255])
    found = np.frombuffer(sample.data, np.uint8)[::3].astype(float)
    assert np.abs(found - (expected if photometric else 255 - expected)).max() <= 1


@pytest.mark.parametrize("values", [np.float32([[0.5]]), np.int32([[70_000]])])
def test_pixels_of_an_unknown_range_are_refused(tmp_path: Path, values: Any) -> None:
    path = tmp_path / "odd.tif"
    Image.fromarray(values).save(path)
    with pytest.raises(UserError, match=r"odd\.tif holds .*, and nothing says what is white"):
        encode(path, 0, AS_IT_IS)


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_signed_pixels_are_refused_as_what_they_are(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "signed.tif"
    grey_tiff(path, [-1, 0, 1], bits, sample_format=2)
    with pytest.raises(UserError, match=rf"signed\.tif holds signed {bits}-bit integers, and"):
        encode(path, 0, AS_IT_IS)


def test_the_longest_side_is_what_was_asked_for(tmp_path: Path) -> None:
    setting = WriteSettings(storage="raw", max_resolution=256)
    for longest in (*range(257, 700), 3872):
        assert max(_stored_size((longest, 41), setting)) == 256
    assert _stored_size((500, 375), setting) == (256, 192)
    assert _stored_size((40, 256), setting) == (40, 256)
    assert _stored_size((1, 60_000), setting) == (1, 256)


def test_a_photograph_larger_than_a_page_is_stored_raw(photographs: Path, tmp_path: Path) -> None:
    photograph(photographs / "val/class9/2.png", "RGB", (1400, 900))
    write(photographs, tmp_path / "data", storage="raw")
    layout = read_layout(split_path("imagenette", tmp_path / "data", "test"))
    assert layout.sizes.max() == 1400 * 900 * 3 > MIN_PAGE
    verify("imagenette", tmp_path / "data")


@pytest.mark.parametrize(("storage", "side"), [("raw", 65_536), ("jpeg", 65_501)])
def test_a_side_that_the_storage_cannot_hold_is_named(
    tmp_path: Path, storage: Literal["raw", "jpeg"], side: int
) -> None:
    path = tmp_path / "long.png"
    Image.new("RGB", (side, 1)).save(path)
    wanted = rf"long\.png is {side:,} x 1 pixels, and {storage} storage holds at most {side - 1:,}"
    with pytest.raises(UserError, match=wanted):
        encode(path, 0, WriteSettings(storage=storage, jpeg_quality=90))
    smaller = WriteSettings(storage=storage, jpeg_quality=90, max_resolution=side - 1)
    assert encode(path, 0, smaller).width == side - 1


def test_a_part_of_imagenets_classes_is_imagenet_altered(imagenette: Path, tmp_path: Path) -> None:
    found = folder_source(dataset_info("imagenet"), imagenette, AS_IT_IS, 1)
    assert found.altered == "10 of its 1000 classes"
    written = write_dataset("imagenet", imagenette, tmp_path / "data", allow_altered=True)
    assert (written.num_classes, len(written.classes)) == (10, 10)
    with pytest.raises(UserError, match="not the official imagenet: 10 of its 1000 classes"):
        write_dataset("imagenet", imagenette, tmp_path)
    for name in ("train/a", "train/b", "val/a", "val/b"):
        (tmp_path / name).mkdir(parents=True)
        photograph(tmp_path / name / "one.png", "RGB")
    with pytest.raises(UserError, match="holds 2 classes; imagenet has 1000; a part of them must"):
        folder_source(dataset_info("imagenet"), tmp_path, AS_IT_IS, 1)
