r"""Hopfield network: patterns stored as minima of an Ising energy.

.. math:: E(s) = -\tfrac12 s^\top J s, \qquad J_{ii} = 0, \quad J = J^\top

It is the zero-temperature limit of the fully visible Boltzmann machine. With P random patterns Hebb's rule
fails beyond :math:`P \approx 0.138 N`; the pseudo-inverse rule keeps up to :math:`P < N` independent patterns
fixed points, with basins of attraction that shrink on the way.

References:
    | Neural networks and physical systems with emergent collective computational abilities (Hopfield, 1982)
    | Storing infinite numbers of patterns in a spin-glass model of neural networks (Amit et al., 1985)
    | Collective computational properties of neural networks: New learning mechanisms (Personnaz et al., 1986)
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["RULES", "Hopfield", "build"]

RULES = {
    "hebb": lambda patterns: patterns.T @ patterns / patterns.shape[-1],
    "pseudo-inverse": lambda patterns: torch.linalg.pinv(patterns) @ patterns,
}


class Hopfield(nn.Module):
    """Couplings J start at zero and are float64.

    Arguments:
        shape: Lattice sides; their product is N. All pairs of sites are coupled.
        rule: ``"hebb"`` or ``"pseudo-inverse"``.

    Example:
        >>> pattern = torch.tensor([[1.0, -1, 1, 1, -1, -1]])
        >>> Hopfield((6,)).store(pattern).recall(torch.tensor([1.0, -1, 1, 1, -1, 1]))
        tensor([ 1., -1.,  1.,  1., -1., -1.])
    """

    J: Tensor

    def __init__(self, shape: tuple[int, ...], rule: str = "hebb"):
        super().__init__()
        if rule not in RULES:
            raise ValueError(f"unknown rule {rule!r}; choose one of {', '.join(RULES)}")
        self.n_sites, self.rule = math.prod(shape), rule
        self.register_buffer("J", torch.zeros(self.n_sites, self.n_sites, dtype=torch.float64))

    @torch.no_grad()
    def store(self, patterns: Tensor | np.ndarray) -> "Hopfield":
        """Puts ``(P, N)`` patterns of ±1 in place of those stored before."""
        J = RULES[self.rule](self._checked(torch.as_tensor(patterns)).to(self.J))
        self.J.copy_((J + J.T) / 2).fill_diagonal_(0)
        return self

    def energy(self, spins: Tensor) -> Tensor:
        """:math:`E(s)`, float64: ``(*, N)`` to ``(*,)``."""
        s = self._checked(spins).to(self.J)
        return -0.5 * ((s @ self.J) * s).sum(-1)

    @torch.no_grad()
    def recall(self, noisy: Tensor) -> Tensor:
        """The minimum each of ``(*, N)`` configurations runs down to, of their shape and type.

        One site after another is aligned with its field :math:`f_i = (J s)_i`, which changes E by
        :math:`-2 |f_i|`, until no site has to flip; a site without a field stays. E only falls, so this ends.
        """
        spins = self._checked(noisy).to(self.J).reshape(-1, self.n_sites).clone()
        field = spins @ self.J
        rounding = 1e-12 * float(self.J.abs().sum(-1).max())
        moved = True
        while moved:
            moved = False
            for i in range(self.n_sites):
                flip = spins[:, i] * field[:, i] < -rounding
                if flip.any():
                    moved = True
                    spins[flip, i] *= -1
                    field[flip] += 2 * spins[flip, i].unsqueeze(-1) * self.J[i]
        return spins.reshape(noisy.shape).to(noisy.dtype)

    def _checked(self, spins: Tensor) -> Tensor:
        if spins.shape[-1] != self.n_sites or not (spins.abs() == 1).all():
            raise ValueError(
                f"the network takes spins -1 and +1 of shape (*, {self.n_sites}), got "
                f"{tuple(spins.shape)} holding {spins.unique()[:3].tolist()}; turn 0/1 data x into 2 * x - 1"
            )
        return spins


build = Hopfield
