r"""Swendsen-Wang update: every cluster gets a new sign, for couplings of any sign and any field.

A bond with :math:`J_{ij} s_i s_j > 0` is active with probability :math:`1 - e^{-2 \beta |J_{ij}|}`, a
satisfied field ties its spin to the ghost spin with probability :math:`1 - e^{-2 \beta |h_i|}`. The active
bonds join the sites to clusters. A cluster is flipped with probability 1/2, and never if a spin of it is tied
to the ghost spin.

Warning:
    With frustrated couplings one cluster holds nearly everything above the interesting temperatures already.
    The law is correct, and the update slow.

References:
    | Nonuniversal critical dynamics in Monte Carlo simulations (Swendsen and Wang, 1987)
    | Generalization of the Fortuin-Kasteleyn-Swendsen-Wang representation (Edwards and Sokal, 1988)
"""

import torch
from torch import Tensor

from ..lattices import Lattice
from ..model import Ising
from . import Info, active, inverse_temperature, sites_first, uniform


def sweep(
    spins: Tensor, model: Ising, beta: float | Tensor, generator: torch.Generator
) -> tuple[Tensor, Info]:
    """Divides every chain into clusters and draws a sign for each of them.

    Arguments:
        spins: Configurations, shape ``(chains, N)``; not modified.
        model: Supplies the couplings and fields.
        beta: Inverse temperature, one number or one per chain.
        generator: The only source of randomness, on the device of ``spins``.

    Example:
        >>> from ising.lattices import square
        >>> up, generator = torch.ones(2, 16), torch.Generator().manual_seed(0)
        >>> sweep(up, Ising(square(4)), 100.0, generator)[0].sum(-1).abs()
        tensor([16., 16.])
    """
    columns, beta = sites_first(spins), inverse_temperature(beta, spins)
    i, j = model.lattice.edges.T
    bonds = active(columns[i] * columns[j], model.bond_couplings, beta, generator)
    tied = active(columns, model.site_fields, beta, generator)
    root = roots(bonds, model.lattice)
    fixed = torch.zeros_like(root).scatter_reduce_(0, root, tied.long(), "amax").bool()
    coin = uniform(tied, generator) < 0.5
    flip = (coin & ~fixed).gather(0, root)
    return torch.where(flip, -columns, columns).T, Info(flip.float().mean(0))


def roots(bonds: Tensor, lattice: Lattice) -> Tensor:
    """The first site of the cluster that each site is in.

    Arguments:
        bonds: Which bonds are active, bool, shape ``(E, chains)``.
        lattice: Supplies what the bonds join.

    Returns:
        int64, shape ``(N, chains)``.

    Example:
        >>> from ising.lattices import chain
        >>> roots(torch.tensor([[True], [False], [True], [False]]), chain(4)).T
        tensor([[0, 0, 2, 2]])
    """
    neighbours, bond_of = lattice.neighbours
    bonds = torch.cat([bonds, bonds.new_zeros(1, bonds.shape[-1])])  # the padding of the neighbour table
    first = torch.arange(lattice.n_sites, device=bonds.device).unsqueeze(-1).repeat(1, bonds.shape[-1])
    while True:
        before = first.clone()
        for there, bond in zip(neighbours.T, bond_of.T, strict=True):
            first = torch.where(bonds[bond], torch.minimum(first, first[there]), first)
        first = first.gather(0, first)  # the first site of my first site is in my cluster as well
        if torch.equal(first, before):
            return first
