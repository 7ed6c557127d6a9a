"""The losses of ImageNet's and DeiT's recipes against the reference numbers."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from benchmark.methods import build_method
from benchmark.methods.base import Probe, Setup, Step
from benchmark.methods.dist import dist_loss
from benchmark.methods.projector import correlation_distance, normalised
from benchmark.methods.uskd import (
    labels_of,
    non_target_loss,
    target_loss,
    unsmoothed,
    weak_loss,
)
from benchmark.models.features import Features, Model
from benchmark.train.losses import Objective
from tests.golden_imagenet import archive, close, tensors

GOLDEN_IMAGENET = (
    "losses:in",
    "losses:soft_target_ce",
    "losses:label_smoothing_ce",
    "losses:deit_hard",
    "losses:deit_hard_alpha0.3",
    "losses:deit_soft_tau1",
    "losses:deit_soft_tau3",
    "losses:deit_soft_tau3_alpha0.1",
    "losses:deit_soft_tau3_batchmean",
    "losses:deit_none",
    "losses:timm_token_default",
    "losses:timm_token_hard_half",
    "losses:timm_token_soft_T3_half",
    "losses:timm_logit_default",
    "losses:civt",
    "losses:nkd_gamma1.5",
    "losses:nkd_gamma1",
    "losses:nkd_T2",
    "losses:nkd_mix",
    "losses:funmatch_T1",
    "losses:funmatch_T2",
    "losses:funmatch_T10",
    "losses:funmatch_two_teachers",
    "losses:proj_deit_correlation",
    "losses:proj_deit_logsum",
    "losses:proj_deit_logsum_eps0",
    "losses:proj_deit_correlation_global",
    "losses:proj_deit_correlation_split2",
    "losses:uskd_hard",
    "losses:uskd_hard_split2",
    "losses:uskd_mix",
    "losses:uskd_mix_same",
    "losses:uskd_smoothed",
    "losses:dist_global",
    "losses:dist_split2",
)

Inputs = dict[str, Tensor]
CLASSES = 50
HEADS = ("z_cls", "z_dist", "z_inv")


@cache
def _given(root: Path) -> Inputs:
    return tensors(root, "losses", "in")


class Case(NamedTuple):
    """A method with its options, and what its networks say.

    ``student`` and ``teacher``: the arrays that are their heads' logits; ``targets``: the mixed
    labels, if any; ``ce_weight``: the row's own word; ``smoothing``: the recipe's.
    """

    method: str
    options: dict[str, Any] = {}
    student: tuple[str, ...] = ("z_cls",)
    teacher: tuple[str, ...] = ("z_t",)
    targets: str | None = "y_mix"
    ce_weight: float | None = None
    smoothing: float = 0.0


TWO = ("z_cls", "z_dist")
KD = {"ce_weight": 0.0, "weight": 1.0}
NKD = Case("nkd", targets=None, ce_weight=0.0)
CASES = {
    "soft_target_ce": Case("kd", {"ce_weight": 1.0, "weight": 0.0}),
    "label_smoothing_ce": Case(
        "kd", {"ce_weight": 1.0, "weight": 0.0}, targets=None, smoothing=0.1
    ),
    "deit_hard": Case("deit", {}, TWO),
    "deit_hard_alpha0.3": Case("deit", {"alpha": 0.3}, TWO),
    "deit_soft_tau1": Case("deit", {"kind": "soft"}, TWO),
    "deit_soft_tau3": Case("deit", {"kind": "soft", "tau": 3.0}, TWO),
    "deit_soft_tau3_alpha0.1": Case("deit", {"kind": "soft", "tau": 3.0, "alpha": 0.1}, TWO),
    "deit_soft_tau3_batchmean": Case("deit", {"kind": "soft", "tau": 3.0, "per_class": False}, TWO),
    "deit_none": Case("kd", {"ce_weight": 1.0, "weight": 0.0}, TWO),
    "timm_token_default": Case(
        "deit", {"kind": "soft", "per_class": False, "alpha": 1.0}, TWO
    )._replace(ce_weight=1.0),
    "timm_token_hard_half": Case("deit", {}, TWO),
    "timm_token_soft_T3_half": Case("deit", {"kind": "soft", "tau": 3.0, "per_class": False}, TWO),
    "timm_logit_default": Case("kd", {"ce_weight": 1.0, "weight": 1.0, "temperature": 1.0}),
    "civt": Case("coadvise", {}, HEADS, ("z_t", "z_t2")),
    "nkd_gamma1.5": NKD,
    "nkd_gamma1": NKD._replace(options={"gamma": 1.0}),
    "nkd_T2": NKD._replace(options={"temperature": 2.0}),
    "nkd_mix": NKD._replace(options={"gamma": 1.0}, targets="y_mix_hard"),
    "funmatch_T1": Case("kd", {**KD, "temperature": 1.0}),
    "funmatch_T2": Case("kd", {**KD, "temperature": 2.0}),
    "funmatch_T10": Case("kd", {**KD, "temperature": 10.0}),
    "proj_deit_correlation": Case("projector_deit", {}, TWO),
    "proj_deit_logsum": Case(
        "projector_deit", {"distance": "logsum", "norm_eps": 1e-4, "log_eps": 0.0}, TWO
    ),
    "proj_deit_logsum_eps0": Case("projector_deit", {"distance": "logsum", "log_eps": 0.0}, TWO),
    "uskd_hard": Case("uskd", ce_weight=0.0, targets=None),
    "uskd_mix": Case("uskd", ce_weight=0.0, targets="y_mix_hard"),
    "uskd_mix_same": Case("uskd", ce_weight=0.0, targets="y_mix_same"),
}
# The names of arrays under another one in a case's gradients, and of terms that are parts.
ALIASES = {"civt": {"z_dist": "z_conv"}}
PARTS = {
    "civt": {"ce": "ce", "coadvise.advisor1": "kl_conv", "coadvise.advisor2": "kl_inv"},
    "uskd": {"uskd.target": "target", "uskd.non_target": "non_target", "uskd.weak": "weak"},
    "proj": {"ce": "ce", "projector_deit.distance": "distance", "projector_deit.kd": "kl"},
}
WEIGHTS = {"non_target": 0.1}  # parts stand unweighted in the reference
SHAPE = (3, 4, 4)


class _Said(Model):
    """A network that only says what it is told; its head is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, CLASSES)

    @property
    def head(self) -> nn.Linear:
        return self.fc


def _features(
    given: Inputs, heads: tuple[str, ...], pooled: Tensor, maps: tuple[Tensor, ...] = ()
) -> Features:
    each = [given[name] for name in heads]
    mean = torch.stack(each).mean(0) if len(each) > 1 else each[0]
    several = tuple(each) if len(each) > 1 else ()
    return Features(mean, pooled, maps, maps, None, several, given["patch_tokens"])


def _built(case: Case, given: Inputs) -> tuple[Objective, Step, nn.Module]:
    # Of a transformer the middle of five stages counts, its first token.
    middle = given["fea_mid"].unsqueeze(1)
    student = _features(given, case.student, given["fea_mid"], (middle,) * 5)
    teacher = _features(given, case.teacher, given["teacher_map"].mean((2, 3)))
    probes = [Probe(name, _Said(), f) for name, f in (("student", student), ("teacher", teacher))]
    setup = Setup(*probes, CLASSES, given["label"], 8, 1, 0)
    method = build_method(case.method, setup, **case.options).double()
    names = {"embed": "embed", "weak": "uskd"}
    for part, own in names.items():
        if hasattr(method, part):
            layer = getattr(method, part)
            layer.weight = nn.Parameter(given[f"{own}_weight"].clone())
            layer.bias = nn.Parameter(given[f"{own}_bias"].clone())
    targets = None if case.targets is None else given[case.targets]
    step = Step(
        images=torch.zeros(8, *SHAPE),
        labels=given["label"] if targets is None else targets.argmax(1),
        indices=torch.arange(8),
        student=student,
        teacher=teacher,
        epoch=1,
        student_head=probes[0].model.head,
        teacher_head=probes[1].model.head,
        targets=targets,
    )
    objective = Objective([method], [case.method], case.ce_weight, label_smoothing=case.smoothing)
    return objective, step, method


@pytest.mark.parametrize("name", CASES)
def test_a_row_of_the_method_is_the_published_loss(name: str, fixtures: Path) -> None:
    """Terms, their sum, and the gradients of every head, map and adapter."""
    given = {key: value.clone() for key, value in _given(fixtures).items()}
    wanted = (*HEADS, "patch_tokens", "fea_mid")
    for key in wanted:
        given[key].requires_grad_()
    objective, step, method = _built(CASES[name], given)
    terms, _ = objective.terms(step)
    loss = torch.stack([value.reshape(()) for value in terms.values()]).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    expected = archive(fixtures, "losses")
    # Divergences are given as KL in float64; torch's own adds the teacher's part in another order.
    rtol = 1e-7 if name.startswith("funmatch") else 1e-9
    close(loss.detach(), torch.tensor(expected[f"{name}/loss"]).reshape(()), rtol)
    for term, part in PARTS.get(name.split("_")[0], {}).items():
        if term in terms:
            value = terms[term].detach() / WEIGHTS.get(part, 1.0)
            close(value.reshape(()), torch.tensor(expected[f"{name}/{part}"]).reshape(()), 1e-9)
    found = {ALIASES.get(name, {}).get(key, key): given[key].grad for key in wanted}
    for prefix in ("embed", "weak"):
        layer = getattr(method, prefix, None)
        if layer is not None:
            short = "" if prefix == "weak" else "embed_"
            found |= {f"{short}{k}": p.grad for k, p in layer.named_parameters()}
    checked = {key for key in found if f"{name}/grad/{key}" in expected}
    assert checked == {k.split("/")[-1] for k in expected if k.startswith(f"{name}/grad/")}
    for key in checked:
        gradient = found[key]
        assert gradient is not None, key
        theirs = torch.from_numpy(expected[f"{name}/grad/{key}"])
        if key == "embed_bias":  # a batch norm follows: both are rounding and nothing else
            assert max(gradient.abs().max(), theirs.abs().max()) < 1e-12
        else:
            close(gradient, theirs, rtol)


def test_two_teachers_of_funmatch(fixtures: Path) -> None:
    """Their divergences add up: a row of KD for each, here one after the other."""
    given, expected = _given(fixtures), archive(fixtures, "losses")
    given = given | {"z_cls": given["z_cls"].clone().requires_grad_()}
    for teacher in ("z_t", "z_t2"):
        case = CASES["funmatch_T1"]._replace(teacher=(teacher,))
        objective, step, _ = _built(case, given)
        terms, _ = objective.terms(step)
        terms["kd"].backward()  # type: ignore[no-untyped-call]
    gradient = given["z_cls"].grad
    assert gradient is not None
    close(gradient, torch.from_numpy(expected["funmatch_two_teachers/grad/z_cls"]), 1e-7)


@pytest.mark.parametrize("case", ["hard", "mix", "mix_same"])
def test_uskds_soft_labels(case: str, fixtures: Path) -> None:
    """Which classes are labels, and the weights of the target term."""
    given, expected = _given(fixtures), archive(fixtures, "losses")
    labels = (
        given["label"] if case == "hard" else given[f"y_{case}" if case != "mix" else "y_mix_hard"]
    )
    classes, values = labels_of(labels)
    assert classes.tolist() == expected[f"uskd_{case}/labels"].tolist()
    squared = given["z_cls"].softmax(1).gather(1, classes).square()
    weight = (squared + values - squared.mean(0)).masked_fill(values == 0, 0.0)
    close(weight, torch.from_numpy(expected[f"uskd_{case}/soft_target"]))


def test_uskd_of_smoothed_labels(fixtures: Path) -> None:
    """Without a label of value 0: what the loss would be if the smoothing were left in."""
    given, expected = _given(fixtures), archive(fixtures, "losses")
    weak = given["fea_mid"] @ given["uskd_weight"].T + given["uskd_bias"]
    found = {
        "target": target_loss(given["z_cls"], given["y_mix"]),
        "non_target": non_target_loss(given["z_cls"], weak, given["y_mix"]),
        "weak": 0.005 * weak_loss(weak, given["y_mix"]),
    }
    for part, value in found.items():
        close(value, torch.tensor(expected[f"uskd_smoothed/{part}"]).reshape(()), 1e-9)


def test_smoothed_targets_lose_their_smoothing(fixtures: Path) -> None:
    """The recipe smooths what it mixes, and USKD's labels are the mixed ones alone."""
    given = _given(fixtures)
    close(unsmoothed(given["y_mix"]), given["y_mix_hard"], 1e-12)
    assert torch.equal(unsmoothed(given["y_mix_same"]), given["y_mix_same"])
    assert torch.equal(unsmoothed(torch.tensor([[0.95, 0.05]])), torch.tensor([[0.95, 0.05]]))
    single = unsmoothed(given["y_mix"].float())
    assert ((single == 0) == (given["y_mix_hard"] == 0)).all()


def _halves(loss: Callable[[Tensor, Tensor], Tensor], given: Inputs) -> Tensor:
    """The mean over two processes that each saw half of the batch."""
    s, t = given["z_cls"], given["z_t"]
    return (loss(s[:4], t[:4]) + loss(s[4:], t[4:])) / 2


@pytest.mark.parametrize("case", ["dist_global", "dist_split2"])
def test_dist_of_a_whole_and_of_a_local_batch(case: str, fixtures: Path) -> None:
    given, expected = _given(fixtures), archive(fixtures, "losses")
    given = given | {"z_cls": given["z_cls"].clone().requires_grad_()}

    def loss(s: Tensor, t: Tensor) -> Tensor:
        return dist_loss(s, t, 1.0)

    whole = case == "dist_global"
    found = loss(given["z_cls"], given["z_t"]) if whole else _halves(loss, given)
    found.backward()  # type: ignore[no-untyped-call]
    gradient = given["z_cls"].grad
    assert gradient is not None
    close(found.reshape(()), torch.tensor(expected[f"{case}/loss"]).reshape(()), 1e-7)
    close(gradient, torch.from_numpy(expected[f"{case}/grad/z_cls"]), 1e-7)


def _sides(given: Inputs) -> tuple[Tensor, Tensor]:
    tokens, weight = given["patch_tokens"], given["embed_weight"]
    return tokens.mean(1) @ weight.T + given["embed_bias"], given["teacher_map"].mean((2, 3))


@pytest.mark.parametrize(("case", "parts"), [("global", 1), ("split2", 2)])
def test_the_correlation_of_a_local_batch(case: str, parts: int, fixtures: Path) -> None:
    found = []
    sides = _sides(_given(fixtures))
    for s, t in zip(*(side.chunk(parts) for side in sides), strict=True):
        own = normalised(s, "batch", 1e-30), normalised(t, "batch", 1e-30)
        found.append(correlation_distance(*own, 4.0, 1e-5))
    expected = archive(fixtures, "losses")[f"proj_deit_correlation_{case}/loss"]
    close(torch.stack(found).mean(), torch.tensor(expected).reshape(()), 1e-9)


def test_uskd_over_two_processes(fixtures: Path) -> None:
    """The batch mean of the squared confidence is that of the local batch."""
    given, expected = _given(fixtures), archive(fixtures, "losses")
    found = []
    for part in (slice(0, 4), slice(4, 8)):
        local = given | {k: given[k][part] for k in ("z_cls", "z_t", "fea_mid", "label")}
        local |= {k: given[k][part] for k in ("patch_tokens", "teacher_map")}
        objective, step, _ = _built(CASES["uskd_hard"], local)
        found.append(torch.stack(list(objective.terms(step)[0].values())).sum())
    loss = torch.stack(found).mean()
    close(loss, torch.tensor(expected["uskd_hard_split2/loss"]).reshape(()), 1e-9)
