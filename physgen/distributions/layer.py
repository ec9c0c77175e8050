"""Layers of several kinds of units side by side, and a layer in given fields as a Pyro distribution."""

import math

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Size, Tensor

from .spin import Shape
from .units import Units

MAX_STATES = 2**20  # of a layer that is summed over exactly


class Groups(Units):
    """Layers side by side as one: pixels and a label, say.

    Arguments:
        parts: The layers, whose coordinates follow each other.

    Example:
        >>> from physgen.distributions import units
        >>> layer = Groups(units.Bernoulli(4), units.Softmax(1, states=3))
        >>> layer.width, layer.n_states
        (7, 48.0)
    """

    def __init__(self, *parts: Units):
        super().__init__(sum(part.n for part in parts))
        self.parts, self.widths = parts, [part.width for part in parts]
        self.width = sum(self.widths)
        self.takes = "side by side " + ", then ".join(f"{part.width} of {part.takes}" for part in parts)

    @property
    def batch_shape(self) -> Size:
        return torch.broadcast_shapes(*(part.batch_shape for part in self.parts))

    def stiffness(self, like: Tensor) -> Tensor:
        each = [part.stiffness(like) for part in self.parts]
        batch = torch.broadcast_shapes(*(x.shape[:-1] for x in each))
        return torch.cat([x.expand(*batch, -1) for x in each], -1)

    def heated(self, temperature: float) -> tuple[Units, Tensor]:
        heated, factors = zip(*(part.heated(temperature) for part in self.parts), strict=True)
        return Groups(*heated), torch.cat(factors)

    def valid(self, x: Tensor) -> Tensor:
        return torch.stack([part.valid(piece) for part, piece in self._each(x)]).all(0)

    def energy(self, x: Tensor, bias: Tensor) -> Tensor:
        return sum(part.energy(*pieces) for part, *pieces in self._each(x, bias))

    def coupled(self, x: Tensor) -> Tensor:
        return torch.cat([part.coupled(piece) for part, piece in self._each(x)], -1)

    def log_sum(self, bias: Tensor, shift: Tensor) -> Tensor:
        return sum(part.log_sum(*pieces) for part, *pieces in self._each(bias, shift))

    def mean(self, field: Tensor) -> Tensor:
        return torch.cat([part.mean(piece) for part, piece in self._each(field)], -1)

    def bias_of(self, mean: Tensor) -> Tensor:
        return torch.cat([part.bias_of(piece) for part, piece in self._each(mean)], -1)

    def variance(self, field: Tensor) -> Tensor:
        return torch.cat([part.variance(piece) for part, piece in self._each(field)], -1)

    def draw(self, field: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return torch.cat([part.draw(piece, generator) for part, piece in self._each(field)], -1)

    def fit(self, rows: Tensor) -> Tensor:
        return torch.cat([part.fit(piece) for part, piece in self._each(rows)], -1)

    @property
    def n_states(self) -> float:
        return math.prod(part.n_states for part in self.parts)

    def state(self, number: Tensor, like: Tensor) -> Tensor:
        pieces = []
        for part in reversed(self.parts):
            pieces.append(part.state(number % int(part.n_states), like))
            number = number // int(part.n_states)
        return torch.cat(pieces[::-1], -1)

    def _each(self, *tensors: Tensor) -> list[tuple]:
        pieces = [x.split(self.widths, -1) for x in tensors]
        return list(zip(self.parts, *pieces, strict=True))


class Layer(TorchDistribution):
    """The law of a layer in given fields, for Pyro: batch shape ``(*,)``, event shape ``(width,)``.

    Arguments:
        units: The layer.
        field: One field per coordinate, ``(*, width)``.

    Example:
        >>> from physgen.distributions import units
        >>> potts = Layer(units.Softmax(1, states=4), torch.zeros(4))
        >>> potts.log_prob(torch.tensor([0.0, 1, 0, 0])).exp().item()
        0.25
    """

    arg_constraints = {"field": constraints.real_vector}

    def __init__(self, units: Units, field: Tensor, *, validate_args: bool | None = None):
        if field.shape[-1] != units.width:
            raise ValueError(f"field must end in the layer's {units.width} coordinates, got {field.shape}")
        self.units = units
        batch_shape = torch.broadcast_shapes(field.shape[:-1], units.batch_shape)
        self.field = field.expand(*batch_shape, -1)
        super().__init__(batch_shape, self.field.shape[-1:], validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        return self.units.support

    @property
    def has_enumerate_support(self) -> bool:
        return self.units.n_states < math.inf

    def enumerate_support(self, expand: bool = True) -> Tensor:
        return all_states(self.units, self.field, self.batch_shape, expand)

    def expand(self, batch_shape: Shape, _instance: "Layer | None" = None) -> "Layer":
        new = self._get_checked_instance(Layer, _instance)
        Layer.__init__(new, self.units, self.field.expand(*batch_shape, -1), validate_args=False)
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        zero = torch.zeros_like(self.field)
        coupling = (self.field * self.units.coupled(value)).sum(-1)
        return coupling - self.units.energy(value, zero) - self.units.log_sum(zero, self.field)

    @property
    def mean(self) -> Tensor:
        return self.units.mean(self.field)

    @property
    def variance(self) -> Tensor:
        return self.units.variance(self.field)

    @torch.no_grad()
    def sample(self, sample_shape: Shape = Size()) -> Tensor:  # noqa: B008
        return self.units.draw(self.field.expand(self._extended_shape(sample_shape)))


def count(units: Units) -> int:
    """How many states a layer has, or one sentence on why that is too many to sum over."""
    if units.n_states > MAX_STATES:
        many = "infinitely many" if units.n_states == math.inf else f"{units.n_states:.3g}"
        raise ValueError(
            f"exact sums need a layer of at most {MAX_STATES} states (20 binary units), the smaller one has "
            f"{many}; give log_partition= (physgen.ais.log_partition estimates it), draw by gibbs()"
        )
    return int(units.n_states)


def all_states(units: Units, like: Tensor, batch_shape: Size, expand: bool) -> Tensor:
    """Every state of a layer, in the shape in which Pyro enumerates."""
    states = units.state(torch.arange(count(units), device=like.device), like)
    states = states.reshape(-1, *(1,) * len(batch_shape), states.shape[-1])
    return states.expand(-1, *batch_shape, -1) if expand else states
