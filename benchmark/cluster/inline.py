"""Train in this process, one pack after the other."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmark.cluster.worker import run_pack_file
from benchmark.submission import Submission, summary


class InlineExecutor:
    """Runs packs here and now; Ctrl-C saves the state and leaves."""

    def announce(self, submission: Submission) -> list[str]:
        """Say what will be trained."""
        counts = summary(submission.packs)
        return [f"training {counts['runs']} runs in {counts['packs']} packs, in this process"]

    def start(self, submission: Submission, wait: bool) -> int:
        """Train every pack; there is nothing to wait for afterwards."""
        submission.write()
        code = 0
        with _graceful() as asked:
            for pack in submission.packs:
                outcome = run_pack_file(submission.pack_file(pack), stop=lambda: asked.get("why"))
                for key, reason in outcome.reasons.items():
                    print(f"{key}: {outcome.endings[key]}: {reason}", file=sys.stderr)
                code = max(code, outcome.exit_code)
                if asked:
                    print("submit again to continue", file=sys.stderr)
                    return 1
        return code


@contextmanager
def _graceful() -> Iterator[dict[str, str]]:
    """Turn Ctrl-C and SIGTERM into a request to stop; a second one stops at once."""
    asked: dict[str, str] = {}

    def ask(number: int, _frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked["why"] = signal.Signals(number).name

    before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
