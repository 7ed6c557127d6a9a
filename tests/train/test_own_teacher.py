"""Teachers from the user's own files: whole, of these classes, and better than guessing."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from benchmark.base.errors import UserError
from benchmark.models import build_model, model_info
from benchmark.models.pretrained import published
from benchmark.table.own_teachers import FileOfTeacher
from benchmark.train.own_teacher import check_above_guessing, read_own

NAMES = ("zero", "one", "two", "three", "four")


def own(path: Path, classes: tuple[str, ...] = ()) -> dict[str, FileOfTeacher]:
    """Return the files that a pack would name, with this one alone."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {digest: FileOfTeacher(path=path, classes=classes)}


def saved(path: Path, num_classes: int = 5) -> torch.nn.Module:
    network = build_model("resnet8", num_classes)
    torch.save({"model": network.state_dict()}, path)
    return network.eval()


def read(files: dict[str, FileOfTeacher], classes: tuple[str, ...]) -> torch.nn.Module:
    (digest,) = files
    return read_own("resnet8", digest, files, len(classes), classes).model


def test_a_file_is_its_network(tmp_path: Path) -> None:
    network = saved(tmp_path / "my.pth")
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(read(own(tmp_path / "my.pth"), NAMES)(images), network(images))


def test_classes_are_matched_by_their_names(tmp_path: Path) -> None:
    network = saved(tmp_path / "my.pth")
    images = torch.rand(2, 3, 8, 8)
    files = own(tmp_path / "my.pth", NAMES)
    assert torch.equal(read(files, NAMES)(images), network(images))
    some = ("three", "zero", "four")
    torch.testing.assert_close(read(files, some)(images), network(images)[:, [3, 0, 4]])
    turned = tuple(reversed(NAMES))
    torch.testing.assert_close(read(files, turned)(images), network(images).flip(1))


def test_classes_that_a_file_carries(tmp_path: Path) -> None:
    path = tmp_path / "my.safetensors"
    network = build_model("resnet8", 5).eval()
    save_file(network.state_dict(), path, {"about": json.dumps({"classes": NAMES})})
    images = torch.rand(2, 3, 8, 8)
    found = read(own(path), ("one", "two"))
    torch.testing.assert_close(found(images), network(images)[:, 1:3])


@pytest.mark.parametrize(
    ("classes", "told", "message"),
    [
        (("one", "two"), (), "is a resnet8 for 5 classes, the data has 2: name its classes"),
        (("one", "six"), NAMES, "does not know the data's class 'six'"),
        (NAMES, NAMES[:3], "has 5 logits, but 3 names of classes"),
    ],
)
def test_other_classes_are_refused(
    tmp_path: Path, classes: tuple[str, ...], told: tuple[str, ...], message: str
) -> None:
    saved(tmp_path / "my.pth")
    with pytest.raises(UserError, match=message):
        read(own(tmp_path / "my.pth", told), classes)


def test_what_changed_or_went_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "my.pth"
    saved(path)
    files = own(path)
    path.write_bytes(b"other")
    with pytest.raises(UserError, match="changed since the runs were planned"):
        read(files, NAMES)
    path.unlink()
    with pytest.raises(UserError, match="is gone"):
        read(files, NAMES)
    with pytest.raises(UserError, match="is not known here; submit the table again"):
        read_own("resnet8", "0" * 64, files, 5, NAMES)


def test_guessing_is_no_teaching() -> None:
    check_above_guessing("resnet8", 30.0, 10)
    with pytest.raises(UserError, match=r"has 11.00 % on the test images, and guessing has 10.00"):
        check_above_guessing("resnet8", 11.0, 10)


def test_published_weights_come_from_the_local_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    tag = "timm:test_resnet.r160_in1k"
    assert model_info(tag).name == tag
    published.cache_clear()
    with pytest.raises(UserError, match=r"not in the local cache.*timm.create_model\('test_res"):
        published(tag)
    network = build_model(tag, 1000).eval()
    folder = tmp_path / "models--timm--test_resnet.r160_in1k"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text("1234")
    (folder / "snapshots/1234").mkdir(parents=True)
    path = folder / "snapshots/1234/model.safetensors"
    save_file(network.state_dict(), path)
    found = published(tag)
    assert (found.path, found.mean) == (path, (0.5, 0.5, 0.5))
    images = torch.rand(1, 3, 64, 64)
    files = own(path)
    (digest,) = files
    classes = ("n01440764", "n01484850")  # ImageNet's first and third, by folder name
    read_tag = read_own(tag, digest, files, 2, classes).model
    torch.testing.assert_close(read_tag(images), network(images)[:, [0, 2]])
    published.cache_clear()


def test_a_wrong_tag_is_named() -> None:
    with pytest.raises(UserError, match=r"unknown tag of timm:test_resnet 'r160'.*r160_in1k"):
        published("timm:test_resnet.r160")
    with pytest.raises(UserError, match=r"unknown tag of tv_resnet18 'V1'.*IMAGENET1K_V1"):
        published("tv_resnet18.V1")
