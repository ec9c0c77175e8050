r"""One network for a whole range of temperatures and fields, or for several classes.

.. math:: W(c) = \sum_m \phi_m(c) \, W_m , \qquad \phi_0 = 1 ,

for every weight of a model, or only for its biases. The features :math:`\phi` of the condition c are
polynomials of the inverse temperature (and the field), or one per class. The model itself knows nothing of
this: at a given c it is an ordinary density, with its own samplers.

References:
    | HyperNetworks (Ha, Dai and Le, 2016), https://arxiv.org/abs/1609.09106; here with a linear generator
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import torch
from numpy.polynomial.legendre import legvander
from torch import Tensor, nn
from torch.func import functional_call

from .batches import Batches
from .nn import private_seed, stream
from .reverse_kl import Drawn, Draws, ReverseKL
from .train import Metrics

Condition = float | Sequence[float] | Tensor


class Polynomials:
    """Products of Legendre polynomials, each on its interval, up to a total degree.

    Arguments:
        intervals: Of every number of the condition, such as ``(0.3, 0.5)`` of beta.
        degree: Largest sum of the degrees.

    Example:
        >>> Polynomials([(0.0, 2.0)], degree=2)(2.0)
        tensor([1., 1., 1.], dtype=torch.float64)
    """

    def __init__(self, intervals: Sequence[tuple[float, float]], *, degree: int):
        for low, high in intervals:
            if not -math.inf < low < high < math.inf:
                raise ValueError(f"an interval of conditions goes from low to high, got {low} to {high}")
        if degree < 1:
            raise ValueError(f"polynomials of the condition need a degree of at least 1, got {degree}")
        self.degree, self.intervals = degree, [tuple(map(float, interval)) for interval in intervals]
        powers = product(range(degree + 1), repeat=len(intervals))
        self.powers = sorted((p for p in powers if sum(p) <= degree), key=lambda p: (sum(p), p))

    @property
    def width(self) -> int:
        """How many numbers a condition has."""
        return len(self.intervals)

    def __len__(self) -> int:
        return len(self.powers)

    def __call__(self, condition: Condition) -> Tensor:
        """Features of one condition, float64; refused outside of the intervals."""
        numbers = torch.as_tensor(condition, dtype=torch.float64).reshape(-1).tolist()
        if len(numbers) != self.width:
            raise ValueError(f"a condition has {self.width} numbers here, got {len(numbers)}")
        single = []
        for value, (low, high) in zip(numbers, self.intervals, strict=True):
            rounding = 1e-6 * (high - low)
            if not low - rounding <= value <= high + rounding:
                raise ValueError(f"the model knows conditions from {low:g} to {high:g}, got {value:g}")
            x = (2 * value - low - high) / (high - low)
            single.append(legvander([x], self.degree)[0].tolist())
        return torch.tensor(
            [math.prod(v[k] for v, k in zip(single, p, strict=True)) for p in self.powers],
            dtype=torch.float64,
        )

    def first_number(self) -> Tensor:
        """Coefficients with which the features give the first number of the condition itself."""
        low, high = self.intervals[0]
        given = torch.zeros(len(self), dtype=torch.float64)
        given[0] = (low + high) / 2
        given[self.powers.index((1, *[0] * (self.width - 1)))] = (high - low) / 2
        return given


class Classes:
    """A constant, which the classes share, and one feature of each class.

    Example:
        >>> Classes(3)(1)
        tensor([1., 0., 1., 0.], dtype=torch.float64)
    """

    width = 1

    def __init__(self, n: int):
        self.n = n

    def __len__(self) -> int:
        return 1 + self.n

    def __call__(self, condition: Condition) -> Tensor:
        k = int(torch.as_tensor(condition))
        if not 0 <= k < self.n:
            raise ValueError(f"the model knows the classes 0 to {self.n - 1}, got {k}")
        return torch.cat([torch.ones(1), torch.eye(self.n)[k]]).double()


class Conditional(nn.Module):
    r"""Any model whose weights are linear in features of a condition.

    Arguments:
        model: Anything with ``log_prob`` and ``sample`` (for :class:`ConditionalDraws`, with
            ``sample_and_log_prob``). Its own weights become :math:`W_0`; the others start
            at zero.
        features: :class:`Polynomials` or :class:`Classes`.
        biases: Whether the condition moves only the weights called ``bias``.

    Example:
        >>> from physgen import models
        >>> net = Conditional(models.build("fvbn", (4, 4)), Polynomials([(0.3, 0.5)], degree=2))
        >>> net.at(0.44).log_prob(net.at(0.44).sample(8)).shape
        torch.Size([8])
    """

    def __init__(self, model: nn.Module, features: Polynomials | Classes, *, biases: bool = False):
        super().__init__()
        self.model, self.features = model, features
        self.names = [n for n, _ in model.named_parameters() if not biases or n.rpartition(".")[2] == "bias"]
        if not self.names:
            raise ValueError(f"{type(model).__name__} has no biases that a condition could move")
        base = dict(model.named_parameters())
        self.changes = nn.ParameterList(
            torch.zeros(len(features) - 1, *base[name].shape, dtype=base[name].dtype) for name in self.names
        )

    def weights(self, condition: Condition) -> dict[str, Tensor]:
        """All weights of the model at one condition, by name."""
        base = dict(self.model.named_parameters())
        phi = self.features(condition)[1:]
        for name, change in zip(self.names, self.changes, strict=True):
            base[name] = base[name] + torch.tensordot(phi.to(change), change, 1)
        return base

    def at(self, condition: Condition) -> "Given":
        """The density at one condition, through which gradients reach all :math:`W_m`."""
        return Given(self, condition)

    def plain(self, condition: Condition) -> nn.Module:
        """A copy of the model with its weights at one condition, which knows nothing of others."""
        model = copy.deepcopy(self.model)
        with torch.no_grad():
            for name, value in self.weights(condition).items():
                model.get_parameter(name).copy_(value)
        return model

    def log_probs(self, values: Tensor, conditions: Tensor) -> Tensor:
        """Each row at a condition of its own: ``(n, N)`` and ``(n,)`` or ``(n, width)`` to ``(n,)`` nats."""
        conditions = conditions.reshape(len(values), -1)
        found = []
        groups, which = conditions.unique(dim=0, return_inverse=True)
        for k, condition in enumerate(groups):
            found.append(self.at(condition).log_prob(values[which == k]))
        return torch.cat(found)[torch.argsort(torch.argsort(which, stable=True))]

    def loss(self, batch: tuple[Condition, Tensor]) -> Tensor:
        """Negative log-likelihood per site of configurations ``(n, N)`` at one condition, nats."""
        condition, values = batch
        return -self.at(condition).log_prob(values).mean() / values.shape[-1]

    @torch.no_grad()
    def start_from(self, couplings: Tensor) -> None:
        r"""The model's own, with :math:`\beta J` at every beta, the first number of the condition.

        Arguments:
            couplings: J itself, symmetric, ``(N, N)``.
        """
        if not isinstance(self.features, Polynomials):
            raise ValueError("couplings are scaled by beta, and classes have none; condition on beta")
        self.model.start_from(torch.zeros_like(couplings))
        without = {name: p.clone() for name, p in self.model.named_parameters()}
        self.model.start_from(couplings)
        given = self.features.first_number()
        for name, change in zip(self.names, self.changes, strict=True):
            p = self.model.get_parameter(name)
            unit = p - without[name]
            p.copy_(without[name] + given[0].to(unit) * unit)
            change.copy_(torch.tensordot(given[1:].to(unit), unit.unsqueeze(0), 0).flatten(0, 1))


class Given:
    """A :class:`Conditional` at one condition: a density of the usual contract."""

    def __init__(self, net: Conditional, condition: Condition):
        self.net, self.condition, self._call = net, condition, _Call(net.model)
        self.parameters = net.parameters

    def log_prob(self, values: Tensor) -> Tensor:
        """Normalised: ``(*, N)`` values to ``(*,)`` nats."""
        return self._of_model("log_prob", values)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Independent draws, ``(n, N)``."""
        return self._of_model("sample", n, generator)

    def sample_and_log_prob(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Independent draws ``(n, N)`` and their log-probabilities ``(n,)``, with their gradient."""
        return self._of_model("sample_and_log_prob", n, generator)

    def _of_model(self, method: str, *args: object) -> Any:
        weights = {f"model.{name}": value for name, value in self.net.weights(self.condition).items()}
        return functional_call(self._call, weights, (method, *args))


class _Call(nn.Module):
    """A method of a model as a forward pass, which is all that ``functional_call`` can do."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, method: str, *args: object) -> Any:
        return getattr(self.model, method)(*args)


def stratified(n: int, seed: int, width: int = 1) -> list[float]:
    r"""Entry n of an even sequence in the unit cube: :math:`u_k + n g^{-k}` modulo 1, u of the seed.

    Any stretch of it covers the cube evenly, which independent numbers do not; g solves
    :math:`g^{width + 1} = g + 1`, in one dimension the golden ratio.

    Example:
        >>> [round(stratified(n, 0)[0] - stratified(0, 0)[0], 3) % 1 for n in range(3)]
        [0.0, 0.618, 0.236]
    """
    g = 1.0
    for _ in range(60):
        g = (1 + g) ** (1 / (width + 1))
    return [math.fmod(private_seed(seed, 58, k) / 2**63 + n * g**-k, 1.0) for k in range(1, width + 1)]


class ConditionalDraws(Draws):
    """An endless iterator of (condition, what the model draws there), the conditions in a stratified order.

    The n-th batch is a function of the weights, the seed and n alone: the state is one number.

    Arguments:
        net: Conditioned on :class:`Polynomials`.
        size: Configurations per batch, all at one condition.
        seed: Of conditions and draws.
    """

    def __init__(self, net: Conditional, size: int, *, seed: int = 0):
        if not isinstance(net.features, Polynomials):
            raise ValueError(
                "draws over a range need a model conditioned on numbers such as beta, not classes"
            )
        super().__init__(net, size, seed=seed)
        self.intervals = net.features.intervals

    def __next__(self) -> tuple[tuple[float, ...], Drawn]:
        place = stratified(self.drawn, self.seed, len(self.intervals))
        condition = tuple(
            low + (high - low) * x for (low, high), x in zip(self.intervals, place, strict=True)
        )
        generator = stream(self.model, self.seed, 59, self.drawn)
        self.drawn += 1
        return condition, Drawn(*self.model.at(condition).sample_and_log_prob(self.size, generator))


class ConditionalReverseKL:
    r""":class:`~physgen.reverse_kl.ReverseKL` at the condition of each batch of :class:`ConditionalDraws`.

    Arguments:
        energy: Total energy of configurations ``(n, N)``, in units of J, given what follows beta in the
            condition: ``energy(spins)`` for beta alone, ``energy(spins, h)`` for beta and h.
    """

    def __init__(self, energy: Callable[..., Tensor]):
        self.energy = energy

    def __call__(self, batch: tuple[Sequence[float], Drawn]) -> tuple[Tensor, Metrics]:
        (beta, *rest), drawn = batch
        return ReverseKL(lambda spins: self.energy(spins, *rest), beta)(drawn)


class ConditionalBatches:
    """An endless iterator of (condition, configurations), the conditions in a stratified order.

    Arguments:
        batches: Of every condition, such as a temperature or the number of a class.
        seed: Of the order.
    """

    def __init__(self, batches: Mapping[float, Batches], *, seed: int = 0):
        if not batches:
            raise ValueError("training needs the configurations of at least one condition, got none")
        self.batches, self.seed, self.drawn = dict(batches), seed, 0

    def __iter__(self) -> Iterator[tuple[float, Tensor]]:
        return self

    def __next__(self) -> tuple[float, Tensor]:
        condition = list(self.batches)[int(len(self.batches) * stratified(self.drawn, self.seed)[0])]
        self.drawn += 1
        return condition, next(self.batches[condition])

    def state_dict(self) -> dict[str, Any]:
        parts = {repr(condition): part.state_dict() for condition, part in self.batches.items()}
        return {"drawn": self.drawn, "seed": self.seed, "batches": parts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues after the batches drawn before; refuses those of other conditions, data or settings."""
        if state["seed"] != self.seed or state["batches"].keys() != set(map(repr, self.batches)):
            raise ValueError("the saved batches have other conditions or another seed; resume with the same")
        for condition, part in self.batches.items():
            part.load_state_dict(state["batches"][repr(condition)])
        self.drawn = state["drawn"]
