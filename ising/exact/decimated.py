r"""The nearest-neighbour chain of which only some spins are seen: an exact law with a memory of length xi.

Spins of an infinite chain are seen with probability :math:`\rho` each, the rest are 0. Summing over those
that are not seen (two by two transfer matrices, multiplied) leaves a bond between consecutive seen spins, a
distance d apart, with :math:`\langle s s' \rangle = \lambda^d`:

.. math:: p(s) = \prod_i \begin{cases} 1 - \rho & s_i = 0 \\
    \rho\, \tfrac12 (1 + s_i s_{i-d} \lambda^d) & \text{otherwise,} \end{cases} \qquad
    \lambda = \tanh \beta J = e^{-1/\xi} .

What one spin tells of the next is what the last *seen* one tells. A predictor that knows the last R sites and
no more loses, per site, at best

.. math:: D(R) = \rho^2 \sum_{d > R} (1 - \rho)^{d-1} I(\lambda^d) \sim (1 - \rho)^R e^{-2 R / \xi}, \qquad
    I(c) = c \operatorname{artanh} c + \tfrac12 \ln (1 - c^2) ,

nats of Kullback-Leibler divergence. For :math:`\rho = 1` it is the open chain itself, for which R = 1 is
enough, :math:`D(1) = 0`.

References:
    | Beitrag zur Theorie des Ferromagnetismus (Ising, 1925)
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class DecimatedChain:
    r"""Arguments:
        n_sites: Length N of the stretch that is looked at.
        xi: Correlation length :math:`-1 / \ln \tanh \beta J` in sites.
        seen: Probability :math:`\rho` that a spin is seen.

    Example:
        >>> chain = DecimatedChain(12, xi=4.0, seen=0.5)
        >>> chain.log_prob(chain.sample(5, torch.Generator().manual_seed(0))).shape
        torch.Size([5])
    """

    n_sites: int
    xi: float
    seen: float = 1.0

    def __post_init__(self) -> None:
        if self.n_sites < 1 or not 0 < self.xi < math.inf or not 0 < self.seen <= 1:
            raise ValueError(
                f"a chain needs sites, a finite xi > 0 and a probability 0 < seen <= 1, got {self}"
            )

    @property
    def beta_J(self) -> float:
        r""":math:`\operatorname{artanh} e^{-1/\xi}`."""
        return math.atanh(math.exp(-1 / self.xi))

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Independent exact draws ``(n, N)``: ±1, and 0 where a spin is not seen."""
        return self.draw(n, generator)[0]

    def draw(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """What :meth:`sample` gives, and all the spins, seen or not, ``(n, N)`` each."""
        size = (n, self.n_sites)
        kept = torch.rand(size, generator=generator, dtype=torch.float64) < (1 + math.exp(-1 / self.xi)) / 2
        steps = torch.where(kept, 1.0, -1.0)
        steps[:, 0] = 2.0 * torch.randint(2, (n,), generator=generator) - 1
        spins = steps.cumprod(-1)
        return spins * (torch.rand(size, generator=generator) < self.seen), spins

    def conditionals(self, spins: Tensor) -> Tensor:
        """Of -1, 0 and 1, given all earlier sites, exact: ``(*, N)`` to ``(*, N, 3)``, float64."""
        spins = spins.double()
        site = torch.arange(self.n_sites)
        last = torch.where(spins != 0, site, -1).cummax(-1).values  # seen last, up to and including each site
        last = torch.cat([torch.full_like(last[..., :1], -1), last[..., :-1]], -1)
        before = torch.where(last < 0, 0.0, spins.gather(-1, last.clamp(min=0)))
        expected = before * torch.exp((last - site).double() / self.xi)
        hidden, half = torch.full_like(expected, 1 - self.seen), self.seen / 2
        return torch.stack([half * (1 - expected), hidden, half * (1 + expected)], -1)

    def log_prob(self, spins: Tensor) -> Tensor:
        """Exact: ``(*, N)`` values -1, 0, 1 to ``(*,)`` nats, float64."""
        found = self.conditionals(spins).gather(-1, (spins + 1).long().unsqueeze(-1))
        return found.squeeze(-1).log().sum(-1)

    def least_divergence(self, field: int) -> float:
        """D of the best predictor from the last ``field`` sites, nats per site; of this stretch of N."""
        d = torch.arange(field + 1, self.n_sites, dtype=torch.float64)
        c = torch.exp(-d / self.xi)
        information = c * torch.atanh(c) + torch.log1p(-c * c) / 2
        gaps = self.seen**2 * (1 - self.seen) ** (d - 1)
        return float((gaps * information * (self.n_sites - d)).sum()) / self.n_sites
