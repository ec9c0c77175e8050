r"""A density averaged over a group of symmetries, exactly.

.. math:: q_G(s) = \frac{1}{|G|} \sum_{g \in G} q(g s) .

Where the target is invariant, :math:`p(g s) = p(s)`, neither divergence of :math:`q_G` from it is larger than
that of q, as both are convex in q. One density of the average costs :math:`|G|` of the model; a draw one.

References:
    | Unbiased Monte Carlo cluster updates with autoregressive neural networks (Wu, Rossi and Carleo, 2021),
      https://arxiv.org/abs/2105.05650
"""

import itertools
import math
from collections.abc import Collection

import torch
from torch import Tensor, nn

from .batches import check_symmetries

ROWS = 4096  # configurations given to the model at once


def group(shape: tuple[int, ...], symmetries: Collection[str]) -> tuple[Tensor, Tensor]:
    r"""All products of symmetries: sites ``(|G|, N)`` and signs ``(|G|,)``; g s is ``sign * s[sites]``.

    Arguments:
        shape: Sites along each axis.
        symmetries: Any of ``"translation"`` (periodic axes), ``"reflection"`` of each axis,
            ``"transposition"`` of equal axes, ``"flip"`` of all spins (zero field). Which hold is a property
            of the Hamiltonian: ``lattice.symmetries`` has those of the lattice.

    Example:
        >>> sites, signs = group((4, 4), ["translation", "reflection", "transposition", "flip"])
        >>> len(sites)  # the square: 16 translations, 8 of the point group, 2 signs
        256
    """
    names = check_symmetries(symmetries, shape, math.prod(shape))
    axes, lattice = range(len(shape)), torch.arange(math.prod(shape)).reshape(shape)
    found = [lattice]
    if "transposition" in names:
        found = [x.permute(order) for x in found for order in itertools.permutations(axes)]
    if "reflection" in names:
        subsets = [a for k in range(len(shape) + 1) for a in itertools.combinations(axes, k)]
        found = [x.flip(a) for x in found for a in subsets]
    if "translation" in names:
        shifts = list(itertools.product(*map(range, shape)))
        found = [x.roll(shift, tuple(axes)) for x in found for shift in shifts]
    sites = torch.stack([x.flatten() for x in found]).unique(dim=0)
    signs = torch.ones(len(sites))
    if "flip" in names:
        sites, signs = sites.repeat(2, 1), torch.cat([signs, -signs])
    return sites, signs


class Symmetrised(nn.Module):
    r"""The average of a model over a group; a density of the same contract.

    Arguments:
        model: Any density of spins, ``log_prob`` and ``sample``.
        shape: Sites along each axis.
        symmetries: As in :func:`group`.

    Example:
        >>> from physgen import models
        >>> net = Symmetrised(models.build("fvbn", (4, 4)), (4, 4), ["translation", "flip"])
        >>> spins = net.sample(8)
        >>> bool(torch.allclose(net.log_prob(spins), net.log_prob(-spins.roll(4, -1)), atol=1e-5))
        True
    """

    def __init__(self, model: nn.Module, shape: tuple[int, ...], symmetries: Collection[str]):
        super().__init__()
        self.model = model
        sites, signs = group(shape, symmetries)
        self.register_buffer("sites", sites, persistent=False)
        self.register_buffer("signs", signs, persistent=False)

    def log_prob(self, spins: Tensor) -> Tensor:
        """Normalised: ``(*, N)`` spins to ``(*,)`` nats, at |G| times the cost of the model's."""
        flat = spins.reshape(-1, spins.shape[-1])
        parts = [self._log_prob(part) for part in flat.split(max(ROWS // len(self.sites), 1))]
        return torch.cat(parts).reshape(spins.shape[:-1])

    def _log_prob(self, spins: Tensor) -> Tensor:
        images = spins[:, self.sites] * self.signs[:, None].to(spins)
        return self.model.log_prob(images).logsumexp(-1) - math.log(len(self.sites))

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Independent draws ``(n, N)``: of the model, each under a random element of the group."""
        spins = self.model.sample(n, generator)
        which = torch.randint(len(self.sites), (n,), generator=generator).to(self.sites.device)
        return spins.gather(-1, self.sites[which]) * self.signs[which, None].to(spins)

    def sample_and_log_prob(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Independent draws ``(n, N)`` and their log-probabilities ``(n,)``, with their gradient."""
        spins = self.sample(n, generator)
        return spins, self.log_prob(spins)
