r"""Single-spin-flip Metropolis, all chains and one colour class at a time.

A flip of spin i costs :math:`\Delta E = 2 s_i f_i` and is accepted with

.. math:: a = \tfrac{15}{16} \min(1, e^{-\beta \Delta E}) .

Warning:
    Without the factor 15/16 a sweep in fixed order is not ergodic: a free flip would be certain, so the state
    :math:`s_{xy} = a_x a_y`, a = ++-- repeated, on a square torus with sides divisible by four is turned into
    its negative by every sweep, at any temperature, for ever; and at :math:`\beta = 0` every state is. The
    factor keeps detailed balance and costs a sixteenth of the speed.

Acceptance resolution: the uniform numbers are multiples of :math:`2^{-24}`, so an acceptance is right to
6e-8.

References:
    | Equation of State Calculations by Fast Computing Machines (Metropolis et al., 1953)
"""

import torch
from torch import Tensor

from ..model import Ising
from . import Info, inverse_temperature, local_field, sites_first, uniform

LAZINESS = 15 / 16  # probability of proposing a flip at all


def sweep(
    spins: Tensor, model: Ising, beta: float | Tensor, generator: torch.Generator
) -> tuple[Tensor, Info]:
    """Proposes every site once, colour by colour.

    Sites of one colour do not interact, so flipping them together is a product of single-spin moves. Each
    colour step obeys detailed balance; their sequence keeps the Boltzmann law stationary.

    Arguments:
        spins: Configurations, shape ``(chains, N)``; not modified.
        model: Supplies the couplings, fields and colours.
        beta: Inverse temperature, one number or one per chain.
        generator: The only source of randomness, on the device of ``spins``.

    Example:
        >>> from ising.lattices import square
        >>> up, generator = torch.ones(2, 16), torch.Generator().manual_seed(0)
        >>> sweep(up, Ising(square(4)), 100.0, generator)[1].acceptance
        tensor([0., 0.])
    """
    columns, beta = sites_first(spins), inverse_temperature(beta, spins)
    flips = torch.zeros(spins.shape[:1], device=spins.device)
    for colour in model.lattice.colour_classes:
        old = columns[colour]
        cost = 2 * old * local_field(columns, colour, model)
        flip = uniform(cost, generator) < LAZINESS * torch.exp(-beta * cost).clamp(max=1)
        columns[colour] = torch.where(flip, -old, old)
        flips += flip.sum(0)
    return columns.T, Info(flips / model.lattice.n_sites)
