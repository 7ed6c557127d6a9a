"""Every row of the CIFAR-100 table and every method trains on every pair, and resumes."""

from __future__ import annotations

from functools import cache, lru_cache
from pathlib import Path

import pytest
import torch

from benchmark.base.errors import UserError
from benchmark.conformance.everywhere import trains
from benchmark.conformance.images import FewImages, digit_images
from benchmark.conformance.lab import Lab, method_ref
from benchmark.conformance.pairs import Pair, table_pairs
from benchmark.data.datasets import dataset_info
from benchmark.data.sources.cifar import cifar_source
from benchmark.methods.catalog import method_infos
from benchmark.planning.matrix import Context, make_plan
from benchmark.run.identity import Run
from benchmark.table.load import load_table
from benchmark.table.selection import Selection
from tests.conftest import fixtures_root

pytestmark = pytest.mark.slow

BATCH = 4
PAIRS = table_pairs("cifar100")
# FSP compares matrices of channels by channels entry by entry, MHGD attends to maps of one width:
# undefined for the others.
EQUAL_CHANNELS = [*PAIRS[:4], Pair("vgg13", "vgg8")]
# ZSKT compares attention maps place by place, and these students' maps have sizes of their own.
OTHER_SIZES = [pair for pair in PAIRS if pair.student.startswith(("mobilenet", "shufflenet"))]


@cache
def images() -> FewImages:
    """Real CIFAR-100 images where the fixtures are; scikit-learn's digits elsewhere."""
    root = fixtures_root()
    if root is None:
        return digit_images(BATCH, 32, BATCH)
    source = cifar_source(dataset_info("cifar100"), root / "data" / "cifar-100-python")
    samples = list(source.splits["train"].samples())
    raw = b"".join(sample.data for sample in samples[:BATCH])
    pixels = torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(BATCH, 32, 32, 3)
    labels = torch.tensor([sample.label for sample in samples])
    return FewImages(pixels.permute(0, 3, 1, 2) / 127.5 - 1.0, labels, 100, BATCH)


@lru_cache(maxsize=1)
def lab(pair: Pair) -> Lab:
    """Return the pair's networks; tests are ordered by pair and share them."""
    return Lab(pair, images())


@cache
def cells() -> dict[tuple[Pair, str], Run]:
    """Return a run of each row and pair of the table."""
    plan = make_plan(load_table("cifar100"), Selection(), Context(Path("nowhere"), "cpu"))
    return {
        (Pair(slot.teacher, slot.student), slot.row.name): slot.variants[0].runs[0]
        for slot in plan.slots
        if slot.row.methods
    }


ROWS = [row.name for row in load_table("cifar100").rows if row.methods]


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.key)
def test_rows_of_the_table(pair: Pair, row: str) -> None:
    run = cells()[pair, row]
    trains(lab(pair), run.methods, run.ce_weight, run.predict)


@pytest.mark.parametrize("name", sorted(method_infos()))
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.key)
def test_methods(pair: Pair, name: str) -> None:
    undefined = None
    if name in ("fsp", "mhgd") and pair not in EQUAL_CHANNELS:
        undefined = "equal channels in every stage"
    elif name == "zskt" and pair in OTHER_SIZES:
        undefined = "attention maps of .* whose sizes differ"
    if undefined:
        with pytest.raises(UserError, match=undefined):
            trains(lab(pair), [method_ref(name)])
        return
    trains(lab(pair), [method_ref(name)])
