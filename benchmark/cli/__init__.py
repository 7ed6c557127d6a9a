"""The command line. It holds no logic: every command reads its flags and calls the library."""

from __future__ import annotations

import sys


def main() -> None:
    """Run ``bench``: a UserError is one line and exit code 2, a closed pipe is no error."""
    from benchmark.cli.app import app
    from benchmark.errors import UserError

    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(0) from None
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        raise SystemExit(130) from None
