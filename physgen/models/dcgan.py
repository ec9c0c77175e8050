r"""Deep convolutional generative adversarial network for spins on a two-dimensional torus.

.. math:: s = \mathrm{sign}\, g(z), \qquad z \sim N(0, 1)

The generator upsamples twice, by periodic convolutions, from a quarter of the lattice. Beside its global
latent variables it takes one of noise per site at each scale; without them neighbouring spins could not
differ by chance. The critic maps a configuration to a few features :math:`\phi`; averaged over the torus on
the way, they read local and global order alike. Both players compare a sample x of the data with a sample y
of the generator by the energy distance of the features, as a share of the mean distance across (the
coefficient of inhomogeneity of Székely and Rizzo):

.. math:: \min_g \max_\phi \; H = 1 - \frac{\langle \lVert \phi(x) - \phi(x') \rVert \rangle
    + \langle \lVert \phi(y) - \phi(y') \rVert \rangle}{2 \langle \lVert \phi(x) - \phi(y) \rVert \rangle},

0 only where the features have the same law, 1 where each law is a point of its own. The distance of samples
from each other holds the generator back from mode collapse: a critic that judges them one at a time cannot
see whether they differ. The scale of :math:`\phi` drops out, so no penalty on its slope is needed.

The sign has no gradient: that of :math:`\tanh(g / g_{\rm rms})` is passed straight through, so the spins are
hard ±1 in training too and the generator's gradient is biased. Without the root mean square over the lattice,
of which the signs know nothing, g grows until tanh is flat and learning stops. There is no density, hence no
likelihood: only distributions of observables can be compared.

References:
    | Generative Adversarial Networks (Goodfellow et al., 2014), https://arxiv.org/abs/1406.2661
    | Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks
      (Radford, Metz and Chintala, 2015), https://arxiv.org/abs/1511.06434
    | Energy statistics: a class of statistics based on distances (Székely and Rizzo, 2013),
      https://doi.org/10.1016/j.jspi.2013.03.018
    | The energy distance of learned features as the game: The Cramer Distance as a Solution to Biased
      Wasserstein Gradients (Bellemare et al., 2017), https://arxiv.org/abs/1705.10743, and, on minibatches,
      Improving GANs Using Optimal Transport (Salimans et al., 2018), https://arxiv.org/abs/1803.05573
    | Estimating or Propagating Gradients Through Stochastic Neurons (Bengio, Léonard and Courville, 2013),
      https://arxiv.org/abs/1308.3432
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu

from ..nn import check_shape, check_spins, periodic_conv

__all__ = ["DCGAN", "build"]


class DCGAN(nn.Module):
    """Trained by ``adversarial_step`` on its two losses, each with an optimiser of its own network.

    Arguments:
        shape: ``(rows, columns)``, multiples of 4.
        latent: Global latent variables.
        width: Channels at the full resolution, doubled at each coarser one.
        symmetric: Every sample is flipped or not by a fair coin, so s and -s are equally likely. Right for
            zero field, wrong for any other.

    Example:
        >>> gan = build((4, 4), width=4)
        >>> gan.sample(8).shape
        torch.Size([8, 16])
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        latent: int = 32,
        width: int = 8,
        symmetric: bool = False,
    ):
        super().__init__()
        check_shape(shape, at_least=4, divisor=4, model="a DCGAN")
        self.shape, self.n_sites = shape, math.prod(shape)
        self.generator = Generator(shape, latent, width, symmetric)
        self.critic = Critic(width)

    def generator_loss(self, batch: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """H between the batch and as many samples.

        Metrics: the spread (standard deviation) of the absolute magnetisation per site over the samples and
        over the batch. The first far below the second is mode collapse.
        """
        fake = self.generator(len(batch))
        spread = {"spread": _spread(fake.detach()), "spread_data": _spread(batch)}
        with torch.no_grad():
            real = self._features(batch)
        return inhomogeneity(real, self._features(fake)), spread

    def critic_loss(self, batch: Tensor) -> Tensor:
        """Minus H between the batch and as many samples."""
        with torch.no_grad():
            fake = self.generator(len(batch))
        return -inhomogeneity(self._features(check_spins(batch, self.shape)), self._features(fake))

    def _features(self, spins: Tensor) -> Tensor:
        return self.critic(spins.reshape(-1, 1, *self.shape))

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Independent draws, hard ±1 spins, ``(n, N)``."""
        return self.generator(n, generator)


def inhomogeneity(x: Tensor, y: Tensor) -> Tensor:
    """H of two samples ``(n, features)`` without distances of members to themselves.

    Example:
        >>> inhomogeneity(torch.tensor([[0.0], [2.0]]), torch.tensor([[10.0], [12.0]]))
        tensor(0.8000)
    """
    if min(len(x), len(y)) < 2:
        raise ValueError("a sample of one has no distances within; take batches of at least 2 configurations")
    across = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").mean()
    return 1 - (torch.pdist(x).mean() + torch.pdist(y).mean()) / (2 * across + 1e-12)


def _spread(spins: Tensor) -> Tensor:
    return spins.mean(-1).abs().std()


class Generator(nn.Module):
    """Noise to spins: three scales, each of which takes the coarser features and its own noise."""

    def __init__(self, shape: tuple[int, ...], latent: int, width: int, symmetric: bool):
        super().__init__()
        self.latent, self.symmetric = latent, symmetric
        self.scales = [(shape[0] // step, shape[1] // step) for step in (4, 2, 1)]
        self.top = nn.Linear(latent, 4 * width * math.prod(self.scales[0]))
        channels = [4 * width, 4 * width, 2 * width, width]
        self.convs = nn.ModuleList(periodic_conv(a + 1, b) for a, b in pairwise(channels))
        self.head = periodic_conv(width, 1)

    def forward(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """``(n, N)`` spins with a straight-through gradient."""
        like = self.top.weight

        def noise(*shape: int) -> Tensor:
            return torch.randn(n, *shape, generator=generator, dtype=like.dtype, device=like.device)

        x = self.top(noise(self.latent)).reshape(n, -1, *self.scales[0])
        for conv, scale in zip(self.convs, self.scales, strict=True):
            x = interpolate(x, scale)
            x = leaky_relu(conv(torch.cat([x, noise(1, *scale)], dim=1)), 0.2)
        fields = self.head(x).flatten(1)
        soft = torch.tanh(fields / fields.square().mean(-1, keepdim=True).sqrt())
        spins = soft + (torch.where(soft < 0, -1.0, 1.0) - soft).detach()
        return spins * torch.where(noise(1) < 0, -1.0, 1.0) if self.symmetric else spins


class Critic(nn.Module):
    """Spins to features: three convolutions, the mean over the torus, two dense layers."""

    def __init__(self, width: int):
        super().__init__()
        self.features = nn.Sequential(
            periodic_conv(1, width),
            nn.LeakyReLU(0.2),
            periodic_conv(width, 2 * width, stride=2),
            nn.LeakyReLU(0.2),
            periodic_conv(2 * width, 4 * width, stride=2),
            nn.LeakyReLU(0.2),
        )
        self.head = nn.Sequential(
            nn.Linear(4 * width, 4 * width), nn.LeakyReLU(0.2), nn.Linear(4 * width, 2 * width)
        )

    def forward(self, spins: Tensor) -> Tensor:
        return self.head(self.features(spins).mean((-2, -1)))


build = DCGAN
