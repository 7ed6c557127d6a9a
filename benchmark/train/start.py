"""What every process of a pack does before it trains: versions, threads, data, and one start."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch

from benchmark.base.errors import UserError
from benchmark.base.share import Shard
from benchmark.data.augmentations import augmentation_info
from benchmark.data.batches import Batches
from benchmark.data.datasets import dataset_identity, require_dataset
from benchmark.data.open import open_batches
from benchmark.methods.catalog import method_info
from benchmark.models import model_info
from benchmark.run.identity import ENGINE_VERSION, DatasetRef, Run
from benchmark.run.pack_file import PackFile
from benchmark.train.crew import Crew, fingerprint
from benchmark.train.memory import keep_freed_memory
from benchmark.train.trainee import Trainee


def check_versions(run: Run) -> None:
    """Raise UserError if this code's numbers are not those that a run was planned with."""
    names = [name for name in run.versions if name.startswith("model:")]
    ours: dict[str, int | str] = {n: model_info(n.removeprefix("model:")).version for n in names}
    ours["engine"] = ENGINE_VERSION
    ours["augmentation"] = augmentation_info(run.recipe.augmentation).version
    theirs: dict[str, int | str] = dict(run.versions)
    for method in run.methods:
        ours[method.name] = method_info(method.name).version
        theirs[method.name] = method.version
    for name, version in theirs.items():
        if ours[name] != version:
            raise UserError(
                f"{run.key} was planned with version {version} of {name}, this code has version"
                f" {ours[name]}: its numbers would differ; submit the table again"
            )


def check_processes(run: Run, processes: int) -> None:
    """Raise UserError if a run has fewer replicas than there are processes."""
    replicas = run.recipe.replicas
    if processes > replicas:
        raise UserError(
            f"{run.key} has {replicas} replica{'s' * (replicas != 1)} for {processes} processes;"
            " start no more processes than recipe.replicas"
        )


def prepare_process(run: Run) -> None:
    """Set what a run's recipe says of the process that trains it."""
    if run.recipe.device == "cuda" and not torch.cuda.is_available():
        raise UserError(f"{run.key} wants a CUDA device and this machine has none")
    torch.set_num_threads(run.recipe.threads)
    if run.recipe.device == "cpu":
        keep_freed_memory()
    torch.use_deterministic_algorithms(run.recipe.deterministic)
    torch.backends.cudnn.allow_tf32 = run.recipe.tf32 != "nowhere"
    torch.backends.cuda.matmul.allow_tf32 = run.recipe.tf32 == "everywhere"


def open_data(run: Run, pack: PackFile, share: Shard) -> Batches:
    """Open the data of a run, which must be those that it was planned with, for a process."""
    name = run.dataset.name
    require_dataset(name, pack.data_dir)
    found = DatasetRef(**dataset_identity(name, pack.data_dir))
    if found != run.dataset:
        raise UserError(
            f"the {name} data in {pack.data_dir} is not what the run was planned with"
            f" (digest {found.digest[:12]}, planned {run.dataset.digest[:12]}); submit the table"
            " again"
        )
    recipe = run.recipe
    offered = augmentation_info(recipe.augmentation).readers
    return open_batches(
        name,
        pack.data_dir,
        reader=pack.reader or ("resident" if "resident" in offered else "ffcv"),
        seed=run.seed,
        batch_size=recipe.batch_size,
        augmentation=recipe.augmentation,
        drop_last=recipe.drop_last,
        holdout=recipe.holdout,
        repeats=recipe.repeats,
        crop_size=recipe.crop_size,
        test_interpolation=recipe.test_interpolation,
        mix=recipe.mix,
        label_smoothing=recipe.label_smoothing,
        device=recipe.device,
        channels_last=recipe.channels_last,
        workers=max(1, min(recipe.threads, len(os.sched_getaffinity(0)))),
        share=share,
    )


def cannot_start(crew: Crew, built: Mapping[str, Trainee | Exception]) -> dict[str, str]:
    """Return why runs cannot start, by key: what failed, or differs, in some process.

    All processes call it with what they built; a run that one of them left out is left to others.
    """
    if crew.processes == 1:
        return {}
    own = {}
    for key, found in built.items():
        if isinstance(found, Trainee):
            own[key] = ["", *found.position, fingerprint(found.parameters)]
        else:
            own[key] = [str(found) or type(found).__name__, 0, 0, 0]
    everybody = crew.objects(own)
    problems: dict[str, str] = {}
    for key in {key for one in everybody for key in one}:
        if any(key not in one for one in everybody):
            problems[key] = "another process has taken it"
            continue
        entries = [one[key] for one in everybody]
        reasons = [str(entry[0]) for entry in entries if entry[0]]
        if reasons:
            problems[key] = reasons[0]
        elif any(entry != entries[0] for entry in entries):
            problems[key] = (
                "the processes start from other checkpoints of it: is the runs directory shared"
                " by all nodes?"
            )
    return problems
