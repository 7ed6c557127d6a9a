"""What the online, self and data-free methods do with networks, images, turns and epochs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.base.companion import Companion
from benchmark.base.errors import UserError
from benchmark.conformance.images import FewImages, digit_images
from benchmark.conformance.lab import Lab, method_ref
from benchmark.conformance.pairs import Pair
from benchmark.data.batches import Batch
from benchmark.methods.mhgd import clipped_to
from benchmark.methods.seen import NO_FEATURES, Step
from benchmark.models.features import Model
from benchmark.train.trainee import Trainee
from tests.methods import golden_online
from tests.methods.test_golden_coverage import claimed

PAIR = Pair("wrn_16_2", "resnet8")
# Cases that no method implements, and why.
UNCLAIMED = {"rocket_eq12_literal": "a misprint: a softmax against logits, over a sample count"}


def test_every_case_is_claimed_or_has_a_reason() -> None:
    names = claimed("GOLDEN_ONLINE")
    assert golden_online.case_names() - names == set(UNCLAIMED)
    assert names - golden_online.case_names() == set()


def lab(pair: Pair = PAIR, images: FewImages | None = None) -> Lab:
    return Lab(pair, images or digit_images(20, 8, 8))


def started(name: str, pair: Pair = PAIR, **options: Any) -> tuple[Lab, Trainee, Any]:
    place = lab(pair)
    trainee = place.start(place.run([method_ref(name, **options)]))
    return place, trainee, trainee.objective.methods[0]


def one_step(place: Lab, trainee: Trainee) -> None:
    place.step(trainee, place.taught(place.batch()) if trainee.teacher else None)


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def moved(module: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {n for n, p in module.named_parameters() if not torch.equal(p.detach(), before[n])}


# -- networks that are trained together -------------------------------------------------------


@pytest.mark.parametrize("updates", ["simultaneous", "alternating"])
@pytest.mark.parametrize("count", [2, 3])
def test_every_peer_of_mutual_learning_moves(updates: str, count: int) -> None:
    place, trainee, method = started("dml", num_networks=count, updates=updates)
    before, own = weights(method), weights(trainee.student.model)
    one_step(place, trainee)
    assert moved(method, before) == set(before)
    assert moved(trainee.student.model, own) == set(own)
    assert len(method.peers) == count - 1


def test_peers_start_apart() -> None:
    _, trainee, method = started("dml", num_networks=3)
    first = [next(n.parameters()) for n in (trainee.student.model, *method.peers)]
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[1], first[2])


def test_a_peer_may_be_the_pairs_network() -> None:
    _, _, method = started("dml", peer="pair")
    assert type(method.peers[0]).__name__ == "WideResNet"


def test_kdcls_peers_see_views_of_their_own() -> None:
    place, trainee, method = started("kdcl", num_networks=3)
    assert trainee.companions == {Companion("view", 1), Companion("view", 2)}
    seen: list[Tensor] = []
    for peer in method.peers:
        peer.register_forward_pre_hook(lambda *_: None)
        original = peer.features

        def noted(images: Tensor, original: Any = original) -> Any:
            seen.append(images)
            return original(images)

        peer.features = noted
    one_step(place, trainee)
    assert not torch.equal(seen[0], place.batch().images)
    assert not torch.equal(seen[0], seen[1])


def test_the_general_mixture_is_renewed_by_held_out_errors() -> None:
    _, _, method = started("kdcl", target="general")
    labels = torch.arange(10)
    good = 10 * torch.eye(10)
    held_out = {"student": good, "peer1": torch.zeros(10, 10), "ensemble": good, "labels": labels}
    method.end_epoch(1, held_out)
    assert method.mixture[0] > 0.99
    assert method.mixture.sum().item() == pytest.approx(1.0)


def test_okddips_attention_learns_through_its_targets() -> None:
    place, trainee, method = started("okddip", ramp_epochs=0)
    before = weights(method)
    one_step(place, trainee)
    assert {"query.weight", "key.weight"} <= moved(method, before)


def test_cl_ilr_divides_the_trunks_gradient_by_its_heads() -> None:
    found = []
    for rescale in (False, True):
        place, trainee, _ = started("cl_ilr", rescale=rescale, ramp_epochs=0)
        before = weights(trainee.student.model)
        trainee.optimizer.param_groups[0]["momentum"] = 0.0
        trainee.optimizer.param_groups[0]["weight_decay"] = 0.0
        one_step(place, trainee)
        found.append(
            {n: p.detach() - before[n] for n, p in trainee.student.model.named_parameters()}
        )
    plain, rescaled = found
    torch.testing.assert_close(
        plain["conv1.weight"], 3 * rescaled["conv1.weight"], rtol=1e-3, atol=1e-7
    )
    torch.testing.assert_close(plain["fc.weight"], rescaled["fc.weight"], rtol=1e-3, atol=1e-7)


def test_a_booster_shares_the_students_convolutions_once() -> None:
    pair = Pair("wrn_40_2", "wrn_16_2")
    place, trainee, method = started("rocket", pair)
    light, booster = trainee.student.model, method.booster
    shared = {id(p) for p in light.parameters()} & {id(p) for p in booster.parameters()}
    assert len(shared) == 1 + 3 * 5  # the stem; two blocks a stage and a shortcut
    assert len(trainee.parameters) == len({id(p) for p in trainee.parameters})
    own = list(light.block2.layer)
    theirs = list(booster.block2.layer)
    assert own[1].conv1.weight is theirs[3].conv1.weight  # spread over the stage
    assert own[1].bn1.weight is not theirs[3].bn1.weight
    one_step(place, trainee)
    assert own[1].conv1.weight is theirs[3].conv1.weight


def test_a_booster_of_another_width_shares_nothing_or_is_refused() -> None:
    _, trainee, method = started("rocket")
    own = {id(p) for p in trainee.student.model.parameters()}
    assert not own & {id(p) for p in method.parameters()}
    with pytest.raises(UserError, match="two wide ResNets of one width"):
        started("rocket", sharing="interval")


def test_discriminators_and_networks_are_moved_by_their_own_optimisers() -> None:
    _, trainee, method = started("afd", peer="pair")
    optimizers = method.optimizers()
    judges = {id(p) for p in method.discriminators.parameters()}
    networks = {id(p) for n in (trainee.student.model, *method.peers) for p in n.parameters()}
    assert {id(p) for p in optimizers["discriminators"].parameters} == judges
    assert {id(p) for p in optimizers["adversary"].parameters} == networks
    assert {id(p) for p in trainee.parameters} == networks  # the game's own parts left it


def test_pcls_averages_follow_the_weights() -> None:
    place, trainee, method = started("pcl")
    one_step(place, trainee)
    for mean, now in zip(
        method.average.parameters(), trainee.student.model.parameters(), strict=True
    ):
        assert torch.equal(mean, now)  # the first decay is 0
    one_step(place, trainee)
    mean, now = next(method.average.parameters()), next(trainee.student.model.parameters())
    assert not torch.equal(mean, now)
    assert not any(p.requires_grad for p in method.average.parameters())


# -- networks that teach themselves -----------------------------------------------------------


def test_a_snapshot_is_taken_where_a_cycle_ends() -> None:
    _, trainee, method = started("snapshot", cycles=2)
    assert trainee.recipe.epochs == 2
    with torch.no_grad():
        next(trainee.student.model.parameters()).add_(1.0)
    trainee.methods.train()
    assert not method.copy.training
    assert not method.copy.network.training
    method.end_epoch(1, None)
    assert torch.equal(
        next(method.copy.parameters()), next(trainee.student.model.parameters()).detach()
    )


def test_the_first_cycle_has_no_teacher() -> None:
    place, trainee, _ = started("snapshot", cycles=2)
    one_step(place, trainee)
    assert trainee.state()["sums"]["snapshot.snapshot"] == 0
    assert "snapshot.labels" not in trainee.state()["sums"]


def test_a_partner_moves_batch_statistics_and_no_weight_gradient() -> None:
    place, trainee, _ = started("cskd", weight=1.0)
    one_step(place, trainee)
    assert trainee.student.model.bn1.num_batches_tracked == 2  # type: ignore[union-attr]


def test_the_last_step_teaches_from_the_second_on() -> None:
    place, trainee, method = started("dlb")
    place.train([trainee], stop_after=1)
    assert "dlb.last_step" not in trainee.state()["sums"]
    said = method.said.clone()
    assert said.any()
    place.train([trainee], stop_after=1)
    assert trainee.state()["sums"]["dlb.last_step"] > 0
    assert not torch.equal(said, method.said)


def test_stored_probabilities_are_the_labels_before_they_are_the_networks() -> None:
    place, trainee, method = started("pskd")
    batch = place.batch()
    assert torch.equal(method.stored.argmax(1)[batch.indices], batch.labels)
    one_step(place, trainee)
    assert method.stored[batch.indices].max() < 1
    assert method.stored.sum(1).allclose(torch.ones(20))


def test_mhgds_gradient_is_no_longer_than_its_share() -> None:
    gradient, reference = torch.tensor([3.0, 4.0]), torch.tensor([0.0, 1.0])
    assert torch.linalg.vector_norm(clipped_to(gradient, reference, 0.5)) == pytest.approx(0.5)
    assert torch.equal(clipped_to(gradient, 100 * reference, 0.5), gradient)


def test_be_your_own_teacher_evaluates_every_depth() -> None:
    _, trainee, method = started("byot")
    assert method.evaluates == ("c1", "c2", "ensemble")
    trainee.eval()
    with torch.no_grad():
        found = trainee.outputs(torch.zeros(4, 3, 8, 8))
    assert list(found) == ["student", "c1", "c2", "ensemble"]
    mean = torch.stack([found[n] for n in ("c1", "c2", "student")]).mean(0)
    torch.testing.assert_close(found["ensemble"], mean)


def test_the_collections_own_teacher_compares_maps() -> None:
    place, trainee, method = started("byot", form="collection", temperature=4.0)
    assert method.ce_weight == 1.0
    batch = place.batch()
    trainee.student.model.train()
    seen = trainee.student.model.features(batch.images)
    step = Step(
        batch.images, batch.labels, batch.indices, seen, None, 1, trainee.student.model.head, None
    )
    found = method.loss(step)
    deepest = (seen.logits.detach() / 4).softmax(1)
    labels = answers = features = torch.zeros(())
    for branch, map_ in zip(method.branches, seen.stages[1:-1], strict=True):
        own = branch.bottleneck(map_)
        logits = branch.fc(own.mean((2, 3)))
        labels = labels + F.cross_entropy(logits, batch.labels)
        gap = F.kl_div((logits / 4).log_softmax(1), deepest, reduction="batchmean")
        answers = answers + 16 * gap
        features = features + 0.05 * (own - seen.last_map.detach()).square().mean()
    torch.testing.assert_close(found["labels"], labels)
    torch.testing.assert_close(found["answers"], answers)
    torch.testing.assert_close(found["features"], features)
    # Of four stages the last two but one, as there; the other forms have three branches.
    four = Pair("resnet18", "resnet18")
    assert started("byot", four, form="collection")[2].evaluates == ("c1", "c2", "ensemble")


# -- without data -----------------------------------------------------------------------------


class Forbidden(FewImages):
    """Images that nobody may train on."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        raise AssertionError("a batch was read")

    def companion(self, which: Companion, epoch: int, step: int) -> Batch:
        raise AssertionError("further images were read")


def trained_without_images(images: FewImages) -> tuple[Model, Trainee]:
    place = Lab(PAIR, digit_images(20, 8, 8))  # the teacher is the same whatever is read
    trainee = place.start(place.run([method_ref("zskt", student_steps=2)]))
    place.images = images
    place.train([trainee])
    return trainee.student.model, trainee


def test_a_zero_shot_student_never_sees_an_image() -> None:
    """Not one batch is read, and other images and labels leave its weights as they are."""
    usual = digit_images(20, 8, 8)
    forbidden = Forbidden(torch.rand_like(usual.images), usual.labels.flip(0), 10, 8)
    other, trainee = trained_without_images(forbidden)
    assert trainee.epoch == 3
    same, _ = trained_without_images(usual)
    for name, value in same.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_the_student_learns_from_images_made_after_the_generators_step() -> None:
    _, trainee, method = started("zskt", student_steps=3)
    order: list[str] = []
    real = method.generator.forward
    method.generator.forward = lambda noise: (order.append("made"), real(noise))[1]
    before = weights(method.generator)
    with trainee.rng.active():
        turns = method.turns(_blank_step(trainee))
        who = [next(iter(entry)) for entry in turns]
    assert who == ["generator", "main", "main", "main"]
    assert order == ["made", "made"]
    assert moved(method.generator, before) == set()  # the engine moves, not the method
    assert not any(p.requires_grad for p in method.teacher.parameters())


def _blank_step(trainee: Trainee) -> Step:
    none = torch.empty(0, dtype=torch.int64)
    images = torch.empty(0, 3, 8, 8)
    head = trainee.student.model.head
    return Step(images, none, none, NO_FEATURES, None, 1, head, None)
