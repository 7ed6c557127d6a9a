from __future__ import annotations

import contextlib
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.base.errors import UserError
from benchmark.data.sources.pickles import read_images, read_names, read_pickle

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 3072), dtype=np.uint8)


def store(path: Path, content: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def python2_pickle(pixels: np.ndarray, labels: list[int]) -> bytes:
    """The official files' layout: protocol 2, byte strings for names and pixels."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    raw = pixels.tobytes()
    rows, columns = (struct.pack("<cH", b"M", n) for n in pixels.shape)
    dtype = b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R(K\x03" + text(b"|")
    dtype += b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b")
    array += b"\x87R(K\x01" + rows + columns + b"\x86" + dtype + b"\x89"
    array += b"T" + struct.pack("<i", len(raw)) + raw + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    items = text(b"data") + array + text(b"fine_labels") + numbers
    return b"\x80\x02}(" + items + b"u."


def test_the_layout_of_the_official_files(tmp_path: Path) -> None:
    path = tmp_path / "train"
    path.write_bytes(python2_pickle(PIXELS, [4, 0, 99, 1, 2]))
    images, labels = read_images(path, "fine_labels", 100)
    assert labels == [4, 0, 99, 1, 2]
    assert images.shape == (5, 32, 32, 3)
    assert images[1, 2, 3].tolist() == PIXELS[1].reshape(3, 32, 32)[:, 2, 3].tolist()


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("order", ["C", "F"])
def test_files_of_python_3(tmp_path: Path, protocol: int, order: Any) -> None:
    content = {"data": np.asarray(PIXELS, order=order), "labels": [0] * 5}
    images, _ = read_images(store(tmp_path / "a", content, protocol), "labels", 10)
    assert (images.transpose(0, 3, 1, 2).reshape(5, -1) == PIXELS).all()


class Malicious:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_code_is_not_run(tmp_path: Path, protocol: int) -> None:
    proof = tmp_path / "proof"
    for number, attack in enumerate(
        [
            Malicious(os.system, f"touch {proof}"),
            Malicious(eval, f"open({str(proof)!r}, 'w')"),
            Malicious(open, str(proof), "w"),
            Malicious(getattr, "text", "upper"),
        ]
    ):
        content = {"data": PIXELS, "labels": [0] * 5, "extra": attack}
        path = store(tmp_path / f"attack{number}", content, protocol)
        with pytest.raises(UserError, match="which no dataset needs"):
            read_images(path, "labels", 10)
    assert not proof.exists()


def test_truncated_anywhere(tmp_path: Path) -> None:
    whole = python2_pickle(PIXELS[:2], [1, 2])
    path = tmp_path / "train"
    for length in [*range(0, 140), *range(len(whole) - 30, len(whole))]:
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="no intact pickle of images"):
            read_pickle(path)


@pytest.mark.slow
def test_changed_anywhere(tmp_path: Path) -> None:
    """Broken input gives an error or data, never another exception."""
    whole = python2_pickle(PIXELS[:2], [1, 2])
    random = np.random.default_rng(0)
    path = tmp_path / "train"
    for _ in range(500):
        broken = bytearray(whole)
        broken[random.integers(200)] = random.integers(256)
        path.write_bytes(broken)
        with contextlib.suppress(UserError):
            read_images(path, "fine_labels", 100)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "it holds a list"),
        ({"labels": [0] * 5}, "lacks 'data' or 'labels'"),
        ({"data": PIXELS, "labels": "01234"}, "lacks 'data' or 'labels'"),
        ({"data": PIXELS[:, :3000], "labels": [0] * 5}, "not 32x32 RGB"),
        ({"data": PIXELS, "labels": [0] * 4}, "5 images but 4 labels"),
        ({"data": PIXELS, "labels": [0, 1, 2, 3, 10]}, "labels outside 0 to 9"),
        ({"data": PIXELS, "labels": [0, 1, 2, 3, "4"]}, "labels outside 0 to 9"),
        ({"data": PIXELS.astype(np.float32), "labels": [0] * 5}, "arrays must be of whole numbers"),
    ],
)
def test_other_content(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_images(store(tmp_path / "a", content), "labels", 10)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        read_pickle(tmp_path / "train")


def test_class_names(fixtures: Path, tmp_path: Path) -> None:
    names = read_names(fixtures / "data/cifar-100-python/meta", "fine_label_names", 100)
    assert names[:2] == ("apple", "aquarium_fish")
    assert read_names(tmp_path / "none", "label_names", 3) == ("0", "1", "2")
    with pytest.raises(UserError, match="does not name 10 classes"):
        read_names(store(tmp_path / "meta", {"label_names": ["a"]}), "label_names", 10)


def test_what_is_no_file_of_sensible_size_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe is not a regular file"):
        read_pickle(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(pickle.dumps({"data": "x" * 100}))
    monkeypatch.setattr("benchmark.data.sources.pickles._LARGEST", 100)
    with pytest.raises(UserError, match=r"has 1\d\d bytes: no pickle of images is so large"):
        read_pickle(tmp_path / "file")
