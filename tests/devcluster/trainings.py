"""Real trainings for tests: the digits table, and runs that last as long as a test wants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmark.methods.catalog import add_plugin
from benchmark.planning.matrix import Plan
from benchmark.planning.pack_size import parse_pack_size
from benchmark.planning.packs import make_packs
from benchmark.run.identity import Run
from benchmark.slurm.profile import Profile
from benchmark.slurm.site import Site
from benchmark.submission.hand_over import prepare_plan
from benchmark.submission.slurm import SlurmExecutor
from benchmark.submission.submission import new_submission
from tests.helpers import digits_plan

HERE = Path(__file__).parent
PACED = HERE / "paced.py"
EPOCHS = 24  # of 5 steps, each a second long while it is being disturbed


def paced_plan(data: Path, temperatures: str) -> Plan:
    """One run a temperature, all of one teacher."""
    add_plugin(PACED)
    sets = [
        f"recipe.epochs={EPOCHS}",
        f"recipe.eval_every={EPOCHS}",
        "recipe.schedule.milestones=[16]",
        f"method.paced.temperature={temperatures}",
    ]
    only = ["uses=paced", "column=wrn_16_2-resnet8"]
    return digits_plan(data, only, sets=sets, table=str(HERE / "paced.yaml"))


def executor(**options: Any) -> SlurmExecutor:
    """Return an executor with a profile for the partition whose tasks are preempted."""
    profile = Profile(**{"partition": "low", "time": "30", "mem": "1G", **options})
    return SlurmExecutor(profile, Site())


def submit(plan: Plan, runs: Path, data: Path, **options: Any) -> int:
    """Submit as the command does, one run a task."""
    where = {"runs_dir": runs, "data_dir": data}
    size = parse_pack_size("1")
    chosen = executor(**options)
    return prepare_plan(plan, chosen, pack_size=size, plugins=[PACED], **where).start()


def submit_regardless(run: Run, runs: Path, data: Path) -> None:
    """Submit a run that is queued or trained already, as two people at one moment do."""
    packs = make_packs("paced", [run], [])
    submission = new_submission("paced", packs, runs, data, [PACED])
    chosen = executor()
    chosen.prepare(submission, chosen.queue(runs)).send(False)
