"""An index as large as ImageNet's takes little memory, whatever its images take on the disk."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmark.data import formats
from benchmark.data.formats import read_layout
from benchmark.data.order import BatchPlan
from benchmark.data.sidecar import sidecar_path, split_path

pytestmark = pytest.mark.slow  # a process of its own, in which ffcv compiles

NUM_TRAIN, BATCH, STEPS = 1_281_167, 32, 3
LIMIT_MB = 2000
PROGRAM = f"""
import sys
from pathlib import Path
from benchmark.data.open import open_batches
from benchmark.train.memory import peak_memory_mb
batches = open_batches(
    "imagenette", Path(sys.argv[1]), reader="ffcv", seed=0, batch_size={BATCH},
    augmentation="imagenet", workers=2,
)
assert batches.num_train == {NUM_TRAIN}
for step, batch in zip(range({STEPS}), batches.epoch(1)):
    assert batch.images.shape == ({BATCH}, 3, 224, 224)
print(peak_memory_mb())
"""


@pytest.fixture
def as_large_as_imagenet(imagenette_dir: Path, tmp_path: Path) -> Path:
    """A file with as many images as ImageNet, of which those of the first steps are there."""
    shutil.copytree(imagenette_dir / "imagenette", tmp_path / "imagenette")
    train = split_path("imagenette", tmp_path, "train")
    layout = read_layout(train)
    smallest = int(layout.sizes.argmin())
    image = layout.stored(smallest, layout.map()).tobytes()
    page = formats.MIN_PAGE
    room = 1 << 17  # an image's, as ImageNet's are; no image crosses a page
    assert len(image) <= room
    rows = np.zeros(NUM_TRAIN, formats._ROW)
    begin = -(-(formats._METADATA_START + rows.nbytes) // page) * page
    numbers = np.arange(NUM_TRAIN)
    rows["image"]["mode"] = layout.modes[smallest]
    rows["image"]["height"] = layout.heights[smallest]
    rows["image"]["width"] = layout.widths[smallest]
    rows["image"]["pointer"] = begin + room * numbers
    rows["label"], rows["index"] = numbers % 10, numbers
    table = np.zeros(NUM_TRAIN, formats._ALLOCATION)
    table["sample"], table["pointer"] = numbers, rows["image"]["pointer"]
    table["size"] = len(image)
    end = begin + room * NUM_TRAIN
    train.unlink()
    with train.open("wb") as file:
        file.write(formats._head(NUM_TRAIN, page, end) + rows.tobytes())
        # ffcv prepares some batches ahead of those that are taken.
        for number in BatchPlan(NUM_TRAIN, 0, BATCH).order(1)[: 20 * BATCH]:
            file.seek(begin + room * int(number))
            file.write(image)
        file.seek(end)
        file.write(table.tobytes())
    sidecar = sidecar_path("imagenette", tmp_path)
    content = json.loads(sidecar.read_text())
    content["splits"]["train"] |= {"num_samples": NUM_TRAIN, "bytes": train.stat().st_size}
    sidecar.write_text(json.dumps(content))
    return tmp_path


def test_the_memory_of_a_loader(as_large_as_imagenet: Path) -> None:
    train = split_path("imagenette", as_large_as_imagenet, "train")
    assert train.stat().st_size > 100 * 2**30 > 100 * 512 * train.stat().st_blocks
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(as_large_as_imagenet)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert 100 < float(done.stdout) < LIMIT_MB
