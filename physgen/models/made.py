r"""Masked autoencoder for distribution estimation, on spins, with direct linear connections.

.. math:: q(s) = \prod_i q(s_i \mid s_{<i}), \qquad q(s_i \mid s_{<i}) = \sigma(2 \theta_i s_i), \qquad
    \theta_i = b_i + \sum_{j<i} A_{ij} s_j + \sum_k V_{ik} \tanh\Big( c_k + \sum_j W_{kj} s_j \Big),

sites in row-major order. Hidden unit k has a degree :math:`d_k`, sees only sites :math:`j \le d_k` and
reaches only sites :math:`i > d_k`. The direct term A starts at zero; it comes to hold the Boltzmann factor of
the known neighbours, those across the periodic edges too, so the hidden units learn only what is left.

References:
    | MADE: Masked Autoencoder for Distribution Estimation (Germain et al., 2015),
      https://arxiv.org/abs/1502.03509
    | Solving Statistical Mechanics Using Variational Autoregressive Networks (Wu, Wang and Zhang, 2019),
      https://arxiv.org/abs/1809.10606
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from ..autoregressive import Autoregressive, Next
from ..distributions import ancestral
from ..nn import MaskedLinear

__all__ = ["MADE", "build"]


class MADE(Autoregressive):
    r"""Arguments:
        shape: Sites along each axis, any number of axes.
        hidden: Hidden units in each layer, spread evenly over the degrees.
        depth: Hidden layers.
        symmetric: Without biases :math:`\theta` is odd in s, so :math:`q(s) = q(-s)` exactly. Right for zero
            field, wrong for any other.
        symbols, levels, direct: The alphabet and the direct term, see
            :class:`~physgen.autoregressive.Autoregressive`.

    Example:
        >>> made = build((4, 4), hidden=32)
        >>> made.log_prob(made.sample(8)).shape
        torch.Size([8])
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        hidden: int = 256,
        depth: int = 1,
        symmetric: bool = False,
        symbols: int = 2,
        levels: bool = False,
        direct: bool = True,
    ):
        super().__init__(shape, symmetric=symmetric, symbols=symbols, levels=levels, direct=direct)
        site = torch.arange(self.n_sites)
        degree = torch.arange(hidden) * (self.n_sites - 1) // hidden  # in rising order, 0 to N - 2
        self.ends = torch.searchsorted(degree, site, right=True)  # units finished once site i is known
        seen = [site.repeat_interleave(self.alphabet.inputs)] + [degree] * depth
        self.inner = nn.ModuleList(
            MaskedLinear(degree[:, None] >= below, bias=not symmetric) for below in seen[:-1]
        )
        self.outer = MaskedLinear(site.repeat_interleave(self.alphabet.outputs)[:, None] > degree, bias=False)
        nn.init.normal_(self.outer.weight, std=0.01)

    def network(self, x: Tensor) -> Tensor:
        hidden = x.flatten(1)
        for layer in self.inner:
            hidden = torch.tanh(layer(hidden))
        return self.outer(hidden).unflatten(-1, (-1, self.alphabet.outputs))

    def cached(self, x: Tensor) -> Next:
        """Units are computed once, those of a degree when its last site is known: one pass in all."""
        outer, inner = self.outer.masked(), [(layer.masked(), layer.bias) for layer in self.inner]
        outputs, inputs, ends = self.alphabet.outputs, self.alphabet.inputs, [0, *self.ends.tolist()]
        units = [x.new_empty(len(x), len(weight)) for weight, _ in inner]

        def add(i: int) -> Tensor:
            before = ends[max(i - 1, 0)]
            done, below, known = ends[i], x.flatten(1), i * inputs
            for (weight, bias), above in zip(inner, units, strict=True):
                shift = None if bias is None else bias[before:done]
                above[:, before:done] = torch.tanh(
                    linear(below[:, :known], weight[before:done, :known], shift)
                )
                below, known = above, done
            return linear(units[-1][:, :done], outer[i * outputs : (i + 1) * outputs, :done])

        return add

    @torch.no_grad()
    def draw(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Independent draws and their fields, ``(n, N)`` each, at half the cost of a pass of the network."""
        if len(self.inner) > 1 or not self.compiled:
            return super().draw(n, generator)
        direct, inner, outer = self.direct.masked(), self.inner[0].masked(), self.outer.masked()
        biases = [
            weight.new_zeros(len(weight)) if layer.bias is None else layer.bias
            for layer, weight in ((self.inner[0], inner), (self.direct, direct))
        ]
        return ancestral.draw_by_degree(direct, inner, biases[0], outer, biases[1], self.ends, n, generator)


build = MADE
