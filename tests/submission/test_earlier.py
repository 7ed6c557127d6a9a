"""Submissions that version 0.1 wrote, in both of its forms (earlier.json), are still understood."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from benchmark.cluster.worker import run_pack_in_job
from benchmark.monitor.look import look
from benchmark.operate.retry import choose
from benchmark.run.directory import RunDir
from benchmark.run.reading import read
from benchmark.run.state import RunState
from benchmark.submission.folder import Folder
from benchmark.submission.marks import at_work
from benchmark.submission.sent import busy_keys, local_work, slurm_work
from tests.helpers import digits_plan
from tests.submitted import failed

EARLIER = json.loads((Path(__file__).parent / "earlier.json").read_text())


def _write(runs: Path, data: Path, kind: str) -> Path:
    """Write a folder as that version did; the offsets of lines were those of today."""
    folder = runs / ".submissions" / EARLIER["name"]
    place = folder / "packs" if kind == "local" else folder
    place.mkdir(parents=True)
    places = {"RUNS": str(runs), "DATA": str(data), "FOLDER": str(folder)}
    for name, text in EARLIER[kind].items():
        for word, path in places.items():
            text = text.replace(word, path)
        (place / name).write_text(text)
        if name.endswith(".jsonl"):
            ends = [0, len(text.encode())]
            (place / name).with_suffix(".offsets").write_bytes(struct.pack("<2Q", *ends))
    return folder


@pytest.fixture
def teacher_and_student(digits: Path) -> list[str]:
    plan = digits_plan(digits, ["row=KD", "column=wrn_16_2-resnet8"])
    return [run.key for run in plan.runs]


@pytest.mark.slow
def test_a_queue_of_this_machine_that_still_works(
    digits: Path, tmp_path: Path, teacher_and_student: list[str]
) -> None:
    folder = _write(tmp_path, digits, "local")
    before = folder.stat().st_mtime_ns
    assert busy_keys(tmp_path) == set()
    assert (folder / "submission.json").exists()
    assert folder.stat().st_mtime_ns == before  # nothing is kept longer for having been read
    with at_work(folder):
        assert busy_keys(tmp_path) == set(teacher_and_student)
    assert [work.keys[0] for work in local_work(tmp_path)] == teacher_and_student
    assert not any(work.in_slurm or work.living for work in local_work(tmp_path))
    first = next(local_work(tmp_path))
    assert first.log == folder / "logs" / f"{first.id}.log"
    assert first.pack().data_dir == digits

    # Its process starts each pack with the code of today, by the name of then.
    path = folder / "packs" / f"{first.id}.json"
    answer = run_pack_in_job(str(path), ())
    if read(RunDir(tmp_path, teacher_and_student[0])).state is not RunState.DONE:
        assert "submit the table again" in " ".join(answer["reasons"].values())
    else:
        assert answer == {"exit_code": 0, "endings": {first.keys[0]: "done"}, "reasons": {}}


def test_what_waits_in_slurm(digits: Path, tmp_path: Path, teacher_and_student: list[str]) -> None:
    folder = _write(tmp_path, digits, "slurm")
    works = slurm_work(tmp_path)
    assert [(work.task, work.keys[0]) for work in works] == [
        ("95_0", teacher_and_student[0]),
        ("96_0", teacher_and_student[1]),
    ]
    assert works[0].folder == Folder(folder)
    assert works[1].pack().depends == (works[0].id,)


@pytest.mark.usefixtures("called")
@pytest.mark.parametrize("kind", ["local", "slurm"])
def test_it_is_retried_as_it_was_submitted(
    digits: Path, tmp_path: Path, teacher_and_student: list[str], kind: str
) -> None:
    _write(tmp_path, digits, kind)
    plan = digits_plan(digits, ["row=KD", "column=wrn_16_2-resnet8"])
    failed(tmp_path, plan.runs[0], "no data")
    chosen = choose([teacher_and_student[0]], look(tmp_path), 3)
    ((origin, runs),) = chosen.runs.items()
    assert (origin.cluster, origin.table, origin.data_dir) == (kind, "digits", digits)
    assert list(runs) == [plan.runs[0]]
