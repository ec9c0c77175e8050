r"""The layers of a restricted Boltzmann machine: what one unit is, whatever it is coupled to.

A layer x has an own energy U(x) and couples to the rest of its machine by :math:`t(x)`. In *fields*
:math:`\theta`, one per coordinate, it follows

.. math:: p(x \mid \theta) = e^{\theta \cdot t(x) - U(x) - A(\theta)}, \qquad
    A(\theta) = \log \sum_x e^{\theta \cdot t(x) - U(x)} .

=============  ============  ==============================================  ==============================
kind           values        :math:`A(\theta)` per unit                      mean of x
=============  ============  ==============================================  ==============================
``bernoulli``  0, 1          :math:`\log(1 + e^\theta)`                      :math:`\sigma(\theta)`
``spin``       -1, +1        :math:`\log 2\cosh\theta`                       :math:`\tanh\theta`
``softmax``    one-hot of q  :math:`\log\sum_k e^{\theta_k}`                 :math:`e^{\theta_k - A}`
``binomial``   0, …, K       :math:`K\log(1 + e^\theta)`                     :math:`K\sigma(\theta)`
``gaussian``   real          :math:`\theta^2/2\sigma^2 + \log\sqrt{2\pi}\sigma`  :math:`\theta`, with t = x/σ²
``relu``       real, ≥ 0     that plus :math:`\log\Phi(\theta/\sigma)`       :math:`\theta + \sigma\phi/\Phi`
=============  ============  ==============================================  ==============================

Binomial units count K Bernoulli copies that share their weights: :math:`U = -\log \binom{K}{x}`. A relu unit
is a Gaussian around its field, kept where it is not negative. The noisy rectified linear
unit :math:`\max(0, \theta + \epsilon)` of Nair and Hinton looks alike but belongs to no energy: Gibbs steps
with it leave no known law invariant.

References:
    | Exponential Family Harmoniums with an Application to Information Retrieval (Welling et al., 2004)
    | Rectified Linear Units Improve Restricted Boltzmann Machines (Nair and Hinton, 2010)
    | Emergence of Compositional Representations in Restricted Boltzmann Machines (Tubiana and Monasson, 2017)
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from pyro.distributions import constraints
from torch import Tensor
from torch.nn.functional import one_hot, softplus
from torch.special import log_ndtr, ndtr, ndtri

from .spin import below, draw_spins

REGISTRY: dict[str, Callable[..., "Units"]] = {}
_LOG_ROOT_2PI = 0.5 * math.log(2 * math.pi)


def kind(cls: type["Units"]) -> type["Units"]:
    """Registers a class under its name in lower case: for models, commands and contract tests."""
    REGISTRY[cls.__name__.lower()] = cls
    return cls


def layer(description: str, n: int) -> "Units":
    """``n`` units of a kind given by a word, with its number where it has one.

    Example:
        >>> layer("spin", 16).n_states, layer("softmax:3", 2).width
        (65536.0, 6)
    """
    name, _, number = description.partition(":")
    if name not in REGISTRY or (number and not number.isdecimal()):
        choices = ", ".join(sorted(REGISTRY))
        raise ValueError(
            f"unknown units {description!r}; choose one of {choices}, as in softmax:3 or binomial:4"
        )
    try:
        return REGISTRY[name](n, *([int(number)] if number else []))
    except TypeError:
        raise ValueError(f"{name} units need a number, as in {name}:3, got {description!r}") from None


class Units(ABC):
    """A layer of ``n`` units. The defaults are those of units with U = 0 that couple by their value.

    Attributes:
        n: Units.
        width: Coordinates, n unless a unit has several.
        values: All values of one unit, ``(q, width / n)``; empty if there is a continuum of them.
        takes: The values in words.
    """

    takes: str
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

    def heated(self, temperature: float) -> tuple["Units", Tensor | float]:
        """The layer with U divided by T, and the factor by which a bias becomes the one of E / T."""
        return self, 1 / temperature

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

    @property
    def support(self) -> constraints.Constraint:
        """:meth:`valid` as a constraint."""
        return _Valid(self)

    @property
    def n_states(self) -> float:
        """How many states the layer has."""
        return float(len(self.values)) ** self.n if self.values else math.inf

    def states(self, like: Tensor) -> Tensor:
        """All states, ``(n_states, width)`` in the type of ``like``; row k spells k in base q."""
        q = len(self.values)
        place = q ** torch.arange(self.n - 1, -1, -1, device=like.device)
        digits = torch.arange(q**self.n, device=like.device).unsqueeze(-1) // place % q
        return torch.tensor(self.values, dtype=like.dtype, device=like.device)[digits].flatten(1)


class _Valid(constraints.Constraint):
    is_discrete, event_dim = True, 1

    def __init__(self, units: Units):
        self.units = units

    def check(self, value: Tensor) -> Tensor:
        return self.units.valid(value)


@kind
class Bernoulli(Units):
    """Units of 0 and 1."""

    values = ((0.0,), (1.0,))
    takes = "0 or 1; spins s become them by (s + 1) / 2"

    def log_sum(self, bias: Tensor, shift: Tensor) -> Tensor:
        return softplus(bias + shift).sum(-1)

    def mean(self, field: Tensor) -> Tensor:
        return field.sigmoid()

    def bias_of(self, mean: Tensor) -> Tensor:
        return mean.logit()

    def variance(self, field: Tensor) -> Tensor:
        p = field.sigmoid()
        return p * (1 - p)

    def draw(self, field: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return below(field.sigmoid(), generator)


@kind
class Spin(Units):
    """Units of -1 and +1."""

    values = ((-1.0,), (1.0,))
    takes = "-1 or +1; convert 0/1 data by 2 * x - 1"

    def valid(self, x: Tensor) -> Tensor:
        return (x.abs() == 1).all(-1)

    def log_sum(self, bias: Tensor, shift: Tensor) -> Tensor:
        field = bias + shift
        return (softplus(2 * field) - field).sum(-1)

    def mean(self, field: Tensor) -> Tensor:
        return field.tanh()

    def bias_of(self, mean: Tensor) -> Tensor:
        return mean.atanh()

    def variance(self, field: Tensor) -> Tensor:
        return 1 - field.tanh() ** 2

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
        chosen = (u.unsqueeze(-1) * heights[..., -1:] >= heights).sum(-1).clamp(max=self.q - 1)
        return one_hot(chosen, self.q).to(field).flatten(-2)

    def _groups(self, field: Tensor) -> Tensor:
        return field.unflatten(-1, (self.n, self.q))


@kind
class Binomial(Units):
    """Units that count 0 to ``trials``: as many Bernoulli copies with the same weights."""

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
        p = field.sigmoid()
        return self.trials * p * (1 - p)

    def draw(self, field: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return below(field.sigmoid().unsqueeze(-1).expand(*field.shape, self.trials), generator).sum(-1)


@kind
class Gaussian(Units):
    r"""Real units of standard deviation :math:`\sigma` around their field.

    The own energy is :math:`\sum_i (x_i - b_i)^2 / 2\sigma_i^2`; bias and field have the units of x.

    Arguments:
        n: Units.
        scale: :math:`\sigma > 0`, a number or ``(*, n)``.
    """

    support, takes = constraints.real_vector, "finite numbers"

    def __init__(self, n: int, scale: Tensor | float = 1.0):
        super().__init__(n)
        self.scale = torch.as_tensor(scale)
        if not (self.scale > 0).all():
            raise ValueError("the scale of Gaussian units must be positive; it is a standard deviation")
        if self.scale.dim() and self.scale.shape[-1] != n:
            raise ValueError(f"scale needs shape (*, {n}), one per unit, got {tuple(self.scale.shape)}")

    @property
    def batch_shape(self) -> torch.Size:
        return self.scale.shape[:-1]

    def stiffness(self, like: Tensor) -> Tensor:
        return (1 / self.scale).to(like).expand(*self.batch_shape, self.n)

    def heated(self, temperature: float) -> tuple[Units, Tensor | float]:
        return type(self)(self.n, self.scale * math.sqrt(temperature)), 1.0

    def energy(self, x: Tensor, bias: Tensor) -> Tensor:
        return 0.5 * (((x - bias) / self.scale) ** 2).sum(-1)

    def coupled(self, x: Tensor) -> Tensor:
        return x / self.scale**2

    def log_sum(self, bias: Tensor, shift: Tensor) -> Tensor:
        # -(x - b)^2 / 2s^2 + x m / s^2  =  -(x - b - m)^2 / 2s^2 + (b + m / 2) m / s^2
        per_unit = _LOG_ROOT_2PI + self.scale.log() + (bias + shift / 2) * shift / self.scale**2
        return per_unit.sum(-1)

    def mean(self, field: Tensor) -> Tensor:
        return field

    def bias_of(self, mean: Tensor) -> Tensor:
        return mean

    def variance(self, field: Tensor) -> Tensor:
        return (self.scale**2).expand_as(field)

    def draw(self, field: Tensor, generator: torch.Generator | None = None) -> Tensor:
        noise = torch.randn(field.shape, generator=generator, dtype=field.dtype, device=field.device)
        return field + self.scale * noise


@kind
class ReLU(Gaussian):
    """Gaussian units kept where they are not negative; arguments, bias and field as there.

    Example:
        >>> layer, field = ReLU(1), torch.zeros(20_000, 1)
        >>> abs(layer.draw(field, torch.Generator().manual_seed(0)).mean() - (2 / torch.pi) ** 0.5) < 0.02
        tensor(True)
    """

    support, takes = constraints.independent(constraints.nonnegative, 1), "numbers that are not negative"

    def log_sum(self, bias: Tensor, shift: Tensor) -> Tensor:
        return super().log_sum(bias, shift) + log_ndtr((bias + shift) / self.scale).sum(-1)

    def mean(self, field: Tensor) -> Tensor:
        return field + self.scale * _hazard(field / self.scale)

    def bias_of(self, mean: Tensor) -> Tensor:
        field = mean.clone()
        for _ in range(60):  # Newton; A is convex, so the mean rises with the field
            field = field + (mean - self.mean(field)) * self.scale**2 / self.variance(field)
        return field

    def variance(self, field: Tensor) -> Tensor:
        x = field / self.scale
        hazard = _hazard(x)
        return self.scale**2 * (1 - hazard * (x + hazard))

    def draw(self, field: Tensor, generator: torch.Generator | None = None) -> Tensor:
        u = 1 - torch.rand(field.shape, generator=generator, dtype=torch.float64, device=field.device)
        x = (field / self.scale).double()
        bulk = x - ndtri(u * ndtr(x.clamp(min=_TAIL)))
        # Beyond, the Gaussian tail is exponential up to one part in x^2.
        tail = -u.log() / -x.clamp(max=_TAIL)
        return self.scale * torch.where(x > _TAIL, bulk, tail).to(field.dtype).clamp_(min=0)


_TAIL = -35.0  # where the normal law below still has a float64 probability


def _hazard(field: Tensor) -> Tensor:
    r""":math:`\phi(\theta) / \Phi(\theta)`."""
    return (-(field**2) / 2 - _LOG_ROOT_2PI - log_ndtr(field)).exp()
