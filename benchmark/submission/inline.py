"""Train in this process, one pack after the other."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Mapping

from benchmark.base.errors import UserError
from benchmark.base.machine import memory_mb, visible_cpus, visible_gpus
from benchmark.planning.device_estimate import estimate
from benchmark.planning.pack_size import Limits
from benchmark.run.identity import Run
from benchmark.slurm.profile import Resources
from benchmark.submission.at_work import at_work
from benchmark.submission.sent import paused
from benchmark.submission.submission import Submission, summary
from benchmark.submission.worker import run_pack_file, stop_on_signal

_POLL_SECONDS = 1.0


class InlineExecutor:
    """Runs packs here and now; Ctrl-C saves the state and leaves, a second one leaves at once."""

    def announce(self, submission: Submission) -> list[str]:
        """Say what will be trained."""
        share = Resources(visible_cpus(), str(min(1, len(visible_gpus()))), "0")
        shares = {pack.id: share for pack in submission.packs}
        return [
            f"{summary(submission.packs)}, in this process",
            estimate(submission.packs, shares, submission.runs_dir).words(),
        ]

    def limits(self, run: Run) -> Limits:
        """Return the memory of this machine."""
        return Limits(memory_mb=memory_mb())

    def start(self, submission: Submission, wait: bool) -> int:
        """Train every pack; there is nothing to wait for afterwards."""
        submission.write()
        code = 0
        stops = stop_on_signal(signal.SIGINT, signal.SIGTERM, insisting=_leave)
        with at_work(submission.folder), stops as asked:
            for pack in submission.packs:
                _wait_while_paused(submission, asked)
                if asked:
                    print(f"stopped: {asked['why']}; submit again to continue", file=sys.stderr)
                    return 1
                try:
                    outcome = run_pack_file(
                        submission.pack_file(pack), stop=lambda: asked.get("why")
                    )
                except UserError as error:  # this pack's; the others may be well
                    print(f"{pack.label}: {error}", file=sys.stderr)
                    code = 1
                    continue
                code = max(code, outcome.exit_code)
        if asked and code:
            print("submit again to continue", file=sys.stderr)
        return code


def _wait_while_paused(submission: Submission, asked: Mapping[str, str]) -> None:
    """Return once `bench resume` lets the next pack start, or when asked to stop."""
    told = False
    while not asked and (reason := paused(submission.folder)) is not None:
        if not told:
            print(f"{reason}; `bench resume` continues", file=sys.stderr)
        told = True
        time.sleep(_POLL_SECONDS)


def _leave() -> None:
    raise KeyboardInterrupt
