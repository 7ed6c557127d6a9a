"""LaTeX (booktabs) from a Grid: floats to include, or a document that compiles as it is.

Needs booktabs, graphicx and amssymb, on Debian all in texlive-latex-recommended; siunitx (on
request) is in texlive-science. A table wider than the page is scaled down to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import jinja2

from benchmark.results.grid import Grid
from benchmark.results.render import layout
from benchmark.results.render.latex_costs import costs
from benchmark.results.render.latex_pairs import side_by_side
from benchmark.results.render.latex_parts import (
    Float,
    label_of,
    notes_under,
    number_cell,
    row_of,
    seeds_mark,
    spanned,
    superscript,
)
from benchmark.results.render.latex_text import escape
from benchmark.results.render.layout import Footnotes, Form, Shown

LANDSCAPE_LEAVES = 7
# More columns of numbers than this cannot be read on one page: further ones stand below.
MOST_LEAVES = 14

TEMPLATE = r"""
<% if document %>
\documentclass[10pt]{article}
\usepackage[a4paper,margin=14mm]{geometry}
\usepackage{pdflscape}
<% else %>
% Needs in the preamble:
<% endif %>
<% for package in packages %>
<< "" if document else "%   " >>\usepackage{<< package >>}
<% endfor %>
<% if document %>
\pagestyle{empty}
\makeatletter\setlength{\@fptop}{0pt}\makeatother
\begin{document}
<% endif %>
<% for float in floats %>
<% if document and float.landscape %>
\begin{landscape}
<% endif %>
\begin{table*}[<< "p" if document else "t" >>]
  \centering
  \setlength{\belowcaptionskip}{4pt}
  \caption{<< float.caption >>}
<% if float.label %>
  \label{<< float.label >>}
<% endif %>
  \footnotesize
  \setlength{\tabcolsep}{<< float.tabcolsep >>}
  \sbox0{%
  \begin{tabular}{<< float.columns >>}
    \toprule
<% for line in float.lines %>
    << line >>
<% endfor %>
    \bottomrule
  \end{tabular}}%
  \ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi
<% if float.notes %>
  \par\medskip
  \begin{minipage}{\linewidth}\scriptsize\raggedright
<% for note in float.notes %>
    << note >>
<% endfor %>
  \end{minipage}
<% endif %>
\end{table*}
<% if document and float.landscape %>
\end{landscape}
<% endif %>
<% endfor %>
<% if document %>
\end{document}
<% endif %>
"""


def render(
    grid: Grid,
    forms: Sequence[Form] = ("paper",),
    statistics: Sequence[str] | None = None,
    *,
    siunitx: bool = False,
    document: bool = False,
) -> str:
    """Return the table in the asked forms, its claims, its costs; a whole document on request.

    ``statistics`` sets several side by side in the paper's layout. ``siunitx`` aligns the paper
    layout's numbers with S columns. In a document, a wide table has a landscape page.
    """
    marks = layout.footnotes(grid)
    chosen = tuple(statistics or (grid.protocol,))
    floats: list[Float] = []
    # Nothing can stand beside numbers that nobody published.
    possible = [form for form in forms if form == "paper" or grid.has_published] or ["paper"]
    for form in possible:
        if form == "paper":
            floats += _paper(grid, marks, chosen, siunitx=siunitx)
        else:
            floats += side_by_side(grid, marks)
    if grid.claim_results:
        floats.append(_claims(grid))
    floats += costs(grid)
    environment = jinja2.Environment(
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # every value is escaped for LaTeX before it gets here
    )
    text: str = environment.from_string(TEMPLATE.lstrip()).render(
        document=document,
        packages=["booktabs", "graphicx", "amssymb", *(["siunitx"] if siunitx else [])],
        floats=floats,
    )
    return text + "\n"


def _paper(
    grid: Grid, marks: Footnotes, statistics: Sequence[str], *, siunitx: bool
) -> list[Float]:
    """Return the paper's layout: one float, or several if the columns are too many."""
    width = len(grid.metrics) * len(statistics)
    most = max(1, MOST_LEAVES // width)
    count = -(-len(grid.columns) // most)
    if count <= 1:
        return [_paper_part(grid, marks, statistics, siunitx=siunitx)]
    floats = []
    size = -(-len(grid.columns) // count)
    for start in range(0, len(grid.columns), size):
        columns = grid.columns[start : start + size]
        names = {column.name for column in columns}
        cells = {key: cell for key, cell in grid.cells.items() if key[1] in names}
        part = replace(grid, columns=columns, cells=cells)
        number = f"({start // size + 1} of {count})"
        found = _paper_part(part, marks, statistics, siunitx=siunitx)
        last = start + size >= len(grid.columns)
        floats.append(
            found._replace(
                caption=f"{found.caption.removesuffix('.')} {number}.",
                label=found.label if start == 0 else f"{found.label}-{start // size + 1}",
                notes=notes_under(grid, marks, "paper", siunitx=siunitx) if last else [],
            )
        )
    return floats


def _paper_part(grid: Grid, marks: Footnotes, statistics: Sequence[str], *, siunitx: bool) -> Float:
    leaves = layout.leaves(grid, statistics)
    best = {leaf: layout.best(grid, leaf) for leaf in leaves}
    stubs = layout.stubs(grid)
    lines = _paper_header(grid, statistics, stubs)
    for _, rows in layout.grouped(grid.rows):
        lines.append(r"\midrule")
        for i, row in enumerate(rows):
            fields = [escape(text) for text in layout.stub_fields(grid, row, first=i == 0)]
            fields[stubs.index("")] += superscript(marks.row_letters(row.name))
            for leaf in leaves:
                key = (row.name, leaf.column.name, leaf.metric)
                shown = layout.show(
                    grid, key, leaf.statistic, marks, is_best=row.name in best[leaf]
                )
                fields.append(_siunitx_cell(shown) if siunitx else number_cell(shown))
            lines.append(row_of(fields))
    kind = f"S[{_s_options(grid)}]" if siunitx else "c"
    return Float(
        f"{escape(grid.title)}. {escape(grid.source)}.",
        f"tab:{label_of(grid.name)}",
        f"{'l' * len(stubs)}*{{{len(leaves)}}}{{{kind}}}",
        lines,
        notes_under(grid, marks, "paper", siunitx=siunitx),
        landscape=len(leaves) >= LANDSCAPE_LEAVES,
    )


def _paper_header(grid: Grid, statistics: Sequence[str], stubs: Sequence[str]) -> list[str]:
    """Return the header: groups of columns, teachers, students, and what tells leaves apart.

    ``stubs`` are the names of the text columns; the one of the rows' names has none.
    """
    width = len(grid.metrics) * len(statistics)
    place = stubs.index("")  # "Teacher" and "Student" stand above the rows' names
    lines = []
    if any(column.group for column in grid.columns):
        together = groupby(grid.columns, key=lambda column: column.group)
        spans = [(escape(name), width * len(list(members))) for name, members in together]
        lines += spanned([""] * len(stubs), spans, rule=True)
    for title, labels in (
        ("Teacher", [c.teacher_label for c in grid.columns]),
        ("Student", [c.student_label for c in grid.columns]),
    ):
        last = title == "Student" and width == 1
        names = [escape(stub) if last else "" for stub in stubs]
        names[place] = title
        rule = title == "Student" and width > 1
        lines += spanned(names, [(escape(label), width) for label in labels], rule=rule)
    if width > 1:
        leaves = layout.leaves(grid, statistics)
        labels = [layout.leaf_label(grid, leaf, statistics) for leaf in leaves]
        lines += spanned(
            [escape(stub) for stub in stubs], [(escape(x), 1) for x in labels], rule=False
        )
    return lines


def _siunitx_cell(shown: Shown) -> str:
    """Return a cell of an S column: a number with its uncertainty, or braced text."""
    if not shown.mean or shown.reference:
        return f"{{{number_cell(shown)}}}"
    # "70.66(24)" wants the uncertainty in units of the last digit.
    uncertainty = f"({int(shown.std.replace('.', ''))})" if shown.std else ""
    bold = r"\bfseries " if shown.best else ""
    tail = seeds_mark(shown) + superscript(shown.letters)
    return rf"{bold}{shown.mean}{uncertainty} {{\normalfont{tail}}}"


def _claims(grid: Grid) -> Float:
    lines = [row_of(["claim", "verdict", "why"]), r"\midrule"]
    for result in grid.claim_results:
        fields = (result.claim.text, result.verdict, result.detail)
        lines.append(row_of([escape(field) for field in fields]))
    return Float(
        f"Claims of {escape(grid.source)}, and whether our runs agree.",
        f"tab:{label_of(grid.name)}-claims",
        r"p{.4\linewidth}lp{.4\linewidth}",
        lines,
        [],
        tabcolsep="6pt",
    )


def _s_options(grid: Grid) -> str:
    """Return siunitx's options: digits, bold numbers, and room for the number of seeds."""
    filled = [cell for _, cell in grid.ordered if cell.mean is not None]
    whole = max((len(f"{cell.mean:.0f}") for cell in filled), default=2)
    spread = [cell.std for cell in filled if cell.std is not None]
    digits = max((len(str(int(std * 10**grid.decimals))) for std in spread), default=1)
    short = any(cell.n < cell.planned for cell in filled)
    count = "2 of 3" if short else "3"
    return (
        f"table-format={whole}.{grid.decimals}({digits}),detect-weight,mode=text,"
        rf"table-space-text-post={{\tiny\,({count})}}"
    )
