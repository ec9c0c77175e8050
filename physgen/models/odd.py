r"""Masked network that is odd in the spins: the global flip is an exact symmetry of the density.

.. math:: q(s) = \prod_i \sigma(2 \theta_i s_i), \qquad \theta_i = \sum_{j<i} D_{ij} s_j
    + \sum_{k=1}^{w} v_{ik} \tanh\Big( \sum_{j<i} A_{ikj} s_j \Big) .

Every site has w hidden units of its own, which see all the sites before it. Nothing has a bias, so
:math:`\theta(-s) = -\theta(s)` and :math:`q(s) = q(-s)` whatever the weights: for Hamiltonians without a
field, where it can never lose one of the two signs of the magnetisation.

References:
    | Solving Statistical Mechanics Using Variational Autoregressive Networks (Wu, Wang and Zhang, 2019),
      https://arxiv.org/abs/1809.10606
"""

import torch
from torch import Tensor, nn

from ..autoregressive import Next
from ..per_site import PerSite, Weights

__all__ = ["Odd", "build"]


class Odd(PerSite):
    r"""Arguments:
        shape: Sites along each axis, any number of axes.
        hidden: Hidden units of each site, w.
        symmetric: Odd, as above. Otherwise every site has a bias :math:`b_i`, for Hamiltonians with a field.

    Example:
        >>> net = build((4, 4))
        >>> bool(torch.equal(net.log_prob(torch.ones(1, 16)), net.log_prob(-torch.ones(1, 16))))
        True
    """

    def __init__(self, shape: tuple[int, ...], hidden: int = 1, symmetric: bool = True):
        super().__init__(shape, symmetric=symmetric)
        n = self.n_sites
        self.hidden = hidden
        self.inner = nn.Parameter(0.1 * torch.randn(n, hidden, n))
        self.outer = nn.Parameter(0.01 * torch.randn(n, hidden))

    def network(self, x: Tensor) -> Tensor:
        inner = (self.inner * self.direct.mask[:, None]).flatten(0, 1)
        units = torch.tanh(x.squeeze(-1) @ inner.T).unflatten(-1, self.outer.shape)
        return (units * self.outer).sum(-1, keepdim=True)

    def cached(self, x: Tensor) -> Next:
        """The units of site i alone: w products of length i."""
        return lambda i: (torch.tanh(x[:, :i, 0] @ self.inner[i, :, :i].T) @ self.outer[i])[:, None]

    @property
    def weights(self) -> Weights:
        return Weights(self.direct.weight, self.inner, self.outer, self.direct.bias, self.direct.mask)


build = Odd
