"""The names by which squeue and sacct show what a job is.

A job is named ``bench-TABLE``; its comment says ``bench table=TABLE pack=PACK nonce=NONCE``.
While an array waits, PACK is its number of packs (``x120``); a task that starts writes its own
pack's label there. NONCE is unique to one array, so that an array can be found again whose
submission was taken but never answered.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_PREFIX = "bench-"
_COMMENT = re.compile(r"^bench table=(?P<table>\S+) pack=(?P<pack>\S+) nonce=(?P<nonce>\S+)$")


class Tag(NamedTuple):
    """What a job's comment says."""

    table: str
    pack: str
    nonce: str

    @property
    def job_name(self) -> str:
        """The job's name."""
        return _PREFIX + word(self.table)

    @property
    def comment(self) -> str:
        """The job's comment."""
        return f"bench table={word(self.table)} pack={word(self.pack)} nonce={self.nonce}"


def parse_tag(job_name: str, comment: str) -> Tag | None:
    """Return what a job is, None where it is not one of ours.

    sacct may have no comment (it keeps one only with AccountingStoreFlags=job_comment); the
    name alone then still tells the table.
    """
    if not job_name.startswith(_PREFIX):
        return None
    match = _COMMENT.match(comment)
    if match:
        return Tag(**match.groupdict())
    return Tag(job_name.removeprefix(_PREFIX), "", "")


def word(text: str) -> str:
    """Return text as one word that Slurm's commands print and take back unchanged."""
    return re.sub(r"[^\w.+-]+", "_", text)
