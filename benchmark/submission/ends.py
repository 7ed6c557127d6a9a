"""How runs ended whose own directories do not tell, from what lies beside their submissions.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmark.run.reading import Reading
from benchmark.run.state import RunState
from benchmark.submission.marks import reasons
from benchmark.submission.sent import latest, local_work, own_folders, slurm_work


def noted_failures(runs_dir: Path) -> dict[str, str]:
    """Return why the tasks failed that had runs last, by run key, as they noted it themselves.

    What was killed leaves no word in its run's directory. Slurm is not asked.
    """
    noted = {folder: found for folder in own_folders(runs_dir) if (found := reasons(folder))}
    if not noted:
        return {}
    works = latest((*local_work(runs_dir), *slurm_work(runs_dir))).items()
    said = {
        key: noted.get(work.folder, {}).get(work.task or work.id, "")
        for key, work in works
        if not work.living
    }
    return {key: reason for key, reason in said.items() if reason}


def as_noted(found: Reading, noted: Mapping[str, str]) -> Reading:
    """Return a reading with the end that its task noted, if its own files tell of none."""
    if not found.silent or found.key not in noted:
        return found
    return found._replace(state=RunState.FAILED, reason=noted[found.key])
