"""The command line. It holds no logic: every command reads its flags and calls the library."""

from __future__ import annotations

import errno
import io
import sys
from typing import Any

# What a disk, its owner or its mount refuses.
_REFUSALS = {
    getattr(errno, name)
    for name in (
        *("ENOSPC", "EDQUOT", "EFBIG", "EACCES", "EPERM", "EROFS", "EIO", "ENOTDIR"),
        *("ENAMETOOLONG", "ELOOP", "ESTALE", "ETIMEDOUT", "EISDIR"),
    )
}


def main() -> None:
    """Run ``bench``: a UserError is one line and exit code 2.

    So is an option that does not exist, and what the machine refuses (a full disk, a file that
    may not be written); any other error is a bug and keeps its traceback.
    """
    from typer import Abort, BadParameter

    from benchmark.base.errors import UserError
    from benchmark.base.log import reporting
    from benchmark.cli.app import app

    for stream in (sys.stdout, sys.stderr):
        # Terminals that are not UTF-8, and names that are not, get escapes instead of a traceback.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # typer has a copy of click of its own, whose place differs between its releases.
    usage_error: type[Exception] = BadParameter.__mro__[1]
    try:
        with reporting():
            raise SystemExit(app(standalone_mode=False) or 0)
    except usage_error as error:
        _say_usage(error)
        raise SystemExit(2) from None
    except UserError as error:
        _say_error(str(error))
        raise SystemExit(2) from None
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        _say_error(f"{error.filename or 'this machine'}: {error.strerror}")
        raise SystemExit(2) from None
    except RuntimeError as error:
        if not str(error).startswith("Symlink loop"):  # Path.resolve's, before Python 3.13
            raise
        _say_error(str(error))
        raise SystemExit(2) from None
    except (KeyboardInterrupt, Abort):
        print("stopped", file=sys.stderr)
        raise SystemExit(130) from None


def _say_usage(error: Any) -> None:
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return
    command = error.ctx.command_path if error.ctx else "bench"
    _say_error(f"{error.format_message()} (see `{command} --help`)")


def _say_error(text: str) -> None:
    from benchmark.base.words import printable

    print(f"error: {printable(' '.join(text.split()))}", file=sys.stderr)
