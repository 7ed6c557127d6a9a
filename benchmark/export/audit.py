"""Check a bundle: that nothing was changed, and that its numbers come out again.

What a bundle claims is checked by what it holds, not by its manifest alone: results follow from the
records of epochs, the table from the results, accuracies from the networks, an epoch from a
checkpoint or a seed. Nothing of a bundle is run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, NamedTuple

from benchmark.base.errors import UserError
from benchmark.base.origin import code_digest
from benchmark.base.words import count, short
from benchmark.data.sidecar import split_path
from benchmark.export import manifest
from benchmark.export.bundle import about_of
from benchmark.export.forms import unlike_forms
from benchmark.methods.catalog import method_infos, plugin_files
from benchmark.models import model_info
from benchmark.results.report import Report, make_report
from benchmark.run.directory import RunDir, all_rundirs
from benchmark.run.measured import OTHER_FORM
from benchmark.run.reading import read
from benchmark.run.state import ENDED, RunState
from benchmark.table.load import load_table

Replays = Literal["none", "one", "all"]
# Another CPU, or other libraries, may round otherwise: an image in a thousand, points of accuracy.
CLOSE_ACCURACY = 0.1
_SAME = ("torch", "torchvision", "timm", "numpy")


class AuditWord(StrEnum):
    """What a check says."""

    OK = "ok"
    MISMATCH = "MISMATCH"
    OPEN = "not checked"


class Checked(NamedTuple):
    """One check and what it found."""

    name: str
    finding: AuditWord
    text: str


def exit_code(found: list[Checked]) -> int:
    """Return 1 for any mismatch, 3 where something could not be checked, else 0."""
    findings = {check.finding for check in found}
    return 1 if AuditWord.MISMATCH in findings else 3 if AuditWord.OPEN in findings else 0


def audit(
    bundle: Path, data_dir: Path, replays: Replays = "one", digest: str | None = None
) -> Iterator[Checked]:
    """Yield every check of a bundle as it is made, the quick ones first.

    ``digest``: the manifest's, as its author printed it. Raises UserError for what is no bundle.
    """
    with manifest.opened_bundle(bundle) as folder:
        found = manifest.read_manifest(folder)
        yield _manifest(folder, digest)
        yield from _files(folder, found)
        rundirs = list(all_rundirs(folder / "runs"))
        yield from _results(rundirs)
        whole = [one for one in rundirs if read(one).state in ENDED and _can_be_read(one)]
        yield from _table(folder, found)
        for rundir in list(whole):
            if unknown := _unknown_parts(rundir):
                whole.remove(rundir)
                told = f"{rundir.key}: {unknown} is not known here; --plugin FILE gives it"
                yield Checked("plug-ins", AuditWord.OPEN, told)
        yield from _versions(whole)
        yield from _students(whole, data_dir)
        yield from _replays(whole, data_dir, replays)


def _manifest(folder: Path, digest: str | None) -> Checked:
    ours = manifest.digest_of(folder / manifest.NAME)
    if digest is None or digest.removeprefix("sha256:") == ours.removeprefix("sha256:"):
        return Checked("manifest", AuditWord.OK, ours)
    return Checked("manifest", AuditWord.MISMATCH, f"it is {ours}, not {digest}")


def _files(folder: Path, found: dict[str, Any]) -> Iterator[Checked]:
    odd = list(manifest.differing(folder, found["files"]))
    for line in odd:
        yield Checked("files", AuditWord.MISMATCH, line)
    if not odd:
        yield Checked("files", AuditWord.OK, f"{count(len(found['files']), 'file')} as listed")


# -- results and the table --------------------------------------------------------------------


def _results(rundirs: list[RunDir]) -> Iterator[Checked]:
    odd = False
    for rundir in rundirs:
        reading = read(rundir)
        reason = reading.reason if reading.state is RunState.DAMAGED else ""
        if not reason and reading.state not in ENDED:
            reason = f"{rundir.key} is {reading.state}, without a result"
        for line in [reason] if reason else _unlike_records(rundir):
            odd = True
            yield Checked("results", AuditWord.MISMATCH, line)
    if not odd:
        told = f"{count(len(rundirs), 'run')}, each the result of its recorded epochs"
        yield Checked("results", AuditWord.OK, told)


def _unlike_records(rundir: RunDir) -> Iterator[str]:
    """Yield what a run's result says otherwise than its epochs, and which file is of no form."""
    from benchmark.train.result import from_records

    try:
        result, records, run = rundir.read_result(), rundir.read_records(), rundir.read_run()
    except (UserError, OSError) as error:
        yield f"{rundir.key}: {error}"
        return
    if not isinstance(origin := result.get("provenance"), dict) or not isinstance(
        origin.get("versions", {}), dict
    ):
        yield f"{rundir.key}: result.json: its provenance is of another form"
    if not records:
        if run.weights is None:  # else it was evaluated only
            yield f"{rundir.key}: records.jsonl has no epoch that the result follows from"
        return
    try:
        said = from_records(records)
    except (*OTHER_FORM, ArithmeticError) as error:
        yield f"{rundir.key}: records.jsonl is of another form ({_kind_of(error)})"
        return
    others = result.get("outputs")
    if isinstance(others, dict) and "outputs" in said:
        result["outputs"] = {name: others.get(name) for name in said["outputs"]}
    yield from (f"{rundir.key}: {line}" for line in _unequal("", result, said))


def _unequal(place: str, told: Any, said: dict[str, Any]) -> Iterator[str]:
    """Yield where a result is not what its epochs say, by name."""
    if not isinstance(told, dict):
        yield f"result.json: {place or 'it'} is of another form"
        return
    for name, value in said.items():
        where = f"{place} {name}".removeprefix("metrics ").strip()
        if isinstance(value, dict) and value:
            yield from _unequal(where, told.get(name), value)
        elif type(told.get(name)) is bool is not type(value) or told.get(name) != value:
            yield f"{where} is {short(repr(told.get(name)))}, its epochs say {value}"


def _kind_of(error: Exception) -> str:
    return short(f"{type(error).__name__}: {error}")


def _table(folder: Path, found: dict[str, Any]) -> Iterator[Checked]:
    name = found["table"]
    reading = manifest.NAME  # the file that is to blame
    try:
        table, chosen = folder / str(found["file"]), about_of(found)
        reading = str(found["file"])
        if load_table(str(table)).plugins:
            # Its rows are only known by running files of the bundle.
            yield Checked("table", AuditWord.OPEN, f"{name} names plug-ins, which are not run")
            return
        reading = manifest.NAME
        known = {path.name for path in plugin_files()}
        if missing := [str(file) for file in found.get("plugins", ()) if file not in known]:
            told = f"{name} needs {', '.join(missing)}; --plugin FILE gives it"
            yield Checked("table", AuditWord.OPEN, told)
            return
        reading = str(found["file"])
        report = make_report(str(table), chosen, runs_dir=folder / "runs")
        fresh = json.loads(report.text("json"))["cells"]
        reading = f"results/{name}.json"
        told = json.loads(manifest.content_of(folder, reading))["cells"]
        listed = {(cell["row"], cell["column"], cell["metric"]): dict(cell) for cell in told}
    except UserError as error:
        yield Checked("table", AuditWord.MISMATCH, f"{name} cannot be filled: {error}")
        return
    except (*OTHER_FORM, RecursionError) as error:
        text = f"{name} cannot be filled: {reading} is of another form ({_kind_of(error)})"
        yield Checked("table", AuditWord.MISMATCH, text)
        return
    odd = False
    for cell in fresh:
        place = (cell["row"], cell["column"], cell["metric"])
        other = listed.pop(place, {})
        for field in ("mean", "std", "n", "published", "verdict", "runs"):
            if other.get(field) != cell[field]:
                odd = True
                text = f"{place[0]}, {place[1]}: {field} is {other.get(field)} in results,"
                yield Checked("table", AuditWord.MISMATCH, f"{text} its runs give {cell[field]}")
                break
    for row, column, _ in listed:
        odd = True
        yield Checked("table", AuditWord.MISMATCH, f"{row}, {column}: the table has no such cell")
    if not odd:
        yield Checked(
            "table", AuditWord.OK, f"{name}: {count(len(fresh), 'cell')} as its runs give"
        )
        yield from _forms(folder, found, report)


def _forms(folder: Path, found: dict[str, Any], report: Report) -> Iterator[Checked]:
    lines = list(unlike_forms(folder, found, report))
    theirs = found.get("code")
    same_code = isinstance(theirs, dict) and theirs.get("code") == code_digest()
    for line in lines:
        word = AuditWord.MISMATCH if same_code else AuditWord.OPEN
        why = "" if same_code else " by this version of the code, which is another"
        yield Checked("forms", word, line + why)
    if not lines:
        yield Checked("forms", AuditWord.OK, "every file of the table as its runs give it")


def _can_be_read(rundir: RunDir) -> bool:
    """Whether a run is described as this code describes one; what is not, is a mismatch already."""
    try:
        rundir.read_run()
    except UserError:
        return False
    return True


def _unknown_parts(rundir: RunDir) -> str:
    """Return a method or network of a run that this code does not have; empty if it has all."""
    run = rundir.read_run()
    for method in run.methods:
        if method.name not in method_infos():
            return method.name
    for name in (item for item in run.versions if item.startswith("model:")):
        try:
            model_info(name.removeprefix("model:"))
        except UserError:
            return name.removeprefix("model:")
    return ""


# -- versions ---------------------------------------------------------------------------------


def _versions(rundirs: list[RunDir]) -> Iterator[Checked]:
    from benchmark.train.provenance import versions
    from benchmark.train.start import check_versions

    odd = []
    for rundir in rundirs:
        try:
            check_versions(rundir.read_run())
        except UserError as error:
            odd.append(str(error))
    for line in dict.fromkeys(odd):
        yield Checked("versions", AuditWord.MISMATCH, line)
    if not odd:
        told = "the code's parts have the versions that its runs were planned with"
        yield Checked("versions", AuditWord.OK, told)
    ours = versions()
    others = {
        f"{name} {theirs} there, {ours.get(name, 'none')} here"
        for rundir in rundirs
        for name, theirs in _origin(rundir)["versions"].items()
        if name in _SAME and ours.get(name) != theirs
    }
    for line in sorted(others):
        yield Checked("libraries", AuditWord.OPEN, f"{line}: the last bits may differ")
    if not others:
        yield Checked("libraries", AuditWord.OK, "as its runs had them")


def _origin(rundir: RunDir) -> dict[str, Any]:
    try:
        found = rundir.read_result().get("provenance")
    except UserError:
        found = None
    found = found if isinstance(found, dict) else {}
    listed = found.get("versions")
    return {**found, "versions": listed if isinstance(listed, dict) else {}}


def _unlike(rundir: RunDir) -> str:
    """Return how this machine is of another kind than a run's; empty if it is not."""
    from benchmark.train.provenance import provenance

    theirs, ours = _origin(rundir), provenance()
    if theirs.get("gpu"):
        return f"it ran on {theirs['gpu']}"
    if theirs.get("cpu") != ours["cpu"]:
        return f"it ran on {theirs.get('cpu')}, this is {ours['cpu']}"
    for name in _SAME:
        if theirs["versions"].get(name) != ours["versions"].get(name):
            return f"another {name}"
    return ""


# -- students and epochs ----------------------------------------------------------------------


def _students(rundirs: list[RunDir], data_dir: Path) -> Iterator[Checked]:
    from benchmark.train.evaluate_run import evaluate_run

    same = 0
    for rundir in rundirs:
        if read(rundir).state is not RunState.DONE:
            continue
        try:
            missing = _missing_data(rundir, data_dir)
            if missing:
                yield Checked("students", AuditWord.OPEN, f"{rundir.key}: {missing}")
                continue
            found = evaluate_run(rundir, data_dir)
        except UserError as error:
            # A public checkpoint is no part of a bundle; a network that is, must load.
            word = AuditWord.OPEN if rundir.read_run().weights else AuditWord.MISMATCH
            yield Checked("students", word, f"{rundir.key}: {error}")
            continue
        except Exception as error:  # what reads tensors raises kinds of its own
            told = f"{rundir.key}: its network cannot be evaluated ({_kind_of(error)})"
            yield Checked("students", AuditWord.MISMATCH, told)
            continue
        apart = abs(found.accuracy.top1 - (found.recorded or 0.0))
        if found.recorded is None:
            yield Checked("students", AuditWord.OPEN, f"{rundir.key}: the data here is other data")
        elif found.agrees:
            same += 1
        else:
            told = f"{found.accuracy.top1:.4f} % here, {found.recorded:.4f} % recorded"
            why = _unlike(rundir)
            word = AuditWord.OPEN if why and apart <= CLOSE_ACCURACY else AuditWord.MISMATCH
            told += f" ({why})" if why else ""
            yield Checked("students", word, f"{rundir.key}: {told}")
    if same:
        yield Checked("students", AuditWord.OK, f"{count(same, 'network')} as accurate as recorded")


def _replays(rundirs: list[RunDir], data_dir: Path, which: Replays) -> Iterator[Checked]:
    trained = [rundir for rundir in rundirs if rundir.weights.exists() and _trained(rundir)]
    # Those from a checkpoint first, students before teachers.
    trained.sort(key=lambda one: (not one.drop_checkpoints(), one.read_run().teacher is None))
    wanted = {"none": 0, "one": 1, "all": len(trained)}[which]
    for rundir in trained[:wanted]:
        yield _replayed(rundir, data_dir)


def _trained(rundir: RunDir) -> bool:
    try:
        return rundir.read_run().weights is None and bool(rundir.read_records())
    except (UserError, OSError):
        return False


def _replayed(rundir: RunDir, data_dir: Path) -> Checked:
    from benchmark.train.replay import replay

    if missing := _missing_data(rundir, data_dir):
        return Checked("replay", AuditWord.OPEN, f"{rundir.key}: {missing}")
    why = _unlike(rundir)
    try:
        found = replay(rundir, data_dir)
    except UserError as error:
        return Checked("replay", AuditWord.OPEN if why else AuditWord.MISMATCH, str(error))
    except Exception as error:  # what reads tensors raises kinds of its own
        told = f"{rundir.key}: no epoch of it can be trained again ({_kind_of(error)})"
        return Checked("replay", AuditWord.MISMATCH, told)
    told = f"{rundir.key}, epoch {found.epoch} from {found.start}"
    if not found.different:
        return Checked("replay", AuditWord.OK, f"{told}: the same to the last bit")
    name, (recorded, fresh) = next(iter(found.different.items()))
    told += f": {name} is {fresh} here, {recorded} was recorded"
    if why:
        return Checked("replay", AuditWord.OPEN, f"{told} ({why}; apart by {found.apart:.1g})")
    return Checked("replay", AuditWord.MISMATCH, told)


def _missing_data(rundir: RunDir, data_dir: Path) -> str:
    name = rundir.read_run().dataset.name
    if split_path(name, data_dir, "test").exists():
        return ""
    return f"{data_dir} has no {name}; write it: bench data write {name}"
