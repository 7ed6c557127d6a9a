#!/usr/bin/env bash
# KD_Lib 0.0.32 (PyPI: kd-lib): after each epoch its trainer evaluates the student in place, which
# puts it into eval mode, and calls train() once only, before the first epoch. From the second epoch
# on the student is therefore trained in eval mode: its batch norms neither use the batch's statistics
# nor move their running ones, which stay those of the first epoch, and dropout is off. (The teacher
# is evaluated as a copy, so train_teacher is not concerned.) Accuracies are lower, without a word.
#
# Expected: every epoch of train_student runs in train mode.
# Seen with KD_Lib 0.0.32 and torch 2.13.0+cpu, three epochs of three batches:
#   student, mode of each step: train train train eval eval eval eval eval eval
#   teacher, mode of each step: train train train train train train train train train
#   batches that the student's batch norm has counted: 3 of 9
# The trainer's file is loaded by its path: importing the package needs libraries for texts, and
# versions of torch that are gone. TORCH may name a wheel in place of torch==2.13.0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "${TORCH:-torch==2.13.0}" numpy==2.4.6 \
    matplotlib==3.11.2 tensorboard==2.21.0
"$folder/venv/bin/pip" install --quiet --no-deps "${KDLIB:-kd-lib==0.0.32}"
cd "$folder"
cat >train.py <<'PYTHON'
import contextlib
import importlib.util
import io
import site
import sys
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

(file,) = (p for d in site.getsitepackages() for p in Path(d).glob("KD_Lib/KD/common/base_class.py"))
spec = importlib.util.spec_from_file_location("base_class", file)
base_class = importlib.util.module_from_spec(spec)
spec.loader.exec_module(base_class)


class Plain(base_class.BaseClass):
    """The trainer with the plainest loss."""

    def calculate_kd_loss(self, y_pred_student, y_pred_teacher, y_true):
        return nn.functional.cross_entropy(y_pred_student, y_true)


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))


def modes_of_steps(net: nn.Module, train) -> str:
    """Return the mode of each forward pass that has a backward one."""
    found = []

    def look(module, inputs):
        if torch.is_grad_enabled():
            found.append("train" if module.training else "eval")

    handle = net.register_forward_pre_hook(look)
    with contextlib.redirect_stdout(io.StringIO()):
        train(epochs=3, plot_losses=False, save_model=False)
    handle.remove()
    return " ".join(found)


torch.manual_seed(0)
images, labels = torch.randn(96, 8), torch.randint(0, 3, (96,))
loader = DataLoader(TensorDataset(images, labels), batch_size=32)
teacher, student = network(), network()
optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (teacher, student)]
trainer = Plain(teacher, student, loader, loader, *optimizers, device="cpu")
of_student = modes_of_steps(student, trainer.train_student)
counted = int(student[1].num_batches_tracked)
of_teacher = modes_of_steps(teacher, trainer.train_teacher)
print("student, mode of each step:", of_student)
print("teacher, mode of each step:", of_teacher)
print("batches that the student's batch norm has counted:", counted, "of 9")
as_seen = of_student.split() == ["train"] * 3 + ["eval"] * 6 and "eval" not in of_teacher
print("KD_Lib", "behaves as described" if as_seen else "behaves otherwise now")
sys.exit(not as_seen)
PYTHON
"$folder/venv/bin/python" train.py
