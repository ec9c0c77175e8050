r"""Deep convolutional generative adversarial network for spins on a two-dimensional torus.

.. math:: s = \mathrm{sign}\, g(z), \quad z \sim N(0, 1), \qquad
    d(s) = \sigma(c(s)) \;\text{the probability, to the critic, that s is data.}

The generator upsamples twice, with periodic convolutions, from a quarter of the lattice; beside the global latent
variables it takes one of noise per site at each scale, without which neighbouring spins could not be independent.
The critic averages its features over the torus, so it reads the local and the global order alike, and is
1-Lipschitz up to a constant by spectral normalisation.

Losses (Goodfellow et al., non-saturating):

.. math:: -\langle \log d(s) \rangle_{\rm data} - \langle \log(1 - d(g(z))) \rangle, \qquad
    -\langle \log d(g(z)) \rangle .

The sign has no gradient. It is passed straight through, as if it were tanh (Bengio et al.): samples, in training
too, are hard ±1, and the generator's gradient is biased. There is no density, so no likelihood: compare
distributions of observables only.

References:
    | Generative Adversarial Networks (Goodfellow et al., 2014), https://arxiv.org/abs/1406.2661
    | Unsupervised Representation Learning with DCGAN (Radford et al., 2015), https://arxiv.org/abs/1511.06434
    | Spectral Normalization for Generative Adversarial Networks (Miyato et al., 2018),
      https://arxiv.org/abs/1802.05957
    | Estimating or Propagating Gradients Through Stochastic Neurons (Bengio, Léonard and Courville, 2013),
      https://arxiv.org/abs/1308.3432
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.nn.utils.parametrizations import spectral_norm

from ..nn import check_shape, check_spins, periodic_conv

__all__ = ["DCGAN", "build"]


class DCGAN(nn.Module):
    """Arguments:
        shape: ``(rows, columns)``, multiples of 4.
        latent: Global latent variables.
        width: Channels at the full resolution; twice as many below.

    Example:
        >>> gan = build((4, 4), width=4)
        >>> gan.sample(8).shape
        torch.Size([8, 16])
    """

    def __init__(self, shape: tuple[int, ...], latent: int = 32, width: int = 24):
        super().__init__()
        check_shape(shape, at_least=4, divisor=4, model="a DCGAN")
        self.shape, self.n_sites = shape, math.prod(shape)
        self.generator = Generator(shape, latent, width)
        self.critic = Critic(width)

    def generator_loss(self, batch: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Non-saturating, with the spread of the magnetisation per site in the data and in as many samples.

        A spread far below that of the data is mode collapse.
        """
        fake = self.generator(len(batch))
        spread = {"spread": fake.detach().mean(-1).std(), "spread_data": batch.mean(-1).std()}
        return softplus(-self._logit(fake)).mean(), spread

    def critic_loss(self, batch: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross entropy, nats (2 log 2 where data and samples cannot be told apart), with mean d on each."""
        with torch.no_grad():
            fake = self.generator(len(batch))
        real, fake = self._logit(check_spins(batch, self.shape)), self._logit(fake)
        seen = {"d_real": real.detach().sigmoid().mean(), "d_fake": fake.detach().sigmoid().mean()}
        return softplus(-real).mean() + softplus(fake).mean(), seen

    def _logit(self, spins: Tensor) -> Tensor:
        return self.critic(spins.reshape(-1, 1, *self.shape))

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Independent draws, hard ±1 spins, ``(n, N)``."""
        return self.generator(n, generator)


class Generator(nn.Module):
    """Noise to spins: three scales, each of which takes the coarser features and its own noise."""

    def __init__(self, shape: tuple[int, ...], latent: int, width: int):
        super().__init__()
        rows, columns = shape
        self.latent, self.scales = (
            latent,
            [(rows // 4, columns // 4), (rows // 2, columns // 2), (rows, columns)],
        )
        self.top = nn.Linear(latent, 2 * width * math.prod(self.scales[0]))
        self.coarse = periodic_conv(2 * width + 1, 2 * width)
        self.middle = periodic_conv(2 * width + 1, 2 * width)
        self.fine = periodic_conv(2 * width + 1, width)
        self.head = periodic_conv(width, 1)

    def forward(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """``(n, N)`` spins with a straight-through gradient."""
        like = self.top.weight

        def noise(*shape: int) -> Tensor:
            return torch.randn(n, *shape, generator=generator, dtype=like.dtype, device=like.device)

        x = self.top(noise(self.latent)).reshape(n, -1, *self.scales[0])
        for conv, scale in zip((self.coarse, self.middle, self.fine), self.scales, strict=True):
            x = nn.functional.interpolate(x, scale)
            x = nn.functional.leaky_relu(conv(torch.cat([x, noise(1, *scale)], dim=1)), 0.2)
        soft = torch.tanh(self.head(x)).flatten(1)
        return soft + (torch.where(soft < 0, -1.0, 1.0) - soft).detach()


class Critic(nn.Module):
    """Spins to one logit: three convolutions, the mean over the torus, two dense layers."""

    def __init__(self, width: int):
        super().__init__()
        self.features = nn.Sequential(
            spectral_norm(periodic_conv(1, width)),
            nn.LeakyReLU(0.2),
            spectral_norm(periodic_conv(width, 2 * width, stride=2)),
            nn.LeakyReLU(0.2),
            spectral_norm(periodic_conv(2 * width, 2 * width, stride=2)),
            nn.LeakyReLU(0.2),
        )
        self.head = nn.Sequential(
            spectral_norm(nn.Linear(2 * width, 2 * width)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Linear(2 * width, 1)),
        )

    def forward(self, spins: Tensor) -> Tensor:
        return self.head(self.features(spins).mean((-2, -1))).squeeze(-1)


build = DCGAN
