r"""The ring with couplings of every pair that fall off as a power of the distance.

.. math:: E(s) = - \sum_{i < j} J(r_{ij})\, s_i s_j, \qquad J(r) = r^{-(1 + \sigma)}, \qquad
    r_{ij} = \min(|i - j|, L - |i - j|) .

For :math:`0 < \sigma \le 1` it orders at a finite temperature in spite of its one dimension; for
:math:`\sigma > 1` it does not, like the chain of nearest neighbours, its limit :math:`\sigma \to \infty`.
The update rules of :mod:`ising.updates` take it as any model. Its bonds have no name in
:mod:`ising.lattices`, so runs of it are not written to files.

References:
    | Existence of a phase-transition in a one-dimensional Ising ferromagnet (Dyson, 1969)
"""

import math

import torch

from .lattices import Lattice
from .model import Ising


def ring(L: int, sigma: float, *, h: float = 0.0) -> Ising:
    """The model on L sites, all :math:`L (L - 1) / 2` pairs coupled; nearest neighbours with J = 1.

    Example:
        >>> model = ring(6, sigma=1.0)
        >>> len(model.lattice.edges), model.bond_couplings[:5].tolist()
        (15, [1.0, 0.25, 0.1111111111111111, 0.25, 1.0])
    """
    if L < 3 or not 0 < sigma < math.inf:
        raise ValueError(f"a long-range ring needs at least 3 sites and a finite sigma > 0, got {L}, {sigma}")
    edges = torch.combinations(torch.arange(L))
    apart = (edges[:, 1] - edges[:, 0]).double()
    return Ising(Lattice((L,), (True,), edges), torch.minimum(apart, L - apart) ** -(1 + sigma), h)
