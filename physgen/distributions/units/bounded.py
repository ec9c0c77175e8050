"""Units with finitely many values."""

import math

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.nn.functional import softplus as torch_softplus

from ..fused import draw_binary
from ..spin import draw_spins
from .base import Units, kind


def softplus(x: Tensor) -> Tensor:
    """log(1 + e^x); torch's own default drops e^-x beyond x = 20, an error of 2e-9."""
    return torch_softplus(x, threshold=40)


@kind
class Bernoulli(Units):
    """Units of 0 and 1."""

    values = ((0.0,), (1.0,))
    takes = "0 or 1; spins s become them by (s + 1) / 2"

    def valid(self, x: Tensor) -> Tensor:
        return (x * (x + -1)).abs().amax(-1) == 0  # torch does not subtract from bool

    def log_sum(self, bias: Tensor, shift: Tensor) -> Tensor:
        return softplus(bias + shift).sum(-1)

    def mean(self, field: Tensor) -> Tensor:
        return field.sigmoid()

    def bias_of(self, mean: Tensor) -> Tensor:
        return mean.logit()

    def variance(self, field: Tensor) -> Tensor:
        return field.sigmoid() * (-field).sigmoid()

    def draw(self, field: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return draw_binary(field, generator)


@kind
class Spin(Units):
    """Units of -1 and +1."""

    values = ((-1.0,), (1.0,))
    takes = "-1 or +1; convert 0/1 data by 2 * x - 1"

    def valid(self, x: Tensor) -> Tensor:
        return (x.abs() - 1).abs().amax(-1) == 0

    def log_sum(self, bias: Tensor, shift: Tensor) -> Tensor:
        field = bias + shift
        return (softplus(2 * field) - field).sum(-1)

    def mean(self, field: Tensor) -> Tensor:
        return field.tanh()

    def bias_of(self, mean: Tensor) -> Tensor:
        return mean.atanh()

    def variance(self, field: Tensor) -> Tensor:
        return 4 * (2 * field).sigmoid() * (-2 * field).sigmoid()

    def draw(self, field: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return draw_spins(field, generator)


@kind
class Softmax(Units):
    """Units in one of ``states`` states (Potts spins): one-hot, the coordinates of a unit side by side.

    Example:
        >>> Softmax(2, states=3).draw(torch.tensor([9.0, 0, 0, 0, 0, 99]), torch.Generator().manual_seed(0))
        tensor([1., 0., 0., 0., 0., 1.])
    """

    takes = "one-hot: a single 1 among the coordinates of each unit, and 0"
    counted = True

    def __init__(self, n: int, states: int):
        super().__init__(n)
        if states < 2:
            raise ValueError(f"a softmax unit needs at least 2 states, got {states}")
        self.q, self.width = states, n * states
        self.values = tuple(tuple(float(i == k) for i in range(states)) for k in range(states))

    def log_sum(self, bias: Tensor, shift: Tensor) -> Tensor:
        return self._groups(bias + shift).logsumexp(-1).sum(-1)

    def mean(self, field: Tensor) -> Tensor:
        return self._groups(field).softmax(-1).flatten(-2)

    def bias_of(self, mean: Tensor) -> Tensor:
        return mean.log()

    def variance(self, field: Tensor) -> Tensor:
        p = self.mean(field)
        return p * (1 - p)

    def draw(self, field: Tensor, generator: torch.Generator | None = None) -> Tensor:
        heights = self._groups(field).softmax(-1).cumsum(-1)
        u = torch.rand(heights.shape[:-1], generator=generator, dtype=field.dtype, device=field.device)
        chosen = (u.unsqueeze(-1) * heights[..., -1:] >= heights[..., :-1]).sum(-1)
        return one_hot(chosen, self.q).to(field).flatten(-2)

    def _groups(self, field: Tensor) -> Tensor:
        return field.unflatten(-1, (self.n, self.q))


@kind
class Binomial(Units):
    """Units that count 0 to ``trials``: as many Bernoulli copies with the same weights.

    The number of ways to count x is no energy: a temperature leaves it, as it does in the copies.
    """

    counted = True

    def __init__(self, n: int, trials: int):
        super().__init__(n)
        if trials < 1:
            raise ValueError(f"a binomial unit needs at least one trial, got {trials}")
        self.trials, self.takes = trials, f"whole numbers from 0 to {trials}"
        self.values = tuple((float(k),) for k in range(trials + 1))

    def energy(self, x: Tensor, bias: Tensor) -> Tensor:
        ways = math.lgamma(self.trials + 1) - torch.lgamma(x + 1) - torch.lgamma(self.trials + 1 - x)
        return -(ways + bias * x).sum(-1)

    def log_sum(self, bias: Tensor, shift: Tensor) -> Tensor:
        return self.trials * softplus(bias + shift).sum(-1)

    def mean(self, field: Tensor) -> Tensor:
        return self.trials * field.sigmoid()

    def bias_of(self, mean: Tensor) -> Tensor:
        return (mean / self.trials).logit()

    def variance(self, field: Tensor) -> Tensor:
        return self.trials * field.sigmoid() * (-field).sigmoid()

    def draw(self, field: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return draw_binary(field.unsqueeze(-1).expand(*field.shape, self.trials), generator).sum(-1)
