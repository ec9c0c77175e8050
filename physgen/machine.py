r"""Boltzmann machines of any structure: spins of which the first N are seen and the rest are hidden.

A model says by ``law`` how its :math:`M = N + H` units are coupled (:class:`physgen.pairwise.PairwiseSpins`);
the rest follows: free energy, variational bound, sampling, exact sums where few units are coupled, annealing.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .nn import check_spins
from .pairwise import MAX_SUMMED_EACH, PairwiseSpins

HIDDEN_SWEEPS = 100  # that draw coupled hidden units given the visible ones


class Machine(nn.Module):
    """What the models share. A *state* is a configuration of all units, ``(*, M)``, visible ones first."""

    base: Tensor
    shape: tuple[int, ...]
    n_sites: int

    law: Callable[..., PairwiseSpins]
    """``law(dtype)``: the law of all units, at temperature 1."""

    @property
    def n_units(self) -> int:
        """Visible and hidden units M."""
        return self.law().n_units

    @torch.no_grad()
    def _mean_field_of(self, spins: Tensor) -> Tensor:
        """Fields of independent spins with the means of ``(*, N)`` data; never infinite."""
        rows = torch.as_tensor(spins).reshape(-1, self.n_sites)
        return (rows.double().mean(0) * len(rows) / (len(rows) + 2)).atanh()

    @property
    def tractable(self) -> bool:
        """Whether :meth:`free_energy` is available: at most 12 hidden units have to be enumerated for it."""
        return self.law().rest(self.n_sites).summed <= MAX_SUMMED_EACH

    def free_energy(self, spins: Tensor) -> Tensor:
        r""":math:`F(s) = -\log p(s) - \log Z`, nats, exact, if :attr:`tractable`: ``(*, N)`` to ``(*,)``.

        Raises:
            ValueError: If it is not; :meth:`free_energy_bound` is always there.
        """
        check_spins(spins, self.shape)
        law = self.law()
        if law.n_units == self.n_sites:
            return law.free_energy(spins)
        hidden = law.rest(self.n_sites)
        if hidden.summed > MAX_SUMMED_EACH:
            raise ValueError(
                f"the exact free energy enumerates at most {MAX_SUMMED_EACH} hidden units, this one needs "
                f"{hidden.summed}; take free_energy_bound"
            )
        visible = PairwiseSpins(law.J[: self.n_sites, : self.n_sites], law.field[: self.n_sites])
        flat = spins.reshape(-1, self.n_sites)
        fields = hidden.field + flat @ law.J[: self.n_sites, self.n_sites :]
        return (visible.free_energy(flat) - hidden.log_sums(fields)).reshape(spins.shape[:-1])

    def energy(self, states: Tensor) -> Tensor:
        r""":math:`E/T_0` of all units, ``(*, M)`` to ``(*,)``; its mean for independent units."""
        return self.law().free_energy(states)

    @torch.no_grad()
    def mean_field(self, spins: Tensor, **options: float) -> Tensor:
        """States whose hidden part holds the mean-field means given the spins: ``(n, N)`` to ``(n, M)``.

        Options are those of :meth:`physgen.pairwise.PairwiseSpins.mean_field`. Exact if no two hidden units
        are coupled.
        """
        check_spins(spins, self.shape)
        law = self.law()
        start = torch.cat([spins, spins.new_zeros(len(spins), law.n_units - self.n_sites)], dim=1)
        return law.mean_field(start, clamped=self.n_sites, **options)

    def free_energy_bound(self, spins: Tensor) -> Tensor:
        r"""Variational free energy :math:`\langle E \rangle_q / T_0 - S(q) \ge F(s)`, ``(n, N)`` to ``(n,)``.

        With the mean-field q of :meth:`mean_field`; so minus this, minus log Z, bounds log p(s) from below.
        Gradients are those at fixed q. Equal to F if no two hidden units are coupled.
        """
        return self.law().free_energy_bound(self.mean_field(spins), clamped=self.n_sites)

    @torch.no_grad()
    def gibbs(self, states: Tensor, steps: int = 1, generator: torch.Generator | None = None) -> Tensor:
        """``steps`` heat-bath sweeps over all units of ``(*, M)`` states; they keep the law."""
        law = self.law()
        if states.shape[-1] != law.n_units:
            raise ValueError(
                f"Gibbs sweeps take states of all {law.n_units} units, got shape {tuple(states.shape)}; draw "
                "hidden units for visible ones by complete()"
            )
        return law.gibbs(states, steps, generator)

    @torch.no_grad()
    def complete(self, spins: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """States with these spins ``(n, N)`` and hidden units drawn given them, ``(n, M)``.

        Exact if no two hidden units are coupled; else the end of 100 sweeps from random ones.
        """
        check_spins(spins, self.shape)
        law = self.law()
        n_hidden = law.n_units - self.n_sites
        shape = (len(spins), n_hidden)
        u = torch.rand(shape, generator=generator, dtype=law.field.dtype, device=law.field.device)
        start = torch.cat([spins.to(law.field), 2 * (u < 0.5) - 1.0], dim=1)
        coupled = law.rest(self.n_sites).J.any()
        return law.gibbs(start, HIDDEN_SWEEPS if coupled else 1, generator, clamped=self.n_sites)

    def annealed(self, t: float, base: Tensor | None = None) -> PairwiseSpins:
        """All units: independent at t = 0, the visible ones in fields ``base``; this machine at t = 1."""
        law = self.law()
        visible = self.base if base is None else base.to(self.base)
        return law.annealed(t, torch.cat([visible, visible.new_zeros(law.n_units - self.n_sites)]))

    @property
    def enumerable(self) -> bool:
        """Whether log Z and independent draws are exact here: at most 20 units have to be enumerated."""
        return self.law().enumerable

    @torch.no_grad()
    def log_partition(self) -> float:
        """Exact log Z in float64, if :attr:`enumerable`; else see :func:`physgen.ais.log_partition`."""
        return self.law(torch.float64).log_partition()

    @torch.no_grad()
    def sample(self, n: int, burn_in: int = 1000, generator: torch.Generator | None = None) -> Tensor:
        """``(n, N)`` draws, independent of each other; of the exact law only if :attr:`enumerable`.

        Else they are the ends of n annealed chains, which follow the law approximately.
        """
        if self.enumerable:
            return self.law().sample(n, generator)[:, : self.n_sites]
        return self.sample_chains(n, samples=1, burn_in=burn_in, generator=generator)[:, 0]

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
        """Heat-bath chains, visible units only, ``(chains, samples, N)``: correlated along the second axis.

        Arguments:
            chains: Independent chains.
            samples: Kept configurations per chain.
            thin: Sweeps between two kept configurations.
            burn_in: Sweeps before. Without ``start`` the first half anneals from independent spins.
            start: First configurations ``(chains, N)``, for instance data; hidden units are drawn given them.
            generator: Source of randomness; torch's global one if not given.
        """
        law = self.law()
        if start is None:
            anneal = burn_in // 2
            states = self.annealed(0.0).gibbs(law.field.new_ones(chains, law.n_units), 1, generator)
            for i in range(anneal):
                states = self.annealed((i + 1) / anneal).gibbs(states, 1, generator)
            burn_in -= anneal
        else:
            states = self.complete(start, generator)
        states = law.gibbs(states, burn_in, generator)
        kept = states.new_empty(len(states), samples, self.n_sites)
        for i in range(samples):
            states = law.gibbs(states, thin, generator)
            kept[:, i] = states[:, : self.n_sites]
        return kept
