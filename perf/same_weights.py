"""Do two states of the code train the same weights? Short runs of both, compared bit for bit.

    python -m perf.same_weights FOLDER ONE OTHER

FOLDER holds CIFAR-100's official pickles (or a subset of them). ONE and OTHER are checkouts
(`git worktree add`), or files that ``--write`` left of a checkout. Each trains, by the command
line of its own code: the digits table for two epochs; all rows of CIFAR-100's resnet32x4-resnet8x4
for three steps; and on the digits FT, AB, SimKD, CRD, DOT and a plateau recipe with held-out
images. What is compared is every trained network with all that its methods keep, and every
record's losses and accuracies. About two minutes a checkout on one core.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

IMAGES = {"train": 160, "test": 40}
COMMAND = "import sys; sys.path.insert(0, sys.argv.pop(1)); from benchmark.cli import main; main()"
SHORT = ("recipe.epochs=2", "recipe.eval_every=1", "recipe.schedule.milestones=[1]")
STEPS = ("recipe.epochs=1", "recipe.batch_size=64", "recipe.threads=1")
EPOCHS = ("recipe.epochs=3", "recipe.eval_every=1")
COMPARED = ("epoch", "lr", "losses", "train_top1", "test_top1", "test_loss", "val_top1")
TABLE = """
schema: 1
name: special
base: digits
rows:
  - {name: FT, group: special, methods: [{ft: {prepare_epochs: 2}}]}
  - {name: AB, group: special, methods: [{ab: {prepare_epochs: 2}}]}
  - {name: SimKD, group: special, methods: [simkd]}
  - {name: CRD, group: special, methods: [{crd: {num_negatives: 32}}, kd], ce_weight: 1.0}
  - {name: DOT, group: special, methods: [dot]}
  - name: Plateau
    group: special
    methods: [kd]
    recipe: {holdout: 20, schedule: {kind: plateau, patience: 1, stop_patience: 2}}
"""


def subset(folder: Path, target: Path) -> None:
    """Write the first images of CIFAR-100's pickles as pickles of the same form."""
    target.mkdir()
    (target / "meta").write_bytes((folder / "meta").read_bytes())
    for split, count in IMAGES.items():
        content = pickle.loads((folder / split).read_bytes(), encoding="latin1")
        short = {k: v if isinstance(v, str) else v[:count] for k, v in content.items()}
        (target / split).write_bytes(pickle.dumps(short))


def bench(checkout: Path, work: Path, *args: str) -> None:
    """Run a checkout's command line; its output is shown if it fails."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    env |= {"BENCH_DATA": str(work / "data"), "BENCH_RUNS": str(work / "runs")}
    env |= {"OMP_NUM_THREADS": "1", "BENCH_TEACHERS": str(work / "none"), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-c", COMMAND, str(checkout), *args]
    ended = subprocess.run(command, cwd=checkout, env=env, capture_output=True, text=True)
    if ended.returncode:
        sys.exit(f"{checkout}: bench {' '.join(args)}\n{ended.stdout}{ended.stderr}")


def train(checkout: Path, folder: Path) -> dict[str, dict[str, Any]]:
    """Return by run what its short training left: the digest of its weights, its records."""
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        subset(folder, work / "cifar")
        (work / "special.yaml").write_text(TABLE, encoding="utf-8")
        submit = ("submit", "--cluster", "inline", "--seeds", "0", "--table")
        bench(checkout, work, "data", "write", "digits")
        bench(checkout, work, "data", "write", "cifar100", str(work / "cifar"), "--allow-altered")
        bench(checkout, work, *submit, "digits", *sets(SHORT))
        column = "column=resnet32x4-resnet8x4"
        bench(checkout, work, *submit, "cifar100", "--only", column, *sets(STEPS))
        columns = ("--only", "column=wrn_16_2-resnet8", "--only", "row!=Teacher")
        bench(checkout, work, *submit, str(work / "special.yaml"), *columns, *sets(EPOCHS))
        runs = sorted(path.parent for path in work.glob("runs/*/result.json"))
        return {run.name: left_by(run) for run in runs}


def sets(values: tuple[str, ...]) -> list[str]:
    return [part for value in values for part in ("--set", value)]


def left_by(run: Path) -> dict[str, Any]:
    lines = (run / "records.jsonl").read_text(encoding="utf-8").splitlines()
    records = [{k: v for k, v in json.loads(line).items() if k in COMPARED} for line in lines]
    return {"weights": tensors_of(run), "records": records}


def tensors_of(run: Path) -> dict[str, str]:
    """Return a digest of every tensor that a run left, in whichever file its code puts it."""
    found = {}
    for name in ("student.safetensors", "extras.safetensors"):
        path = run / name
        if not path.exists():
            continue
        content = path.read_bytes()
        start = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:start])
        header.pop("__metadata__", None)
        for tensor, about in header.items():
            first, end = (start + place for place in about["data_offsets"])
            digest = hashlib.sha256(content[first:end]).hexdigest()
            found[tensor] = f"{about['dtype']} {about['shape']} {digest}"
    return found


def state_of(place: Path, folder: Path) -> dict[str, dict[str, Any]]:
    """Return what a checkout trains, or trained when its file was written."""
    if place.is_file():
        found: dict[str, dict[str, Any]] = json.loads(place.read_text(encoding="utf-8"))
        return found
    return train(place.resolve(), folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="cifar-100-python")
    parser.add_argument("one", type=Path)
    parser.add_argument("other", type=Path, nargs="?")
    parser.add_argument("--write", type=Path, help="keep what ONE trained in this file")
    asked = parser.parse_args()
    one = state_of(asked.one, asked.folder)
    if asked.write:
        asked.write.write_text(json.dumps(one, indent=1, sort_keys=True), encoding="utf-8")
    if asked.other is None:
        return
    other = state_of(asked.other, asked.folder)
    differing = [name for name in sorted({*one, *other}) if one.get(name) != other.get(name)]
    for name in differing:
        missing = name not in one or name not in other
        print(f"{'MISSING' if missing else 'DIFFERS'}  {name}")
        for part in () if missing else ("weights", "records"):
            if one[name][part] != other[name][part]:
                print(f"         its {part}")
    print(f"{len(one)} and {len(other)} runs, {len(differing)} of them not the same")
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()
