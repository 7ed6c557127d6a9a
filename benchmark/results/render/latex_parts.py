"""What the LaTeX layouts share: lines, spans, cells and notes, all escaped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from benchmark.results.grid import Grid, Verdict
from benchmark.results.render import layout
from benchmark.results.render.latex_text import escape
from benchmark.results.render.layout import Footnotes, Form, Shown

SYMBOLS = {
    Verdict.REPRODUCED: r"$\checkmark$",
    Verdict.ABOVE: r"$\uparrow$",
    Verdict.BELOW: r"$\downarrow$",
    Verdict.CONDITIONAL: r"$\sim$",
    Verdict.UNDERPOWERED: "?",
    Verdict.DIVERGED: r"$\infty$",
    Verdict.NOT_COMPARABLE: r"$\neq$",
    Verdict.EXPECTED_MISS: r"$\times$",
    Verdict.UNEXPECTED_HIT: r"\textbf{!!}",
}


class Float(NamedTuple):
    """One table float, all its text already LaTeX."""

    caption: str
    label: str
    columns: str
    lines: Sequence[str]
    notes: Sequence[str]
    tabcolsep: str = "3pt"
    landscape: bool = False


def spanned(stubs: Sequence[str], spans: Sequence[tuple[str, int]], *, rule: bool) -> list[str]:
    """Return a header line of (text, columns), with a rule under each text if asked."""
    cells = [*stubs, *(rf"\multicolumn{{{n}}}{{c}}{{{text}}}" for text, n in spans)]
    lines = [row_of(cells)]
    if rule:
        start, rules = len(stubs) + 1, []
        for text, n in spans:
            rules += [rf"\cmidrule(lr){{{start}-{start + n - 1}}}"] if text else []
            start += n
        lines.append("".join(rules))
    return lines


def row_of(cells: Sequence[str]) -> str:
    """Return one line of a tabular."""
    return " & ".join(cells) + r" \\"


def number_cell(shown: Shown) -> str:
    """Return a cell as mean, standard deviation and number of seeds, or as its word."""
    if not shown.mean:
        return _word(shown)
    if shown.reference:
        return rf"\textit{{{shown.mean}}}"
    mean = rf"\textbf{{{shown.mean}}}" if shown.best else shown.mean
    std = rf"{{\tiny$\,\pm\,${shown.std}}}" if shown.std else ""
    return mean + std + seeds_mark(shown) + superscript(shown.letters)


def _word(shown: Shown) -> str:
    if shown.word == "-":
        return "--"
    return rf"{{\scriptsize\textit{{{shown.word}}}}}{superscript(shown.letters)}"


def seeds_mark(shown: Shown) -> str:
    """Return the number of seeds in brackets, with what is still under way."""
    tail = rf", \textit{{{shown.word}}}" if shown.word else ""
    return rf"{{\tiny\,({shown.seeds}{tail})}}"


def superscript(letters: str) -> str:
    """Return footnote letters; a single one has no width, so that numbers stay aligned."""
    if not letters:
        return ""
    raised = rf"\textsuperscript{{{letters}}}"
    return raised if "," in letters else rf"\rlap{{{raised}}}"


def notes_under(grid: Grid, marks: Footnotes, form: Form, *, siunitx: bool = False) -> list[str]:
    """Return the notes under a float: shouts, protocol, legends, ranks, and the letters."""
    said = layout.headline(grid) if grid.has_published else []
    lines = [rf"\textbf{{{escape(line)}.}}" for line in (*said, *layout.shouted(grid))]
    lines += [f"{escape(line)}." for line in layout.notes(grid, marks, form)]
    if form == "side_by_side":
        lines += [f"{SYMBOLS[v]}~{v}: {escape(text)}." for v, text in layout.legend(grid)]
    else:
        if siunitx and any(cell.std is not None for _, cell in grid.ordered):
            lines.append(
                "Brackets hold the last digits' deviation: 70.66(24) is $70.66 \\pm 0.24$."
            )
        for ranking in grid.ranks:
            order = ", ".join(f"{row} {rank:.2f}" for row, rank in ranking.average)
            metric = layout.metric_label(ranking.metric)
            lines.append(escape(f"Average rank ({metric}): {order}. {layout.rank_words(ranking)}"))
    lines += [rf"\textsuperscript{{{a}}}~{escape(text)}." for a, text in layout.lettered(marks)]
    return lines


def label_of(name: str) -> str:
    """Return a name as part of a label: letters, digits, dots and dashes."""
    return "".join(c if c.isascii() and (c.isalnum() or c in ".-") else "-" for c in name)
