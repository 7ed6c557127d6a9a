"""A trained network, read back from its run and ready to use.

A prediction may need more than the student: SimKD predicts by a projector and the teacher's
classifier. Their weights lie in the run's extras.safetensors, under ``method.N.``, so the
one method that predicts is built again, with the shapes of a teacher of that kind, and filled
from there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from benchmark.base.errors import UserError, first_line
from benchmark.base.files import LARGEST_WEIGHTS, read_bytes
from benchmark.data.augment import Normalise, normalised_by
from benchmark.data.augmentations import augmentation_info
from benchmark.data.datasets import DatasetInfo, described
from benchmark.data.resized_crop import RESIZE_OF_224
from benchmark.methods import build_method
from benchmark.methods.base import Probe, Setup
from benchmark.methods.catalog import method_info
from benchmark.models import build_model
from benchmark.models.checkpoint import load_into
from benchmark.models.features import Features, Model
from benchmark.run.directory import RunDir
from benchmark.run.identity import MethodRef, Run
from benchmark.run.reading import read
from benchmark.run.state import RunState
from benchmark.table.own_teachers import FileOfTeacher
from benchmark.train.losses import AnyMethod
from benchmark.train.network import Network
from benchmark.train.session import AVERAGE_PREFIX, METHOD_PREFIX
from benchmark.train.start import check_versions
from benchmark.train.teacher import load_public


class Transform:
    """Makes one image what the network was tested on: its size, then normalised.

    Takes a PIL image, or uint8 pixels [H, W, 3]; returns float32 [3, h, w]. Photographs are
    resized and cut as torchvision's Resize and CenterCrop do. Can be pickled, so that workers of
    a DataLoader can have it.
    """

    def __init__(self, info: DatasetInfo, crop_size: int | None) -> None:
        self.size = crop_size or info.image_size
        self.mean, self.std = info.mean, info.std
        self._crop = crop_size
        self._normalise = Normalise(info, self.size, torch.device("cpu"), False)

    def __call__(self, image: Any) -> Tensor:
        """Return one image as the network takes it, without the batch dimension."""
        if not isinstance(image, Image.Image):
            image = Image.fromarray(np.asarray(image, np.uint8))
        image = image.convert("RGB")
        image = self._cut(image) if self._crop else self._fitted(image)
        return self._normalise(torch.from_numpy(np.array(image))[None])[0]

    def _fitted(self, image: Image.Image) -> Image.Image:
        wanted = (self.size, self.size)
        return image if image.size == wanted else image.resize(wanted, Image.Resampling.BILINEAR)

    def _cut(self, image: Image.Image) -> Image.Image:
        short, (width, height) = round(self.size * RESIZE_OF_224), image.size
        if height >= width:
            width, height = short, short * height // width
        else:
            width, height = short * width // height, short
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        return image.crop((left, top, left + self.size, top + self.size))


class TrainedStudent(nn.Module):
    """The network of a finished run, in eval mode, without gradients.

    ``model`` is the bare network, whose ``features`` give every map; ``transform`` makes an image
    what it was tested on; ``run`` says what it is. Called on images [B, 3, H, W] it returns the
    logits [B, K] that the run's accuracy was measured with, its method's own parts included.
    """

    def __init__(
        self, run: Run, network: Network, predictor: AnyMethod | None, transform: Transform
    ) -> None:
        super().__init__()
        self.run = run
        self.transform = transform
        self.model = network.model
        self.predictor = predictor
        self._network = network
        self.eval().requires_grad_(False)

    def features(self, images: Tensor) -> Features:
        """Return every map of the bare network, run as in training: size, layout, precision."""
        return self._network.features(images)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [B, K]; images are resized if the network reads another size."""
        with self._network.autocast():
            features = self.model.features(self._network.layout(images))
            return self.predictor.predict(features) if self.predictor else features.logits


_PLAIN = {"precision": "fp32", "channels_last": False, "per_model": {}}


def load_student(rundir: RunDir, device: str = "cpu", plain: bool = False) -> TrainedStudent:
    """Return the trained network of a run.

    ``plain``: in float32 and the usual memory format, as other runtimes compute, whatever its
    recipe says. A run that measured a public checkpoint gives that checkpoint. Raises UserError if
    the run is not done, or was trained by other code than this in what decides its numbers.
    """
    found = read(rundir)
    if found.state is RunState.DAMAGED:
        raise UserError(found.reason)
    if found.state is not RunState.DONE:
        raise UserError(f"{rundir.path} holds no trained network: the run is {found.state}")
    run = rundir.read_run()
    check_versions(run)
    changed = {"device": device} | (_PLAIN if plain else {})
    run = run.model_copy(update={"recipe": run.recipe.model_copy(update=changed)})
    info = described(run.dataset.name, run.dataset.own)
    augmentation = augmentation_info(run.recipe.augmentation)
    size = run.recipe.crop_size or augmentation.crop_size
    transform = Transform(normalised_by(info, augmentation), size)
    if run.weights is not None:
        public = load_public(run, info.num_classes, *_file_of(rundir))
        return TrainedStudent(run, public.network, None, transform)
    tensors = _read(rundir.weights)  # earlier versions kept all in this file
    tensors |= _read(rundir.extras) if rundir.extras.exists() else {}
    own = {k: v for k, v in tensors.items() if not k.startswith((METHOD_PREFIX, AVERAGE_PREFIX))}
    model, classes = _model(run, info, transform.size, own)
    load_into(model, own, str(rundir.weights))
    network = Network(run.model, model, run.recipe, run.recipe.input_size)
    network.model.eval()
    predictor = _predictor(run, network, transform.size, classes, tensors)
    return TrainedStudent(run, network, predictor, transform)


def _file_of(rundir: RunDir) -> tuple[tuple[str, ...], dict[str, FileOfTeacher]]:
    """Return the data's classes and the file that an evaluation measured, if it says."""
    told = rundir.read_result()
    if "weights_file" not in told:
        return (), {}
    file = FileOfTeacher.model_validate_json(told["weights_file"])
    return tuple(told.get("classes", ())), {str(told["teacher_digest"]): file}


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_safetensors(read_bytes(path, LARGEST_WEIGHTS))
    except Exception as error:  # safetensors raises its own kinds for broken files
        reason = first_line(error)
        raise UserError(f"{path} cannot be read ({reason})") from error


def _model(run: Run, info: DatasetInfo, size: int, tensors: dict[str, Tensor]) -> tuple[Model, int]:
    """Build a network with as many classes as its weights have: data may be a subset's."""

    def build(num_classes: int) -> Model:
        return build_model(run.model, num_classes, image_size=run.recipe.input_size or size)

    model = build(info.num_classes)
    head = next((k for k, p in model.named_parameters() if p is model.heads[0].weight), None)
    found = tensors[head].shape[0] if head in tensors else info.num_classes
    return (model, found) if found == info.num_classes else (build(found), found)


def _predictor(
    run: Run, network: Network, size: int, num_classes: int, tensors: dict[str, Tensor]
) -> AnyMethod | None:
    """Return the method that predicts instead of the student's classifier, filled, if one does."""
    own = [(n, ref) for n, ref in enumerate(run.methods) if _predicts(run, ref)]
    if not own:
        return None
    ((number, ref),) = own
    shape = (3, size, size)
    teacher = None
    if run.teacher is not None:
        model = build_model(run.teacher.model, num_classes)
        taught = Network(run.teacher.model, model, run.recipe, run.teacher_input_size)
        teacher = Probe(run.teacher.model, taught.model, taught.probe(shape))
    setup = Setup(
        student=Probe(run.model, network.model, network.probe(shape)),
        teacher=teacher,
        num_classes=num_classes,
        labels=torch.arange(described(run.dataset.name, run.dataset.own).num_train) % num_classes,
        batch_size=run.recipe.batch_size,
        epochs=run.recipe.epochs,
        seed=run.seed,
        pair=run.pair,
    )
    method: AnyMethod = build_method(ref.name, setup, **ref.options)
    prefix = f"{METHOD_PREFIX}{number}."
    state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    missing = method.state_dict().keys() - state.keys()
    if missing:
        raise UserError(
            f"{run.key} predicts by parts of {ref.name} that it did not keep ({min(missing)});"
            " train it again"
        )
    method.load_state_dict(state)
    return method.to(run.recipe.device)


def _predicts(run: Run, ref: MethodRef) -> bool:
    return method_info(ref.name).overrides_predict and run.predict in (None, ref.name)
