"""The images of a step: left as they were, and further ones that no neighbour can change."""

from __future__ import annotations

from benchmark.base.companion import KINDS, Companion
from benchmark.conformance.compare import copied, first_difference
from benchmark.conformance.findings import CheckFailedError
from benchmark.conformance.lab import Lab
from benchmark.data.batches import Batch
from benchmark.run.identity import MethodRef
from benchmark.train.trainee import Trainee

ALL = frozenset(Companion(kind, number) for kind in KINDS for number in range(3))


class Curious(Trainee):
    """A plain student that asks for further images of every kind and looks at none."""

    @property
    def companions(self) -> frozenset[Companion]:
        """All that a pack may be asked for."""
        return ALL


def images_are_its_own(lab: Lab, ref: MethodRef) -> str:
    """A step writes into none of its images, and the further ones do not depend on the pack.

    A method asks for the same ones throughout, and ends with the same bits beside a run that asks
    for every kind of them.
    """
    run = lab.run([ref])
    trainee = lab.start(run)
    if not trainee.uses_images:
        return "it is given none"
    while trainee.epoch <= 1:
        _step(lab, trainee)
        trainee.end_epoch()
    asked = trainee.companions
    if not asked:
        return "written into none, asks for no further ones"
    alone, packed = lab.start(run), lab.start(run)
    lab.train([alone])
    curious = Curious(lab.run(), lab.world, None)
    lab.train([curious, packed])
    place = first_difference(alone.state(), packed.state())
    if place is not None:
        raise CheckFailedError(f"beside a run that asks for other further images {place} differs")
    return f"written into none; {', '.join(map(_said, sorted(asked)))} in any pack"


def _step(lab: Lab, trainee: Trainee) -> None:
    batch, further = lab.seen(trainee)
    given = {"the batch": batch} | {_said(which): b for which, b in (further or {}).items()}
    before = copied({name: _tensors(part) for name, part in given.items()})
    taught = lab.taught(batch) if trainee.needs_teacher else None
    asked = trainee.companions
    trainee.train_step(batch, taught, further)
    for name, part in given.items():
        place = first_difference(before[name], _tensors(part))
        if place is not None:
            raise CheckFailedError(
                f"a step writes into {name}'s {place}, which a pack's other runs see, too"
            )
    declared = {Companion(*item) for m in trainee.objective.methods for item in m.companions}
    if trainee.epoch >= 1 and declared != asked:
        raise CheckFailedError(
            f"asks for {', '.join(map(_said, sorted(declared))) or 'no further images'} after a"
            " step, and for others before: a pack reads what it asks for when it is built"
        )


def _said(which: Companion) -> str:
    return f"{which.kind} {which.number}"


def _tensors(batch: Batch) -> dict[str, object]:
    return {name: value for name, value in batch._asdict().items() if value is not None}
