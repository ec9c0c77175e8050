"""What a layer of units has to know, and the kinds there are."""

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property

import torch
from pyro.distributions import constraints
from torch import Tensor

_LARGEST = int(sys.float_info.max)

REGISTRY: dict[str, Callable[..., "Units"]] = {}


def kind(cls: type["Units"]) -> type["Units"]:
    """Registers a class under its name in lower case: for models, commands and contract tests."""
    REGISTRY[cls.__name__.lower()] = cls
    return cls


class Units(ABC):
    """A layer of ``n`` units. The defaults are those of units with U = 0 that couple by their value.

    Attributes:
        n: Units.
        width: Coordinates, n unless a unit has several.
        values: All values of one unit, ``(q, width / n)``; empty if there is a continuum of them.
        takes: The values in words.
        counted: Whether the kind has a number beside n, as in ``softmax:3``.
    """

    takes: str
    counted = False
    values: tuple[tuple[float, ...], ...] = ()

    def __init__(self, n: int):
        if n < 1:
            raise ValueError(f"a layer needs at least one unit, got {n}")
        self.n = self.width = n

    @property
    def batch_shape(self) -> torch.Size:
        """Of parameters that the layer has itself."""
        return torch.Size()

    def stiffness(self, like: Tensor) -> Tensor:
        r""":math:`1/\sigma` of the Gaussian in U that keeps a coordinate finite, 0 where that is bounded."""
        return like.new_zeros(self.width)

    def heated(self, temperature: float) -> tuple["Units", Tensor]:
        """The layer with U divided by T, and the factors by which a bias becomes the one of E / T."""
        return self, torch.full((self.width,), 1 / temperature, dtype=torch.float64)

    @abstractmethod
    def log_sum(self, bias: Tensor, shift: Tensor) -> Tensor:
        r""":math:`\log\sum_x e^{t \cdot shift - E(x)}`, E of :meth:`energy`: ``(*, width)`` to ``(*,)``."""

    @abstractmethod
    def mean(self, field: Tensor) -> Tensor:
        """Mean of x in the field: ``(*, width)`` to the same."""

    @abstractmethod
    def bias_of(self, mean: Tensor) -> Tensor:
        """The field in which x has this mean, the inverse of :meth:`mean`."""

    @abstractmethod
    def variance(self, field: Tensor) -> Tensor:
        """Variance of each coordinate of x in the field: ``(*, width)`` to the same."""

    @abstractmethod
    def draw(self, field: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One draw of x in the field: ``(*, width)`` to the same."""

    def energy(self, x: Tensor, bias: Tensor) -> Tensor:
        r"""Own energy, :math:`U(x) - b \cdot t(x)` up to a constant: ``(*, width)`` to ``(*,)``."""
        return -(bias * x).sum(-1)

    def coupled(self, x: Tensor) -> Tensor:
        """t(x), of the shape of x."""
        return x

    def fit(self, rows: Tensor) -> Tensor:
        """Biases of independent units with the means of ``(n, width)`` data, float64 ``(width,)``.

        Two imaginary rows at zero field keep the bias of a unit that never changes finite.
        """
        none = self.mean(rows.new_zeros(self.width, dtype=torch.float64))
        return self.bias_of((rows.double().sum(0) + 2 * none) / (len(rows) + 2))

    def valid(self, x: Tensor) -> Tensor:
        """Whether x is a state of the layer: ``(*, width)`` to ``(*,)``."""
        known = torch.tensor(self.values, dtype=x.dtype, device=x.device)
        units = x.unflatten(-1, (self.n, 1, -1))
        return (units == known).all(-1).any(-1).all(-1)

    def check(self, x: Tensor) -> None:
        """Refuses what is no state of the layer, in one sentence."""
        if not self.valid(x).all():
            raise ValueError(f"the visible units take {self.takes}; got other values")

    @property
    def support(self) -> constraints.Constraint:
        """:meth:`valid` as a constraint."""
        return _Valid(self)

    @property
    def binary(self) -> bool:
        """Whether every unit is one coordinate of two values."""
        return len(self.values) == 2 and self.width == self.n

    @cached_property
    def n_states(self) -> float:
        """How many states the layer has; the largest float where there are more."""
        return float(min(len(self.values) ** self.n, _LARGEST)) if self.values else math.inf

    def state(self, number: Tensor, like: Tensor) -> Tensor:
        """States by number, ``(*,)`` to ``(*, width)`` in the type of ``like``: the digits in base q."""
        q = len(self.values)
        place = q ** torch.arange(self.n - 1, -1, -1, device=number.device)
        digits = number.unsqueeze(-1) // place % q
        return torch.tensor(self.values, dtype=like.dtype, device=number.device)[digits].flatten(-2)

    def states(self, like: Tensor) -> Tensor:
        """All states in the order of their number, ``(n_states, width)`` in the type of ``like``."""
        return self.state(torch.arange(int(self.n_states), device=like.device), like)


class _Valid(constraints.Constraint):
    is_discrete, event_dim = True, 1

    def __init__(self, units: Units):
        self.units = units

    def check(self, value: Tensor) -> Tensor:
        return self.units.valid(value)
