"""Is the method's file what it says? Its declaration is read without torch, the class with it."""

from __future__ import annotations

from benchmark.base.words import count
from benchmark.conformance.findings import CheckFailedError, listed
from benchmark.conformance.lab import Lab
from benchmark.methods.base import Method
from benchmark.methods.catalog import MethodInfo
from benchmark.models.features import Model
from benchmark.run.identity import MethodRef
from benchmark.train.losses import AnyMethod


def declared(info: MethodInfo) -> str:
    """Summary and options are documented and every option has a default."""
    if not info.summary:
        raise CheckFailedError(f"{info.path.name} has no docstring: its first line is the summary")
    fields = info.options_class.model_fields
    required = [name for name, field in fields.items() if field.is_required()]
    if required:
        raise CheckFailedError(f"options without a default: {', '.join(required)}")
    silent = [name for name, field in fields.items() if not field.description]
    if silent:
        raise CheckFailedError(f"options without a description: {', '.join(silent)}")
    return f"{count(len(fields), 'option')}, all described"


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
    overrides = type(method).predict is not Method.predict
    if overrides != info.overrides_predict:
        raise CheckFailedError("predict is not defined in the method's own class body")
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
    _owns_nothing_foreign(method, trainee.student.model, lab.teacher.model)
    said = [f"CE weight {weight:g}"]
    said += ["no teacher"] if not info.needs_teacher else []
    said += ["own copy of the teacher in train mode"] if method.private_teacher else []
    said += ["own prediction"] if overrides else []
    said += ["gradient rule"] if method.has_gradient_rule else []
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
