"""The command line. It holds no logic: every command reads its flags and calls the library."""

from __future__ import annotations

import errno
import sys

# What a disk, its owner or its mount refuses.
_REFUSALS = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EACCES", "EPERM", "EROFS", "EIO", "ENOTDIR")
}


def main() -> None:
    """Run ``bench``: a UserError is one line and exit code 2.

    So is what the machine refuses (a full disk, a file that may not be written); any other
    error is a bug and keeps its traceback.
    """
    from benchmark.cli.app import app
    from benchmark.errors import UserError

    try:
        app()
    except UserError as error:
        _say_error(str(error))
        raise SystemExit(2) from None
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        _say_error(f"{error.filename or 'this machine'}: {error.strerror}")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        raise SystemExit(130) from None


def _say_error(text: str) -> None:
    print(f"error: {' '.join(text.split())}", file=sys.stderr)
