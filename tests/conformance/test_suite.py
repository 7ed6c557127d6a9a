"""The suite passes methods of every family, and finds each mistake by the check made for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.conformance.findings import find
from benchmark.conformance.lab import method_ref
from benchmark.conformance.maps import maps_read
from benchmark.conformance.pairs import SMALL, Pair, parse_pair, table_pairs
from benchmark.conformance.suite import check_method, close_checks, lab_for
from benchmark.methods.catalog import add_plugin, method_infos
from tests.conformance.broken import HOOKS_THE_TEACHER, MISTAKES, PRIVATE_FIRST_STAGE
from tests.conformance.broken_turns import TURN_MISTAKES
from tests.conformance.command import bench

# Of these two each change is checked at once; the other methods take a minute together.
FAMILIES = ("dhkd", "label_smoothing")
OTHERS = sorted(set(method_infos()) - set(FAMILIES))


@pytest.mark.parametrize(
    "name", [*FAMILIES, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]
)
def test_methods_conform(name: str) -> None:
    report = check_method(name, quick=True)
    assert report.passed, report.text()
    assert len(report.findings) == 17
    assert all(finding.outcome == "ok" for finding in report.findings), report.text()


@pytest.mark.slow
@pytest.mark.parametrize("name", method_infos())
def test_packs_keep_the_maps_that_are_read_and_no_more(name: str) -> None:
    lab = lab_for(name)
    # Beside the shared teacher: methods that may have one of their own have an option for it.
    shared = {"teacher_mode": "eval"} if name in ("ofd", "reviewkd") else {}
    ref = method_ref(name, **shared)
    assert set(maps_read(lab, ref)) == lab.start(lab.run([ref])).teacher_maps


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize("name", [*MISTAKES, *TURN_MISTAKES])
def test_mistakes_are_found(name: str, tmp_path: Path) -> None:
    text, check, says = (MISTAKES | TURN_MISTAKES)[name]
    path = tmp_path / f"{name}.py"
    path.write_text(text)
    add_plugin(path)
    checks = dict(close_checks(lab_for(name), name, quick=True))
    finding = find(check, checks[check])
    assert finding.outcome == "FAILED"
    assert says in finding.detail


@pytest.mark.slow
@pytest.mark.usefixtures("plugins")
def test_a_first_stage_may_see_a_private_teacher(tmp_path: Path) -> None:
    path = tmp_path / "private_first_stage.py"
    path.write_text(PRIVATE_FIRST_STAGE)
    add_plugin(path)
    report = check_method(path.stem, quick=True)
    assert report.passed, report.text()


@pytest.mark.usefixtures("plugins")
def test_hooks_on_the_teacher_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "hooks_the_teacher.py"
    path.write_text(HOOKS_THE_TEACHER)
    add_plugin(path)
    with pytest.raises(UserError, match="hooks_the_teacher hooks the teacher, but a copy of it"):
        check_method(path.stem, quick=True)


def test_an_undefined_pair_is_refused_not_failed() -> None:
    with pytest.raises(UserError, match="fsp needs equal channels"):
        check_method("fsp", pair=Pair(*SMALL[0]), quick=True)


def test_pairs_are_those_of_the_table() -> None:
    pairs = table_pairs("cifar100")
    assert len(pairs) == 11
    assert pairs[0] == ("resnet56", "resnet20")
    assert parse_pair("resnet56, resnet20") == pairs[0]
    with pytest.raises(UserError, match="expected TEACHER,STUDENT"):
        parse_pair("resnet56")
    with pytest.raises(UserError, match="did you mean 'resnet20'"):
        parse_pair("resnet56,resnt20")


@pytest.mark.slow
@pytest.mark.usefixtures("plugins")
def test_the_command_says_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "forgets_a_part.py"
    path.write_text(MISTAKES["forgets_a_part"][0])
    arguments = ("check-method", path.stem, "--plugin", str(path), "--quick")
    assert bench(monkeypatch, *arguments) == 1
    shown = capsys.readouterr().out
    assert "FAILED  gradients" in shown
    assert "17 checks: 14 ok, 3 FAILED" in shown
    assert bench(monkeypatch, *arguments, "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert report["schema"] == 1
    assert not report["passed"]
    failed = [f["check"] for f in report["findings"] if f["outcome"] == "FAILED"]
    assert failed == ["gradients", "teacher's maps", "who moves what"]
    assert bench(monkeypatch, "check-method", "forgets_a_prt") == 2
    assert "did you mean 'forgets_a_part'" in capsys.readouterr().err
