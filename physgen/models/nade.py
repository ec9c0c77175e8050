r"""Neural autoregressive distribution estimator: hidden units whose weights all conditionals share.

.. math:: \theta_i = b_i + \sum_{j<i} D_{ij} s_j + V_i \cdot \tanh(a_i), \qquad
    a_i = c + \sum_{j<i} W_j s_j = a_{i-1} + W_{i-1} s_{i-1} .

The sum a runs along with the sites, so that the density of a configuration, and a draw, take
:math:`O(N H)` operations for H hidden units. The sites are walked through one after another in either case:
for 256 sites and 256 units that is two to seven times as fast as cumulative sums over sites, which have to
be written to memory.

References:
    | The Neural Autoregressive Distribution Estimator (Larochelle and Murray, 2011)
    | Neural Autoregressive Distribution Estimation (Uria et al., 2016), https://arxiv.org/abs/1605.02226
"""

import torch
from torch import Tensor, nn

from ..autoregressive import Autoregressive, Next

__all__ = ["NADE", "build"]


class NADE(Autoregressive):
    r"""Arguments:
        shape: Sites along each axis, any number of axes.
        hidden: Hidden units H.
        symmetric: Without biases :math:`\theta` is odd in s, so :math:`q(s) = q(-s)` exactly. Right for zero
            field, wrong for any other.
        symbols, levels, direct: The alphabet and the direct term, see
            :class:`~physgen.autoregressive.Autoregressive`.

    Example:
        >>> nade = build((4, 4), hidden=32)
        >>> nade.log_prob(nade.sample(8)).shape
        torch.Size([8])
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        hidden: int = 256,
        symmetric: bool = False,
        symbols: int = 2,
        levels: bool = False,
        direct: bool = True,
    ):
        super().__init__(shape, symmetric=symmetric, symbols=symbols, levels=levels, direct=direct)
        inputs, outputs, sites = self.alphabet.inputs, self.alphabet.outputs, self.n_sites
        self.inner = nn.Parameter(sites**-0.5 * torch.randn(sites - 1, inputs, hidden))
        self.outer = nn.Parameter(0.01 * torch.randn(sites, hidden, outputs))
        self.bias = None if symmetric else nn.Parameter(torch.zeros(hidden))

    def network(self, x: Tensor) -> Tensor:
        add = self.cached(x)
        return torch.stack([add(i) for i in range(self.n_sites)], 1)

    def cached(self, x: Tensor) -> Next:
        """The sum a runs along: O(H) operations for a site."""
        inner, outer = self.inner.unbind(), self.outer.unbind()
        a = x.new_zeros(len(x), self.inner.shape[-1])
        a = a if self.bias is None else a + self.bias

        def add(i: int) -> Tensor:
            nonlocal a
            if i:
                a = torch.addmm(a, x[:, i - 1], inner[i - 1])
            return torch.tanh(a) @ outer[i]

        return add


build = NADE
