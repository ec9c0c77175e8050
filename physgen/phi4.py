r"""The real scalar field on a periodic lattice, as data for models of real numbers.

.. math:: S(\phi) = \sum_x \Big[ \tfrac12 \sum_\mu (\phi_{x+\mu} - \phi_x)^2 + \tfrac12 m^2 \phi_x^2
    + \lambda \phi_x^4 \Big], \qquad p(\phi) \propto e^{-S}

in units of the lattice spacing. :math:`\lambda = 0` is Gaussian with the propagator
:math:`1 / (\hat k^2 + m^2)`, :math:`\hat k_\mu = 2 \sin(k_\mu / 2)`; else :math:`m^2` may be negative.

References:
    | Hybrid Monte Carlo (Duane, Kennedy, Pendleton and Roweth, 1987)
    | Quantum Fields on a Lattice (Montvay and Münster, 1994), section 2
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LEAST_ACCEPTED = 0.1


@dataclass(frozen=True)
class Phi4:
    r"""The action: ``shape`` of the torus, :math:`m^2` and :math:`\lambda`."""

    shape: tuple[int, ...]
    mass2: float
    coupling: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mass2) and math.isfinite(self.coupling)):
            raise ValueError(f"mass2 and coupling must be finite, got {self.mass2} and {self.coupling}")
        if self.coupling < 0 or (self.coupling == 0 and self.mass2 <= 0):
            raise ValueError(
                f"the field needs coupling > 0, or coupling = 0 and mass2 > 0, to have a law; got "
                f"{self.coupling} and {self.mass2}"
            )
        if min(self.shape) < 3:
            raise ValueError(f"a periodic side needs 3 sites to have distinct bonds, got {self.shape}")

    @property
    def axes(self) -> range:
        """The axes of a field ``(n, *shape)`` that are directions of the lattice."""
        return range(1, len(self.shape) + 1)

    def action(self, field: Tensor) -> Tensor:
        """S of fields ``(n, *shape)``, ``(n,)``."""
        kinetic = sum((field.roll(-1, axis) - field).square() for axis in self.axes) / 2
        density = kinetic + self.mass2 / 2 * field**2 + self.coupling * field**4
        return density.flatten(1).sum(-1)

    def force(self, field: Tensor) -> Tensor:
        """Minus the gradient of S, of the shape of the field."""
        laplacian = sum(field.roll(1, a) + field.roll(-1, a) - 2 * field for a in self.axes)
        return laplacian - self.mass2 * field - 4 * self.coupling * field**3

    def propagator(self) -> Tensor:
        r"""Covariance ``(N, N)`` float64 where :math:`\lambda = 0`."""
        if self.coupling:
            raise ValueError("the propagator is known in closed form for coupling = 0 only")
        momenta = (4 * torch.sin(math.pi * torch.arange(n).double() / n) ** 2 for n in self.shape)
        k2 = sum(x.reshape(-1, *(1,) * (len(self.shape) - 1 - a)) for a, x in enumerate(momenta))
        row = torch.fft.ifftn(1 / (k2 + self.mass2)).real
        place = torch.cartesian_prod(*(torch.arange(n) for n in self.shape)).reshape(-1, len(self.shape))
        step = (place.unsqueeze(1) - place) % torch.tensor(self.shape)
        return row[step.unbind(-1)]


def hybrid_monte_carlo(
    model: Phi4,
    chains: int,
    samples: int,
    generator: torch.Generator,
    *,
    thin: int = 2,
    burn_in: int = 100,
    leaps: int = 10,
    length: float = 1.0,
) -> tuple[Tensor, float]:
    """Independent chains, ``(chains, samples, N)`` float64, and the share of accepted trajectories.

    Arguments:
        model: The action.
        chains, samples: Chains, and fields kept of each.
        generator: Source of randomness.
        thin: Trajectories between two kept fields.
        burn_in: Trajectories before, from a field of independent normal numbers.
        leaps: Leapfrog steps per trajectory.
        length: Mean time of a trajectory; each takes one drawn from half to three halves of it, so that no
            mode of the free field can return to where it began every time.

    Raises:
        ValueError: If fewer than a tenth of the trajectories are accepted.

    Example:
        >>> free = Phi4((4, 4), mass2=1.0)
        >>> field, accepted = hybrid_monte_carlo(free, 500, 4, torch.Generator().manual_seed(0))
        >>> field.shape, accepted > 0.8, bool(abs(field.var() - free.propagator()[0, 0]) < 0.02)
        (torch.Size([500, 4, 16]), True, True)
    """
    field = torch.randn(chains, *model.shape, dtype=torch.float64, generator=generator)
    kept = field.new_empty(chains, samples, math.prod(model.shape))
    accepted = 0.0
    trajectories = burn_in + samples * thin
    for i in range(trajectories):
        field, share = _trajectory(model, field, generator, leaps, length)
        accepted += share / trajectories
        if i >= burn_in and (i - burn_in) % thin == thin - 1:
            kept[:, (i - burn_in) // thin] = field.flatten(1)
    if accepted < LEAST_ACCEPTED:
        raise ValueError(
            f"hybrid Monte Carlo accepted {accepted:.1%} of its trajectories, so the field hardly moved; "
            f"take more leaps, or lesser mass2 and coupling than {model.mass2:g} and {model.coupling:g}"
        )
    return kept, accepted


def two_point(field: Tensor, shape: Sequence[int]) -> Tensor:
    r"""Per field :math:`\frac{1}{N} \sum_x \phi_x \phi_{x + r}`: ``(*, N)`` to ``(*, R)``.

    r, along an axis, goes from 0 to half of the side; axes of equal length are averaged.

    Example:
        >>> two_point(torch.ones(3, 16), (4, 4)).shape
        torch.Size([3, 3])
    """
    lattice = field.unflatten(-1, tuple(shape))
    n = len(shape)
    axes = [axis for axis in range(-n, 0) if shape[axis] == shape[-1]]
    found = [
        sum((lattice * lattice.roll(-r, a)).flatten(-n).mean(-1) for a in axes) / len(axes)
        for r in range(shape[-1] // 2 + 1)
    ]
    return torch.stack(found, -1)


def _trajectory(
    model: Phi4, field: Tensor, generator: torch.Generator, leaps: int, length: float
) -> tuple[Tensor, float]:
    """One leapfrog trajectory of all chains, accepted or not by Metropolis."""
    momentum = torch.randn(field.shape, dtype=field.dtype, generator=generator)
    step = length / leaps * (0.5 + float(torch.rand((), generator=generator)))
    new, p = field, momentum + step / 2 * model.force(field)
    for leap in range(leaps):
        new = new + step * p
        p = p + (step if leap < leaps - 1 else step / 2) * model.force(new)
    cost = model.action(new) - model.action(field)
    cost = cost + (p.square() - momentum.square()).flatten(1).sum(-1) / 2
    accept = torch.rand(len(field), dtype=field.dtype, generator=generator) < (-cost).exp()
    share = float(accept.double().mean())
    return torch.where(accept.reshape(-1, *(1,) * len(model.shape)), new, field), share
