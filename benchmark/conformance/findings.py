"""What a check found, and how the findings of a method are shown."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from benchmark.base.errors import UserError

CheckOutcome = Literal["ok", "FAILED", "refused"]


class CheckFailedError(Exception):
    """A check found what must not be; the message says what, and if it can what to do."""


@dataclass(frozen=True)
class Finding:
    """One check's outcome. ``refused``: the method said clearly that it is undefined there."""

    check: str
    outcome: CheckOutcome
    detail: str

    def line(self) -> str:
        """Return the finding as a line."""
        return f"  {self.outcome:8}{self.check:30}{self.detail}"


@dataclass(frozen=True)
class ConformanceReport:
    """All findings on one method."""

    method: str
    version: int | str
    summary: str
    pair: str
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return all(finding.outcome != "FAILED" for finding in self.findings)

    def head(self) -> str:
        """Return what stands above the findings."""
        return f"{self.method} (version {self.version}): {self.summary}\nchecked on {self.pair}\n"

    def foot(self) -> str:
        """Return the counts."""
        counts = Counter(finding.outcome for finding in self.findings)
        listed = ", ".join(f"{counts[o]} {o}" for o in ("ok", "refused", "FAILED") if counts[o])
        return f"\n{len(self.findings)} checks: {listed}"

    def text(self) -> str:
        """Return the whole report for people."""
        return "\n".join([self.head(), *(f.line() for f in self.findings), self.foot()])

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "schema": 1,
            "method": self.method,
            "version": self.version,
            "summary": self.summary,
            "pair": self.pair,
            "passed": self.passed,
            "findings": [
                {"check": f.check, "outcome": f.outcome, "detail": f.detail} for f in self.findings
            ],
        }


def find(check: str, action: Callable[[], str]) -> Finding:
    """Run one check; ``action`` returns what it saw.

    A UserError is a refusal. Any other exception is the method's failure, with the place where
    it was raised.
    """
    try:
        return Finding(check, "ok", action())
    except UserError as error:
        return Finding(check, "refused", str(error))
    except CheckFailedError as error:
        return Finding(check, "FAILED", str(error))
    except Exception as error:  # a method under test may raise anything
        place = traceback.extract_tb(error.__traceback__)[-1]
        reason = (str(error).splitlines() or [""])[0]
        where = f"{place.filename.rpartition('/')[2]}:{place.lineno}"
        return Finding(check, "FAILED", f"{type(error).__name__}: {reason} ({where})")


def listed(names: Sequence[str], shown: int = 4) -> str:
    """Return names for a sentence, the first ones of many."""
    first = ", ".join(names[:shown])
    return first if len(names) <= shown else f"{first} and {len(names) - shown} more"
