"""Ask the probes of a run after each epoch. No number of the run depends on it.

A run is looked at in eval mode, with torch's random numbers set aside, on the same images every
time: the first ones of its first epoch as training sees them, so that a resumed run records what
an undisturbed one does. What fails is said once and left out: a probe never ends a run.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable

from benchmark.data.batches import Batches
from benchmark.train import probes
from benchmark.train.network import Network
from benchmark.train.observed import Observation, ProbeImages
from benchmark.train.rng import seeded
from benchmark.train.trainee import Trainee

SCHEMA = 1


class Probes:
    """Asks the probes of each run of a pack."""

    def __init__(
        self, batches: Batches, teacher: Network | None, say: Callable[[str], None]
    ) -> None:
        self._shown = ProbeImages(batches, teacher)
        self._say = say
        self._broken: set[tuple[str, str]] = set()

    def ask(self, trainee: Trainee, epoch: int) -> list[str]:
        """Return what a run's probes record of an epoch, one line of JSON each."""
        found = []
        for name in trainee.recipe.probes:
            if (trainee.run.key, name) in self._broken:
                continue
            try:
                line = self._ask(trainee, epoch, name)
            except Exception as error:
                self._broken.add((trainee.run.key, name))
                reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                self._say(f"{trainee.run.key}: probe {name} failed and is left out ({reason})")
            else:
                found += [] if line is None else [line]
        return found

    def _ask(self, trainee: Trainee, epoch: int, name: str) -> str | None:
        module = importlib.import_module(f"{probes.__name__}.{name.replace('-', '_')}")
        began = time.perf_counter()
        trainee.eval()
        objective = trainee.objective
        methods = tuple(zip(objective.names, objective.methods, strict=True))
        with seeded(trainee.run.seed, f"probe {name} {epoch}"):
            seen = module.observe(Observation(trainee.student, methods, self._shown))
        if seen is None:
            return None
        seconds = round(time.perf_counter() - began, 4)
        line = {"schema": SCHEMA, "epoch": epoch, "probe": name, "seconds": seconds, **seen}
        return json.dumps(line, allow_nan=False)
