r"""Wolff single-cluster update, for couplings of any sign and any field.

A bond with :math:`J_{ij} s_i s_j > 0` is active with probability :math:`1 - e^{-2 \beta |J_{ij}|}`, a
satisfied field ties its spin to the ghost spin with probability :math:`1 - e^{-2 \beta |h_i|}`. The cluster
of active bonds around a random site is flipped, unless it is tied to the ghost spin.

Warning:
    In a strong field nearly every cluster is tied and nothing moves; with frustrated couplings clusters
    percolate above the interesting temperatures. Both are correct, and slow.

References:
    | Collective Monte Carlo Updating for Spin Systems (Wolff, 1989)
    | Nonuniversal critical dynamics in Monte Carlo simulations (Swendsen and Wang, 1987)
"""

import torch
from torch import Tensor

from ..model import Ising
from . import Info, active, inverse_temperature, sites_first


def sweep(
    spins: Tensor, model: Ising, beta: float | Tensor, generator: torch.Generator
) -> tuple[Tensor, Info]:
    """Grows and flips one cluster in every chain.

    All bonds are drawn at once, which is the same law as drawing those that the cluster meets; the cluster
    then floods from its seed until nothing changes.

    Arguments:
        spins: Configurations, shape ``(chains, N)``; not modified.
        model: Supplies the couplings and fields.
        beta: Inverse temperature, one number or one per chain.
        generator: The only source of randomness, on the device of ``spins``.

    Example:
        >>> from ising.lattices import square
        >>> up, generator = torch.ones(2, 16), torch.Generator().manual_seed(0)
        >>> sweep(up, Ising(square(4)), 100.0, generator)[0].sum(-1)
        tensor([-16., -16.])
    """
    columns, beta = sites_first(spins), inverse_temperature(beta, spins)
    n_sites, chains = columns.shape
    i, j = model.lattice.edges.T
    bonds = active(columns[i] * columns[j], model.bond_couplings, beta, generator)
    tied = active(columns, model.site_fields, beta, generator)
    neighbours, bond_of = model.lattice.neighbours
    bonds = torch.cat([bonds, bonds.new_zeros(1, chains)])  # the padding of the neighbour table

    seeds = torch.randint(n_sites, (1, chains), generator=generator, device=spins.device)
    cluster = torch.zeros_like(tied).scatter_(0, seeds, True)
    size = 0
    while (grown := int(cluster.sum())) > size:
        size = grown
        for there, bond in zip(neighbours.T, bond_of.T, strict=True):
            cluster |= cluster[there] & bonds[bond]
    cluster &= ~(cluster & tied).any(0)
    return torch.where(cluster, -columns, columns).T, Info(cluster.float().mean(0))
