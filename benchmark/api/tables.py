"""Tables from Python: expand one, train what is missing, see how it stands.

Nothing here prints; what the commands say goes to the ``benchmark`` logger. Bad input raises
:class:`benchmark.base.errors.UserError` with the line that the command line would print.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.base.machine import default_device
from benchmark.base.plugin_file import named_plugins
from benchmark.methods.catalog import add_plugin
from benchmark.monitor.summary import Status
from benchmark.planning.matrix import Context, Plan, make_plan
from benchmark.planning.pack_size import parse_pack_size
from benchmark.run import directory
from benchmark.run.directory import RunDir
from benchmark.run.reading import read
from benchmark.submission.executors import directories, executor_for
from benchmark.submission.hand_over import prepare_plan
from benchmark.table.load import load_table
from benchmark.table.selection import Selection, parse_selection

Names = str | Sequence[str]


@dataclass(frozen=True)
class Submitted:
    """What a submission left behind at the moment it returned.

    ``runs``: how each wanted run stands, by key; ``exit_code``: what the command would end with,
    0 if nothing failed.
    """

    plan: Plan
    runs: Mapping[str, str]
    exit_code: int

    @property
    def counts(self) -> Counter[str]:
        """How many runs stand in each state."""
        return Counter(self.runs.values())


def choose(
    only: Names = (),
    seeds: Iterable[int] | None = None,
    overrides: Mapping[str, object] | None = None,
    teachers: Mapping[str, str | Path] | None = None,
) -> Selection:
    """Return a selection as --only, --seeds, --set and --teacher describe it.

    ``only``: "student=resnet8" and so on; ``overrides``: {"recipe.epochs": 2}; ``teachers``: the
    user's own files, by network.
    """
    words = (only,) if isinstance(only, str) else tuple(only)
    numbers = None if seeds is None else ",".join(map(str, seeds))
    sets = [f"{name}={value}" for name, value in (overrides or {}).items()]
    files = [f"{name}={path}" for name, path in (teachers or {}).items()]
    return parse_selection(words, numbers, sets, files)


def add_plugins(plugins: Iterable[str | Path]) -> list[Path]:
    """Register the methods and networks of your own files, and return their paths.

    Those that BENCH_PLUGINS names are registered too.
    """
    paths = [*named_plugins(), *(Path(path) for path in plugins)]
    for path in paths:
        add_plugin(path)
    return paths


def plan(
    table: str | Path,
    *,
    only: Names = (),
    seeds: Iterable[int] | None = None,
    overrides: Mapping[str, object] | None = None,
    teachers: Mapping[str, str | Path] | None = None,
    data: str | Path | None = None,
    plugins: Iterable[str | Path] = (),
) -> Plan:
    """Expand a table, by name or path: its slots and every run they need, teachers first."""
    add_plugins(plugins)
    chosen = choose(only, seeds, overrides, teachers)
    where = Path(data) if data is not None else directory.data_dir()
    return make_plan(load_table(str(table)), chosen, Context(where, default_device()))


def submit(
    table: str | Path,
    *,
    cluster: str | None = None,
    profile: str | None = None,
    only: Names = (),
    seeds: Iterable[int] | None = None,
    overrides: Mapping[str, object] | None = None,
    teachers: Mapping[str, str | Path] | None = None,
    pack: int | str = "",
    runs: str | Path | None = None,
    data: str | Path | None = None,
    plugins: Iterable[str | Path] = (),
    wait: bool = False,
) -> Submitted:
    """Train what is missing of a table, as ``bench submit`` does.

    ``cluster``: slurm, local or inline (this process, which then always waits); by default Slurm
    if this machine has it, else local. Submitting again trains only what is still missing.
    """
    paths = add_plugins(plugins)
    executor = executor_for(cluster, profile)
    where = directories(executor, _path(runs), _path(data))
    chosen = choose(only, seeds, overrides, teachers)
    wanted = make_plan(load_table(str(table)), chosen, Context(where.data, executor.device))
    ready = prepare_plan(
        wanted,
        executor,
        runs_dir=where.runs,
        data_dir=where.data,
        pack_size=parse_pack_size(str(pack)),
        plugins=paths,
    )
    code = ready.start(wait)
    states = {run.key: str(read(RunDir(where.runs, run.key)).state) for run in wanted.runs}
    return Submitted(wanted, states, code)


def status(
    table: str | None = None,
    *,
    runs: str | Path | None = None,
    data: str | Path | None = None,
) -> Status:
    """Return how a table stands, or all that were submitted from a runs directory."""
    from benchmark.monitor.status import read_status

    runs_dir = _path(runs) or directory.runs_dir()
    return read_status(runs_dir, _path(data) or directory.data_dir(), table)


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)
