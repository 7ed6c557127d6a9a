"""A method may extend another: what it inherits counts as its own, for planning and training."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.conformance.lab import method_ref
from benchmark.conformance.suite import check_method, lab_for
from benchmark.methods.catalog import MethodInfo, add_plugin, method_info
from benchmark.planning.trial import check_trials
from tests.helpers import digits_plan

HEAD = '''"""A method that extends another."""

from pydantic import Field

from benchmark.methods import simkd
from benchmark.methods.base import Method, Step
from benchmark.methods.dot import DOT
from benchmark.methods.kd import KD
from benchmark.methods.kd import Options as KDOptions
from benchmark.methods.options import MethodOptions

'''
OWN = '''
class Options(KDOptions):
    """KD's, scaled."""

    scale: float = Field(0.5, description="of KD's term")


class Scaled(KD):
    """KD, scaled."""

    def loss(self, step: Step):
        """Return the scaled term."""
        return self.options.scale * super().loss(step)
'''


def plugin(tmp_path: Path, name: str, body: str) -> MethodInfo:
    path = tmp_path / f"{name}.py"
    path.write_text(HEAD + body)
    return add_plugin(path)


@pytest.mark.slow
def test_options_and_attributes_are_inherited(tmp_path: Path) -> None:
    info = plugin(tmp_path, "scaled_kd", OWN)
    assert set(info.resolve({})) == {*method_info("kd").resolve({}), "scale"}
    assert info.ce_weight(info.resolve({})) == 0.1
    lab = lab_for("scaled_kd")
    assert not lab.start(lab.run([method_ref("scaled_kd")])).teacher_maps
    assert check_method("scaled_kd", quick=True).passed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("base", "predicts", "ruled"), [("simkd.SimKD", True, False), ("DOT", False, True)]
)
def test_hooks_are_inherited(tmp_path: Path, base: str, predicts: bool, ruled: bool) -> None:
    origin = "simkd" if predicts else "dot"
    body = f"""
from benchmark.methods.{origin} import Options as Inherited


class Options(Inherited):
    '''As they are.'''


class Mine({base}):
    '''As it is.'''
"""
    info = plugin(tmp_path, f"my_{origin}", body)
    assert (info.overrides_predict, info.has_update) == (predicts, ruled)
    lab = lab_for(info.name)
    ours, theirs = (lab.start(lab.run([method_ref(n)])) for n in (info.name, origin))
    assert ours.teacher_maps == theirs.teacher_maps
    assert check_method(info.name, quick=True).passed


def test_the_last_class_of_a_file_counts(tmp_path: Path) -> None:
    body = '''
class Options(MethodOptions):
    """None."""


class Base(Method[Options]):
    """A part."""

    needs_teacher = False

    def predict(self, student):
        """Return the logits."""
        return student.logits


class Whole(Base):
    """The method."""

    def loss(self, step: Step):
        """Return nothing much."""
        return step.student.logits.square().mean()
'''
    info = plugin(tmp_path, "in_two", body)
    assert info.overrides_predict
    assert not info.needs_teacher
    assert check_method("in_two", quick=True).passed


def test_imported_options_are_options(tmp_path: Path) -> None:
    body = "from benchmark.methods.kd import Options\n\n\nclass Mine(KD):\n    '''KD.'''\n"
    assert plugin(tmp_path, "same_kd", body).resolve({}) == method_info("kd").resolve({})


def test_the_version_follows_the_extended_method(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    from benchmark.methods import catalog

    before = plugin(tmp_path, "first_kd", OWN).version
    changed = dataclasses.replace(method_info("kd"), version=99)
    found = catalog.method_info
    monkeypatch.setattr(catalog, "method_info", lambda n: changed if n == "kd" else found(n))
    assert plugin(tmp_path, "second_kd", OWN).version != before


NOT_ASKED = '''
from benchmark.methods.simkd import Options


class Mine(simkd.SimKD):
    """Wrong: terms come from forward there."""
'''
DEFINED = f'''{NOT_ASKED}
    def loss(self, step: Step):
        """Return what nobody asks for."""
        return step.student.logits.mean()
'''
ASSIGNED = f"{NOT_ASKED}\n    loss = KD.loss\n"
MESSAGE = r"(hidden|not_asked) changes loss, but SimKD.*define forward"


def test_a_loss_that_would_not_be_asked_for_is_refused_when_it_is_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=MESSAGE):
        plugin(tmp_path, "not_asked", DEFINED)


def test_a_loss_that_only_running_shows_is_refused_before_the_queue(
    tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    plugin(tmp_path, "hidden", ASSIGNED)
    kd = digits_plan(digits, ["row=KD", "column=wrn_16_2-resnet8"], sets=()).runs[-1]
    run = kd.model_copy(update={"methods": (method_ref("hidden"),)})
    with pytest.raises(UserError, match=MESSAGE):
        check_trials([run], digits)
    with pytest.raises(UserError, match=MESSAGE):
        check_method("hidden", quick=True)
