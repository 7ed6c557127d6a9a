"""Networks and methods from Python: what a run trained, and a method for a loop of your own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.api.tables import add_plugins
from benchmark.base.errors import UserError
from benchmark.methods.catalog import MethodInfo, method_info
from benchmark.run import directory

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.methods.base import Method
    from benchmark.models.features import Model
    from benchmark.train.trained import TrainedStudent


def load_student(
    run: str | Path,
    *,
    runs: str | Path | None = None,
    device: str = "cpu",
    plugins: Iterable[str | Path] = (),
) -> TrainedStudent:
    """Return the trained network of a run, by its key or the path of its directory.

    It is in eval mode and predicts what the run's accuracy was measured with, the parts of its
    method included; its ``transform`` makes an image what it was tested on. Raises UserError for
    an unknown run, and one without a usable network.
    """
    from benchmark.train.trained import load_student

    add_plugins(plugins)
    where = Path(runs) if runs is not None else directory.runs_dir()
    return load_student(directory.find_run(run, where), device)


@dataclass(frozen=True)
class LoadedMethod:
    """A method: what it is, its options with their defaults, and how to build it."""

    info: MethodInfo
    defaults: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The method's name, that of its file."""
        return self.info.name

    def build(
        self,
        student: Model,
        teacher: Model | None,
        *,
        image_shape: tuple[int, int, int],
        num_classes: int,
        labels: Tensor | None = None,
        batch_size: int = 64,
        epochs: int = 1,
        seed: int = 0,
        **options: Any,
    ) -> Method[Any]:
        """Return the method for two networks on images [C, H, W]: an nn.Module with a loss.

        ``labels`` are the training labels, which some methods (CRD) draw from. Raises UserError
        for unknown options and for networks that the method cannot use.
        """
        import torch

        from benchmark.methods import build_method
        from benchmark.methods.base import Probe, Setup

        if self.info.needs_teacher and teacher is None:
            raise UserError(f"{self.name} needs a teacher")

        def probe(name: str, model: Model) -> Probe:
            training = model.training
            model.eval()
            with torch.no_grad():
                features = model.features(torch.zeros(2, *image_shape))
            model.train(training)
            return Probe(name, model, features)

        setup = Setup(
            student=probe("student", student),
            teacher=None if teacher is None else probe("teacher", teacher),
            num_classes=num_classes,
            labels=torch.arange(num_classes) if labels is None else labels,
            batch_size=batch_size,
            epochs=epochs,
            seed=seed,
        )
        method: Method[Any] = build_method(self.name, setup, **options)
        return method


def load_method(name: str, *, plugins: Iterable[str | Path] = ()) -> LoadedMethod:
    """Return a method by name, of this project or of a plug-in; UserError for unknown names."""
    add_plugins(plugins)
    info = method_info(name)
    return LoadedMethod(info, info.resolve({}))
