"""What a cluster is asked for: one small YAML file a cluster, within the site's caps.

Keys are spelt as sbatch spells its options. Imports no torch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field, PrivateAttr, model_validator

from benchmark.base.errors import UserError, unknown
from benchmark.base.log import logger, say
from benchmark.base.shipped import shipped, user_folder
from benchmark.base.trust import changed_by_others
from benchmark.base.words import count
from benchmark.base.yamlfile import load_yaml, validate
from benchmark.slurm.further import check_options, parse_options
from benchmark.slurm.notation import gpu_count, megabytes, minutes
from benchmark.slurm.site import Caps, Memory, Site, Time, load_site, spelling
from benchmark.table.recipe import Positive, Strict

PACKAGED = shipped("slurm/profiles")
_EARLY_SECONDS = 60
NO_MEM = "none"
_MEM = "2G"


def _gpus(value: Any) -> Any:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if isinstance(text, str):
        gpu_count(text)
    return text


def _lines(value: Any) -> Any:
    if isinstance(value, str):
        raise ValueError("write a list of lines, each after '- '")
    return value


MemoryOrNone = Annotated[
    str, spelling(lambda text: None if text == NO_MEM else megabytes(text), "4G")
]
Gpus = Annotated[str, BeforeValidator(_gpus)]


class Resources(NamedTuple):
    """What one job asks for; ``gpus`` of a node, as sbatch spells it, "0" for none.

    ``mem``: of the node, NO_MEM if none is asked for; ``mem_per_cpu`` stands in its place. A run's
    processes are the job's tasks: ``tasks`` on each of ``nodes``, each with ``cpus``.
    """

    cpus: int
    gpus: str
    mem: str
    mem_per_cpu: str | None = None
    nodes: int = 1
    tasks: int = 1

    @property
    def processes(self) -> int:
        """How many processes train one run."""
        return self.nodes * self.tasks

    @property
    def all_gpus(self) -> int:
        """How many GPUs a job gets on all its nodes."""
        return gpu_count(self.gpus) * self.nodes

    @property
    def megabytes(self) -> float:
        """The memory on a node; infinity for a whole node's, and if none is asked for."""
        if self.mem_per_cpu is not None:
            return self.cpus * self.tasks * megabytes(self.mem_per_cpu)
        return float("inf") if self.mem == NO_MEM else megabytes(self.mem)

    @property
    def memory(self) -> str:
        """The memory in words."""
        if self.mem_per_cpu is not None:
            return f"{self.mem_per_cpu} a CPU"
        return "memory as the cluster gives it" if self.mem == NO_MEM else self.mem


def check_signal(seconds: int, time: str) -> None:
    """Raise ValueError if a task would be told to end as soon as it starts.

    Slurm looks for limits now and then, and may signal up to a minute early.
    """
    limit = 60 * minutes(time)
    if seconds + _EARLY_SECONDS >= limit:
        early = "" if seconds >= limit else ", less the minute by which Slurm may signal early"
        raise ValueError(f"signal-seconds {seconds} is not less than time {time}{early}")


class Profile(Strict):
    """How this project's jobs are submitted on one cluster.

    What is not set is left to the cluster's defaults, except: ``cpus-per-task`` is then the
    recipe's number of threads, ``mem`` 2G, and ``gpus`` 1 if the recipe trains on cuda.
    ``mem: none`` asks for no memory. ``options``: further options of sbatch (``--nice=100``).
    ``nodes`` and ``ntasks-per-node``: the processes of one run, no more than its replicas; where
    the latter is not set there is one for each GPU that the replicas can use, and one on a CPU.
    ``signal-seconds``: how long before the time limit a task is told to checkpoint and requeue.
    ``data`` and ``runs`` are directories that login and compute nodes share.
    """

    _name: str = PrivateAttr("default")
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    time: Time = "24:00:00"
    gpus: Gpus | None = None
    nodes: Positive = 1
    ntasks_per_node: Positive | None = Field(None, alias="ntasks-per-node")
    cpus_per_task: Positive | None = Field(None, alias="cpus-per-task")
    mem: MemoryOrNone | None = None
    mem_per_cpu: Memory | None = Field(None, alias="mem-per-cpu")
    constraint: str | None = None
    exclude: str | None = None
    nodelist: str | None = None
    exclusive: bool | str = False
    reservation: str | None = None
    licenses: str | None = None
    gres: str | None = None
    hint: str | None = None
    export: str | None = None
    mail_type: str | None = Field(None, alias="mail-type")
    mail_user: str | None = Field(None, alias="mail-user")
    wckey: str | None = None
    clusters: str | None = None
    options: Annotated[tuple[str, ...], BeforeValidator(_lines)] = ()
    setup: Annotated[tuple[str, ...], BeforeValidator(_lines)] = ()
    array_parallelism: Positive | None = Field(None, alias="array-parallelism")
    max_array_size: Positive | None = Field(None, alias="max-array-size")
    max_jobs: Positive | None = Field(None, alias="max-jobs")
    signal_seconds: Positive = Field(90, alias="signal-seconds")
    data: Path | None = None
    runs: Path | None = None

    @model_validator(mode="after")
    def _leaves_time(self) -> Profile:
        check_signal(self.signal_seconds, self.time)
        return self

    @model_validator(mode="after")
    def _says_one_thing(self) -> Profile:
        check_options(self.options, profile_keys())
        if self.mem is not None and self.mem_per_cpu is not None:
            raise ValueError("mem and mem-per-cpu exclude each other")
        if self.gres is not None and re.search(r"(^|,)(gres[:/])?gpu\b", self.gres):
            raise ValueError("gres: write GPUs as gpus, such as 'gpus: a100:1'")
        return self

    @property
    def asked(self) -> dict[str, str | bool]:
        """What is passed on to sbatch as it stands, by its name there."""
        found = {
            name.replace("_", "-"): getattr(self, name)
            for name in _PASSED_ON
            if getattr(self, name) not in (None, False)
        }
        return {**found, **parse_options(self.options)}

    @property
    def name(self) -> str:
        """The name of its file."""
        return self._name

    def resources(self, threads: int, cuda: bool, replicas: int = 1) -> Resources:
        """Return what a job asks for whose recipe uses ``threads`` and perhaps GPUs.

        Raises UserError if its processes would be more than the run's replicas.
        """
        gpus = self.gpus if self.gpus is not None else ("1" if cuda else "0")
        tasks = self.ntasks_per_node
        if tasks is None:
            tasks = max(1, min(gpu_count(gpus) if cuda else 1, replicas // self.nodes))
        if self.nodes * tasks > replicas:
            raise UserError(
                f"profile {self.name}: {self.nodes} node{'s' * (self.nodes > 1)} with {tasks}"
                f" task{'s' * (tasks > 1)} each are more processes than recipe.replicas {replicas}"
            )
        return Resources(
            cpus=self.cpus_per_task or threads,
            gpus=gpus,
            mem=self.mem or (_MEM if self.mem_per_cpu is None else NO_MEM),
            mem_per_cpu=self.mem_per_cpu,
            nodes=self.nodes,
            tasks=tasks,
        )


_PASSED_ON = (
    "constraint",
    "exclude",
    "nodelist",
    "exclusive",
    "reservation",
    "licenses",
    "gres",
    "hint",
    "export",
    "mail_type",
    "mail_user",
    "wckey",
)


def profile_keys() -> set[str]:
    """Return the keys of a profile, as they are spelt there."""
    return {field.alias or name for name, field in Profile.model_fields.items()}


def profile_dirs() -> list[Path]:
    """Return where profiles are looked for, the first place first.

    ./slurm/profiles, ``profiles`` in the user's own folder, then this project's own.
    """
    own = user_folder()
    places = [Path("slurm") / "profiles", *([own / "profiles"] if own else []), PACKAGED]
    return [place for place in places if place.is_dir()]


def profile_files() -> dict[str, Path]:
    """Return the known profiles by name; an earlier place wins."""
    found: dict[str, Path] = {}
    for place in profile_dirs():
        for path in sorted(place.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return found


def load_profile(name: str = "default", site: Site | None = None) -> Profile:
    """Return a profile by name or path, held to the site's caps.

    Its setup lines run in every job. One that another user could have changed is therefore
    refused if it was found by name, and its owner is said if it was named by path. Raises
    UserError for that, for an unknown profile, key or value (with the nearest guess), and if it
    asks for more than the site allows.
    """
    if name.endswith((".yaml", ".yml")) or "/" in name:
        path = Path(name)
        if not path.is_file():
            raise UserError(f"profile {path} does not exist")
        why = _strange(path)
        if why is not None:
            say(f"profile {path}: its setup lines run in your jobs, and {why}")
    else:
        files = profile_files()
        if name not in files:
            raise unknown("profile", name, files)
        path = files[name]
        why = _strange(path)
        if why is not None:
            raise UserError(
                f"profile {name} is {path}, which another user could have changed ({why}); if you"
                f" trust it, name it by path: --profile {path}"
            )
    logger.debug("profile %s", path)
    profile = validate(Profile, load_yaml(path) or {}, str(path))
    profile._name = path.stem
    if profile.clusters not in (None, os.environ.get("SLURM_CLUSTERS")):
        raise UserError(
            f"profile {path.stem} is for the cluster {profile.clusters}: export"
            f" SLURM_CLUSTERS={profile.clusters}, so that all commands ask that one"
        )
    return apply_caps(profile, site or load_site())


def _strange(path: Path) -> str | None:
    """Return how another user could have changed a profile; the installation's own are trusted."""
    if path.resolve().parent == PACKAGED.resolve():
        return None
    return changed_by_others(path)


def profile_as_sent(name: str, options: Any, site: Site) -> Profile:
    """Return the profile that a submission recorded, held to today's caps."""
    profile = validate(Profile, options, f"profile {name} as it was sent")
    profile._name = name
    return apply_caps(profile, site)


def apply_caps(profile: Profile, site: Site) -> Profile:
    """Return the profile with the site's limits if it sets none of its own.

    Raises UserError if it asks for more than a cap.
    """
    caps = site.caps
    _refuse_forbidden(profile, caps)
    profile = profile.model_copy(update=_followed(profile, caps))
    try:
        check_signal(profile.signal_seconds, profile.time)
    except ValueError as error:
        raise UserError(f"profile {profile.name}: {error}, the most that is allowed") from error
    _refuse_above(profile, "time", profile.time, caps.time, minutes)
    for key in ("array_parallelism", "max_array_size", "max_jobs"):
        _refuse_above(profile, key, getattr(profile, key), getattr(caps, key), int)
    for name in (profile.partition or "(default)").split(","):
        if caps.partitions is not None and name not in caps.partitions:
            raise UserError(
                f"profile {profile.name}: partition {name} is not one of those that this site"
                f" allows ({', '.join(caps.partitions)})"
            )
    return profile


def _refuse_forbidden(profile: Profile, caps: Caps) -> None:
    fields = {name: field.alias or name for name, field in Profile.model_fields.items()}
    asked = {*profile.asked, *(fields[name] for name in profile.model_fields_set)}
    for option in caps.forbidden_options:
        if option.removeprefix("--") in asked:
            raise UserError(f"profile {profile.name}: this site does not allow {option}")


def _followed(profile: Profile, caps: Caps) -> dict[str, Any]:
    """Return the site's limits for what a profile leaves open."""
    limits = ("array_parallelism", "max_array_size", "max_jobs")
    found = {name: getattr(profile, name) or getattr(caps, name) for name in limits}
    if caps.time and "time" not in profile.model_fields_set:
        found["time"] = min(profile.time, caps.time, key=minutes)
    if profile.mem is not None or profile.mem_per_cpu is not None:
        return found
    if "mem" in caps.forbidden_options:
        found["mem"] = NO_MEM
    elif caps.mem:
        found["mem"] = min(_MEM, caps.mem, key=megabytes)
    return found


def cap_resources(profile: Profile, resources: Resources, site: Site) -> Resources:
    """Return the resources; UserError if a task would ask for more than the site allows.

    What asks for the same in another way is refused: what it comes to is for Slurm to say.
    """
    caps = site.caps
    _refuse_detours(profile, caps)
    gpus = None if caps.gpus is None else str(caps.gpus)
    _refuse_above(profile, "gpus", resources.gpus, gpus, gpu_count)
    _refuse_above(profile, "cpus_per_task", resources.cpus, caps.cpus_per_task, int)
    if caps.mem is not None and resources.mem_per_cpu is not None:
        if resources.megabytes > megabytes(caps.mem):
            raise UserError(
                f"profile {profile.name}: mem-per-cpu {resources.mem_per_cpu} for"
                f" {count(resources.cpus, 'CPU')} is more than this site allows ({caps.mem})"
            )
    elif resources.mem != NO_MEM:
        _refuse_above(profile, "mem", resources.mem, caps.mem, megabytes)
    return resources


_DETOURS = {
    "gpus": "gpus-per-task gpus-per-socket tres-per-task ntasks-per-gpu",
    "cpus_per_task": "cpus-per-gpu mincpus tres-per-task extra-node-info cores-per-socket",
    "mem": "mem-per-gpu tres-per-task",
}


def _refuse_detours(profile: Profile, caps: Caps) -> None:
    """Refuse options of sbatch, and a whole node, that would pass a cap by."""
    for name, options in _DETOURS.items():
        key = name.replace("_", "-")
        for option in options.split() if getattr(caps, name) is not None else ():
            if option in profile.asked:
                raise UserError(
                    f"profile {profile.name}: this site caps {key} at {getattr(caps, name)}, so"
                    f" --{option} is not allowed here; write {key} in the profile"
                )
        if name != "mem" and getattr(caps, name) is not None and profile.exclusive is True:
            raise UserError(
                f"profile {profile.name}: this site caps {key} at {getattr(caps, name)}, and"
                " exclusive asks for all that a node has; leave it out"
            )


def _refuse_above(
    profile: Profile, key: str, wanted: Any, cap: Any, measure: Callable[[Any], float]
) -> None:
    if wanted is not None and cap is not None and measure(wanted) > measure(cap):
        raise UserError(
            f"profile {profile.name}: {key.replace('_', '-')} {wanted} is more than this site"
            f" allows ({cap})"
        )
