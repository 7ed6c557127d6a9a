"""Methods with one mistake each in what they do with images, copies, turns and optimisers."""

from __future__ import annotations

from tests.conformance.broken import HEAD

TEXT = HEAD.replace(
    "from benchmark.methods.base import Method, Setup, Step\n",
    """import copy

from benchmark.methods.base import MAIN, Method, Optim, Setup, Step
from benchmark.models.parts import Frozen
""",
).replace('    """Wrong."""\n', '    """Wrong."""\n\n    needs_teacher = False\n')

PLAIN = """
    def loss(self, step: Step) -> Tensor:
        return step.student.logits.square().mean()
"""

COPY = """
    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        self._student = (setup.student.model,)
        self.copy = MAKE

    def loss(self, step: Step) -> Tensor:
        with torch.no_grad():
            BEFORE
            target = step.run(self.copy, step.images).logits
        return (step.student.logits - target).square().mean()
"""

CRITIC = """
    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        self.critic = nn.Linear(setup.student.features.pooled.shape[1], 1)
        self.own = torch.optim.SGD(self.critic.parameters(), lr=1e-3)

    def optimizers(self) -> dict[str, Optim]:
        claimed = list(self.critic.parameters())
        return CLAIMS

    def turns(self, step: Step):
        pooled = step.student.pooled
        misled = self.critic(pooled).square().mean()
        judged = self.critic(pooled.detach()).square().mean()
        TURNS
"""


def critic(claims: str, turns: str) -> str:
    """Return a method with a critic, its claims and its turns."""
    return TEXT + CRITIC.replace("CLAIMS", claims).replace("TURNS", turns)


# name: (file, the check that fails, a part of what it says)
TURN_MISTAKES: dict[str, tuple[str, str, str]] = {
    "writes_into_the_batch": (
        TEXT
        + """
    def loss(self, step: Step) -> Tensor:
        step.indices.zero_()
        return step.student.logits.square().mean()
""",
        "images",
        "a step writes into the batch's indices",
    ),
    "writes_into_its_view": (
        TEXT
        + """
    companions = (("view", 1),)

    def loss(self, step: Step) -> Tensor:
        step.companions[0].images.mul_(0.5)
        return step.student.logits.square().mean()
""",
        "images",
        "a step writes into view 1's images",
    ),
    "asks_anew": (
        TEXT
        + """
    companions = (("view", 1),)

    def loss(self, step: Step) -> Tensor:
        self.companions = (("view", 2),)
        return step.student.logits.square().mean()
""",
        "images",
        "asks for view 2 after a step",
    ),
    "depends_on_the_pack": (
        TEXT
        + """
    companions = (("class", 0),)
    seen = set()

    def loss(self, step: Step) -> Tensor:
        self.seen.add(step.companions[0].images.sum().item())
        return (1 + len(self.seen)) * step.student.logits.square().mean()
""",
        "images",
        "beside a run that asks for other further images",
    ),
    "copy_in_train_mode": (
        TEXT
        + COPY.replace(
            "MAKE", "copy.deepcopy(setup.student.model).requires_grad_(False).eval()"
        ).replace("BEFORE", "pass"),
        "frozen parts",
        "of its frozen parts runs in train mode",
    ),
    "copy_renewed_within_steps": (
        TEXT
        + COPY.replace("MAKE", "Frozen(setup.student.model)").replace(
            "BEFORE", "self.copy.renew(self._student[0])"
        ),
        "frozen parts",
        "a step changes copy.network.",
    ),
    "names_no_copy": (
        TEXT + '\n    moving_copies = ("average",)\n' + PLAIN,
        "frozen parts",
        "moving_copies names average, and its frozen parts are: none",
    ),
    "first_come_first_served": (
        critic(
            '{"critic": Optim(claimed, "adam"), "again": Optim(claimed, "adam", shared=True)}',
            """served = []
        pooled = pooled * 1.0
        pooled.register_hook(lambda g: served.append(1) or g * (2.0 if len(served) == 1 else 1.0))
        misled = self.critic(pooled).square().mean()
        yield {MAIN: {"near": pooled.square().mean()}, "critic": {"far": misled}}""",
        ),
        "order of entries",
        "turn 1: the gradient by main.the student's",
    ),
    "moved_by_hand": (
        critic(
            '{"critic": Optim(claimed, "adam")}',
            """yield {MAIN: {"misled": misled}, "critic": {"judged": judged}}
        with torch.no_grad():
            self.critic.weight.mul_(0.9)""",
        ),
        "who moves what",
        "critic.weight changed within a step, and not by an optimiser that holds it",
    ),
    "an_optimiser_of_its_own": (
        critic(
            "{}",
            """yield {MAIN: {"misled": misled}}
        self.own.step()""",
        ),
        "who moves what",
        "an optimiser steps that optimizers() does not name",
    ),
    "claimed_and_left": (
        critic('{"critic": Optim(claimed, "adam")}', 'yield {MAIN: {"misled": misled + judged}}'),
        "who moves what",
        "no turn moves 'critic'",
    ),
    "claimed_twice": (
        critic(
            '{"critic": Optim(claimed), "judge": Optim(claimed, "adam")}',
            'yield {MAIN: {"misled": misled}, "critic": {"judged": judged}}',
        ),
        "who moves what",
        "optimisers 'critic' and 'judge' move the same 2 tensors",
    ),
    "in_the_wrong_entry": (
        critic(
            '{"critic": Optim(claimed, "adam")}',
            """yield {
            MAIN: {"misled": misled, "judged": judged},
            "critic": {"size": self.critic.bias.square().sum()},
        }""",
        ),
        "who moves what",
        "optimiser 'critic' claims critic.weight, and no gradient",
    ),
}
