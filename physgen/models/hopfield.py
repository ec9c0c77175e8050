r"""Hopfield network: patterns stored as minima of an Ising energy.

.. math:: E(s) = -\tfrac12 s^\top J s - \theta \cdot s, \qquad J_{ii} = 0, \quad J = J^\top

It is the zero-temperature limit of the fully visible Boltzmann machine (:meth:`Hopfield.boltzmann`). With P
random patterns Hebb's rule fails beyond :math:`P \approx 0.138 N` (:mod:`physgen.capacity` measures it);
Storkey's, which is local and incremental too, holds more; the pseudo-inverse rule keeps up to :math:`P < N`
independent patterns fixed points, with basins of attraction that shrink on the way.

References:
    | Neural networks and physical systems with emergent collective computational abilities (Hopfield, 1982)
    | Storing infinite numbers of patterns in a spin-glass model of neural networks (Amit et al., 1985)
    | Collective computational properties of neural networks: New learning mechanisms (Personnaz et al., 1986)
    | Increasing the capacity of a Hopfield network without sacrificing functionality (Storkey, 1997)
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from ..loops import descend
from .boltzmann import Boltzmann

__all__ = ["RULES", "Hopfield", "build"]


def _storkey(patterns: Tensor) -> Tensor:
    r"""One pattern after another: :math:`N \Delta J_{ij} = \xi_i \xi_j - \xi_i h_{ji} - h_{ij} \xi_j`.

    :math:`h_{ij} = \sum_{k \ne i, j} J_{ik} \xi_k` is the field on i without what j adds to it.
    """
    n_sites = patterns.shape[-1]
    J = patterns.new_zeros(n_sites, n_sites)
    for x in patterns:
        own = x * ((J @ x).unsqueeze(-1) - J * x)  # h_ij times xi_j
        J += (torch.outer(x, x) - own - own.T) / n_sites
        J.fill_diagonal_(0)
    return J


RULES = {
    "hebb": lambda patterns: patterns.T @ patterns / patterns.shape[-1],
    "storkey": _storkey,
    "pseudo-inverse": lambda patterns: torch.linalg.pinv(patterns) @ patterns,
}


class Hopfield(nn.Module):
    r"""Couplings J and fields :math:`\theta` start at zero and are float64.

    Arguments:
        shape: Lattice sides; their product is N. All pairs of sites are coupled.
        rule: ``"hebb"``, ``"storkey"`` or ``"pseudo-inverse"``.

    Example:
        >>> pattern = torch.tensor([[1.0, -1, 1, 1, -1, -1]])
        >>> Hopfield((6,)).store(pattern).recall(torch.tensor([1.0, -1, 1, 1, -1, 1]))
        tensor([ 1., -1.,  1.,  1., -1., -1.])
    """

    J: Tensor
    theta: Tensor

    def __init__(self, shape: tuple[int, ...], rule: str = "hebb"):
        super().__init__()
        if rule not in RULES:
            raise ValueError(f"unknown rule {rule!r}; choose one of {', '.join(RULES)}")
        self.shape, self.n_sites, self.rule = tuple(shape), math.prod(shape), rule
        self.register_buffer("J", torch.zeros(self.n_sites, self.n_sites, dtype=torch.float64))
        self.register_buffer("theta", torch.zeros(self.n_sites, dtype=torch.float64))

    @torch.no_grad()
    def store(self, patterns: Tensor | np.ndarray) -> "Hopfield":
        """Puts ``(P, N)`` patterns of ±1 in place of those stored before."""
        J = RULES[self.rule](self._checked(torch.as_tensor(patterns)).to(self.J))
        self.J.copy_((J + J.T) / 2).fill_diagonal_(0)
        return self

    def energy(self, spins: Tensor) -> Tensor:
        """:math:`E(s)`, float64: ``(*, N)`` to ``(*,)``."""
        s = self._checked(spins).to(self.J)
        return -(s * (0.5 * (s @ self.J) + self.theta)).sum(-1)

    @torch.no_grad()
    def recall(self, noisy: Tensor) -> Tensor:
        r"""The minimum each of ``(*, N)`` configurations runs down to, of their shape and type.

        One site after another is aligned with its field :math:`f_i = (J s)_i + \theta_i`, which changes E by
        :math:`-2 |f_i|`, until no site has to flip; a site without a field stays. E only falls, so this ends.
        """
        spins, fields = self._started(noisy)
        descend(spins, fields, self._J(), self._rounding())
        return torch.from_numpy(spins).reshape(noisy.shape).to(noisy)

    @torch.no_grad()
    def descent(self, noisy: Tensor) -> Tensor:
        """Energies on the way of :meth:`recall`: at the start and after every sweep, ``(sweeps + 1, *)``."""
        spins, fields = self._started(noisy)
        energies, moving = [self.energy(noisy)], True
        while moving:
            moving = descend(spins, fields, self._J(), self._rounding(), sweeps=1)
            energies.append(self.energy(torch.from_numpy(spins).to(self.J.device)).reshape(noisy.shape[:-1]))
        return torch.stack(energies)

    def boltzmann(self, temperature: float) -> Boltzmann:
        """The same network at a temperature > 0, as a law with draws, a density, and Glauber dynamics.

        Example:
            >>> net = Hopfield((6,)).store(torch.tensor([[1.0, -1, 1, 1, -1, -1]]))
            >>> net.boltzmann(0.5).sample_chains(chains=2, samples=3).shape
            torch.Size([2, 3, 6])
        """
        machine = Boltzmann(self.shape, temperature=temperature).to(self.J)
        return machine.set(self.J, self.theta)

    def _started(self, noisy: Tensor) -> tuple[np.ndarray, np.ndarray]:
        spins = self._checked(noisy).to(self.J).reshape(-1, self.n_sites)
        return spins.cpu().numpy().copy(), (spins @ self.J + self.theta).cpu().numpy()

    def _J(self) -> np.ndarray:
        return self.J.cpu().numpy()

    def _rounding(self) -> float:
        """Below this a field is rounding noise."""
        return 1e-12 * float(self.J.abs().sum(-1).max() + self.theta.abs().max())

    def _checked(self, spins: Tensor) -> Tensor:
        if spins.shape[-1] != self.n_sites or not (spins.abs() == 1).all():
            raise ValueError(
                f"the network takes spins -1 and +1 of shape (*, {self.n_sites}), got "
                f"{tuple(spins.shape)} holding {spins.unique()[:3].tolist()}; turn 0/1 data x into 2 * x - 1"
            )
        return spins


build = Hopfield
