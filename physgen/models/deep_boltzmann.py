r"""Deep Boltzmann machine: layers of spins, each coupled with the next.

.. math::
    E(s, h^1, h^2, \dots) = -a \cdot s - \sum_l b^l \cdot h^l - s^\top W^1 h^1 - h^{1\top} W^2 h^2 - \dots,
    \qquad s_i, h^l_j = \pm 1

Given the odd layers the even ones are independent, and the other way round: one Gibbs sweep draws each half
at once, and mean field improves its bound with every half step.

References:
    | Deep Boltzmann Machines (Salakhutdinov and Hinton, 2009)
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..machine import Machine
from ..pairwise import PairwiseSpins

__all__ = ["DeepBoltzmann", "build"]


class DeepBoltzmann(Machine):
    r"""Trained by :class:`physgen.learning.MeanFieldPCD`.

    Arguments:
        shape: Lattice sides; their product is N.
        hidden: Units of the hidden layers, from the visible one upwards; at least two layers.
        spread: Standard deviation of the initial weights in units of :math:`N_l^{-1/2}`, :math:`N_l` units
            below.
        symmetric: Fixes all biases to 0, so that p(s) = p(-s) exactly.

    Example:
        >>> deep = DeepBoltzmann((4, 4), hidden=(6, 3))
        >>> deep.free_energy(torch.ones(2, 16)).shape, deep.sample(5).shape
        (torch.Size([2]), torch.Size([5, 16]))
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        hidden: Sequence[int] = (64, 32),
        spread: float = 0.5,
        symmetric: bool = False,
    ):
        super().__init__()
        if len(hidden) < 2 or min(hidden) < 1:
            raise ValueError(
                f"a deep Boltzmann machine needs two or more hidden layers of units, got {tuple(hidden)}; "
                "one layer is an RBM"
            )
        self.shape, self.n_sites = tuple(shape), math.prod(shape)
        self.sizes = [self.n_sites, *hidden]
        pairs = zip(self.sizes, self.sizes[1:], strict=False)
        self.W = nn.ParameterList(spread * n**-0.5 * torch.randn(n, m) for n, m in pairs)
        self.biases = nn.ParameterList(torch.zeros(n) for n in self.sizes)
        for bias in self.biases:
            bias.requires_grad_(not symmetric)
        self.register_buffer("base", torch.zeros(self.n_sites))
        self.register_buffer(
            "order", torch.cat([x for half in self._halves() for x in half]), persistent=False
        )

    def _halves(self) -> tuple[list[Tensor], list[Tensor]]:
        """Units of the even layers, the visible one first, and of the odd ones; counted layer by layer."""
        layers = torch.arange(sum(self.sizes)).split(self.sizes)
        return list(layers[::2]), list(layers[1::2])

    @torch.no_grad()
    def centre(self, spins: Tensor) -> "DeepBoltzmann":
        """Before training: sets a to the fields of independent spins with the means of ``(*, N)`` data."""
        if self.biases[0].requires_grad:
            self.base.copy_(self._mean_field_of(spins))
            self.biases[0].copy_(self.base)
        return self

    def law(self, dtype: torch.dtype | None = None) -> PairwiseSpins:
        """Units in the order of even layers, then odd ones."""
        weights = [W.to(dtype) for W in self.W]
        starts = [0, *torch.tensor(self.sizes).cumsum(0).tolist()]
        J = weights[0].new_zeros(starts[-1], starts[-1])
        for l, W in enumerate(weights):
            J[starts[l] : starts[l + 1], starts[l + 1] : starts[l + 2]] = W
        J = (J + J.T)[self.order][:, self.order]
        field = torch.cat([b.to(dtype) for b in self.biases])[self.order]
        even = sum(self.sizes[::2])
        return PairwiseSpins(J, field, [(even, False), (starts[-1] - even, False)])

    def layers(self, states: Tensor) -> list[Tensor]:
        """States ``(*, M)`` as one tensor per layer, the visible one first."""
        halves = states.split([sum(self.sizes[::2]), sum(self.sizes[1::2])], dim=-1)
        even, odd = (half.split(self.sizes[k::2], dim=-1) for k, half in enumerate(halves))
        return [(odd if l % 2 else even)[l // 2] for l in range(len(self.sizes))]


build = DeepBoltzmann
