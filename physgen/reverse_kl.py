r"""Training on the Hamiltonian itself, without any data: the variational free energy.

.. math:: \beta F_q = \mathbb{E}_q [\beta E + \ln q] = -\ln Z + \mathrm{KL}(q \| p) \ge -\ln Z .

References:
    | Solving Statistical Mechanics Using Variational Autoregressive Networks (Wu, Wang and Zhang, 2019),
      https://arxiv.org/abs/1809.10606
    | Simple statistical gradient-following algorithms for connectionist reinforcement learning
      (Williams, 1992)
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from .nn import stream
from .train import Metrics


class Density(Protocol):
    """What is normalised and can be drawn from."""

    def log_prob(self, spins: Tensor) -> Tensor: ...
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor: ...


class Learner(Protocol):
    """A density that learns from its own draws."""

    def sample_and_log_prob(
        self, n: int, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]: ...


class Drawn(NamedTuple):
    """Spins ``(n, N)`` and their log-probabilities ``(n,)``, which can be differentiated once."""

    spins: Tensor
    log_prob: Tensor


class Draws:
    """An endless iterator of batches that the model draws with the weights of that moment: :class:`Drawn`.

    The n-th batch is a function of the weights, the seed and n alone: the state is one number.

    Arguments:
        model: Offers ``sample_and_log_prob``.
        size: Configurations per batch.
        seed: Of all draws.

    Example:
        >>> from physgen import models
        >>> next(Draws(models.build("fvbn", (2, 2)), 5)).spins.shape
        torch.Size([5, 4])
    """

    def __init__(self, model: Learner, size: int, *, seed: int = 0):
        if size < 2:
            raise ValueError(f"a batch of the model's own draws needs at least 2 configurations, got {size}")
        self.model, self.size, self.seed, self.drawn = model, size, seed, 0

    def __iter__(self) -> Iterator[Drawn]:
        return self

    def __next__(self) -> Drawn:
        generator = stream(self.model, self.seed, 50, self.drawn)
        self.drawn += 1
        return Drawn(*self.model.sample_and_log_prob(self.size, generator))

    def state_dict(self) -> dict[str, Any]:
        return {"drawn": self.drawn, "size": self.size, "seed": self.seed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues after the draws made before; refuses those of another size or seed."""
        here = self.state_dict() | {"drawn": state["drawn"]}
        if state != here:
            raise ValueError(f"these draws are {here}, the saved ones {state}; resume with the same settings")
        self.drawn = state["drawn"]


class ReverseKL:
    r"""Surrogate whose *gradient* is an unbiased estimate of that of :math:`\beta_t F_q`, by REINFORCE.

    .. math:: \nabla \beta F_q = \mathbb{E}_q [ (R - b) \nabla \ln q ], \qquad R = \beta_t E + \ln q ,

    where the baseline b of a configuration is the mean of R over the other ones of the batch. The value means
    nothing; watch ``free_energy``, which also has no variance once q is exact. The divergence is
    mode-seeking: a model that has lost half of the modes pays :math:`\ln 2` in all and looks healthy, so the
    temperature comes down from infinity, and a symmetric model is worth more than a long training.

    Arguments:
        energy: Total energy of configurations, ``(n, N)`` to ``(n,)``.
        beta: Inverse temperature at the end.
        anneal: Steps over which it rises linearly from 0, :math:`\beta_t = \beta \min(1, t / anneal)`.

    Metrics: ``free_energy`` :math:`\beta_t F_q` per site and ``spread``, the standard deviation of R over the
    batch, nats.

    Example:
        >>> import math
        >>> from physgen import models
        >>> from physgen.train import fit, gradient_step
        >>> net = models.build("fvbn", (3,))
        >>> loss = ReverseKL(lambda s: -(s * s.roll(1, -1)).sum(-1), beta=0.5)
        >>> step = gradient_step(loss, torch.optim.Adam(net.parameters(), lr=0.05))
        >>> record = fit(step, Draws(net, 500), steps=300)
        >>> log_z = math.log((2 * math.cosh(0.5)) ** 3 + (2 * math.sinh(0.5)) ** 3)
        >>> abs(record.metrics["free_energy"] + log_z / 3) < 0.01
        True
    """

    def __init__(self, energy: Callable[[Tensor], Tensor], beta: float, *, anneal: int = 0):
        self.energy, self.beta, self.anneal = energy, beta, anneal
        self.done = 0

    def __call__(self, batch: Drawn) -> tuple[Tensor, Metrics]:
        spins, log_q = batch
        beta = self.beta * min(1.0, (self.done + 1) / max(self.anneal, 1))
        self.done += 1
        with torch.no_grad():
            cost = beta * self.energy(spins).to(log_q.dtype) + log_q
            signal = (cost - cost.mean()) / (len(cost) - 1)  # the others' mean as the baseline
            metrics = {"free_energy": cost.mean() / spins.shape[-1], "spread": cost.std()}
        return (signal * log_q).sum(), metrics

    def state_dict(self) -> dict[str, Any]:
        return {"done": self.done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.done = state["done"]


class InTurn:
    """Two sources of batches, or two losses, one after the other: training by data and then by reverse KL.

    Arguments:
        first, second: Iterators of batches, or losses.
        until: Batches, or calls, of the first.

    Example:
        >>> turn = InTurn(iter("aaa"), iter("bbb"), 2)
        >>> [next(turn) for _ in range(3)]
        ['a', 'a', 'b']
    """

    def __init__(self, first: Any, second: Any, until: int):
        self.parts, self.until, self.done = (first, second), until, 0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self._turn())

    def __call__(self, batch: Any) -> tuple[Tensor, Metrics] | Tensor:
        return self._turn()(batch)

    def _turn(self) -> Any:
        self.done += 1
        return self.parts[self.done > self.until]

    def state_dict(self) -> dict[str, Any]:
        return {"done": self.done, "parts": [part.state_dict() for part in self._stateful()]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.done = state["done"]
        for part, value in zip(self._stateful(), state["parts"], strict=True):
            part.load_state_dict(value)

    def _stateful(self) -> list[Any]:
        return [part for part in self.parts if hasattr(part, "state_dict")]
