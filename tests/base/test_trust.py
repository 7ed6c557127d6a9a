"""Who could have changed a file, told from owners and modes alone."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

from benchmark.base.trust import changed_by_others, own_name, user_name


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o755)
    path = folder / "file"
    path.write_text("")
    path.chmod(0o644)
    return path


def test_ones_own_file_is_trusted(file: Path) -> None:
    assert changed_by_others(file) is None


def test_a_file_that_everybody_may_write_is_not(file: Path) -> None:
    file.chmod(0o646)
    assert changed_by_others(file) == f"everybody may write {file}"


def test_nor_one_whose_folder_everybody_may_write(file: Path) -> None:
    file.parent.chmod(0o777)
    assert changed_by_others(file) == f"everybody may write {file.parent}"
    file.parent.chmod(0o1777)  # sticky: nobody else may replace what lies there
    assert changed_by_others(file) is None


def test_links_count_by_where_they_lie_and_where_they_lead(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(file)
    assert changed_by_others(link) is None
    file.parent.chmod(0o777)
    assert changed_by_others(link) == f"everybody may write {file.parent}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_file_of_somebody_else_names_its_owner(file: Path) -> None:
    os.chown(file, 54321, -1)
    assert changed_by_others(file) == f"{file} belongs to user 54321"
    os.chown(file, 0, 54321)
    file.chmod(0o664)
    assert changed_by_others(file) == f"the group 54321 may write {file}"


def test_a_user_without_an_entry_has_a_number() -> None:
    assert user_name(54321) == "user 54321"


def test_who_this_is_says_the_system_and_no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    before = own_name()
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(variable, "somebody-else")
    assert own_name() == before
    monkeypatch.setattr("os.geteuid", lambda: 54321)
    assert own_name() == "54321"


@pytest.mark.slow
def test_no_python_is_started_that_takes_modules_from_the_folder_it_stands_in() -> None:
    """Without -P, a module of `-m` or `-c` is looked for there first, whoever may write it."""
    root = Path(__file__).resolve().parents[2] / "benchmark"
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.List) and any(
                ast.unparse(e) == "sys.executable" for e in node.elts
            ):
                after = [ast.unparse(e) for e in node.elts]
                after = after[after.index("sys.executable") + 1 :]
                # A job's script starts what own_copy.words says, which begins with -I.
                assert after[0] in ("'-P'", "*command"), (path, after)
