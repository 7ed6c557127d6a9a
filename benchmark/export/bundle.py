"""What a paper's artifact needs of a table, in one folder or tar file that anybody can check.

Runs as they lie, the table file, what was collected and the report, versions and digests, and the
commands. Imports no torch.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shlex
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmark import __version__
from benchmark.base.errors import UserError
from benchmark.base.files import make_directory, write_text
from benchmark.base.origin import code_version
from benchmark.base.shipped import code_root
from benchmark.base.words import count
from benchmark.base.yamlfile import load_yaml
from benchmark.export import manifest
from benchmark.methods.catalog import method_infos
from benchmark.results.report import Report, made_by, make_report, plugins_beside
from benchmark.run.directory import RunDir
from benchmark.run.index import RunIndex
from benchmark.run.reading import Reading
from benchmark.run.state import ENDED
from benchmark.site.build import SiteBuilder
from benchmark.table.load import find_table
from benchmark.table.selection import Selection, parse_selection

Checkpoints = Literal["none", "one", "all"]
FORMATS = ("md", "tex", "csv", "json")
# What a run's own files are called, besides its kept checkpoints.
_FILES = ("cell", "records", "provenance", "result", "weights", "extras", "probes")


@dataclass(frozen=True)
class Bundle:
    """A written bundle: where, of how many runs and bytes, and its manifest's digest."""

    path: Path
    runs: int
    size: int
    digest: str
    notes: tuple[str, ...]


def write_bundle(
    name: str,
    chosen: Selection,
    runs_dir: Path,
    data_dir: Path,
    out: Path,
    checkpoints: Checkpoints = "one",
    figures: Sequence[str] = (),
) -> Bundle:
    """Write the bundle of a table: one tar file where ``out`` ends so, else a new folder.

    ``checkpoints``: those that were kept at drops of the rate, the newest of one run of each row,
    of all runs, or none. The same runs give the same bytes. Raises UserError where there are no
    runs, or something is in the way.
    """
    if out.exists() and (out.suffix != ".tar" or not out.is_file()):
        raise UserError(f"{out} is there already")
    report = make_report(name, chosen, runs_dir=runs_dir)
    runs, left_out = _ended(report, runs_dir)
    if not runs:
        raise UserError(f"there is nothing to bundle: no run of {report.grid.name} has ended")
    make_directory(out.absolute().parent)
    with ExitStack() as stack:
        folder = out
        if out.suffix == ".tar":
            place = tempfile.TemporaryDirectory(prefix=".bundle-", dir=out.absolute().parent)
            folder = Path(stack.enter_context(place))
        _runs(runs, _keeping(report, runs, runs_dir, checkpoints), runs_dir, folder)
        tables = _tables(find_table(name))
        given = {path.name: path.read_text(encoding="utf-8") for path in plugins_beside(name)}
        for file, content in (tables | given).items():
            _write(folder / "table" / file, content)
        table = next(iter(tables))
        command = made_by("bundle", name, chosen, None)
        write_results(make_report(name, chosen, runs_dir=folder / "runs"), folder / "results")
        moment = max(run.ended for run in runs)
        site = SiteBuilder(
            folder / "report",
            folder / "runs",
            data_dir,
            [name],
            figures,
            moment=moment,
            place="runs",
        )
        site.write()
        _write(folder / "environment" / "packages.txt", _packages())
        constraints = code_root() / "constraints.txt"
        if constraints.is_file():
            _write(folder / "environment" / "constraints.txt", constraints.read_text())
        _write(folder / "README.md", _readme(report, table, runs, chosen, list(given)))
        about = {
            "table": report.grid.name,
            "file": f"table/{table}",
            "plugins": list(given),
            "made_by": command,
            "selection": {
                "only": [[o.key, o.value, o.excludes] for o in chosen.only],
                "seeds": None if chosen.seeds is None else list(chosen.seeds),
            },
            "code": code_version(),
            "python": platform.python_version(),
        }
        digest = manifest.write_manifest(folder, about)
        size = sum((folder / file).stat().st_size for file in manifest.files_of(folder))
        if folder is not out:
            manifest.pack(folder, out, f"{report.grid.name}-bundle")
    return Bundle(out, len(runs), size, digest, (*report.notes, *left_out))


def write_results(report: Report, out: Path) -> None:
    """Write a table in every form, and its runs and epochs as CSV."""
    report.write(FORMATS, out)
    report.write(("csv",), out, rows=True)


def _ended(report: Report, runs_dir: Path) -> tuple[list[Reading], list[str]]:
    """Return the runs with a result that stand in a table, and those that taught them."""
    index = RunIndex(runs_dir)
    index.refresh()
    known = {run.key: run for run in index.all_runs()}
    keys = {str(key) for key in report.rows()["run"] if str(key) in known}
    keys |= {str(known[key].teacher) for key in keys if known[key].teacher in known}
    found = [known[key] for key in sorted(keys) if known[key].state in ENDED]
    others = len(keys) - len(found)
    return found, [f"{count(others, 'run')} without a result left out"] if others else []


def _keeping(
    report: Report, runs: Iterable[Reading], runs_dir: Path, which: Checkpoints
) -> set[str]:
    """Return the runs whose newest kept checkpoint comes along."""
    having = [run.key for run in runs if RunDir(runs_dir, run.key).drop_checkpoints()]
    if which != "one":
        return set(having) if which == "all" else set()
    rows = report.rows()
    firsts: dict[str, str] = {}
    for row, key in sorted(zip(rows["row"], rows["run"], strict=True)):
        if key in having:
            firsts.setdefault(str(row), str(key))
    return set(firsts.values())


def _runs(runs: Iterable[Reading], keeping: set[str], runs_dir: Path, folder: Path) -> None:
    for run in runs:
        source, target = RunDir(runs_dir, run.key), RunDir(folder / "runs", run.key)
        make_directory(target.path)
        pairs = [(getattr(source, name), getattr(target, name)) for name in _FILES]
        if run.key in keeping:
            newest = source.drop_checkpoints()[-1]
            pairs.append((newest, target.path / newest.name))
        for old, new in pairs:
            if old.is_file() and not old.is_symlink():
                try:
                    shutil.copy2(old, new)
                except OSError as error:
                    raise UserError(f"cannot copy {old} to {new}: {error.strerror}") from error


def _tables(path: Path) -> dict[str, str]:
    """Return a table's file, those that it extends, and plug-ins, by name, its own first.

    Raises UserError for what does not lie beside the table.
    """
    found: dict[str, str] = {}
    while True:
        found[path.name] = path.read_text(encoding="utf-8")
        data = load_yaml(path)
        for own in (data.get("plugins") or ()) if isinstance(data, dict) else ():
            if "/" in str(own) or not (path.parent / str(own)).is_file():
                raise UserError(f"{own} cannot be bundled: lay a plug-in beside the table it is of")
            found[str(own)] = (path.parent / str(own)).read_text(encoding="utf-8")
        base = data.get("base") if isinstance(data, dict) else None
        if base is None:
            return found
        path = find_table(str(base), path.parent)
        if "/" in str(base) or path.name in found:
            raise UserError(f"{path} cannot be bundled: lay a table beside the one it extends")


def _packages() -> str:
    """Return what is installed here, as pip freeze would."""
    found = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    return "".join(f"{name}=={found[name]}\n" for name in sorted(found, key=str.lower) if name)


def _readme(
    report: Report, table: str, runs: Sequence[Reading], chosen: Selection, given: Sequence[str]
) -> str:
    seeds = sorted({run.seed for run in runs})
    dataset = report.grid.dataset
    items = [f"{o.key}{'!=' if o.excludes else '='}{o.value}" for o in chosen.only]
    wanted = [f"--only {shlex.quote(item)}" for item in items]
    plugins = "".join(f" --plugin table/{shlex.quote(name)}" for name in given)
    words = " ".join([f"--table table/{table}", *wanted, f"--seeds {','.join(map(str, seeds))}"])
    words += plugins
    sets = "".join(f" --set {shlex.quote(each)}" for each in _sets(report))
    return f"""# {report.grid.title}

{report.grid.made_by}

| folder | holds |
|---|---|
| `runs/` | {count(len(runs), "run")}: each with its epochs, result, origin and network |
| `results/` | the table as Markdown, LaTeX, CSV and JSON, and its runs and epochs as CSV |
| `report/` | the same as pages: open `index.html` |
| `table/` | the table file: rows, recipes, published values with their sources; plug-ins |
| `environment/` | the packages that this bundle was written with |
| `{manifest.NAME}` | the digest of every file |

Check it, from the folder that it lies in, with kd-benchmark {__version__}:

    bench data write {dataset}
    bench audit .{plugins}

Train it again:

    bench submit {words}{sets}
    bench collect {words}
"""


def _sets(report: Report) -> list[str]:
    """Return what --set says of runs that differ from their table; several values are a sweep."""
    found: dict[str, dict[str, None]] = {}
    for text in report.rows()["overrides"]:
        for name, (theirs, _) in json.loads(text or "{}").items():
            place = name if name.startswith("recipe.") else f"method.{name}"
            if name.startswith("recipe.") or name.partition(".")[0] in method_infos():
                said = theirs if isinstance(theirs, str) else json.dumps(theirs)
                found.setdefault(place, {})[said] = None
    return [f"{name}={','.join(values)}" for name, values in sorted(found.items())]


def _write(path: Path, content: str) -> None:
    make_directory(path.parent)
    try:
        write_text(path, content)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def about_of(found: dict[str, Any]) -> Selection:
    """Return which rows, columns and seeds a bundle's manifest says that it is of."""
    told = found.get("selection") or {}
    only = [f"{k}{'!=' if excludes else '='}{v}" for k, v, excludes in told.get("only", [])]
    seeds = told.get("seeds")
    return parse_selection(only, None if seeds is None else ",".join(map(str, seeds)), [])
