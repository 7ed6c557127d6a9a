"""What the record of a submission holds, as it is read back. Imports no torch."""

from __future__ import annotations

from pydantic import BaseModel, FiniteFloat


class NotedArray(BaseModel):
    """An array as a submission's record holds it."""

    nonce: str
    job: int | None
    gpus: int = 0
    single: bool = False


class NotedSubmission(BaseModel):
    """What is read of a submission's record; an earlier version noted only what went to Slurm."""

    table: str
    executor: str = "slurm"
    created: FiniteFloat | None = None
    cluster: str = ""
    arrays: tuple[NotedArray, ...]
