r"""Heat bath (Glauber, Gibbs): every spin is drawn anew from its law given its neighbours.

.. math:: p(s_i = +1 \mid f_i) = \frac{1}{1 + e^{-2 \beta f_i}}

Acceptance resolution: the uniform numbers are multiples of :math:`2^{-24}`, so a probability is right to
6e-8.

References:
    | Time-Dependent Statistics of the Ising Model (Glauber, 1963)
"""

import torch
from torch import Tensor

from ..model import Ising
from . import Info, inverse_temperature, local_field, sites_first, uniform


def sweep(
    spins: Tensor, model: Ising, beta: float | Tensor, generator: torch.Generator
) -> tuple[Tensor, Info]:
    """Draws every site once, colour by colour.

    Arguments:
        spins: Configurations, shape ``(chains, N)``; not modified.
        model: Supplies the couplings, fields and colours.
        beta: Inverse temperature, one number or one per chain.
        generator: The only source of randomness, on the device of ``spins``.

    Example:
        >>> from ising.lattices import square
        >>> up, generator = torch.ones(2, 16), torch.Generator().manual_seed(0)
        >>> sweep(up, Ising(square(4)), 100.0, generator)[0].sum(-1)
        tensor([16., 16.])
    """
    columns, beta = sites_first(spins), inverse_temperature(beta, spins)
    flips = torch.zeros(spins.shape[:1], device=spins.device)
    for colour in model.lattice.colour_classes:
        up = torch.sigmoid(2 * beta * local_field(columns, colour, model))
        new = (2 * (uniform(up, generator) < up) - 1).to(columns.dtype)
        flips += (new != columns[colour]).sum(0)
        columns[colour] = new
    return columns.T, Info(flips / model.lattice.n_sites)
