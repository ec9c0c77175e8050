r"""The Boltzmann machine as a wave function of spins, and its walkers.

.. math::
    \Psi(s) = e^{\sum_i a_i s_i} \prod_j 2\cosh\theta_j, \qquad
    \theta_j = b_j + \sum_i W_{ij} s_i, \qquad s_i = \pm 1

With real parameters :math:`\Psi > 0`: enough for Hamiltonians whose off-diagonal elements are all negative,
as those of the transverse-field Ising model.

References:
    | Solving the quantum many-body problem with artificial neural networks (Carleo and Troyer, 2017)
    | https://arxiv.org/abs/1606.02318
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from ..nn import private_seed

ROWS = 2**21  # elements of a temporary, so that memory stays bounded
MAX_ENUMERATED = 16


class SpinMachine(nn.Module):
    r"""A spin wave function on a ring of sites.

    Arguments:
        sites: N.
        hidden: Hidden units; with ``tied``, units per site (often called the density alpha).
        tied: Repeats each hidden unit at every site, with the same weights relative to its site:
            :math:`\Psi` is invariant under translations, with N times fewer parameters.
        even: Fixes a = b = 0, so that :math:`\Psi(s) = \Psi(-s)`, as the ground state without a longitudinal
            field has it. Then neither sign of the magnetisation can be lost, whatever the walkers do.
        spread: Standard deviation of the initial parameters.
        seed: Of the initial parameters.

    Example:
        >>> psi = SpinMachine(6, hidden=2)
        >>> s = torch.tensor([[1, 1, -1, 1, -1, -1]], dtype=torch.float64)
        >>> bool((psi.log_psi(s) - psi.log_psi(-s.roll(1, -1))).abs() < 1e-12)
        True
    """

    shifts: Tensor

    def __init__(
        self,
        sites: int,
        hidden: int = 4,
        *,
        tied: bool = True,
        even: bool = True,
        spread: float = 0.05,
        seed: int = 0,
    ):
        super().__init__()
        if min(sites, hidden) < 1:
            raise ValueError(f"at least one site and one hidden unit are needed, got {sites} and {hidden}")
        self.sites, self.tied, self.even = sites, tied, even
        random = torch.Generator().manual_seed(seed)
        shapes = {"W": (sites, hidden), "a": (1 if tied else sites,), "b": (hidden,)}
        W, a, b = (spread * torch.randn(s, generator=random, dtype=torch.float64) for s in shapes.values())
        self.W = nn.Parameter(W)
        self.a = nn.Parameter(a * (not even), requires_grad=not even)
        self.b = nn.Parameter(b * (not even), requires_grad=not even)
        shifts = (torch.arange(sites).unsqueeze(-1) + torch.arange(sites if tied else 1)) % sites
        self.register_buffer("shifts", shifts, persistent=False)
        self.recipe = {
            "name": "spin_machine",
            "shape": [sites],
            "hyper": {"hidden": hidden, "tied": tied, "even": even},
        }

    def weights(self) -> tuple[Tensor, Tensor, Tensor]:
        """W ``(N, H)``, a ``(N,)`` and b ``(H,)`` with every copy of a tied unit written out."""
        copies = self.shifts.shape[1]
        place = (torch.arange(self.sites).unsqueeze(-1) - torch.arange(copies)) % self.sites
        W = self.W[place].transpose(1, 2).flatten(1)
        return W, self.a.expand(self.sites), self.b.repeat_interleave(copies)

    def log_psi(self, s: Tensor) -> Tensor:
        """``(n, N)`` to ``(n,)``."""
        W, a, b = self.weights()
        return s @ a + log_2cosh(s @ W + b).sum(-1)

    @torch.no_grad()
    def ratios(self, s: Tensor) -> Tensor:
        r""":math:`\Psi(s^{(i)}) / \Psi(s)` for each spin i flipped: ``(n, N)`` to ``(n, N)``.

        .. math::
            \frac{\cosh(\theta_j - 2 s_i W_{ij})}{\cosh\theta_j}
            = \sigma(2\theta_j) e^{-2 s_i W_{ij}} + \sigma(-2\theta_j) e^{2 s_i W_{ij}}

        Sums of positive terms: nothing cancels, and no logarithm is taken.
        """
        W, a, b = self.weights()
        table, rows = _table(W), max(1, ROWS // W.numel())
        return torch.cat([self._ratios(part, W, a, b, table) for part in s.split(rows)])

    def _ratios(self, s: Tensor, W: Tensor, a: Tensor, b: Tensor, table: Tensor) -> Tensor:
        theta = 2 * (s @ W + b).unsqueeze(1)
        site, down = torch.arange(self.sites), (s < 0).long()
        factors = theta.sigmoid() * table[down, site] + (-theta).sigmoid() * table[1 - down, site]
        return factors.prod(-1) * torch.exp(-2 * s * a)

    @torch.no_grad()
    def log_derivatives(self, s: Tensor) -> Tensor:
        r"""Of :math:`\log\Psi` by each parameter: ``(n, parameters)``, in the order of ``parameters()``."""
        rows = max(1, ROWS // self.shifts.numel())
        return torch.cat([self._log_derivatives(part) for part in s.split(rows)])

    def _log_derivatives(self, s: Tensor) -> Tensor:
        W, _, b = self.weights()
        slopes = torch.tanh(s @ W + b).reshape(len(s), -1, self.shifts.shape[1])
        by_W = torch.einsum("ndt,nft->ndf", s[:, self.shifts], slopes).flatten(1)
        if self.even:
            return by_W
        by_a = s.sum(-1, keepdim=True) if self.tied else s
        return torch.cat([by_W, by_a, slopes.sum(-1)], -1)


class SpinWalkers:
    r"""An endless iterator of ``(n, N)`` spins drawn from :math:`\Psi^2` by Metropolis moves.

    Each walker flips one spin of its own choice at a time, with :math:`\sigma(\pm 2\theta)` updated by the
    formula of :meth:`SpinMachine.ratios`. Once per draw a heat bath decides on flipping all spins, or in an
    ordered phase walkers would keep for ever the sign of the magnetisation that they started with.

    Arguments:
        psi: The wave function; its parameters may change between two draws.
        n: Walkers.
        sweeps: From one draw to the next, N single flips each.
        burn_in: Sweeps before the first draw.
        seed: Of the private generator.

    Attributes:
        acceptance: Accepted share of the last draw's single flips.

    Example:
        >>> walkers = SpinWalkers(SpinMachine(6, hidden=2), n=100)
        >>> next(walkers).shape, walkers.acceptance > 0.5
        (torch.Size([100, 6]), True)
    """

    def __init__(self, psi: SpinMachine, n: int = 1000, *, sweeps: int = 1, burn_in: int = 10, seed: int = 0):
        if min(n, sweeps) < 1:
            raise ValueError(f"at least one walker and one sweep per draw are needed, got {n} and {sweeps}")
        self.psi, self.sweeps, self.burn_in = psi, sweeps, burn_in
        self.generator = torch.Generator().manual_seed(private_seed(seed, 41))
        up = torch.rand(n, psi.sites, generator=self.generator, dtype=torch.float64) < 0.5
        self.x = 2.0 * up.double() - 1
        self.acceptance = math.nan

    def __iter__(self) -> Iterator[Tensor]:
        return self

    @torch.no_grad()
    def __next__(self) -> Tensor:
        flips = self.psi.sites * (self.sweeps + self.burn_in)
        self.burn_in = 0
        W, a, b = self.psi.weights()
        s = self.x.clone()
        theta = 2 * (s @ W + b)
        up, down, taken = theta.sigmoid(), (-theta).sigmoid(), 0.0
        table, rows = _table(W), torch.arange(len(s))
        for _ in range(flips):
            site = torch.randint(self.psi.sites, (len(s),), generator=self.generator)
            old = s[rows, site]
            sign = (old < 0).long()
            new_up, new_down = up * table[sign, site], down * table[1 - sign, site]
            factors = new_up + new_down
            accept = self._accept(2 * factors.prod(-1).log() - 4 * old * a[site])
            s[rows, site] = torch.where(accept, -old, old)
            up = torch.where(accept.unsqueeze(-1), new_up / factors, up)
            down = torch.where(accept.unsqueeze(-1), new_down / factors, down)
            taken += float(accept.double().mean())
        self.acceptance = taken / flips
        over = self._accept(logsigmoid(2 * (self.psi.log_psi(-s) - self.psi.log_psi(s))))
        self.x = torch.where(over.unsqueeze(-1), -s, s)
        return self.x

    def _accept(self, log_chance: Tensor) -> Tensor:
        uniform = torch.rand(len(log_chance), generator=self.generator, dtype=torch.float64)
        return uniform.log() < log_chance

    def state_dict(self) -> dict[str, Any]:
        return {"x": self.x, "generator": self.generator.get_state(), "burn_in": self.burn_in}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["x"].shape != self.x.shape:
            raise ValueError(
                f"the saved walkers have the shape {tuple(state['x'].shape)}, these {tuple(self.x.shape)}; "
                "take the settings that they were saved with"
            )
        self.x, self.burn_in = state["x"], state["burn_in"]
        self.generator.set_state(state["generator"].cpu())


class Enumeration:
    """An endless iterator of all configurations, for exact means where they are few.

    Example:
        >>> next(Enumeration(4)).shape
        torch.Size([16, 4])
    """

    def __init__(self, sites: int):
        self.x = all_spins(sites)

    def __iter__(self) -> Iterator[Tensor]:
        return self

    def __next__(self) -> Tensor:
        return self.x

    def state_dict(self) -> dict[str, Any]:
        """Nothing: every draw is the same."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Of another sampler is refused."""
        if state:
            raise ValueError("the saved state is that of walkers; resume with the sampler that it began with")


def _table(W: Tensor) -> Tensor:
    """What flipping a spin does to one of its hidden units, ``(2, N, H)``: of a spin up, and of one down."""
    return torch.stack([torch.exp(-2 * W), torch.exp(2 * W)])


def log_2cosh(x: Tensor) -> Tensor:
    r""":math:`\log(2\cosh x)` without overflow.

    Example:
        >>> log_2cosh(torch.tensor([0.0, -1000.0])).tolist()
        [0.6931471824645996, 1000.0]
    """
    size = x.abs()
    return size + torch.exp(-2 * size).log1p()


def all_spins(sites: int) -> Tensor:
    """Every configuration of at most 16 spins, ``(2**N, N)``; row k spells k in binary, -1 for 0.

    Example:
        >>> all_spins(2).tolist()
        [[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]]
    """
    if sites > MAX_ENUMERATED:
        raise ValueError(f"enumeration is for at most {MAX_ENUMERATED} sites, got {sites}; take walkers")
    bits = torch.arange(2**sites).unsqueeze(-1) >> torch.arange(sites - 1, -1, -1)
    return 2.0 * (bits & 1).double() - 1
