"""Every reference number of the ImageNet recipes is checked by some test, or listed here."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.golden_imagenet import archive

FILES = ("losses", "mixing", "schedules", "augmentation", "optimizers", "models", "teacher")

_RANK = (
    "what the paper describes; the method keeps the published code's rank, with which its numbers"
    " were made"
)
# What no test checks, with the reason.
UNCLAIMED = {
    "optimizers:adamw_clip_scaled": "clips gradients that a loss scale multiplies: a fault of"
    " fp16 training in the released projector code; recipes here train in fp32 or bf16",
    "losses:uskd_hard_prob_rank": _RANK,
    "losses:uskd_mix_prob_rank": _RANK,
    "losses:uskd_mix_same_prob_rank": _RANK,
    "losses:uskd_smoothed_prob_rank": _RANK,
    "mixing:pair_0.3_0.6": "timm's mode of pairs: no recipe uses it",
    "mixing:elem": "timm's mode of single images: no recipe uses it",
    "augmentation:randaugment/ops_without_inc": "the operations without inc1: no recipe uses them",
    "mixing:boxes_columns": "text",
    "augmentation:erasing/boxes_columns": "text",
    "augmentation:erasing/statistics_columns": "text",
    "teacher:tf_efficientnet_lite1": "the same layout and pipeline as lite0, which is checked",
    "teacher:tf_efficientnet_lite2": "the same layout and pipeline as lite0, which is checked",
}


def claimed() -> set[str]:
    """Return the union of all literals ``GOLDEN_IMAGENET`` under tests/, without importing."""
    names: set[str] = set()
    for path in Path(__file__).parent.rglob("test_*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "GOLDEN_IMAGENET":
                names |= set(ast.literal_eval(node.value))
    return names


def _covers(case: str, name: str) -> bool:
    return name == case or name.startswith(case if case.endswith(":") else f"{case}/")


def test_every_array_is_claimed_or_listed(fixtures: Path) -> None:
    names = {f"{file}:{key}" for file in FILES for key in archive(fixtures, file)}
    cases = claimed() | set(UNCLAIMED)
    assert sorted(n for n in names if not any(_covers(case, n) for case in cases)) == []
    assert sorted(case for case in cases if not any(_covers(case, n) for n in names)) == []


def test_nothing_is_both_claimed_and_listed() -> None:
    both = {c for c in claimed() for u in UNCLAIMED if _covers(u, c) or _covers(c, u)}
    assert both == set()
