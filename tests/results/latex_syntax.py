"""A check of LaTeX for machines without one: groups, environments, and tabular columns.

It knows the LaTeX that the renderers write, not LaTeX: enough to find a text that was not
escaped and a row with a field too many.
"""

from __future__ import annotations

import re

TOKEN = re.compile(r"\\[a-zA-Z@]+\*?|\\.|[{}&$#^_~%]|\n", re.DOTALL)


def check(text: str) -> None:
    """Assert that groups, environments and math are closed and that rows have all their fields."""
    body = re.sub(r"(?<!\\)%[^\n]*", "", text)
    depth = 0
    for token in TOKEN.findall(body):
        depth += {"{": 1, "}": -1}.get(token, 0)
        assert depth >= 0, "a } without its {"
    assert depth == 0, "a { without its }"
    open_: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{([a-z*]+)\}", body):
        if kind == "begin":
            open_.append(name)
        else:
            assert open_, f"\\end{{{name}}} alone"
            assert open_.pop() == name
    assert not open_, open_
    for columns, rows in re.findall(
        r"\\begin\{tabular\}\{(.*?)\}\n(.*?)\\end\{tabular\}", body, re.DOTALL
    ):
        width = count_columns(columns)
        for line in rows.split("\n"):
            if line.rstrip().endswith(r"\\"):
                assert count_fields(line) == width, (width, line)
    outside = re.sub(r"\\setlength.*|\\ifdim.*|\\sbox0.*|\\usepackage.*|\\makeatletter.*", "", body)
    math = re.sub(r"(?<!\\)\$[^$\n]*(?<!\\)\$", "", outside)
    assert not re.search(r"(?<!\\)[$#^]", math), "a bare special outside math"
    assert not re.search(r"(?<!\\)_", re.sub(r"\\label\{[^}]*\}", "", math)), "a bare _"


def count_columns(spec: str) -> int:
    """Count the columns of a tabular's preamble, *{n}{...} unfolded."""
    while match := re.search(
        r"\*\{(\d+)\}\{((?:[^{}]|\{[^{}]*\}|\{(?:[^{}]|\{[^{}]*\})*\})*)\}", spec
    ):
        spec = spec[: match.start()] + match[2] * int(match[1]) + spec[match.end() :]
    spec = re.sub(r"@\{[^{}]*(\{[^{}]*\})?[^{}]*\}", "", spec)
    spec = re.sub(r"S\[(?:[^\[\]])*\]", "c", spec)
    spec = re.sub(r"p\{[^{}]*\}", "l", spec)
    assert set(spec) <= set("lcr"), spec
    return len(spec)


def count_fields(line: str) -> int:
    """Count the columns that a row fills, \\multicolumn counted with its span."""
    spans = [int(n) for n in re.findall(r"\\multicolumn\{(\d+)\}", line)]
    return len(re.findall(r"(?<!\\)&", line)) + 1 + sum(spans) - len(spans)
