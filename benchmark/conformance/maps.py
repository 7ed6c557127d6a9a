"""Which maps of the shared teacher a method reads, beside those that it names."""

from __future__ import annotations

from benchmark.conformance.findings import CheckFailedError
from benchmark.conformance.lab import Lab
from benchmark.models.features import MAPS, DroppedError, MapName
from benchmark.run.identity import MethodRef


def reads_what_it_names(lab: Lab, ref: MethodRef) -> str:
    """The losses read those maps of the shared teacher that ``teacher_maps`` names, and no other.

    A pack keeps what is named, so a map that nobody reads costs every run beside it memory.
    """
    named = lab.start(lab.run([ref])).teacher_maps
    read = maps_read(lab, ref)
    unnamed = [name for name in read if name not in named]
    if unnamed:
        raise CheckFailedError(
            f"the losses read the teacher's {' and '.join(unnamed)}, which packs drop: name them"
            " in teacher_maps"
        )
    unread = [name for name in MAPS if name in named and name not in read]
    if unread:
        listed = "".join(f'"{name}", ' for name in read).strip()
        raise CheckFailedError(
            f"the losses do not read the teacher's {' and '.join(unread)}: declare teacher_maps ="
            f" ({listed})"
        )
    return ", ".join(read) or "none"


def maps_read(lab: Lab, ref: MethodRef) -> list[MapName]:
    """Return the maps without which a step, of the first stage too, cannot be taken."""
    return [name for name in MAPS if _misses(lab, ref, name)]


def _misses(lab: Lab, ref: MethodRef, name: MapName) -> bool:
    trainee = lab.start(lab.run([ref]))
    taught = None
    if trainee.teacher:
        taught = lab.taught(lab.seen(trainee)[0]).only({other for other in MAPS if other != name})
    try:
        while trainee.epoch <= 1:
            lab.step(trainee, taught=taught)
            trainee.end_epoch()
    except DroppedError:
        return True
    return False
