"""Templates to text: every value is escaped, and a name that a template misspells is an error."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmark.base.words import count, duration
from benchmark.site.charts import plain

HERE = Path(__file__).parent
# What a run's key may hold; anything else becomes an underscore in the name of its page.
_STRANGE = re.compile(r"[^A-Za-z0-9_.+-]")


@cache
def environment() -> Environment:
    """Return the one environment of all pages."""
    found = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"count": count, "duration": duration, "plain": plain, "slug": slug}
    found.filters |= {"path": quote, "hours": hours}
    return found


def render(template: str, root: str = "", **values: Any) -> str:
    """Return a page; ``root`` leads from it to the report's folder ("" or "../")."""
    return environment().get_template(f"{template}.html").render(root=root, **values)


def slug(text: str) -> str:
    """Return text as the name of a page: ASCII, without blanks or slashes."""
    return _STRANGE.sub("_", text)


def hours(value: float) -> str:
    """Return hours with as many digits as one wants to know."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"
