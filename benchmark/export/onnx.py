"""Trained students as ONNX files, compared with onnxruntime before they are kept.

A file holds what the run's accuracy was measured with, in float32: the network, and what its method
predicts by (SimKD's projector and its teacher's classifier). Input ``images`` [N, 3, H, W] as
``load_student(run).transform`` makes them, output ``logits`` [N, K]. What it is stands in its
metadata under ``about``, as in student.safetensors.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.base.errors import UserError
from benchmark.base.extras import optional
from benchmark.base.files import make_directory, replacing
from benchmark.run.directory import RunDir

if TYPE_CHECKING:
    from benchmark.train.trained import TrainedStudent

# How far onnxruntime may be from torch, of the largest logit. Sums in another order differ by less.
TOLERANCE = 1e-5
_BATCHES = (1, 3)


def check() -> None:
    """Raise UserError where onnx, what torch writes it with, or onnxruntime is not installed."""
    for module in ("onnx", "onnxscript", "onnxruntime"):
        optional(module, "onnx", "ONNX files")


def export_onnx(rundir: RunDir, path: Path) -> float:
    """Write the student of a finished run, and return how far onnxruntime's logits are from ours.

    That is the largest difference, as a part of the largest logit. Raises UserError for a run
    without a network, one that torch cannot write, and where onnxruntime computes something else:
    then no file is left.
    """
    check()
    from benchmark.train.trained import load_student

    student = load_student(rundir, plain=True)
    content = _written(student, rundir)
    apart = _apart(student, content)
    if apart > TOLERANCE:
        raise UserError(
            f"onnxruntime computes other logits for {rundir.key} than torch: they differ by"
            f" {apart:.1g} of the largest; nothing was written"
        )
    make_directory(path.parent)
    try:
        with replacing(path) as file:
            file.write(content)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    return apart


def _written(student: TrainedStudent, rundir: RunDir) -> bytes:
    import onnx
    import torch

    images = _images(student, 2)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about torch's own parts, which it deprecates
            program = torch.onnx.export(
                student,
                (images,),
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                dynamo=True,
                verbose=False,
            )
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"torch cannot write {rundir.key} as ONNX: {reason}") from error
    assert program is not None
    model = program.model_proto
    for node in [*model.graph.node, *(node for each in model.functions for node in each.node)]:
        del node.metadata_props[:]  # which line of whose file it came from
    model.producer_name, model.producer_version = "kd-benchmark", ""
    onnx.helper.set_model_props(model, {"about": json.dumps(_about(student, rundir))})
    return bytes(model.SerializeToString(deterministic=True))


def _about(student: TrainedStudent, rundir: RunDir) -> dict[str, Any]:
    from benchmark.train.about import about_of, read_about

    found = read_about(rundir.weights) if rundir.weights.exists() else {}
    return found or about_of(student.run, ())


def _images(student: TrainedStudent, count: int) -> Any:
    import torch

    size = student.transform.size
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(count))


def _apart(student: TrainedStudent, content: bytes) -> float:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    worst = 0.0
    for count in _BATCHES:
        images = _images(student, count)
        ours = student(images).numpy()
        (theirs,) = session.run(None, {"images": images.numpy()})
        worst = max(worst, float(abs(ours - theirs).max() / max(1.0, abs(ours).max())))
    return worst
