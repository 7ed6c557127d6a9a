"""Is the method's file what it says? Its declaration is read without torch, the class with it."""

from __future__ import annotations

import ast

from benchmark.base import static
from benchmark.base.words import count
from benchmark.conformance.findings import CheckFailedError, listed
from benchmark.conformance.lab import Lab
from benchmark.conformance.listing import read_costs
from benchmark.methods.catalog import MethodInfo
from benchmark.methods.options import DECIDED
from benchmark.models import model_info
from benchmark.models.features import Model
from benchmark.run.identity import MethodRef
from benchmark.train.losses import AnyMethod, part_of


def declared(info: MethodInfo) -> str:
    """Summary and options are documented and every option has a default."""
    if not info.summary:
        raise CheckFailedError(f"{info.path.name} has no docstring: its first line is the summary")
    bare = _undocumented(info)
    if bare:
        raise CheckFailedError(f"without a docstring: {', '.join(bare)}")
    fields = info.options_class.model_fields
    required = [name for name, field in fields.items() if field.is_required()]
    if required:
        raise CheckFailedError(f"options without a default: {', '.join(required)}")
    silent = [name for name, field in fields.items() if not field.description]
    if silent:
        raise CheckFailedError(f"options without a description: {', '.join(silent)}")
    return f"{count(len(fields), 'option')}, all described"


def _undocumented(info: MethodInfo) -> list[str]:
    """Return what of a file's public classes and functions the project's lint would miss."""
    missing = []
    for node in static.parse(info.path).body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef) or node.name.startswith("_"):
            continue
        inner = node.body if isinstance(node, ast.ClassDef) else []
        functions = [item for item in inner if isinstance(item, ast.FunctionDef)]
        for item, name in (node, node.name), *((f, f"{node.name}.{f.name}") for f in functions):
            if not item.name.startswith("_") and ast.get_docstring(item) is None:
                missing.append(name)
    return missing


def measured(info: MethodInfo) -> str:
    """A method of this package has its cost listed, in its present version."""
    if not isinstance(info.version, int):
        return "measured when it moves into benchmark/methods: python -m perf.add_method_costs"
    cost = read_costs([info])[1].get(info.name, {}).get("relative_step_cost")
    if cost is None:
        raise CheckFailedError(
            f"perf/method_costs.json lacks version {info.version}: python -m perf.add_method_costs"
            " measures what is missing"
        )
    return f"{cost:g} steps of the plain student"


def built_as_declared(lab: Lab, info: MethodInfo, ref: MethodRef) -> str:
    """What planning reads from the file agrees with the built method."""
    trainee = lab.start(lab.run([ref]))
    (method,) = trainee.objective.methods
    weight = info.ce_weight(ref.options)
    if method.ce_weight != weight:
        raise CheckFailedError(
            f"ce_weight is {method.ce_weight:g} in the method but {weight:g} by its Options;"
            " derive it in Options alone"
        )
    part = part_of(info.name, method)
    overrides = part.predicts
    if overrides != info.overrides_predict or part.turns != info.takes_turns:
        raise CheckFailedError(
            "predict, forward or turns is defined where planning does not look: in no class body of"
            " the method or of one that it extends by name"
        )
    for name in DECIDED:
        built, planned = getattr(method, name), info.fact(name, ref.options)
        if name == "evaluates":
            built, planned = tuple(built), info.evaluates(ref.options, lab.pair.student)
            # Planning knows nothing of stages that a network does not tell.
            if not model_info(lab.pair.student).stages and set(planned) <= set(built):
                continue
        if built != planned:
            raise CheckFailedError(
                f"{name} is {built!r} in the method and {planned!r} for planning: declare it as a"
                " literal of the class, or as a property of Options"
            )
    if method.has_gradient_rule and not info.has_update:
        raise CheckFailedError("has_gradient_rule is True but the class defines no update")
    for name in ("has_gradient_rule", "clips_gradients"):
        if getattr(method, name) != getattr(info, name)(ref.options):
            raise CheckFailedError(
                f"{name} is {getattr(method, name)} in the method but not for planning: derive it"
                " in Options, under the same name"
            )
    if method.private_teacher and not info.needs_teacher:
        raise CheckFailedError("a private teacher needs needs_teacher = True")
    foreign = [lab.teacher.model] if method.shares_student else []
    _owns_nothing_foreign(method, *(foreign or [trainee.student.model, lab.teacher.model]))
    said = [f"CE weight {weight:g}"]
    said += ["no teacher"] if not info.needs_teacher else []
    said += ["own copy of the teacher in train mode"] if method.private_teacher else []
    said += ["own prediction"] if overrides else []
    said += ["gradient rule"] if method.has_gradient_rule else []
    said += ["turns of its own"] if part.turns else []
    said += ["no images"] if not method.uses_images else []
    said += [f"evaluates {', '.join(method.evaluates)} too"] if method.evaluates else []
    said += [f"first stage of {n} epochs"] if (n := method.prepare_epochs) else []
    return ", ".join(said)


def _owns_nothing_foreign(method: AnyMethod, *networks: Model) -> None:
    foreign = {id(p) for network in networks for p in network.parameters()}
    shared = [name for name, p in method.named_parameters() if id(p) in foreign]
    if shared:
        raise CheckFailedError(
            f"{listed(shared)}: a network's own parameters; keep a copy of them, or the network in"
            " a tuple, since an assigned module becomes the method's own"
        )
