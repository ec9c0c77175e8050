r"""Restricted Boltzmann machine of spin configurations, in centred parameters.

.. math::
    E(s, h) = -b \cdot s - c \cdot h - (s - \mu)^\top W (h - \tfrac12), \qquad s_i = \pm 1,\ h_j \in \{0, 1\}

Centring changes no law, only the metric in which an optimiser moves: with plain parameters every change of W
also shifts all fields. With :math:`\mu = b = c = 0` the machine is exactly even in s.

References:
    | Training Restricted Boltzmann Machines using Approximations to the Likelihood Gradient
    | (Tieleman, 2008)
    | Deep Boltzmann Machines and the Centering Trick (Montavon and Müller, 2012)
"""

import math

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from ..distributions import SpinRBM

__all__ = ["RBM", "build"]


class RBM(nn.Module):
    r"""Trained by :class:`physgen.energy.PersistentCD`.

    Arguments:
        shape: Lattice sides; their product is N.
        hidden: Hidden units H; with ``tied``, units per site.
        spread: Standard deviation of the initial weights; default :math:`N^{-1/2}`, or 0.3 with ``tied``.
        tied: Repeats each hidden unit at every site of the torus, with the same weights relative to its site
            (Lee et al., 2009, with kernels as large as the lattice). The law is then invariant under
            translations; two units per site hold the nearest-neighbour Ising model of the square lattice
            exactly, one per bond. Initial weights fall off as exp(-r), or training finds long waves first
            and stays there.
        symmetric: Fixes :math:`b = c = \mu = 0`, so that p(s) = p(-s) exactly. Needed where both signs of the
            magnetisation occur and chains cannot cross between them: there persistent chains keep the shares
            of the two signs for ever, and biases would grow without bound to correct them.

    Example:
        >>> rbm = RBM((4, 4), hidden=8)
        >>> rbm.free_energy(torch.ones(3, 16)).shape, rbm.sample(5).shape
        (torch.Size([3]), torch.Size([5, 16]))
    """

    base: Tensor
    displacement: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        hidden: int = 64,
        spread: float | None = None,
        tied: bool = False,
        symmetric: bool = False,
    ):
        super().__init__()
        self.n_sites, self.tied, self.symmetric = math.prod(shape), tied, symmetric
        if hidden < 1:
            raise ValueError(f"a restricted Boltzmann machine needs at least one hidden unit, got {hidden}")
        if spread is None:
            spread = 0.3 if tied else self.n_sites**-0.5
        self.W = nn.Parameter(spread * torch.randn(self.n_sites, hidden))
        self.b = nn.Parameter(torch.zeros(1 if tied else self.n_sites), requires_grad=not symmetric)
        self.c = nn.Parameter(torch.zeros(hidden), requires_grad=not symmetric)
        self.register_buffer("base", torch.zeros_like(self.b))
        if tied:
            sites, distance = _torus(shape)
            self.register_buffer("displacement", sites, persistent=False)
            self.W.data *= torch.exp(-distance).unsqueeze(-1)

    @torch.no_grad()
    def centre(self, spins: Tensor) -> "RBM":
        r"""Before training: sets :math:`\mu` to the mean of ``(*, N)`` data and b to the field that gives it.

        Two imaginary spins, one up and one down, keep the field of a site that never flips finite. A
        symmetric machine has :math:`\mu = 0` and stays as it is.
        """
        if self.symmetric:
            return self
        rows = torch.as_tensor(spins).reshape(-1, self.n_sites)
        mean = rows.double().mean(0) * len(rows) / (len(rows) + 2)
        mean = mean.mean(0, keepdim=True) if self.tied else mean
        self.base.copy_(mean.atanh())
        self.b.copy_(self.base)
        return self

    def distribution(self, dtype: torch.dtype | None = None) -> SpinRBM:
        """The law of the spins in plain parameters, for Pyro and for exact sums."""
        W, b, c, base = (x.to(dtype) for x in (self.W, self.b, self.c, self.base))
        if self.tied:
            W = W.index_select(0, self.displacement).reshape(self.n_sites, -1)
            b, c, base = b.expand(self.n_sites), c.repeat(self.n_sites), base.expand(self.n_sites)
        return SpinRBM(W, b - W.sum(-1) / 2, c - base.tanh() @ W, validate_args=False)

    def free_energy(self, spins: Tensor) -> Tensor:
        r""":math:`F(s) = -\log p(s) - \log Z`, nats: ``(*, N)`` to ``(*,)``."""
        return self.distribution().free_energy(self._checked(spins))

    def hidden(self, spins: Tensor) -> TorchDistribution:
        """:math:`p(h | s)`: independent Bernoulli units, event shape ``(H,)``."""
        return self.distribution().hidden(self._checked(spins))

    @torch.no_grad()
    def gibbs(self, spins: Tensor, steps: int = 1, generator: torch.Generator | None = None) -> Tensor:
        """``steps`` block Gibbs updates of ``(*, N)`` spins."""
        return self.distribution().gibbs(spins, steps, generator)

    def annealed(self, t: float, base: Tensor | None = None) -> SpinRBM:
        """From independent spins (with the data's means, after :meth:`centre`) at t = 0 to this machine."""
        return self.distribution().annealed(t, self.base.expand(self.n_sites) if base is None else base)

    @property
    def enumerable(self) -> bool:
        """Whether log Z and independent draws are exact here: the smaller layer has at most 20 units."""
        return self.distribution().enumerable

    @torch.no_grad()
    def log_partition(self) -> float:
        """Exact log Z in float64, if :attr:`enumerable`; else see :func:`physgen.ais.log_partition`."""
        return self.distribution(torch.float64).log_partition().item()

    @torch.no_grad()
    def sample(self, n: int, burn_in: int = 1000) -> Tensor:
        """``(n, N)`` draws, independent of each other; of the exact law only if :attr:`enumerable`.

        Else they are the ends of n annealed chains and follow the law approximately: what ``burn_in`` updates
        do not relax stays, so domain walls survive and energies come out too high, and modes keep the shares
        that they had when the chains could no longer cross between them.
        """
        if self.enumerable:
            return self.distribution().sample((n,))
        return self.sample_chains(n, samples=1, burn_in=burn_in)[:, 0]

    @torch.no_grad()
    def sample_chains(
        self,
        chains: int = 64,
        samples: int = 1000,
        *,
        thin: int = 1,
        burn_in: int = 1000,
        start: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Block Gibbs chains, ``(chains, samples, N)``: correlated along the second axis.

        Arguments:
            chains: Independent chains.
            samples: Kept configurations per chain.
            thin: Block updates between two kept configurations.
            burn_in: Block updates before. Without ``start`` the first half anneals from independent spins,
                which domain walls survive less often than a quench.
            start: First configurations ``(chains, N)``, for instance data.
            generator: Source of randomness; torch's global one if not given.
        """
        law = self.distribution()
        if start is None:
            anneal = burn_in // 2
            start = self.annealed(0.0).draw_visible(self.c.new_zeros(chains, law.n_hidden), generator)
            for i in range(anneal):
                start = self.annealed((i + 1) / anneal).gibbs(start, 1, generator)
            burn_in -= anneal
        spins = law.gibbs(self._checked(start), burn_in, generator)
        kept = spins.new_empty(len(spins), samples, self.n_sites)
        for i in range(samples):
            spins = law.gibbs(spins, thin, generator)
            kept[:, i] = spins
        return kept

    def _checked(self, spins: Tensor) -> Tensor:
        if spins.shape[-1] != self.n_sites:
            raise ValueError(
                f"the last axis must hold this machine's {self.n_sites} sites, got shape {tuple(spins.shape)}"
            )
        if spins.numel() and spins.abs().amin() != 1:  # one pass; enough to catch 0/1 data and NaN
            raise ValueError("spins must be -1 or +1, got other values; convert 0/1 data by 2 * x - 1")
        return spins


def _torus(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The site at i - x for every pair of sites, ``(N * N,)``, and the distances from site 0, ``(N,)``."""
    sides, sites = torch.tensor(shape), torch.arange(math.prod(shape)).reshape(shape)
    place = torch.cartesian_prod(*(torch.arange(n) for n in shape)).reshape(-1, len(shape))
    step = (place.unsqueeze(1) - place) % sides
    return sites[step.unbind(-1)].flatten(), torch.minimum(place, sides - place).float().norm(dim=-1)


build = RBM
