"""One submission at a time from a runs directory, and no trace of one that came to nothing.

Two submissions that look at one moment both find the same runs missing. Each therefore holds a
lease while it sends, and first looks at what was sent since it looked. Imports no torch.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.run.lease import RunHeldError
from benchmark.slurm import commands
from benchmark.slurm.send import shared_directory
from benchmark.submission.at_work import at_work
from benchmark.submission.folders import sent_arrays

_POLL_SECONDS = 0.5
# Longer than sbatch is repeated for while slurmctld does not answer.
_PATIENCE_SECONDS = 900.0


@contextlib.contextmanager
def sending(runs_dir: Path) -> Iterator[None]:
    """Wait until no other submission of this user is being sent, and keep others waiting.

    Raises UserError where another one takes too long, or the directory cannot be written.
    """
    folder = runs_dir / ".submissions" / f".sending-{commands.user()}"
    shared_directory(folder.parent)
    try:
        with contextlib.ExitStack() as held:
            _hold(folder, held)
            yield
    finally:
        with contextlib.suppress(OSError):  # somebody else's by now
            folder.rmdir()


def _hold(folder: Path, held: contextlib.ExitStack) -> None:
    give_up = time.monotonic() + _PATIENCE_SECONDS
    told = False
    while True:
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            held.enter_context(at_work(folder))
            return
        except FileNotFoundError:
            continue  # whoever was before us has just removed it
        except RunHeldError as error:
            if time.monotonic() > give_up:
                raise UserError(f"another submission of yours does not end: {error}") from error
        if not told:
            print("waiting for another submission of yours to be sent", file=sys.stderr)
        told = True
        time.sleep(_POLL_SECONDS)


def sent_folders(runs_dir: Path) -> frozenset[Path]:
    """Return the folders of all that this user has sent to Slurm."""
    return frozenset(array.folder for array in sent_arrays(runs_dir))


def sent_since(runs_dir: Path, known: Collection[Path]) -> set[str]:
    """Return the runs, by key, of submissions that are not among the ``known`` folders."""
    arrays = [array for array in sent_arrays(runs_dir) if array.folder not in known]
    return {key for array in arrays for pack in array.packs() for key in pack.run_keys}


@contextlib.contextmanager
def leaving_nothing(folder: Path, places: Collection[Path], store: Path) -> Iterator[None]:
    """Remove what was made for a submission that ended without its ``folder``.

    ``places``: directories that are made on the way, outermost first; ``store``: the copies of
    code. What was there before, or is in use, stays.
    """
    made = [place for place in places if not place.exists()]
    copies = set(store.iterdir()) if store.is_dir() else set()
    try:
        yield
    except BaseException:
        if not folder.exists():
            for copy in set(store.iterdir()) - copies if store.is_dir() else ():
                shutil.rmtree(copy, ignore_errors=True)
            for place in reversed(made):
                with contextlib.suppress(OSError):
                    place.rmdir()
        raise
