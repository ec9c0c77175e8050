r"""Dense associative memory: patterns as minima of an energy that rewards close overlaps more than linearly.

.. math:: E(s) = -N \sum_\mu m_\mu^n, \qquad m_\mu = \frac1N \xi^\mu \cdot s

For n = 2 it is, up to a constant and a factor 2, the Hopfield network with Hebb's rule; about
:math:`N^{n-1}` random patterns are stable for larger n.

References:
    | Dense Associative Memory for Pattern Recognition (Krotov and Hopfield, 2016)
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from ..nn import check_spins

__all__ = ["DenseMemory", "build"]


class DenseMemory(nn.Module):
    """Patterns are kept as they are, ``(P, N)`` float64.

    Arguments:
        shape: Lattice sides; their product is N.
        power: n, at least 2.

    Example:
        >>> pattern = torch.tensor([[1.0, -1, 1, 1, -1, -1]])
        >>> DenseMemory((6,)).store(pattern).recall(torch.tensor([1.0, -1, 1, 1, -1, 1]))
        tensor([ 1., -1.,  1.,  1., -1., -1.])
    """

    patterns: Tensor

    def __init__(self, shape: tuple[int, ...], power: int = 3):
        super().__init__()
        if power < 2:
            raise ValueError(f"a dense memory needs a power >= 2 (2 is the Hopfield network), got {power}")
        self.shape, self.n_sites, self.power = tuple(shape), math.prod(shape), power
        self.register_buffer("patterns", torch.zeros(0, self.n_sites, dtype=torch.float64))

    @torch.no_grad()
    def store(self, patterns: Tensor | np.ndarray) -> "DenseMemory":
        """Puts ``(P, N)`` patterns of ±1 in place of those stored before."""
        self.patterns = check_spins(torch.as_tensor(patterns), self.shape).to(self.patterns)
        return self

    def energy(self, spins: Tensor) -> Tensor:
        """:math:`E(s)`, float64: ``(*, N)`` to ``(*,)``."""
        overlaps = check_spins(spins, self.shape).to(self.patterns) @ self.patterns.T / self.n_sites
        return -self.n_sites * (overlaps**self.power).sum(-1)

    @torch.no_grad()
    def recall(self, noisy: Tensor, sweeps: int = 100) -> Tensor:
        """The minimum each of ``(*, N)`` configurations runs down to, of their shape and type.

        One site after another takes the value of lower energy given the others, and stays where both have the
        same, until none has to flip or ``sweeps`` passes are done. E never rises.
        """
        spins = check_spins(noisy, self.shape).to(self.patterns).reshape(-1, self.n_sites).clone()
        overlaps = spins @ self.patterns.T
        for _ in range(sweeps):
            moved = False
            for i, column in enumerate(self.patterns.T):
                rest = overlaps - spins[:, i : i + 1] * column
                up, down = ((rest + sign * column) / self.n_sites for sign in (1, -1))
                gain = (up**self.power - down**self.power).sum(-1) * spins[:, i]
                flip = gain < -1e-12
                if flip.any():
                    moved = True
                    spins[flip, i] *= -1
                    overlaps = rest + spins[:, i : i + 1] * column
            if not moved:
                break
        return spins.reshape(noisy.shape).to(noisy)


build = DenseMemory
