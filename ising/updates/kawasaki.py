r"""Kawasaki exchange by heat bath: neighbouring spins swap places, so no chain changes its magnetisation.

An exchange of unlike neighbours i and j costs :math:`\Delta E = 2 s_i (f_i - f_j) + 4 J_{ij}` with the local
fields f: the bond between them is in both fields and does not change. It is made with probability

.. math:: a = \frac{1}{1 + e^{\beta \Delta E}} .

Within a sector of fixed M the chain samples :math:`p(s \mid M) \propto e^{-\beta E(s)}`; the full Boltzmann
law is stationary as well, but only starts that are spread over the sectors like it will show it. A uniform
field has no effect at all.

Warning:
    Conserved order is slow: a domain of size R needs of the order of :math:`R^3` sweeps to form.

Acceptance resolution: the uniform numbers are multiples of :math:`2^{-24}`, so a probability is right to
6e-8.

References:
    | Diffusion Constants near the Critical Point for Time-Dependent Ising Models (Kawasaki, 1966)
"""

import functools
import itertools

import torch
from torch import Tensor

from ..lattices import Lattice
from ..model import Ising
from . import Info, inverse_temperature, local_field, sites_first, uniform

CONSERVES_MAGNETISATION = True


def sweep(
    spins: Tensor, model: Ising, beta: float | Tensor, generator: torch.Generator
) -> tuple[Tensor, Info]:
    """Visits every bond once, one class of :func:`bond_classes` after another.

    Each class is a product of exchanges that obey detailed balance; their sequence keeps the law stationary.
    No exchange of unlike spins is ever certain, so a fixed order does no harm.

    Arguments:
        spins: Configurations, shape ``(chains, N)``; not modified.
        model: Supplies the bonds, couplings and fields.
        beta: Inverse temperature, one number or one per chain.
        generator: The only source of randomness, on the device of ``spins``.

    Returns:
        The spins, and as acceptance the fraction of sites whose spin is another one than before the sweep.

    Example:
        >>> from ising.lattices import square
        >>> s, generator = torch.tensor([[1.0, -1.0] * 8]), torch.Generator().manual_seed(0)
        >>> moved, _ = sweep(s, Ising(square(4)), 0.4, generator)
        >>> bool((moved != s).any()), moved.sum()
        (True, tensor(0.))
    """
    columns, beta = sites_first(spins), inverse_temperature(beta, spins)
    for bonds in bond_classes(model.lattice):
        i, j = model.lattice.edges[bonds].T
        here, there = columns[i], columns[j]
        own = 4 * model.bond_couplings[bonds].float().unsqueeze(-1)
        cost = 2 * here * (local_field(columns, i, model) - local_field(columns, j, model)) + own
        swap = uniform(cost, generator) < torch.sigmoid(-beta * cost)
        columns[i], columns[j] = torch.where(swap, there, here), torch.where(swap, here, there)
    return columns.T, Info((spins != columns.T).float().mean(-1))


@functools.lru_cache(maxsize=16)
def bond_classes(lattice: Lattice) -> tuple[Tensor, ...]:
    """Groups of bonds that may be exchanged at once: no site of one is a site or a neighbour of another.

    Each bond takes the smallest free class, in order. A local field that one exchange depends on is then
    never changed by another.

    Example:
        >>> from ising.lattices import chain
        >>> [bonds.tolist() for bonds in bond_classes(chain(9))]
        [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
    """
    edges = lattice.edges.tolist()
    bonds_at: list[list[int]] = [[] for _ in range(lattice.n_sites)]
    for bond, pair in enumerate(edges):
        for site in pair:
            bonds_at[site].append(bond)
    touched = [{site, *(s for bond in at for s in edges[bond])} for site, at in enumerate(bonds_at)]
    colours = [-1] * len(edges)
    for bond, (i, j) in enumerate(edges):
        taken = {colours[other] for site in touched[i] | touched[j] for other in bonds_at[site]}
        colours[bond] = next(c for c in itertools.count() if c not in taken)
    colour = torch.tensor(colours, dtype=torch.long, device=lattice.edges.device)
    return tuple((colour == c).nonzero().squeeze(-1) for c in range(max(colours, default=-1) + 1))
