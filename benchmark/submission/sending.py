"""One submission to a cluster at a time, and no trace of one that came to nothing.

Two submissions that look at one moment both find the same runs missing. Each therefore holds a
lease while it sends, and first looks at what was sent since it looked. Imports no torch.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.base.files import shared_directory
from benchmark.base.inside import check_own, remove
from benchmark.base.log import say
from benchmark.base.trust import own_name
from benchmark.base.words import count
from benchmark.run.lease import RunHeldError
from benchmark.submission.folder import Folder, submissions_dir
from benchmark.submission.marks import at_work
from benchmark.submission.sent import sent_arrays
from benchmark.submission.snapshot import code_store

_POLL_SECONDS = 0.5
# Longer than sbatch is repeated for while slurmctld does not answer.
_PATIENCE_SECONDS = 900.0


def sent_meanwhile(keys: Collection[str], runs_dir: Path, known: Collection[Folder]) -> bool:
    """Tell whether another submission sent all of these runs since ``known`` were all there were.

    Raises UserError if it sent some of them.
    """
    arrays = [array for array in sent_arrays(runs_dir) if array.folder not in known]
    new = {key for array in arrays for work in array.works() for key in work.keys}
    theirs = new.intersection(keys)
    if theirs and len(theirs) < len(set(keys)):
        raise UserError(
            f"another submission of yours sent {len(theirs)} of these"
            f" {count(len(set(keys)), 'run')} at this moment: submit again for the rest"
        )
    return bool(theirs)


@contextlib.contextmanager
def sending(runs_dir: Path) -> Iterator[None]:
    """Wait until no other submission of this user is being sent, and keep others waiting.

    Raises UserError if another one takes too long, or the directory cannot be written.
    """
    folder = submissions_dir(runs_dir) / f".sending-{own_name()}"
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
            check_own(folder)  # what another user put there is not written in
            held.enter_context(at_work(folder))
            return
        except FileNotFoundError:
            continue  # whoever was before us has just removed it
        except FileExistsError as error:
            raise UserError(f"{folder} is no folder: remove it") from error
        except RunHeldError as error:
            if time.monotonic() > give_up:
                raise UserError(f"another submission of yours does not end: {error}") from error
        if not told:
            say("waiting for another submission of yours to be sent")
        told = True
        time.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def leaving_nothing(folder: Path, runs_dir: Path) -> Iterator[None]:
    """Remove what was made for a submission that ended without its ``folder``.

    What was there before, or is in use, stays.
    """
    store = code_store(runs_dir)
    places = (runs_dir, submissions_dir(runs_dir), store.parent, store)
    made = [place for place in places if not place.exists()]
    copies = set(store.iterdir()) if store.is_dir() else set()
    try:
        yield
    except BaseException:
        if not folder.exists():
            for copy in set(store.iterdir()) - copies if store.is_dir() else ():
                with contextlib.suppress(OSError, UserError):
                    remove(runs_dir.resolve(), copy)
            for place in reversed(made):
                with contextlib.suppress(OSError):
                    place.rmdir()
        raise
