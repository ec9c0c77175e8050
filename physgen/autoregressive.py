r"""What every autoregressive model of spins shares: one order of the sites, exact densities and draws.

.. math:: q(s) = \prod_i q(s_i \mid s_{<i}), \qquad q(s_i \mid s_{<i}) = \sigma(2 \theta_i s_i), \qquad
    \theta_i = b_i + \sum_{j<i} D_{ij} s_j + \text{what the network adds} ,

sites in row-major order. The direct term D joins a site with all earlier ones, so with its neighbours across
the periodic edges, too, which no causal window reaches.
"""

import math

import torch
from torch import Tensor, nn

from .nn import MaskedLinear, check_spins, spin_log_prob


class Autoregressive(nn.Module):
    r"""A model offers ``forward(spins)``, the fields :math:`\theta_i(s_{<i})`, and ``draw(n, generator)``.

    ``draw`` goes from site to site and computes what a new spin changes, nothing twice. It returns spins and
    the fields that they were drawn from, which are those of ``forward`` up to rounding.

    Arguments:
        shape: Sites along each axis, any number of axes.
        symmetric: Without biases. Where the rest of the network is odd in s, :math:`q(s) = q(-s)` exactly:
            right for zero field, wrong for any other.
    """

    def __init__(self, shape: tuple[int, ...], *, symmetric: bool):
        super().__init__()
        self.shape, self.n_sites = tuple(shape), math.prod(shape)
        site = torch.arange(self.n_sites)
        self.direct = MaskedLinear(site[:, None] > site, bias=not symmetric)
        nn.init.zeros_(self.direct.weight)

    @torch.no_grad()
    def start_from(self, couplings: Tensor) -> None:
        r"""Sets the direct term to the known part of the local field: :math:`D_{ij} = \beta J_{ij}`, j < i.

        The Boltzmann factor of the bonds to earlier sites is then in place and the network learns the rest.

        Arguments:
            couplings: :math:`\beta J`, symmetric, ``(N, N)``, zero where there is no bond.
        """
        if couplings.shape != self.direct.weight.shape:
            raise ValueError(f"couplings need shape {tuple(self.direct.weight.shape)}, got {couplings.shape}")
        self.direct.weight.copy_(couplings * self.direct.mask)

    def conditionals(self, spins: Tensor) -> Tensor:
        r""":math:`q(s_i = 1 \mid s_{<i})` along the given configurations: ``(*, N)`` to ``(*, N)``."""
        return torch.sigmoid(2 * self(check_spins(spins, self.shape)))

    def log_prob(self, spins: Tensor) -> Tensor:
        """Normalised: ``(*, N)`` spins to ``(*,)`` log-probabilities, nats."""
        return spin_log_prob(spins, self(check_spins(spins, self.shape)))

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Independent draws, ``(n, N)``."""
        return self.draw(n, generator)[0]

    def loss(self, spins: Tensor) -> Tensor:
        """Negative log-likelihood per site, nats."""
        return -self.log_prob(spins).mean() / self.n_sites
