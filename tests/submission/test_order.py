"""The queue of this machine starts first what would end last."""

from __future__ import annotations

from pathlib import Path

from benchmark.planning.packs import Pack, make_packs
from benchmark.submission.folder import Folder
from benchmark.submission.order import by_length, longest_first
from benchmark.submission.submission import Submission
from tests.helpers import digits_plan


def packs_of(digits: Path, seeds: str) -> list[Pack]:
    plan = digits_plan(digits, seeds=seeds)
    return make_packs("digits", plan.runs, [run.key for run in plan.teachers])


def test_chains_count_what_waits_for_a_pack(digits: Path) -> None:
    first, second, *others = packs_of(digits, "0")
    hours = {pack.id: 1.0 for pack in (first, second, *others)}
    taught = next(pack for pack in others if pack.depends == (second.id,))
    packs = [first, second, *others]
    hours[taught.id] = 5.0
    hours[first.id] = 3.0
    order = longest_first(packs, hours)
    # 6 hours by way of the second teacher, 5 of them its students'; the first one and a student 4.
    assert [packs[place].id for place in order[:3]] == [second.id, taught.id, first.id]
    assert sorted(order) == list(range(len(packs)))


def test_packs_that_are_alike_keep_their_order(digits: Path) -> None:
    packs = packs_of(digits, "0-1")
    alone = [pack for pack in packs if not pack.depends]
    assert longest_first(alone, {pack.id: 1.0 for pack in alone}) == list(range(len(alone)))


def test_deep_teachers_and_their_students_start_first(digits: Path, tmp_path: Path) -> None:
    packs = tuple(packs_of(digits, "0"))
    submission = Submission(
        table="digits",
        nonce="nonce",
        folder=Folder(tmp_path / "folder"),
        runs_dir=tmp_path,
        data_dir=digits,
        packs=packs,
    )
    order = by_length(submission)
    assert [packs[number] for number, _ in order] == [pack for _, pack in order]
    assert {number for number, _ in order} == set(range(len(packs)))
    labels = [pack.label.removeprefix("digits-") for _, pack in order]
    assert labels == [
        "wrn_40_2-s0",
        "wrn_40_2-wrn_16_1-x6-s0",
        "wrn_16_2-s0",
        "wrn_16_2-resnet8-x6-s0",
        labels[-1],
    ]
