"""For every method of the tables: what load_student predicts is the accuracy that was recorded."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import benchmark
from benchmark.run.directory import RunDir
from benchmark.table.load import load_table, table_files
from benchmark.train.evaluate_run import evaluate_run

TABLE = """
schema: 1
name: one
source: {paper: none}
dataset: digits
recipe: digits_60
recipe_overrides: {epochs: EPOCHS, holdout: 20}
teacher: {from: train, seed: fixed}
seeds: [0]
columns:
  - {teacher: TEACHER, student: resnet8}
"""


def used_rows() -> dict[str, dict[str, object]]:
    """Return a row for each method of the tables, the way that the first of them uses it."""
    rows: dict[str, dict[str, object]] = {}
    for path in table_files().values():
        for row in load_table(str(path)).rows:
            if len(row.methods) == 1:
                (use,) = row.methods
                options = dict(use.options)
                for axis, values in row.grid.items():
                    method, _, option = axis.partition(".")
                    if method == use.name:
                        options[option] = values[0]
                row_of = {"name": "Row", "methods": [{use.name: options}]}
                rows.setdefault(
                    use.name, row_of | ({"reported": row.reported} if row.reported else {})
                )
    return rows


ROWS = used_rows()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("every")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ROWS))
def test_the_recorded_accuracy_is_predicted(name: str, folder: Path, digits: Path) -> None:
    teacher = "resnet8" if name in ("fsp", "mhgd") else "wrn_16_2"
    epochs = "4" if name == "snapshot" else "1"  # a whole number of cycles
    text = TABLE.replace("TEACHER", teacher).replace("EPOCHS", epochs) + yaml.safe_dump(
        {"rows": [ROWS[name]]}
    )
    (folder / "one.yaml").write_text(text)
    where = {"runs": folder / "runs", "data": digits}
    submitted = benchmark.submit(folder / "one.yaml", cluster="inline", **where)
    assert set(submitted.runs.values()) == {"done"}
    run = submitted.plan.runs[-1]
    found = evaluate_run(RunDir(folder / "runs", run.key), digits)
    recorded = RunDir(folder / "runs", run.key).read_result()["metrics"]
    assert found.accuracy.top1 == pytest.approx(recorded["top1"]["last"], abs=1e-9)
    assert found.accuracy.top5 == pytest.approx(recorded["top5"]["last"], abs=1e-9)
    assert found.recorded == recorded["top1"]["last"]
