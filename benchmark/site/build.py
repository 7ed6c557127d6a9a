"""Write a report: an overview, a page a table, a page a run, all runs, the queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmark import __version__
from benchmark.figures.drawing import FigureSource
from benchmark.figures.make import drawings, kinds_named
from benchmark.figures.save import Saved, save
from benchmark.figures.style import house_style
from benchmark.results.render import layout
from benchmark.results.report import Report, made_by
from benchmark.run.reading import Reading
from benchmark.run.state import RunState
from benchmark.site import queue_page, run_page, table_page
from benchmark.site.gather import Gathered, gather
from benchmark.site.publish import Publisher
from benchmark.site.rendering import render, slug
from benchmark.table.selection import Selection

_A_PAGE = 1500  # runs that one page of the list holds


@dataclass(frozen=True)
class WrittenSite:
    """A written report: its first page, and how much it holds."""

    index: Path
    tables: int
    runs: int
    notes: tuple[str, ...]


@dataclass
class SiteBuilder:
    """Writes one report, again and again if it is watched.

    ``figures``: kinds of :mod:`benchmark.figures` that are drawn into the pages of tables. What
    did not change since the last time is neither drawn, nor made, nor written again. ``moment`` and
    ``place``: what the report says of when it was made and of where runs lie, where that is neither
    now nor here.
    """

    out: Path
    runs_dir: Path
    data_dir: Path
    tables: Sequence[str] = ()
    figures: Sequence[str] = ()
    follow: bool = False
    moment: float | None = None
    place: str | None = None
    _publisher: Publisher = field(init=False)
    _drawn: dict[str, tuple[Any, list[Saved]]] = field(default_factory=dict, init=False)
    _shown: dict[str, tuple[Any, str]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Refuse kinds that do not exist before anything is written."""
        kinds_named(self.figures, "--figures")
        self._publisher = Publisher(self.out)

    def write(self, max_age: float = 0.0) -> WrittenSite:
        """Look once, and write what changed. Raises UserError as :func:`gather` does."""
        found = gather(self.tables, self.runs_dir, self.data_dir, max_age)
        if self.moment is not None:
            found = replace(found, taken=self.moment)
        if self.place is not None:
            found = replace(found, place=self.place)
        pages = {run.key: f"runs/{slug(run.key)}.html" for run in found.shown_runs}
        put = self._publisher.put
        common: dict[str, Any] = {"version": __version__, "follow": self.follow}
        self._publisher.assets()
        for report in found.reports:
            name = slug(report.grid.name)
            for kind in table_page.FORMATS:
                put(f"downloads/{name}.{kind}", report.text(kind))
            shown = table_page.values(report, pages, self._figures(report))
            put(f"tables/{name}.html", render("table", "../", page="table", **shown, **common))
        self._runs(found, pages, common)
        put(
            "queue.html", render("queue", page="queue", **queue_page.values(found, pages), **common)
        )
        put("index.html", render("index", page="index", **_overview(found), **common))
        self._publisher.sweep()
        self._publisher.stamp(self.follow)
        notes = tuple(dict.fromkeys(line for report in found.reports for line in report.notes))
        return WrittenSite(self.out / "index.html", len(found.reports), len(pages), notes)

    def end(self) -> None:
        """Tell open pages that nothing changes any more."""
        self._publisher.stamp(False)

    def _figures(self, report: Report) -> list[Saved]:
        """Draw a table's figures, unless its runs are as they were."""
        name = report.grid.name
        known = self._drawn.get(name)
        source = FigureSource(report, self.data_dir)
        state = [
            (run.key, run.state, run.numbers, run.progress and run.progress.epoch)
            for run in source.readings.values()
        ]
        if known is not None and known[0] == state:
            return known[1]
        saved = []
        for kind in self.figures:
            extra = ("--kind", kind)
            command = made_by("figures", report.asked, Selection(), None, extra=extra)
            with house_style():
                for drawing in drawings(kind, source):
                    saved.append(save(drawing, source, command, self.out / "figures"))
        self._drawn[name] = state, saved
        return saved

    def _runs(self, found: Gathered, pages: dict[str, str], common: dict[str, Any]) -> None:
        settings = run_page.Settings(found)
        for run in found.shown_runs:
            state = (
                run._replace(progress=None),
                found.standing(run).name,
                found.places.get(run.key),
            )
            epochs = run.progress and run.progress.epoch
            known = self._shown.get(run.key)
            if known is None or known[0] != (state, epochs):
                shown = run_page.values(run, found, settings, pages)
                text = render("run", "../", page="runs", **shown, **common)
                self._shown[run.key] = known = ((state, epochs), text)
            self._publisher.put(pages[run.key], known[1])
        parts = [found.shown_runs[i : i + _A_PAGE] for i in range(0, len(pages), _A_PAGE)] or [[]]
        for number, part in enumerate(parts, 1):
            lines = [_run_line(run, found, pages) for run in part]
            name = _list_name(number)
            others = [(_list_name(n), n) for n in range(1, len(parts) + 1)]
            shown = {"lines": lines, "others": others, "number": number, "total": len(pages)}
            self._publisher.put(name, render("runs", page="runs", **shown, **common))


def _list_name(number: int) -> str:
    return "runs.html" if number == 1 else f"runs-{number}.html"


def _run_line(run: Reading, found: Gathered, pages: dict[str, str]) -> dict[str, Any]:
    places = found.places.get(run.key, [])
    standing = found.standing(run)
    return {
        "key": run.key,
        "name": run.cell.rpartition("-")[0],
        "page": pages[run.key],
        "seed": run.seed,
        "state": str(standing.name),
        "places": ", ".join(dict.fromkeys(f"{p.table}: {p.row}" for p in places)),
        "overrides": any(p.overrides for p in places),
        "top1": run.value("top1", "last") if run.state is RunState.DONE else None,
        "seconds": run.own_seconds,
        "commit": (run.commit or "")[:12],
    }


def _overview(found: Gathered) -> dict[str, Any]:
    cards = []
    for report in found.reports:
        status = found.status_of(report.grid.name)
        cards.append(
            {
                "grid": report.grid,
                "page": f"tables/{slug(report.grid.name)}.html",
                "progress": table_page.progress(report.grid),
                "verdicts": table_page.verdict_counts(report.grid),
                "headline": layout.headline(report.grid),
                "claims": [str(result.verdict) for result in report.grid.claim_results],
                "live": {
                    str(state): status.runs.get(state, 0)
                    for state in (RunState.RUNNING, RunState.QUEUED, RunState.HELD)
                    if status is not None and status.runs.get(state)
                },
                "alarm": queue_page.alarm(status) if status else "",
            }
        )
    problems = dict.fromkeys(line for report in found.reports for line in report.notes)
    return {"cards": cards, "runs": len(found.shown_runs), "problems": list(problems)}
