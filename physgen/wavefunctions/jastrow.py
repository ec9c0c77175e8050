r"""Padé-Jastrow factor: the cusp that a Boltzmann machine lacks.

.. math:: J(x) = \exp \sum_{i<j} \frac{\alpha\, r_{ij}}{1 + \beta r_{ij}}

Where two particles with a repulsion of :math:`1/r` meet, the local energy stays finite only if
:math:`\partial_r \log\Psi = 1/(D - 1)` there (Kato, 1957): 1 in two dimensions, 1/2 in three. This holds for
bosons and for electrons of opposite spin; like spins would need a node and half or less of it.
"""

import math

import torch
from torch import Tensor, nn


class PadeJastrow(nn.Module):
    r"""The slope :math:`\alpha` at contact is fixed by the cusp condition, :math:`\beta` is learned.

    Arguments:
        particles: P, at least 2.
        dimensions: D, at least 2.
        beta: Initial :math:`\beta > 0`, in inverse lengths; learned as its logarithm.

    Example:
        >>> x = torch.tensor([[0.0, 0.0, 3.0, 4.0]], dtype=torch.float64)
        >>> PadeJastrow(2, 2, beta=0.3).log_psi(x).item()  # 5 / (1 + 0.3 * 5)
        2.0
    """

    def __init__(self, particles: int, dimensions: int, *, beta: float = 0.5):
        super().__init__()
        if min(particles, dimensions) < 2 or not 0 < beta < math.inf:
            raise ValueError(
                "a Jastrow factor needs at least two particles in two dimensions and beta > 0, got "
                f"{particles} particles, {dimensions} dimensions and beta = {beta}"
            )
        self.dimensions, self.cusp = dimensions, 1 / (dimensions - 1)
        self.log_beta = nn.Parameter(torch.tensor([math.log(beta)], dtype=torch.float64))
        self.recipe = {"name": "pade_jastrow", "shape": [particles, dimensions], "hyper": {}}

    def log_psi(self, x: Tensor) -> Tensor:
        """``(n, P * D)`` to ``(n,)``."""
        _, r = pairs(x, self.dimensions)
        return (self.cusp * r / (1 + self.log_beta.exp() * r)).sum(-1)

    @torch.no_grad()
    def derivatives(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient ``(n, M)`` and Laplacian ``(n,)`` of log J in the coordinates."""
        apart, r = pairs(x, self.dimensions)
        beta = self.log_beta.exp()
        slope = self.cusp / (1 + beta * r) ** 2
        bend = -2 * beta * slope / (1 + beta * r)
        laplacian = 2 * (bend + (self.dimensions - 1) * slope / r).sum(-1)
        return spread((slope / r).unsqueeze(-1) * apart, x), laplacian

    @torch.no_grad()
    def log_derivatives(self, x: Tensor) -> Tensor:
        r""":math:`\partial \log J / \partial \log\beta`, ``(n, 1)``."""
        _, r = pairs(x, self.dimensions)
        beta = self.log_beta.exp()
        return -(self.cusp * beta * r**2 / (1 + beta * r) ** 2).sum(-1, keepdim=True)


def pairs(x: Tensor, dimensions: int) -> tuple[Tensor, Tensor]:
    """Vectors from the second to the first particle of each pair, ``(n, pairs, D)``, and their lengths.

    Example:
        >>> pairs(torch.tensor([[0.0, 0.0, 3.0, 4.0]]), 2)
        (tensor([[[-3., -4.]]]), tensor([[5.]]))
    """
    place = x.reshape(*x.shape[:-1], -1, dimensions)
    first, second = torch.triu_indices(place.shape[-2], place.shape[-2], offset=1)
    apart = place[..., first, :] - place[..., second, :]
    return apart, apart.norm(dim=-1)


def spread(by_pair: Tensor, x: Tensor) -> Tensor:
    """Adds what each pair ``(n, pairs, D)`` does to its first particle, and takes it from its second."""
    dimensions = by_pair.shape[-1]
    particles = x.shape[-1] // dimensions
    first, second = torch.triu_indices(particles, particles, offset=1)
    total = x.new_zeros(len(x), particles, dimensions)
    return total.index_add(1, first, by_pair).index_add(1, second, -by_pair).flatten(1)
