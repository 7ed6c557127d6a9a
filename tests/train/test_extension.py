"""What methods may do beside a loss: each part by a small plug-in, in the real loop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmark.base.errors import UserError
from benchmark.conformance.images import FewImages, digit_images
from benchmark.conformance.lab import Lab, method_ref
from benchmark.conformance.pairs import Pair
from benchmark.conformance.training import pack_equals_solo, resume_equals_undisturbed
from benchmark.data.batches import Batch
from benchmark.methods.base import MAIN
from benchmark.methods.catalog import add_plugin
from benchmark.train.trainee import Trainee

FOLDER = Path(__file__).parent / "extended"
NAMES = sorted(path.stem for path in FOLDER.glob("[a-z]*.py"))
PAIR = Pair("resnet14", "resnet8")


@pytest.fixture(autouse=True)
def _extended(plugins: None) -> None:
    for name in NAMES:
        add_plugin(FOLDER / f"{name}.py")


@pytest.fixture
def lab() -> Lab:
    return Lab(PAIR, digit_images(20, 16, 8))


def start(lab: Lab, *names: str, **options: Any) -> Trainee:
    return lab.start(lab.run([method_ref(names[0], **options), *map(method_ref, names[1:])]))


@pytest.mark.parametrize("name", NAMES)
def test_packed_as_alone(lab: Lab, name: str) -> None:
    pack_equals_solo(lab, method_ref(name))


@pytest.mark.parametrize("name", NAMES)
def test_resumed_as_undisturbed(lab: Lab, name: str) -> None:
    resume_equals_undisturbed(lab, method_ref(name), stops=(1, 4, 5))


def test_a_network_depends_on_its_role_and_the_seed_alone(lab: Lab) -> None:
    peer = start(lab, "two_peers").methods[0].peer
    beside = start(lab, "two_peers", "three_companions").methods[0].peer
    assert_same(peer.state_dict(), beside.state_dict())
    student = lab.start(lab.run()).student.model
    assert not torch.equal(peer.state_dict()["conv1.weight"], student.conv1.weight)
    seed = lab.run([method_ref("two_peers")]).model_copy(update={"seed": 1})
    assert not torch.equal(lab.start(seed).methods[0].peer.conv1.weight, peer.conv1.weight)


def test_a_network_of_the_pair_is_in_the_layout_of_the_run() -> None:
    lab = Lab(PAIR, digit_images(20, 16, 8), channels_last=True)
    trainee = start(lab, "two_peers", peer="pair")
    peer = trainee.methods[0].peer
    assert len(peer.layer1) == 2
    assert peer.layer1[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)
    lab.train([trainee])


def test_two_networks_of_one_role_are_refused(lab: Lab, tmp_path: Path) -> None:
    text = (
        (FOLDER / "two_peers.py")
        .read_text()
        .replace(
            'self.peer = setup.build("peer", options.peer)',
            'self.peer = setup.build("peer")\n        self.other = setup.build("peer")',
        )
    )
    (tmp_path / "twins.py").write_text(text)
    add_plugin(tmp_path / "twins.py")
    with pytest.raises(UserError, match=r"two networks resnet8 of the run .* role 'peer'"):
        start(lab, "twins")


def test_every_output_is_evaluated_and_one_is_reported(lab: Lab) -> None:
    plain = start(lab, "two_peers")
    run = plain.run.model_copy(update={"reported": "ensemble"})
    other = lab.start(run)
    lab.train([plain])
    lab.train([other])
    assert set(plain.others) == {"peer", "ensemble"}
    assert set(other.others) == {"student", "peer"}
    assert plain.history == other.others["student"]
    assert other.history == plain.others["ensemble"]
    assert set(plain.averaged) == {"student", "peer"}
    assert len(plain.history) == len(plain.others["peer"]) == 2


def test_an_output_that_is_not_there_is_refused(lab: Lab) -> None:
    run = lab.run([method_ref("two_peers")]).model_copy(update={"reported": "peers"})
    with pytest.raises(UserError, match="unknown output 'peers'; did you mean 'peer'"):
        lab.start(run)


def test_a_branch_after_the_last_stage_is_refused(lab: Lab) -> None:
    with pytest.raises(UserError, match="cut after 0"):
        start(lab, "side_branch", stage=3)


def test_only_the_branch_is_its_own(lab: Lab) -> None:
    names = {name for name, _ in start(lab, "side_branch").methods.named_parameters()}
    assert all("layer2" in n or "layer3" in n or "fc" in n for n in names), names


def test_companions_are_the_methods_own_in_its_order(lab: Lab) -> None:
    trainee = start(lab, "three_companions")
    seen = watch(trainee)
    lab.train([trainee])
    steps = lab.images.steps_per_epoch
    assert len(seen) == 2 * steps
    batches = [batch for epoch in (1, 2) for batch in lab.images.epoch(epoch)]
    for place, (step, batch) in enumerate(zip(seen, batches, strict=True)):
        view, partner, before = step.companions
        assert torch.equal(view.indices, batch.indices)
        assert not torch.equal(view.images, batch.images)
        assert torch.equal(partner.labels, batch.labels)
        earlier = batches[place - 1].indices if place else torch.arange(0)
        assert torch.equal(before.indices, earlier)


def test_turns_move_what_their_optimisers_claim(lab: Lab) -> None:
    trainee = start(lab, "critic")
    method = trainee.methods[0]
    main = {id(p) for p in trainee.parameters}
    assert not main & {id(p) for p in (*method.critic.parameters(), method.scale)}
    assert main == {id(p) for p in trainee.student.model.parameters()}
    before = {k: v.clone() for k, v in method.named_parameters()}
    trainee.train_step(lab.batch(), None)
    assert all(not torch.equal(v, before[k]) for k, v in method.named_parameters())
    steps = {name: state["state"] for name, state in trainee.state()["optimizers"].items()}
    assert set(steps) == {"critic", "misled", "scale"}
    assert {int(entry["step"]) for entry in steps["critic"].values()} == {2}  # two turns


def test_the_order_of_a_turns_entries_moves_no_gradient(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def moved(reverse: bool) -> dict[str, Tensor]:
        trainee = start(lab, "critic")
        method = trainee.objective.methods[0]
        turns = type(method).turns

        def reordered(self: Any, step: Any) -> Iterator[Any]:
            for entries in turns(self, step):
                yield dict(reversed(entries.items())) if reverse else entries

        with monkeypatch.context() as patch:
            patch.setattr(type(method), "turns", reordered)
            trainee.train_step(lab.batch(), None)
        return {k: v.detach() for k, v in trainee.methods.named_parameters()}

    assert_same(moved(False), moved(True))


def test_the_other_terms_of_a_row_join_main(lab: Lab) -> None:
    row = [method_ref("critic"), method_ref("label_smoothing")]
    trainee = lab.start(lab.run(row, ce_weight=1.0))
    trainee.train_step(lab.batch(), None)
    sums = trainee.state()["sums"]
    assert {"ce", "label_smoothing", "critic.size", "critic.again"} <= set(sums)
    alone = start(lab, "critic")
    alone.train_step(lab.batch(), None)
    assert not torch.equal(trainee.parameters[0], alone.parameters[0])


def test_rates_keep_their_proportion(lab: Lab) -> None:
    trainee = start(lab, "critic")
    trainee.epoch = 2  # after the milestone
    trainee.train_step(lab.batch(), None)
    groups = trainee.state()["optimizers"]["critic"]["param_groups"]
    assert groups[0]["lr"] == pytest.approx(1e-4)
    assert trainee.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * lab.recipe.lr)


def test_a_row_takes_turns_by_one_method(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "critic_again.py").write_text((FOLDER / "critic.py").read_text())
    add_plugin(tmp_path / "critic_again.py")
    with pytest.raises(UserError, match="critic and critic_again each take turns of their own"):
        start(lab, "critic", "critic_again")
    with pytest.raises(UserError, match="dot replaces the optimiser step and critic takes several"):
        lab.start(lab.run([method_ref("critic"), method_ref("dot")], ce_weight=1.0))


def test_an_unknown_mover_is_named(lab: Lab, tmp_path: Path) -> None:
    text = (
        (FOLDER / "critic.py")
        .read_text()
        .replace('yield {"critic": {"again"', 'yield {"x": {"again"')
    )
    (tmp_path / "no_mover.py").write_text(text)
    add_plugin(tmp_path / "no_mover.py")
    with pytest.raises(UserError, match="moves 'x', and there are: main, critic, misled, scale"):
        start(lab, "no_mover").train_step(lab.batch(), None)
    assert MAIN == "main"


def test_the_end_of_an_epoch_is_a_moment(lab: Lab) -> None:
    trainee = start(lab, "cycle_copy", cycle=2)
    copy = trainee.methods[0].copy.network
    initial = {k: v.clone() for k, v in copy.state_dict().items()}
    lab.train([trainee], stop_after=lab.images.steps_per_epoch + 2)
    assert trainee.epoch == 2
    assert_same(copy.state_dict(), initial)
    lab.train([trainee])
    assert_same(copy.state_dict(), trainee.student.model.state_dict())
    assert not any(module.training for module in copy.modules())


def test_held_out_images_are_seen_where_they_are_asked_for(lab: Lab) -> None:
    trainee = start(lab, "cycle_copy", held_out=True)
    lab.train([trainee])
    assert 0.5 <= float(trainee.methods[0].weight) <= 1.5
    assert float(trainee.methods[0].weight) != 1.0


class Blind(FewImages):
    """Images that nobody may read for training."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        raise AssertionError("a training image was read")


def test_a_run_without_images_reads_none() -> None:
    few = digit_images(20, 16, 8)
    lab = Lab(PAIR, Blind(few.images, few.labels, few.num_classes, 8))
    trainee = start(lab, "no_images")
    seen = watch(trainee, "turns")
    before = trainee.parameters[0].detach().clone()
    lab.train([trainee])
    assert not torch.equal(trainee.parameters[0], before)
    assert len(seen) == 2 * few.steps_per_epoch
    for step in seen:
        assert step.images.shape == (0, 3, 16, 16)
        assert step.labels.numel() == step.student.logits.numel() == 0
    assert len(trainee.history) == 2


def test_a_run_without_images_has_steps_of_its_own_number(lab: Lab) -> None:
    run = lab.run([method_ref("no_images")])
    recipe = run.recipe.model_copy(update={"steps_per_epoch": 5})
    blind, plain = lab.start(run.model_copy(update={"recipe": recipe})), lab.start(lab.run())
    seen = watch(blind, "turns")
    lab.train([blind, plain])
    assert len(seen) == 10
    alone = lab.start(lab.run())
    lab.train([alone])
    assert_same(alone.student.model.state_dict(), plain.student.model.state_dict())


def test_a_run_without_images_stands_alone_in_its_row(lab: Lab) -> None:
    with pytest.raises(UserError, match="no_images trains without images"):
        start(lab, "no_images", "label_smoothing")


def test_shared_parameters_are_moved_once(lab: Lab) -> None:
    trainee = start(lab, "tied")
    ids = [id(p) for p in trainee.parameters]
    assert len(ids) == len(set(ids))
    assert len(ids) == len(list(trainee.student.model.parameters())) + 2


def watch(trainee: Trainee, hook: str = "loss") -> list[Any]:
    """Return a list that collects the steps that the row's first method is given."""
    method = trainee.objective.methods[0]
    seen: list[Any] = []
    inner = getattr(method, hook)

    def spy(step: Any) -> Any:
        seen.append(step)
        return inner(step)

    object.__setattr__(method, hook, spy)
    return seen


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
