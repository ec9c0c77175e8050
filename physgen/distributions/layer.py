"""Layers of several kinds of units side by side, and a layer in given fields as a Pyro distribution."""

import math

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Size, Tensor

from .spin import Shape
from .units import Units


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

    def heated(self, temperature: float) -> tuple[Units, Tensor | float]:
        heated, factors = zip(*(part.heated(temperature) for part in self.parts), strict=True)
        return Groups(*heated), torch.tensor(factors).repeat_interleave(torch.tensor(self.widths))

    def valid(self, x: Tensor) -> Tensor:
        checks = [part.support.check(piece) for part, piece in self._each(x)]
        return torch.stack(checks).all(0)

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

    @property
    def n_states(self) -> float:
        return math.prod(part.n_states for part in self.parts)

    def states(self, like: Tensor) -> Tensor:
        every = [part.states(like) for part in self.parts]
        rows = torch.cartesian_prod(*(torch.arange(len(s), device=like.device) for s in every))
        rows = rows.reshape(-1, len(every))
        return torch.cat([s[rows[:, i]] for i, s in enumerate(every)], -1)

    def _each(self, *tensors: Tensor) -> list[tuple]:
        pieces = [x.split(self.widths, -1) for x in tensors]
        return list(zip(self.parts, *pieces, strict=True))


class Layer(TorchDistribution):
    """The law of a layer in given fields, for Pyro: batch shape ``(*,)``, event shape ``(width,)``.

    Example:
        >>> from physgen.distributions import units
        >>> potts = Layer(units.Softmax(1, states=4), torch.zeros(4))
        >>> potts.log_prob(torch.tensor([0.0, 1, 0, 0])).exp().item()
        0.25
    """

    arg_constraints = {"field": constraints.real_vector}

    def __init__(self, units: Units, field: Tensor, *, validate_args: bool | None = None):
        self.units, self.field = units, field
        super().__init__(field.shape[:-1], field.shape[-1:], validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        return self.units.support

    def expand(self, batch_shape: Shape, _instance: "Layer | None" = None) -> "Layer":
        return Layer(self.units, self.field.expand(*batch_shape, -1), validate_args=False)

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
