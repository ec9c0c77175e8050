"""Training in stages, each with a step of its own, as one step that :func:`physgen.train.fit` can run."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .train import Metrics, Step


def _nothing() -> None: ...


@dataclass(frozen=True)
class Stage:
    """A part of training.

    Attributes:
        steps: How many batches it takes.
        make: Builds its step, for the model as it is then; also when training resumes in the midst of it.
        begin: Changes the model before the first batch: puts a layer on top, say.
        end: Called after the last batch, with the averages in place of the weights: to measure.
    """

    steps: int
    make: Callable[[], Step]
    begin: Callable[[], None] = _nothing
    end: Callable[[], None] = _nothing


class Stages:
    """One stage after the other.

    Example:
        >>> import torch
        >>> from physgen.train import fit, gradient_step
        >>> x = torch.nn.Parameter(torch.tensor(1.0))
        >>> def towards(a):
        ...     return lambda: gradient_step(lambda _: (x - a) ** 2, torch.optim.SGD([x], lr=0.5))
        >>> steps = Stages([Stage(2, towards(3.0)), Stage(1, towards(-1.0), begin=lambda: print("second"))])
        >>> [record.metrics["loss"] for record in fit(steps, [x], steps=3, every=1)]
        second
        [4.0, 0.0, 16.0]
    """

    def __init__(self, stages: Sequence[Stage]):
        self.stages = [stage for stage in stages if stage.steps]
        self.ends = list(itertools.accumulate(stage.steps for stage in self.stages))
        self.done = 0
        self.step: Step | None = None

    @property
    def total(self) -> int:
        """Batches of all stages."""
        return self.ends[-1]

    def __call__(self, batch: Tensor) -> Metrics:
        number = sum(end <= self.done for end in self.ends)
        stage = self.stages[number]
        if self.step is None:
            stage.begin()
            self.step = stage.make()
        metrics = self.step(batch)
        self.done += 1
        if self.done == self.ends[number]:
            self.step.finish()
            self.step = None
            stage.end()
        return metrics

    def finish(self) -> None:
        """Each stage has finished where it ended."""

    def state_dict(self) -> dict[str, Any]:
        return {"done": self.done, "step": None if self.step is None else self.step.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.done, self.step = state["done"], None
        if state["step"] is not None:
            self.step = self.stages[sum(end <= self.done for end in self.ends)].make()
            self.step.load_state_dict(state["step"])
