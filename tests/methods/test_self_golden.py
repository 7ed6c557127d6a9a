"""Losses of networks that teach themselves, and of transfer without data, equal the reference."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.methods import _byot_losses as byot
from benchmark.methods import _mhgd_losses as mhgd
from benchmark.methods import _self_losses as own
from benchmark.methods import _zskt_losses as zskt
from benchmark.methods import tfkd_reg, uskd
from benchmark.methods._peers import divergence, soft_cross_entropy
from benchmark.methods.logit_regression import half_squared_loss, mean_squared_loss
from benchmark.methods.mhgd import clip_share
from benchmark.methods.pskd import pskd_loss
from benchmark.methods.tfkd_self import tfkd_self_loss
from tests.fill import fill_value, rnd
from tests.methods import golden_online as golden
from tests.methods.golden import assert_close

GOLDEN_ONLINE = (
    "byot_code",
    "byot_journal",
    "byot_thesis_T1",
    "byot_thesis_T3",
    "dks",
    "mhgd_estimator",
    "mhgd_transfer",
    "mhgd_transfer_thesis",
    "zskt_generator",
    "zskt_student",
    "zskt_generator_net",
    "zskt_steps",
    "snapshot_code",
    "snapshot_thesis",
    "class_distance_teacher",
    "class_distance_student",
    "logit_regression",
    "logit_regression_zoo",
    "tfkd_reg",
    "tfkd_self",
    "pskd",
    "cskd",
    "ddgsd",
    "dlb",
    "uskd",
)


def classifiers(given: dict[str, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Return four classifiers' logits and features, the deepest last."""
    return [given[f"z{i}"] for i in (1, 2, 3, 4)], [given[f"f{i}"] for i in (1, 2, 3, 4)]


def labels_of(given: dict[str, Tensor]) -> Tensor:
    return given["target"]


def test_byot_as_reimplemented() -> None:
    given = golden.leaves("byot_code")
    z, f = classifiers(given)
    loss = 0.9 * byot.labels_loss(z, labels_of(given))
    loss = loss + 0.1 * byot.soft_label_loss(z[:3], z[3], 3.0)
    loss = loss + 1e-6 * byot.positive_features(f[:3], f[3])
    golden.assert_case("byot_code", loss, given)


def test_byot_of_the_journal() -> None:
    given = golden.leaves("byot_journal") | {
        k: v.requires_grad_() for k, v in golden.inputs("byot_code").items() if k[0] == "f"
    }
    z, f = classifiers(given)
    adapt = nn.ModuleList(nn.Linear(32, 32) for _ in range(3)).double()
    golden.fill("byot_journal", adapt, "adapt")
    loss = F.cross_entropy(z[3], labels_of(given)) + 0.7 * byot.labels_loss(z[:3], labels_of(given))
    loss = loss + 0.3 * byot.soft_label_loss(z[:3], z[3], 3.0, squared=False)
    adapted = [adapt[i](f[i]) for i in (0, 1)]
    loss = loss + 0.03 * byot.root_features(adapted, f[3])
    golden.assert_case("byot_journal", loss, given)
    golden.assert_parameters("byot_journal", adapt, "adapt")


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_byot_as_printed(temperature: float) -> None:
    name = f"byot_thesis_T{temperature:.0f}"
    given = golden.leaves(name) | {
        k: v.requires_grad_() for k, v in golden.inputs("byot_code").items() if k[0] == "f"
    }
    z, f = classifiers(given)
    loss = 0.7 * byot.labels_loss(z, labels_of(given))
    loss = loss + 0.3 * byot.divergences(z[:3], z[3], temperature)
    golden.assert_case(name, loss + 0.03 * byot.squared_features(f[:3], f[3]), given)


def test_the_roots_gradient_at_equal_features_is_finite() -> None:
    features = torch.ones(4, 3, requires_grad=True)
    byot.root_features([features], features.detach().clone()).backward()  # type: ignore[no-untyped-call]
    assert features.grad is not None
    assert features.grad.isfinite().all()


def test_dks() -> None:
    given = golden.leaves("dks")
    heads = [given[f"z{i}"] for i in (1, 2, 3)]
    loss = byot.labels_loss(heads, labels_of(given)) + byot.synergy_loss(heads, 3.0)
    golden.assert_case("dks", loss, given)


def mhgd_parts() -> tuple[mhgd.Attention, mhgd.Estimator]:
    attention = mhgd.Attention(12, 10, 11, 2).double()
    estimator = mhgd.Estimator(12, 10, 11, 2).double()
    golden.fill("mhgd_estimator", attention, "attention")
    return attention, estimator


def test_mhgd_estimator() -> None:
    name = "mhgd_estimator"
    attention, estimator = mhgd_parts()
    given, arrays = golden.inputs(name), golden.case(name)
    golden.fill(name, estimator, "estimator", start=20)
    scores = attention(given["V"], given["Vb"])
    assert_close(scores, arrays["out/S"])
    assert torch.equal(mhgd.kept_heads(given["noise"]), given["keep"])
    graph = scores.softmax(2) * given["keep"]
    assert_close(graph, arrays["out/G_dropped"])
    estimated = estimator(given["Vb"], graph)
    assert_close(estimated, arrays["out/V_hat"])
    loss = mhgd.estimator_loss(estimated, given["V"])
    golden.assert_case(name, loss, {})
    golden.assert_parameters(name, attention, "attention")
    golden.assert_parameters(name, estimator, "estimator")


@pytest.mark.parametrize("name", ["mhgd_transfer", "mhgd_transfer_thesis"])
def test_mhgd_transfer(name: str) -> None:
    attention, _ = mhgd_parts()
    attention.eval().requires_grad_(False)
    teacher, student = golden.inputs("mhgd_estimator"), golden.inputs("mhgd_transfer")
    own_given = {k: student[k].requires_grad_() for k in ("V_student", "Vb_student")}
    ours = attention(own_given["V_student"], own_given["Vb_student"])
    theirs = attention(teacher["V"], teacher["Vb"])
    loss = mhgd.transfer_loss(ours, theirs, squash=name == "mhgd_transfer")
    golden.assert_case(name, loss, own_given)
    assert_close(ours, golden.case("mhgd_transfer")["out/S_student"])


def test_mhgd_share_of_a_gradient() -> None:
    shares = torch.tensor([clip_share(epochs) for epochs in range(6)], dtype=torch.float64)
    assert_close(shares, golden.case("mhgd_transfer")["out/clip_scale_epochs0to5"])


def test_zero_shot_generators_loss() -> None:
    given = golden.leaves("zskt_generator")
    distance = zskt.disagreement(given["z1"], given["z2"])
    assert_close(10 * distance, golden.case("zskt_generator")["out/kl_batchmean"].abs())
    golden.assert_case("zskt_generator", -distance, given)


def test_zero_shot_students_loss() -> None:
    given = golden.leaves("zskt_student")
    student = [given[f"a_s{i}"] for i in range(3)]
    teacher = [given[f"a_t{i}"] for i in range(3)]
    distance = zskt.disagreement(given["z1"], given["z2"].detach())
    loss = distance + 250 * zskt.attention_loss(student, teacher)
    golden.assert_case("zskt_student", loss, given)


def test_zero_shot_generator() -> None:
    name = "zskt_generator_net"
    arrays = golden.case(name)
    generator = zskt.make_generator(100, (3, 32, 32)).double()
    golden.fill(name, generator, "generator")
    with torch.no_grad():
        images = generator(torch.from_numpy(2 * rnd(2099, (4, 100))))
    flat = images.flatten()
    assert_close(images[0, :, 0], arrays["out/image0_row0"])
    assert_close(images.mean((0, 2, 3)), arrays["out/channel_mean"], 1e-8)
    stats = torch.stack([flat.sum(), flat.square().sum(), flat.min(), flat.max()])
    assert_close(stats, arrays["out/image_stats"])


def test_zero_shot_steps() -> None:
    """The student learns from images made after the generator's step, from the same noise."""
    arrays = golden.case("zskt_steps")
    generator = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6)).double()
    student, teacher = nn.Linear(6, 10).double(), nn.Linear(6, 10).double()
    for start, module in ((0, generator), (20, student), (30, teacher)):
        for k, (key, tensor) in enumerate(module.state_dict().items(), start=start):
            tensor.copy_(torch.from_numpy(fill_value(k, key, tuple(tensor.shape))))
    teacher.requires_grad_(False)
    optimizers = {
        "generator": torch.optim.Adam(generator.parameters()),
        "student": torch.optim.Adam(student.parameters()),
    }
    rates = {"generator": 1e-3, "student": 2e-3}

    def step(who: str, module: nn.Module, loss: Tensor, factor: float) -> float:
        optimizer = optimizers[who]
        optimizer.param_groups[0]["lr"] = rates[who] * factor
        optimizer.zero_grad()
        gradients = torch.autograd.grad(loss, list(module.parameters()))
        for p, g in zip(module.parameters(), gradients, strict=True):
            p.grad = g
        nn.utils.clip_grad_norm_(module.parameters(), 5.0)
        optimizer.step()
        return loss.item()

    for t in range(2):
        noise = torch.from_numpy(2 * rnd(2110 + t, (8, 4)))
        factor = (1 + math.cos(math.pi * t / 2)) / 2
        images = generator(noise)
        loss = -zskt.disagreement(student(images), teacher(images))
        seen = [step("generator", generator, loss, factor)]
        for _ in range(3):
            images = generator(noise).detach()
            loss = zskt.disagreement(student(images), teacher(images))
            seen.append(step("student", student, loss, factor))
        assert_close(torch.tensor(seen, dtype=torch.float64), arrays["out/losses"][t])
    assert_close(student.weight, arrays["out/student_w"])
    assert_close(student.bias, arrays["out/student_b"])
    assert_close(generator[0].weight, arrays["out/gen_w"])
    assert_close(generator[1].running_mean, arrays["out/gen_running_mean"])
    assert generator[1].num_batches_tracked == arrays["out/gen_batches"]


def test_snapshot() -> None:
    given = golden.leaves("snapshot_code")
    loss = (1 + 1 / 3) * F.cross_entropy(given["z1"], labels_of(given))
    loss = loss + own.snapshot_loss(given["z1"], given["z2"], 3.0)
    golden.assert_case("snapshot_code", loss, given)


def test_snapshot_with_the_sign_repaired() -> None:
    given = golden.leaves("snapshot_thesis")
    loss = F.cross_entropy(given["z1"], labels_of(given))
    golden.assert_case("snapshot_thesis", loss + divergence(given["z1"], given["z2"]), given)


def test_class_distance() -> None:
    given = golden.leaves("class_distance_teacher")
    features, labels = given["f"], given["target3"]
    logits = features @ given["classifier"].T
    pull = own.pull_loss(features, labels, given["centres"])
    push = own.push_loss(features, labels, given["centres"], 4.0)
    loss = F.cross_entropy(logits, labels) + 0.1 * (pull - push)
    golden.assert_case("class_distance_teacher", loss, given)


def test_class_distance_of_the_student() -> None:
    given = golden.leaves("class_distance_student")
    teacher = golden.inputs("class_distance_teacher")["f"]
    loss = (teacher - given["g"]).square().sum(1).mean()
    golden.assert_case("class_distance_student", loss, given)


def test_logit_regression() -> None:
    given = golden.leaves("logit_regression")
    golden.assert_case("logit_regression", half_squared_loss(given["z1"], given["z2"]), given)
    given = golden.leaves("logit_regression_zoo")
    golden.assert_case("logit_regression_zoo", mean_squared_loss(given["z1"], given["z2"]), given)


def test_tfkd() -> None:
    given = golden.leaves("tfkd_reg")
    labels = labels_of(given)
    probs = tfkd_reg.ideal_probs(labels, given["z1"], 0.99, 20.0)
    assert_close(probs, golden.case("tfkd_reg")["out/q"])
    loss = 0.9 * F.cross_entropy(given["z1"], labels)
    loss = loss + 0.1 * tfkd_reg.tfkd_reg_loss(given["z1"], labels, 20.0, 100.0)
    golden.assert_case("tfkd_reg", loss, given)
    given = golden.leaves("tfkd_self")
    loss = 0.05 * F.cross_entropy(given["z1"], labels)
    loss = loss + 0.95 * tfkd_self_loss(given["z1"], given["z2"], 6.0, 50.0)
    golden.assert_case("tfkd_self", loss, given)


def test_pskd() -> None:
    given, arrays = golden.leaves("pskd"), golden.case("pskd")
    alpha = 0.8 * 150 / 300
    assert alpha == arrays["out/alpha_t"]
    loss = pskd_loss(given["z1"], labels_of(given), given["stored"], alpha)
    golden.assert_case("pskd", loss, given)
    assert_close(given["z1"].softmax(1), arrays["out/stored_after"])


def test_cskd() -> None:
    given = golden.leaves("cskd")
    first, second = given["z1"][:4], given["z1"][4:]
    loss = F.cross_entropy(first, labels_of(given)[:4]) + own.partner_loss(first, second, 4.0)
    golden.assert_case("cskd", loss, given)


def test_ddgsd() -> None:
    given = golden.leaves("ddgsd") | {
        k: golden.inputs("byot_code")[k].requires_grad_() for k in ("f1", "f2")
    }
    labels = labels_of(given)
    loss = own.joint_labels_loss(given["z1"], labels, given["z2"], labels) / 2
    loss = loss + own.both_ways_loss(given["z1"], given["z2"], 3.0)
    loss = loss + 5e-4 * own.mean_feature_loss(given["f1"], given["f2"])
    golden.assert_case("ddgsd", loss, given)


def test_dlb() -> None:
    given = golden.leaves("dlb")
    labels = labels_of(given)
    loss = own.joint_labels_loss(given["z1"], labels, given["z2"], labels)
    loss = loss + own.partner_loss(given["z2"], given["z3"], 3.0)
    golden.assert_case("dlb", loss, given)


def test_uskd() -> None:
    given, arrays = golden.leaves("uskd"), golden.case("uskd")
    weak_head = nn.Linear(32, 10).double()
    golden.fill("uskd", weak_head, "weak")
    weak, logits, labels = weak_head(given["feature"]), given["z1"], labels_of(given)
    assert torch.equal(uskd.ranks(logits, weak, labels).argsort(1), arrays["out/rank"])
    target = uskd.target_loss(logits, labels)
    others = uskd.non_target_loss(logits, weak, labels)
    assert_close(target, arrays["out/target_term"])
    assert_close(others, arrays["out/nontarget_term"])
    golden.assert_case("uskd", target + 0.1 * others + 0.005 * uskd.weak_loss(weak, labels), given)
    golden.assert_parameters("uskd", weak_head, "weak")


def test_soft_cross_entropy_is_a_divergence_and_an_entropy() -> None:
    logits, probs = torch.randn(5, 4, dtype=torch.float64), torch.rand(5, 4, dtype=torch.float64)
    probs = probs / probs.sum(1, keepdim=True)
    entropy = -(probs * probs.log()).sum(1).mean()
    difference = soft_cross_entropy(logits, probs) - divergence(logits, probs.log())
    assert_close(difference, entropy)
