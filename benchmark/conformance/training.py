"""Does a run give the same bits packed or alone, interrupted or not? Is it finite in bfloat16?"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save as safetensors_bytes

from benchmark.conformance.compare import copied, first_difference
from benchmark.conformance.findings import CheckFailedError
from benchmark.conformance.lab import LR, Lab
from benchmark.run.directory import RunDir
from benchmark.run.identity import MethodRef, Run
from benchmark.train import state
from benchmark.train.trainee import Trainee


def pack_equals_solo(lab: Lab, ref: MethodRef) -> str:
    """A run beside others ends as it does alone, and its neighbours are not moved by it."""
    run, plain, other = lab.run([ref]), lab.run(), lab.run([ref], lr=2 * LR)
    teacher = copied(lab.teacher.model.state_dict())
    alone, neighbour = lab.start(run), lab.start(plain)
    ticks = lab.train([alone])
    lab.train([neighbour])
    torch.rand(1)  # what the process drew before must not matter
    # Another run of the method comes first: what it writes into shared tensors would show.
    packed = [lab.start(other), lab.start(run), lab.start(plain)]
    lab.train(packed)
    _same("in a pack", alone, packed[1])
    _same("a plain student beside it", neighbour, packed[2])
    place = first_difference(teacher, lab.teacher.model.state_dict())
    if place is not None:
        raise CheckFailedError(f"the shared teacher's {place} was changed")
    if lab.teacher.model.training:
        raise CheckFailedError("the shared teacher was left in train mode")
    return f"3 runs in a pack, {ticks} steps and evaluations, equal to the last bit"


def resume_equals_undisturbed(lab: Lab, ref: MethodRef, stops: Sequence[int] | None = None) -> str:
    """A run that is stopped, written to disk and read again ends as the undisturbed one.

    ``stops``: after how many steps or evaluations; everywhere by default.
    """
    run = lab.run([ref])
    undisturbed = lab.start(run)
    began = undisturbed.epoch
    ticks = lab.train([undisturbed])
    for stop in stops or range(1, ticks):
        first, second = lab.start(run), lab.start(run)
        lab.train([first], stop_after=stop)
        second.load_state(_through_a_file(run, first))
        lab.train([second])
        _same(f"stopped after {stop} of {ticks}", undisturbed, second)
    count = len(stops) if stops else ticks - 1
    within = ", within its first stage too" if began < 1 else ""
    return f"stopped at {count} places of {ticks}{within}, equal to the last bit"


def checkpoint_round_trip(lab: Lab, ref: MethodRef) -> str:
    """A checkpoint holds tensors and plain values, and loads into a fresh run bit for bit."""
    run = lab.run([ref])
    trainee, fresh = lab.start(run), lab.start(run)
    lab.train([trainee], stop_after=lab.images.steps_per_epoch + 1)
    fresh.load_state(_through_a_file(run, trainee))
    place = first_difference(trainee.state(), fresh.state())
    if place is not None:
        raise CheckFailedError(f"{place} is not what was saved")
    kept = trainee.methods.state_dict()
    exported = {name: value.detach().contiguous() for name, value in kept.items()}
    size = len(safetensors_bytes(exported))
    return f"{len(kept)} tensors of its own, {size:,} bytes beside the network"


def finite_in_bf16(lab: Lab, ref: MethodRef) -> str:
    """Under bfloat16 autocast the losses of a short training stay finite."""
    half = Lab(lab.pair, lab.images, precision="bf16")
    said = []
    for where, name in ((lab, "float32"), (half, "bfloat16")):
        trainee = where.start(where.run([ref]))
        if trainee.epoch < 1:
            trainee.end_epoch()
        where.train([trainee], stop_after=1)
        terms = {k: v.item() for k, v in trainee.state()["sums"].items() if k[0] != "/"}
        loss = sum(terms.values()) / lab.images.batch_size
        where.train([trainee])
        said.append(f"{loss:.4g} in {name}")
    return f"first loss {', '.join(said)}; finite for {half.recipe.epochs} epochs"


def _through_a_file(run: Run, trainee: Trainee) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        rundir = RunDir(Path(folder), run.key)
        rundir.path.mkdir()
        state.save(rundir, trainee.state())
        loaded = state.load(rundir)
    assert loaded is not None
    return loaded


def _same(what: str, ours: Trainee, theirs: Trainee) -> None:
    place = first_difference(ours.state(), theirs.state())
    if place is not None:
        raise CheckFailedError(f"{what}: {place} differs from the run trained alone")
