r"""The Gaussian-binary Boltzmann machine as a wave function of particles, and products of such factors.

.. math::
    \Psi(x) = \exp\Big(-\sum_i \frac{(x_i - a_i)^2}{2\sigma^2}\Big)
              \prod_j \Big(1 + e^{\theta_j}\Big), \qquad
    \theta_j = b_j + \frac{1}{\sigma^2} \sum_i x_i W_{ij}

This is the machine's unnormalised marginal F(x) itself, not its square root: the density of the particles
is :math:`F(x)^2`. It is positive and smooth, so it has no nodes (bosons, or two electrons in a singlet) and
no cusp where two particles meet.

References:
    | Solving the quantum many-body problem with artificial neural networks (Carleo and Troyer, 2017)
    | https://arxiv.org/abs/1606.02318
"""

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

MAX_EXCHANGED = 5  # particles whose P! permutations are summed over


class GaussianBinary(nn.Module):
    r"""One width :math:`\sigma` for all coordinates, learned as its logarithm.

    Arguments:
        particles: P.
        dimensions: D; configurations are ``(*, P * D)``, the coordinates of one particle side by side.
        hidden: Hidden units H, at least 0.
        width: Initial :math:`\sigma`, units of length; :math:`\omega^{-1/2}` suits a trap.
        spread: Standard deviation of the initial :math:`W_{ij}/\sigma` and :math:`a_i/\sigma`.
        symmetric: Repeats each hidden unit for all P! orders of the particles, with one centre for all:
            :math:`\Psi` does not change when particles are exchanged. Without, it has no symmetry, and what
            symmetry the ground state has must be learned.
        learn_width: Whether :math:`\sigma` is a parameter.
        seed: Of the initial parameters.

    Example:
        >>> psi = GaussianBinary(particles=2, dimensions=2, hidden=3, symmetric=True)
        >>> x = torch.tensor([[0.1, 0.2, -0.4, 0.3]], dtype=torch.float64)
        >>> bool((psi.log_psi(x) - psi.log_psi(x.roll(2, -1))).abs() < 1e-12)
        True
    """

    orders: Tensor
    inverse: Tensor

    def __init__(
        self,
        particles: int,
        dimensions: int,
        hidden: int,
        *,
        width: float = 1.0,
        spread: float = 0.1,
        symmetric: bool = False,
        learn_width: bool = True,
        seed: int = 0,
    ):
        super().__init__()
        if min(particles, dimensions) < 1 or hidden < 0 or not 0 < width < math.inf:
            raise ValueError(
                "a Gaussian-binary wave function needs at least one particle, one dimension, no fewer than 0 "
                f"hidden units and a width > 0, got {particles}, {dimensions}, {hidden} and {width}"
            )
        if symmetric and particles > MAX_EXCHANGED:
            raise ValueError(
                f"exchange symmetry sums {particles}! orders of the particles; that is for at most "
                f"{MAX_EXCHANGED} particles, leave symmetric out for more"
            )
        self.particles, self.dimensions, self.symmetric = particles, dimensions, symmetric
        n, random = particles * dimensions, torch.Generator().manual_seed(seed)
        centres = dimensions if symmetric else n
        scale = spread * width

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=random, dtype=torch.float64)

        self.a = nn.Parameter(scale * normal(centres))
        self.b = nn.Parameter(spread * normal(hidden))
        self.W = nn.Parameter(scale * normal(n, hidden))
        self.log_width = nn.Parameter(
            torch.tensor([math.log(width)], dtype=torch.float64), requires_grad=learn_width
        )
        orders = _orders(particles) if symmetric else torch.arange(particles).unsqueeze(0)
        self.register_buffer("orders", _coordinates(orders, dimensions), persistent=False)
        self.register_buffer("inverse", _coordinates(orders.argsort(-1), dimensions), persistent=False)
        self.recipe = {
            "name": "gaussian_binary",
            "shape": [particles, dimensions],
            "hyper": {"hidden": hidden, "symmetric": symmetric, "learn_width": learn_width},
        }

    @property
    def width(self) -> float:
        """Of the Gaussian, units of length."""
        return math.exp(self.log_width.item())

    def _hidden(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Centred coordinates ``(n, M)``, reordered ones ``(n, orders, M)`` and theta ``(n, orders, H)``."""
        centred = x - self.a.repeat(x.shape[-1] // len(self.a))
        copies = x[:, self.orders]
        return centred, copies, self.b + copies @ self.W * torch.exp(-2 * self.log_width)

    def log_psi(self, x: Tensor) -> Tensor:
        """``(n, P * D)`` to ``(n,)``."""
        centred, _, theta = self._hidden(x)
        well = 0.5 * centred.square().sum(-1) * torch.exp(-2 * self.log_width)
        return softplus(theta).sum((-1, -2)) - well

    @torch.no_grad()
    def derivatives(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Gradient ``(n, M)`` and Laplacian ``(n,)`` of :math:`\log \Psi` in the coordinates.

        .. math::
            \partial_i \log\Psi = \frac{1}{\sigma^2}\Big(a_i - x_i + \sum_j W_{ij} p_j\Big), \qquad
            \nabla^2 \log\Psi = -\frac{M}{\sigma^2} + \frac{1}{\sigma^4}\sum_{ij} W_{ij}^2\, p_j (1 - p_j),
            \qquad p_j = \sigma(\theta_j)
        """
        centred, _, theta = self._hidden(x)
        p, precision = torch.sigmoid(theta), torch.exp(-2 * self.log_width)
        pulls = (p @ self.W.T).gather(-1, self.inverse.expand(len(x), -1, -1)).sum(-2)
        curvature = (p * (1 - p)).sum(-2) @ self.W.square().sum(0)
        return precision * (pulls - centred), precision * (precision * curvature - x.shape[-1])

    @torch.no_grad()
    def log_derivatives(self, x: Tensor) -> Tensor:
        r"""Of :math:`\log\Psi` by each parameter: ``(n, parameters)``, in the order of ``parameters()``."""
        centred, copies, theta = self._hidden(x)
        p, precision = torch.sigmoid(theta), torch.exp(-2 * self.log_width)
        by_a = precision * centred.reshape(len(x), -1, len(self.a)).sum(1)
        by_W = precision * torch.einsum("ngi,ngj->nij", copies, p).flatten(1)
        by_width = precision * centred.square().sum(-1) - 2 * (p * (theta - self.b)).sum((-1, -2))
        parts = [by_a, p.sum(-2), by_W]
        return torch.cat(parts + [by_width.unsqueeze(-1)] * self.log_width.requires_grad, -1)


class Product(nn.Module):
    """A trial function made of factors: their logarithms and all derivatives add up.

    Example:
        >>> from physgen.wavefunctions.jastrow import PadeJastrow
        >>> psi = Product(GaussianBinary(2, 2, hidden=2), PadeJastrow(2, 2))
        >>> psi.log_derivatives(torch.randn(5, 4, dtype=torch.float64)).shape
        torch.Size([5, 16])
    """

    def __init__(self, *factors: nn.Module):
        super().__init__()
        self.factors = nn.ModuleList(factors)
        self.recipe = {
            "name": "product",
            "shape": factors[0].recipe["shape"],
            "hyper": {"factors": [factor.recipe for factor in factors]},
        }

    def log_psi(self, x: Tensor) -> Tensor:
        """``(n, P * D)`` to ``(n,)``."""
        return torch.stack([factor.log_psi(x) for factor in self.factors]).sum(0)

    def derivatives(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient ``(n, M)`` and Laplacian ``(n,)`` of log psi in the coordinates."""
        gradients, laplacians = zip(*(factor.derivatives(x) for factor in self.factors), strict=True)
        return torch.stack(gradients).sum(0), torch.stack(laplacians).sum(0)

    def log_derivatives(self, x: Tensor) -> Tensor:
        """``(n, parameters)`` in the order of ``parameters()``."""
        return torch.cat([factor.log_derivatives(x) for factor in self.factors], -1)


def _orders(particles: int) -> Tensor:
    """Every order of the particles, ``(P!, P)``."""
    return torch.tensor(list(itertools.permutations(range(particles))))


def _coordinates(orders: Tensor, dimensions: int) -> Tensor:
    """Orders of particles as orders of coordinates, ``(g, P * D)``."""
    return (orders.unsqueeze(-1) * dimensions + torch.arange(dimensions)).flatten(1)
