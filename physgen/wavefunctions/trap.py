r"""Particles in a harmonic trap, :math:`\hbar = m = e = 1`, and what is known exactly about them.

.. math::
    H = \sum_p \Big(-\tfrac12 \nabla_p^2 + \tfrac12 \omega^2 x_p^2\Big)
        + \sum_{p<q} \frac{1}{|x_p - x_q|}

The sum over pairs is optional. A positive wave function belongs to bosons, or to two electrons in a singlet;
nothing here makes it antisymmetric.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from scipy.optimize import brentq
from torch import Tensor

from .jastrow import pairs, spread


class ParticleFunction(Protocol):
    """What the trap asks of a trial function."""

    def derivatives(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient ``(n, M)`` and Laplacian ``(n,)`` of log psi."""
        ...


class Parts(NamedTuple):
    """Parts of the local energy, each ``(n,)``; their sum is the whole."""

    kinetic: Tensor
    harmonic: Tensor
    repulsion: Tensor


@dataclass(frozen=True)
class Trap:
    r"""The Hamiltonian above.

    Arguments:
        particles, dimensions: P and D.
        omega: Frequency of the trap.
        repulsion: Whether the particles repel each other by 1/r; needs at least two dimensions, since on a
            line 1/r has no finite mean unless the wave function vanishes where particles meet.

    Example:
        >>> Trap(2, 2, omega=1.0, repulsion=True).exact_energy  # Taut (1993): exactly 3
        3.0
    """

    particles: int
    dimensions: int
    omega: float = 1.0
    repulsion: bool = False

    def __post_init__(self) -> None:
        if min(self.particles, self.dimensions) < 1 or not 0 < self.omega < math.inf:
            raise ValueError(
                "a trap needs particles >= 1, dimensions >= 1 and a finite omega > 0, got "
                f"{self.particles}, {self.dimensions} and {self.omega}"
            )
        if self.repulsion and self.dimensions == 1:
            raise ValueError("a repulsion of 1/r needs at least two dimensions; turn it off on a line")

    @property
    def unit(self) -> float:
        """The energy scale, omega."""
        return self.omega

    @property
    def exact_energy(self) -> float | None:
        """Of the ground state of bosons: known without repulsion, and for up to two particles with it."""
        if not self.repulsion or self.particles == 1:
            return self.particles * self.dimensions * self.omega / 2
        return two_particle_energy(self.dimensions, self.omega) if self.particles == 2 else None

    def parts(self, psi: ParticleFunction, x: Tensor) -> Parts:
        r"""Parts of :math:`E_L = H\Psi/\Psi` at ``(n, P * D)``.

        .. math:: T_L = -\tfrac12\big(\nabla^2 \log\Psi + |\nabla \log\Psi|^2\big)
        """
        gradient, laplacian = psi.derivatives(x)
        kinetic = -0.5 * (laplacian + gradient.square().sum(-1))
        harmonic = 0.5 * self.omega**2 * x.square().sum(-1)
        if not self.repulsion:
            return Parts(kinetic, harmonic, torch.zeros_like(kinetic))
        return Parts(kinetic, harmonic, pairs(x, self.dimensions)[1].reciprocal().sum(-1))

    def local_energy(self, psi: ParticleFunction, x: Tensor) -> Tensor:
        r""":math:`E_L = H\Psi/\Psi`, ``(n, P * D)`` to ``(n,)``."""
        return torch.stack(self.parts(psi, x)).sum(0)

    def tamed(self, psi: ParticleFunction, x: Tensor) -> Tensor:
        r"""A local energy with the same mean and without the 1/r of particles that meet, for smooth psi.

        With :math:`f = \sum_{p<q} \ell (1 - e^{-r_{pq}/\ell})` and any :math:`\Psi` the mean of

        .. math:: \nabla^2 f + 2\, \nabla f \cdot \nabla \log\Psi = \Psi^{-2}\, \nabla \cdot (\Psi^2 \nabla f)

        is zero, and it goes as :math:`2(D - 1)/r_{pq}` where two particles meet; it is subtracted with the
        factor :math:`1/2(D - 1)`. Without a cusp the variance of the plain local energy is infinite in two
        dimensions (a logarithm), so that its error bar means little; this one's is finite. With the right
        cusp none of this is needed. For the energy only: gradients by parameters need the plain one.

        References:
            | Zero-variance principle for Monte Carlo algorithms (Assaraf and Caffarel, 1999)
        """
        plain = self.local_energy(psi, x)
        if not self.repulsion:
            return plain
        gradient, _ = psi.derivatives(x)
        apart, r = pairs(x, self.dimensions)
        reach = self.omega**-0.5
        slope = torch.exp(-r / reach)
        bend = ((self.dimensions - 1) / r - 1 / reach) * slope
        along = (spread((slope / r).unsqueeze(-1) * apart, x) * gradient).sum(-1)
        return plain - (bend.sum(-1) + along) / (self.dimensions - 1)


def two_particle_energy(dimensions: int, omega: float) -> float:
    r"""Ground state of two particles with repulsion: exact up to rounding, about 1e-12 relative.

    Centre of mass and distance separate. With :math:`\rho = r\sqrt\omega` the relative motion is
    :math:`y(\rho) e^{-\rho^2/4}`,

    .. math::
        y'' + \Big(\frac{D-1}{\rho} - \rho\Big) y'
        + \Big(\epsilon - \frac D2 - \frac{\omega^{-1/2}}{\rho}\Big) y = 0,

    a power series whose sign far out tells whether :math:`\epsilon` is above or below the lowest eigenvalue;
    :math:`E = \omega(\epsilon + D/2)`. For some frequencies the series ends (Taut, 1993): E = 3 at
    :math:`\omega = 1` in two dimensions, E = 2 at :math:`\omega = 1/2` in three.

    Example:
        >>> round(two_particle_energy(3, 0.5), 10)
        2.0
    """
    D, charge = dimensions, omega**-0.5
    if D < 2 or not omega > 1e-4:
        raise ValueError(
            f"two repelling particles need dimensions >= 2 and omega > 1e-4, got {D} and {omega}"
        )
    nearest = (2 * charge) ** (1 / 3)  # where the potential is lowest
    far = 8 + 2 * nearest

    def outside(epsilon: float) -> float:
        """y(far) over a positive factor: terms c_k far^k of the series, rescaled as they grow."""
        before, last = 1.0, charge / (D - 1) * far
        total, k = before + last, 0
        while k < 20 or abs(before) + abs(last) > 1e-17 * abs(total):
            term = (charge * far * last + (k + D / 2 - epsilon) * far**2 * before) / ((k + 2) * (k + D))
            before, last, k = last, term, k + 1
            total += term
            if abs(total) > 1e200:
                before, last, total = before / 1e200, last / 1e200, total / 1e200
        return total

    lowest = max(D / 2, 0.75 * nearest**2)  # without repulsion, and without kinetic energy: two lower bounds
    highest = lowest + 0.5  # in steps smaller than the gap to the next level, which is at least sqrt(3)
    while outside(highest) > 0:
        lowest, highest = highest, highest + 0.5
    epsilon = brentq(lambda e: math.copysign(1.0, outside(e)), lowest, highest, xtol=1e-13, rtol=1e-14)
    return float(f"{omega * (epsilon + D / 2):.12g}")
