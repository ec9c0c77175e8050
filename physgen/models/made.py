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

from ..autoregressive import Autoregressive
from ..distributions import ancestral, draw_spins
from ..nn import MaskedLinear

__all__ = ["MADE", "build"]


class MADE(Autoregressive):
    r"""Arguments:
        shape: Sites along each axis, any number of axes.
        hidden: Hidden units in each layer, spread evenly over the degrees.
        depth: Hidden layers.
        symmetric: Without biases :math:`\theta` is odd in s, so :math:`q(s) = q(-s)` exactly. Right for zero
            field, wrong for any other.

    Example:
        >>> made = build((4, 4), hidden=32)
        >>> made.log_prob(made.sample(8)).shape
        torch.Size([8])
    """

    def __init__(self, shape: tuple[int, ...], hidden: int = 256, depth: int = 1, symmetric: bool = False):
        super().__init__(shape, symmetric=symmetric)
        site = torch.arange(self.n_sites)
        degree = torch.arange(hidden) * (self.n_sites - 1) // hidden  # in rising order, 0 to N - 2
        self.ends = torch.searchsorted(degree, site, right=True)  # units finished once site i is known
        seen = [site] + [degree] * depth
        self.inner = nn.ModuleList(
            MaskedLinear(degree[:, None] >= below, bias=not symmetric) for below in seen[:-1]
        )
        self.outer = MaskedLinear(site[:, None] > degree, bias=False)
        nn.init.normal_(self.outer.weight, std=0.01)

    def forward(self, spins: Tensor) -> Tensor:
        r"""Fields :math:`\theta_i(s_{<i})`: ``(*, N)`` to ``(*, N)``."""
        hidden = spins
        for layer in self.inner:
            hidden = torch.tanh(layer(hidden))
        return self.direct(spins) + self.outer(hidden)

    @torch.no_grad()
    def draw(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Independent draws and their fields, ``(n, N)`` each, at half the cost of a pass of the network."""
        direct, outer, bias = self.direct.masked(), self.outer.masked(), _bias(self.direct)
        inner = [(layer.masked(), _bias(layer)) for layer in self.inner]
        if len(inner) == 1 and ancestral.applies(direct):
            return ancestral.draw_by_degree(direct, *inner[0], outer, bias, self.ends, n, generator)
        spins, fields = direct.new_empty(self.n_sites, n), direct.new_empty(self.n_sites, n)
        layers = [spins] + [direct.new_empty(len(weight), n) for weight, _ in inner]
        done = 0
        for i, end in enumerate(self.ends.tolist()):
            fields[i] = direct[i, :i] @ spins[:i] + outer[i, :done] @ layers[-1][:done] + bias[i]
            spins[i] = draw_spins(fields[i], generator)
            for (weight, shift), below, above in zip(inner, layers, layers[1:], strict=False):
                known = i + 1 if below is spins else end
                value = weight[done:end, :known] @ below[:known] + shift[done:end, None]
                torch.tanh(value, out=above[done:end])
            done = end
        return spins.T.contiguous(), fields.T.contiguous()


def _bias(layer: MaskedLinear) -> Tensor:
    return layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias


build = MADE
