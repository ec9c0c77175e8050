r"""Variational autoencoder of spin configurations, as a Pyro model and guide.

.. math:: z = f(\epsilon), \quad \epsilon \sim N(0, 1_K), \qquad
    s_i \mid z \sim \mathrm{Spin}(\theta_i(z)), \qquad
    q(z \mid s) = N(\mu(s), \mathrm{diag}\, \sigma^2(s)),

where f is a chain of invertible affine couplings, the identity at first and learned with the rest. It lets
the prior of z follow the posteriors of the data, which near criticality are together far from one Gaussian;
with ``flow=0`` the prior is the textbook's :math:`N(0, 1_K)`.

Given z the spins are independent, so every correlation between them has to pass through the latent variables.
The read-out draws the spins; taking :math:`\mathrm{sign}\,\theta` instead would be another, colder, law.

Note:
    Do not train an energy model the same way with ``pyro.factor("e", -free_energy(v))``: a factor is
    unnormalised, the missing :math:`-\log Z` depends on the parameters, and the ELBO grows without bound.

References:
    | Auto-Encoding Variational Bayes (Kingma and Welling, 2013), https://arxiv.org/abs/1312.6114
    | Density Estimation Using Real NVP (Dinh, Sohl-Dickstein and Bengio, 2016),
      https://arxiv.org/abs/1605.08803
    | Variational Lossy Autoencoder (Chen et al., 2016), https://arxiv.org/abs/1611.02731: the learned prior
    | Importance Weighted Autoencoders (Burda, Grosse and Salakhutdinov, 2015), https://arxiv.org/abs/1509.00519
"""

import math
from itertools import pairwise

import pyro
import torch
from pyro.distributions import Normal, TorchDistribution, TransformedDistribution
from pyro.distributions.transforms import AffineCoupling, Permute
from pyro.nn import DenseNN
from torch import Tensor, nn
from torch.distributions import Transform
from torch.nn.functional import softplus

from ..distributions import Spin, draw_spins
from ..nn import check_spins, spin_log_prob

__all__ = ["VAE", "build"]

EXPONENTIAL = 50  # costs as much as so many products
LOST = 1e-250  # sums below have terms that have become zero


class VAE(nn.Module):
    """Arguments:
        shape: Sites along each axis, any number of axes.
        latent: Latent variables K, at least 2 with a flow.
        hidden: Width of both networks.
        depth: Hidden layers of both networks.
        flow: Affine couplings of the prior.

    Example:
        >>> vae = build((4, 4), latent=4)
        >>> vae.sample(8).shape
        torch.Size([8, 16])
    """

    def __init__(
        self, shape: tuple[int, ...], latent: int = 32, hidden: int = 512, depth: int = 1, flow: int = 4
    ):
        super().__init__()
        if latent < (2 if flow else 1):
            raise ValueError(f"a VAE needs at least 1 latent variable, 2 with a flow, got {latent}")
        self.shape, self.n_sites, self.latent = shape, math.prod(shape), latent
        self.encoder = _perceptron(self.n_sites, hidden, 2 * latent, depth)
        self.decoder = _perceptron(latent, hidden, self.n_sites, depth)
        self.couplings = nn.ModuleList(_coupling(latent) for _ in range(flow))

    def flow(self) -> list[Transform]:
        """The maps whose composition is f; between couplings the order of the variables is reversed."""
        backwards = torch.arange(self.latent - 1, -1, -1, device=next(self.parameters()).device)
        return [part for coupling in self.couplings for part in (coupling, Permute(backwards))]

    def prior(self, n: int) -> TorchDistribution:
        """:math:`p(z)`: batch shape ``(n,)``, event shape ``(K,)``."""
        zero = next(self.parameters()).new_zeros(n, self.latent)
        normal = Normal(zero, 1.0, validate_args=False).to_event(1)
        return TransformedDistribution(normal, self.flow(), validate_args=False) if self.couplings else normal

    def posterior(self, spins: Tensor) -> TorchDistribution:
        """:math:`q(z|s)`: batch shape ``(n,)``, event shape ``(K,)``."""
        loc, scale = self.encoder(spins).chunk(2, dim=-1)
        return Normal(loc, softplus(scale), validate_args=False).to_event(1)

    def model(self, spins: Tensor) -> None:
        pyro.module("vae", self)
        with pyro.plate("configurations", len(spins)):
            z = pyro.sample("z", self.prior(len(spins)))
            pyro.sample("spins", Spin(self.decoder(z), validate_args=False).to_event(1), obs=spins)

    def guide(self, spins: Tensor) -> None:
        pyro.module("vae", self)
        with pyro.plate("configurations", len(spins)):
            pyro.sample("z", self.posterior(check_spins(spins, self.shape)))

    def elbo(self, spins: Tensor) -> Tensor:
        """One-draw estimate of the evidence lower bound, ``(n, N)`` to ``(n,)``, nats."""
        return self.log_prob_bound(spins, k=1)

    def log_prob_bound(self, spins: Tensor, k: int = 64) -> Tensor:
        r"""Importance weighted bound, ``(n, N)`` to ``(n,)``, nats:

        .. math:: \log \frac{1}{k} \sum_{j=1}^k \frac{p(s, z_j)}{q(z_j | s)}, \quad z_j \sim q(z | s).

        Its expectation is at most :math:`\log p(s)`, grows with k and converges to it; its scatter is not an
        error bar of the gap.
        """
        posterior = self.posterior(check_spins(spins, self.shape))
        log_weights = []
        for _ in range(k):
            z = posterior.rsample()
            log_joint = self.prior(len(spins)).log_prob(z) + spin_log_prob(spins, self.decoder(z))
            log_weights.append(log_joint - posterior.log_prob(z))
        return torch.stack(log_weights).logsumexp(0) - math.log(k)

    @property
    def integrable(self) -> bool:
        """Whether :meth:`log_marginal` can do the integral over z: two latent variables or one."""
        return self.latent <= 2

    @torch.no_grad()
    def log_marginal(self, spins: Tensor, points: int = 96) -> Tensor:
        r"""The density itself, if :attr:`integrable`: ``(n, N)`` to ``(n,)`` float64, nats.

        .. math:: \log p(s) = \log \int N(\epsilon; 0, 1)\, p(s \mid f(\epsilon))\, d\epsilon

        by the trapezoidal rule on :math:`[-7, 7]^K`, whose error for a smooth integrand falls faster than any
        power of ``points``; compare two grids to see it.

        Example:
            >>> vae = build((2, 2), latent=2).double()
            >>> states = 2.0 * (torch.arange(16).unsqueeze(-1) >> torch.arange(4) & 1).double() - 1
            >>> round(vae.log_marginal(states).exp().sum().item(), 10)
            1.0
        """
        if not self.integrable:
            raise ValueError(
                f"the integral over {self.latent} latent variables is out of reach of a grid; build the VAE "
                "with latent=2, or take log_prob_bound"
            )
        weights, grid = next(self.parameters()), torch.linspace(-7, 7, points, dtype=torch.float64)
        z = torch.cartesian_prod(*(grid,) * self.latent).reshape(-1, self.latent)
        log_mass = (-z.square().sum(-1) / 2).log_softmax(0).to(weights.device)
        z = z.to(weights)
        for transform in self.flow():
            z = transform(z)
        return _log_mixture(spins.double(), self.decoder(z).double(), log_mass)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Independent draws, ``(n, N)``: z from the prior, spins given z."""
        like = next(self.parameters())
        z = torch.randn(n, self.latent, generator=generator, dtype=like.dtype, device=like.device)
        for transform in self.flow():
            z = transform(z)
        return draw_spins(self.decoder(z), generator)


def _log_mixture(spins: Tensor, fields: Tensor, log_mass: Tensor) -> Tensor:
    r""":math:`\log \sum_g m_g \prod_i p(s_i \mid \theta_{gi})`: ``(n, N)``, ``(G, N)``, ``(G,)`` to ``(n,)``.

    Where many configurations share their first half of sites or their second, as all :math:`2^N` do, each
    half is done once, and the sums are a product of matrices.
    """
    log_cosh = fields.abs() + softplus(-2 * fields.abs())  # of 2 cosh
    if half := spins.shape[1] // 2:
        parts = spins.tensor_split((half,), 1)
        (left, i), (right, j) = (part.unique(dim=0, return_inverse=True) for part in parts)
        if len(left) + len(right) + len(left) * len(right) / EXPONENTIAL < len(spins):
            a = left @ fields[:, :half].T - log_cosh[:, :half].sum(-1) + log_mass
            b = right @ fields[:, half:].T - log_cosh[:, half:].sum(-1)
            top_a, top_b = a.amax(1, keepdim=True), b.amax(1, keepdim=True)
            sums = (a - top_a).exp() @ (b - top_b).exp().T
            if (sums > LOST).all():
                return (sums.log() + top_a + top_b.T)[i, j]
    log_mass = log_mass - log_cosh.sum(-1)
    return torch.cat([torch.logsumexp(rows @ fields.T + log_mass, -1) for rows in spins.split(1024)])


def _perceptron(inputs: int, hidden: int, outputs: int, depth: int) -> nn.Sequential:
    widths = [inputs] + [hidden] * depth
    layers = [part for pair in pairwise(widths) for part in (nn.Linear(*pair), nn.SiLU())]
    return nn.Sequential(*layers, nn.Linear(widths[-1], outputs))


def _coupling(latent: int) -> AffineCoupling:
    """Shifts and scales the second half of the variables as the first half says; the identity at first.

    Scales from 1/e to e and shifts that saturate keep a far-off posterior draw from growing along the chain.
    """
    kept = latent // 2
    network = DenseNN(kept, [2 * latent], [latent - kept, latent - kept], nonlinearity=nn.Tanh())
    nn.init.zeros_(network.layers[-1].weight)
    nn.init.zeros_(network.layers[-1].bias)
    return AffineCoupling(kept, network, log_scale_min_clip=-1.0, log_scale_max_clip=1.0)


build = VAE
