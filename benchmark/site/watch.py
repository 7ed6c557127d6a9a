"""Keep a report up to date while runs end."""

from __future__ import annotations

import time

from benchmark.base.log import say
from benchmark.monitor.status import refresh_seconds
from benchmark.site.build import SiteBuilder

LEAST_SECONDS = 2.0


def watch(builder: SiteBuilder, every: float) -> None:
    """Write the report anew every so many seconds, until interrupted.

    Slurm is asked no more often than the site allows. When it ends, open pages stop asking.
    """
    queue_age = refresh_seconds()
    said = ""
    try:
        while True:
            began = time.monotonic()
            site = builder.write(queue_age)
            told = f"{site.index}: {site.tables} tables, {site.runs} runs"
            if told != said:
                say(told)
                said = told
            time.sleep(max(LEAST_SECONDS, every - (time.monotonic() - began)))
    finally:
        builder.end()
