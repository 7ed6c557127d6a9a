"""Methods with one mistake each, as plug-in files, and the check that must find it."""

from __future__ import annotations

HEAD = '''"""A method with a mistake."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pydantic import Field

from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.options import MethodOptions


class Options(MethodOptions):
    """Options."""

    weight: float = Field(1.0, description="weight of the loss")


class Mistaken(Method[Options]):
    """Wrong."""
'''

GOOD = """
    def loss(self, step: Step) -> Tensor:
        '''Return the loss.'''
        difference = step.student.logits - step.need_teacher().logits
        return self.options.weight * difference.square().mean()
"""

# name: (file, the check that fails, a part of what it says)
MISTAKES: dict[str, tuple[str, str, str]] = {
    "silent": (
        (HEAD + GOOD).replace("        '''Return the loss.'''\n", ""),
        "declaration",
        "without a docstring: Mistaken.loss",
    ),
    "keeps_all_maps": (
        HEAD + GOOD,
        "teacher's maps",
        "do not read the teacher's pooled and stages and preacts and",
    ),
    "undocumented": (
        (HEAD + GOOD).replace('Field(1.0, description="weight of the loss")', "1.0"),
        "declaration",
        "options without a description: weight",
    ),
    "own_ce_weight": (
        HEAD + GOOD + "\n    @property\n    def ce_weight(self) -> float:\n        return 0.5\n",
        "built as declared",
        "ce_weight is 0.5 in the method but 1 by its Options",
    ),
    "more_outputs": (
        HEAD
        + GOOD
        + """
    evaluates = ("ensemble",)

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        self.evaluates = ("c1", "ensemble")
""",
        "built as declared",
        "evaluates is ('c1', 'ensemble') in the method and ('ensemble',) for planning",
    ),
    "adopts_the_teacher": (
        HEAD
        + GOOD
        + """
    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        self.network = setup.need_teacher().model
""",
        "built as declared",
        "a network's own parameters",
    ),
    "reads_a_map_it_does_not_name": (
        HEAD
        + """
    teacher_maps = ("stages",)

    def loss(self, step: Step) -> Tensor:
        scale = step.need_teacher().preacts[-1].mean()
        return self.options.weight * scale * step.student.logits.square().mean()
""",
        "teacher's maps",
        "read the teacher's preacts, which packs drop",
    ),
    "unplanned_rule": (
        HEAD
        + GOOD
        + """
    has_gradient_rule = False

    def update(self, optimizer, parameters, rest, own) -> None:
        optimizer.step()
""",
        "built as declared",
        "has_gradient_rule is False in the method but not for planning",
    ),
    "not_a_scalar": (
        HEAD
        + """
    def loss(self, step: Step) -> Tensor:
        return (step.student.logits - step.need_teacher().logits).square().mean(1)
""",
        "finite losses",
        "shape (8,): expected a scalar",
    ),
    "infinite": (
        HEAD
        + """
    def loss(self, step: Step) -> Tensor:
        return step.student.logits.square().mean() / 0.0
""",
        "finite losses",
        "term infinite is inf",
    ),
    "moves_the_teacher": (
        HEAD
        + """
    def loss(self, step: Step) -> Tensor:
        assert step.teacher_head is not None
        return (step.student_head.weight.mean() - step.teacher_head.weight.mean()).square()
""",
        "gradients",
        "a gradient reaches the teacher's fc.weight",
    ),
    "forgets_a_part": (
        HEAD
        + GOOD
        + """
    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        self.adapter = nn.Linear(4, 4)
""",
        "gradients",
        "no gradient reaches adapter.weight, adapter.bias",
    ),
    "detaches_the_student": (
        HEAD
        + """
    def loss(self, step: Step) -> Tensor:
        return step.student.logits.detach().square().mean()
""",
        "gradients",
        "no gradient into the student",
    ),
    "infinite_gradient": (
        HEAD
        + """
    def loss(self, step: Step) -> Tensor:
        return step.student.logits.mul(0.0).sqrt().sum()
""",
        "gradients",
        "the gradient into logits is not finite",
    ),
    "idle_first_stage": (
        HEAD
        + GOOD
        + """
    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        self.encoder = nn.Linear(10, 10).requires_grad_(False)

    @property
    def prepare_epochs(self) -> int:
        return 3

    def prepare_parameters(self, student: nn.Module) -> list[nn.Parameter]:
        return list(self.encoder.requires_grad_(True).parameters())

    def prepare_loss(self, step: Step) -> Tensor:
        return (step.need_teacher().logits @ self.encoder.weight).square().mean()
""",
        "first stage",
        "no gradient reaches encoder.bias",
    ),
    "shares_state": (
        HEAD
        + """
    seen = []

    def loss(self, step: Step) -> Tensor:
        self.seen.append(1)
        return GOOD_LOSS * (1.0 + 0.1 * len(self.seen))
""",
        "pack = solo",
        "in a pack: student",
    ),
    "writes_into_the_teacher": (
        HEAD
        + """
    def loss(self, step: Step) -> Tensor:
        step.need_teacher().logits.mul_(0.9)
        return GOOD_LOSS
""",
        "pack = solo",
        "in a pack: student",
    ),
    "changes_the_teacher": (
        HEAD
        + """
    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        self.network = (setup.need_teacher().model,)

    def loss(self, step: Step) -> Tensor:
        self.network[0].train()
        with torch.no_grad():
            self.network[0](step.images)
        self.network[0].eval()
        return GOOD_LOSS
""",
        "pack = solo",
        "",
    ),
    "forgets_a_counter": (
        HEAD
        + """
    count = 0

    def loss(self, step: Step) -> Tensor:
        self.count += 1
        return GOOD_LOSS * (1.0 + 0.1 * self.count)
""",
        "resume = undisturbed",
        "stopped after 1 of 8: student",
    ),
    "saves_what_is_not_plain": (
        HEAD
        + GOOD
        + """
    def get_extra_state(self) -> object:
        return lambda: None

    def set_extra_state(self, state: object) -> None:
        pass
""",
        "checkpoint round trip",
        "",
    ),
    "cancels_in_half": (
        HEAD
        + """
    def loss(self, step: Step) -> Tensor:
        rounded = step.student.logits + 1024.0 - 1024.0
        return GOOD_LOSS + 1e-3 * rounded.square().mean().log()
""",
        "bf16 autocast",
        "",
    ),
    "needs_two_images": (
        HEAD
        + """
    def loss(self, step: Step) -> Tensor:
        return step.student.logits.std(0).mean()
""",
        "degenerate batches",
        "one image",
    ),
}
MISTAKES = {
    name: (
        file.replace(
            "GOOD_LOSS", "(step.student.logits - step.need_teacher().logits).square().mean()"
        ),
        check,
        says,
    )
    for name, (file, check, says) in MISTAKES.items()
}

# Nothing is wrong with this one: a first stage that sees a private teacher, and no shared one.
PRIVATE_FIRST_STAGE = (
    HEAD
    + """
    private_teacher = "train"

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        self.encoder = nn.Linear(10, 10).requires_grad_(False)

    @property
    def prepare_epochs(self) -> int:
        '''See the base class.'''
        return 3

    def prepare_parameters(self, student: nn.Module) -> list[nn.Parameter]:
        '''See the base class.'''
        return list(self.encoder.requires_grad_(True).parameters())

    def prepare_loss(self, step: Step) -> Tensor:
        '''See the base class.'''
        logits = step.need_teacher().logits
        return (self.encoder(logits) - logits).square().mean()

    def prepared(self) -> None:
        '''See the base class.'''
        self.encoder.requires_grad_(False)

    def loss(self, step: Step) -> Tensor:
        '''See the base class.'''
        target = self.encoder(step.need_teacher().logits)
        return self.options.weight * (step.student.logits - target).square().mean()
"""
)

# Refused before any check: a copy of the teacher computes its features.
HOOKS_THE_TEACHER = (
    HEAD
    + GOOD
    + """
    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        setup.need_teacher().model.head.register_forward_hook(lambda *_: None)
"""
)
