"""What becomes of a submission whose sbatch says odd things, or stops half-way.

In the place of Slurm stand programs that answer as a real one does, but for what is odd.
"""

from __future__ import annotations

import json
import stat
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.run.pack_file import PackFile
from benchmark.slurm import send as sending
from benchmark.slurm.commands import ClusterLimits, SlurmError, SlurmUnreachableError
from benchmark.slurm.profile import Profile, Resources
from benchmark.submission.arrays import Arrays
from benchmark.submission.folder import Folder
from benchmark.submission.snapshot import CodeCopy

NONCE = "0123456789ab"
BANNER = "*** all nodes are down for maintenance on 24 December ***"
# Prints the answers of a file, one a call: an exit code and what is said.
SBATCH = """#!{python}
import json, sys
path = {answers!r}
code, said, *rest = json.load(open(path))
json.dump(rest, open(path, "w"))
print(said, file=sys.stderr if code else sys.stdout)
sys.exit(code)
"""
# Knows one array, by its comment, and prints fields as it is asked to.
SQUEUE = """#!{python}
import sys
(text,) = [w.removeprefix("--Format=") for w in sys.argv if w.startswith("--Format=")]
known = {{"ArrayJobID": "77", "JobID": "77", "Comment": {comment!r}}}
if known["Comment"]:
    fields = [item.partition(":") for item in text.split(",")]
    print("".join(known[name] + separator for name, _, separator in fields))
"""


@pytest.fixture
def arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Arrays:
    """Three packs in arrays of one task."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(sending, "_SETTLE_SECONDS", 0.0)
    (tmp_path / "bin").mkdir()
    none: tuple[str, ...] = ()
    where = {"runs_dir": tmp_path, "data_dir": tmp_path}
    packs = [
        PackFile(id=f"p{n}", table="t", label=f"p{n}", keys=none, cells=none, runs=(), **where)
        for n in range(3)
    ]
    return Arrays(
        table="t",
        nonce=NONCE,
        folder=Folder(tmp_path / "runs" / ".submissions" / "one"),
        packs=tuple(packs),
        profile=Profile(**{"max-array-size": 1}),
        resources={pack.id: Resources(1, "0", "100M") for pack in packs},
        limits=ClusterLimits("c", "22.05", 1001, 10000, False),
        code=CodeCopy(tmp_path / "code", "0", None, None),
    )


def program(folder: Path, name: str, text: str, **values: object) -> None:
    path = folder / "bin" / name
    path.write_text(text.format(python=sys.executable, **values))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def slurm(folder: Path, *answers: object, comment: str = "") -> None:
    """Let sbatch answer so, call after call, and squeue know an array by its comment."""
    (folder / "answers").write_text(json.dumps([part for answer in answers for part in answer]))
    program(folder, "sbatch", SBATCH, answers=str(folder / "answers"))
    program(folder, "squeue", SQUEUE, comment=comment)


def test_a_number_that_sbatch_does_not_print_is_looked_up(arrays: Arrays, tmp_path: Path) -> None:
    comment = f"bench table=t pack=p1 nonce={NONCE}-1"
    slurm(tmp_path, (0, f"{BANNER}\n11"), (0, BANNER), (0, "13"), comment=comment)
    assert arrays.send() == [11, 77, 13]
    assert [array["job"] for array in arrays.folder.read_record()["arrays"]] == [11, 77, 13]


def test_a_number_beside_others_is_looked_up(arrays: Arrays, tmp_path: Path) -> None:
    comment = f"bench table=t pack=p0 nonce={NONCE}-0"
    slurm(tmp_path, (0, "77\nhours left:\n500"), (0, "12;c\n500"), (0, "13"), comment=comment)
    assert arrays.send() == [77, 12, 13]


def test_gpus_of_all_nodes_are_recorded(arrays: Arrays, tmp_path: Path) -> None:
    slurm(tmp_path, (0, "11"), (0, "12"), (0, "13"))
    asked = dict.fromkeys(arrays.resources, Resources(1, "a100:4", "100M", nodes=2, tasks=4))
    replace(arrays, resources=asked).send()
    assert [array["gpus"] for array in arrays.folder.read_record()["arrays"]] == [8, 8, 8]


def test_what_was_taken_keeps_its_folder(arrays: Arrays, tmp_path: Path) -> None:
    slurm(tmp_path, (0, BANNER))
    with pytest.raises(SlurmUnreachableError, match="took the jobs and named no number") as error:
        arrays.send()
    assert BANNER in str(error.value)
    assert "0 of 3 tasks sent; submit again for the rest" in str(error.value)
    assert arrays.folder.read(0, 0).id == "p0"
    assert arrays.folder.read_record()["arrays"][0]["nonce"] == f"{NONCE}-0"


def test_a_submission_that_stops_half_way_names_what_was_sent(
    arrays: Arrays, tmp_path: Path
) -> None:
    limit = (
        "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed:"
    )
    slurm(tmp_path, (0, "11"), (0, "12"), (1, f"{limit} Job violates accounting/QOS policy"))
    with pytest.raises(SlurmError) as error:
        arrays.send()
    said = str(error.value)
    assert "QOSMaxSubmitJobPerUserLimit; Job violates accounting/QOS policy" in said
    assert "2 of 3 tasks sent as jobs 11, 12; submit again for the rest" in said
    assert [array["job"] for array in arrays.folder.read_record()["arrays"]] == [11, 12, None]


def test_what_is_refused_as_a_whole_leaves_nothing(arrays: Arrays, tmp_path: Path) -> None:
    slurm(tmp_path, (1, "sbatch: error: Batch job submission failed: Invalid account"))
    with pytest.raises(SlurmError, match="Invalid account"):
        arrays.send()
    assert not arrays.folder.path.exists()
