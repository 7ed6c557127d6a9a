"""The first step of a task: take the copy of the code to a folder of its own, and run that.

The copy that was taken at submission lies in a runs directory that others may write too. Whoever
may write a folder above it can put another one in its place, between any check and what follows.
So a task reads the copy once, compares its digest with the one that the script holds (Slurm
keeps the script), writes what it has read to a private folder of its node, and starts Python
there. That folder goes when the task ends; what a killed one left goes when another one starts.

This file's text is given to ``python -I -c`` and must import nothing of the package.
"""

import atexit
import contextlib
import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
import time

BESIDE = ("origin.json", "changes.diff")  # what a copy holds besides the code
MOST = 25_000_000  # bytes; a copy has less, see snapshot.py
PLACE = "BENCH_OWN_CODE"
PREFIX = "bench-code-"
FEW = 3  # folders that a start removes: more would keep it waiting
YOUNG = 60.0  # seconds; a folder that is being made is not held yet


def digest_of(contents: dict[str, bytes]) -> str:
    """Return the digest of files by their paths."""
    found = hashlib.sha256()
    for name, content in sorted(contents.items()):
        found.update(f"{name}\0{len(content)}\0".encode() + content)
    return found.hexdigest()


def read_copy(code: str) -> dict[str, bytes]:
    """Return the files of a copy of the code by their paths in it. Raises OSError."""
    contents: dict[str, bytes] = {}
    left = MOST

    def refuse(error: OSError) -> None:
        raise error

    for folder, inner, files in os.walk(code, onerror=refuse):
        inner[:] = [name for name in inner if name != "__pycache__"]
        for path in (os.path.join(folder, name) for name in files):
            name = os.path.relpath(path, code)
            if name in BESIDE or left <= 0:
                continue
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as file:
                contents[name] = file.read(left)
            left -= len(contents[name])
    return contents


def write_copy(contents: dict[str, bytes]) -> str:
    """Write files to a new folder that the user alone may enter; return it. Raises OSError.

    Python takes a path with a colon for two, and would import from neither.
    """
    among = (tempfile.gettempdir(), "/dev/shm", os.getcwd())
    places = [place for place in among if os.pathsep not in place]
    if not places:
        raise OSError(f"no temporary folder without '{os.pathsep}' in its path")
    while True:
        place = ""
        try:
            place = tempfile.mkdtemp(prefix=PREFIX, dir=places.pop(0))
            for name, content in contents.items():
                path = os.path.join(place, name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "wb") as file:
                    file.write(content)
            return place
        except OSError:  # full, perhaps
            if place:
                shutil.rmtree(place, ignore_errors=True)
            if not places:
                raise


def hold(place: str) -> None:
    """Hold a folder as long as this process lives, whatever it becomes."""
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    os.set_inheritable(descriptor, True)


def sweep(parent: str) -> None:
    """Remove a few of the user's folders that nobody holds: their tasks were killed."""
    removed = 0
    with contextlib.suppress(OSError):
        for name in os.listdir(parent):
            if removed == FEW:
                break
            if not name.startswith(PREFIX):
                continue
            with contextlib.suppress(OSError):
                place = os.path.join(parent, name)
                descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    found = os.fstat(descriptor)
                    if found.st_uid == os.geteuid() and time.time() - found.st_mtime > YOUNG:
                        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        shutil.rmtree(place, ignore_errors=True)
                        removed += 1
                finally:
                    os.close(descriptor)


def words(code: os.PathLike[str], digest: str) -> list[str]:
    """Return Python's options that start what follows them from a copy of the code."""
    with open(__file__, encoding="utf-8") as file:
        return ["-I", "-u", "-c", file.read(), str(code), digest]


def start(code: str, digest: str, command: list[str]) -> None:
    """Become ``python COMMAND`` with the code first on its path. Ends with a line if it cannot."""
    try:
        contents = read_copy(code)
    except OSError as error:
        raise SystemExit(f"the copy of the code {code} is gone ({error}): submit again") from None
    if digest_of(contents) != digest:
        raise SystemExit(f"{code} is not the code that was submitted: somebody changed it")
    sweep(tempfile.gettempdir())
    try:
        place = write_copy(contents)
        hold(place)
    except OSError as error:
        raise SystemExit(f"no room for a copy of the code: {error}") from None
    path = [place, *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ.update({"PYTHONPATH": os.pathsep.join(path), PLACE: place})
    os.execv(sys.executable, [sys.executable, "-P", "-u", *command])


def leave_with_it() -> None:
    """Remove the folder when this process ends."""
    place = os.environ.get(PLACE)
    if place is not None:
        atexit.register(shutil.rmtree, place, ignore_errors=True)


if __name__ == "__main__":
    start(sys.argv[1], sys.argv[2], sys.argv[3:])
