r"""Coupled spins in plain tensors, what every Boltzmann machine here is once its hidden units are counted in.

.. math::
    p(s) = \frac{1}{Z} \exp\Big( f \cdot s + \tfrac12 s^\top J s \Big), \qquad
    J = J^\top,\ J_{ii} = 0,\ s_i = \pm 1

The units come in *parts*, stretches of consecutive units. Units of one part that are not coupled with each
other are drawn together, and summed in closed form; coupled ones are drawn one after another.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from .distributions.spin import draw_spins
from .loops import heat_bath

MAX_SUMMED = 20  # units that an exact sum runs over, besides the part that is summed in closed form
MAX_SUMMED_EACH = 12  # the same where the sum is done for each of many configurations
_LOW = 16  # units of which all states are held at a time
_BLOCK = 2**_LOW


class PairwiseSpins:
    r"""The law of M coupled spins, unit temperature.

    Arguments:
        J: Couplings ``(M, M)``, symmetric, zero diagonal.
        field: Fields ``(M,)``.
        parts: For each part its number of units and whether they are coupled among themselves, in the order
            of the units; default one coupled part of all.

    Example:
        >>> pair = PairwiseSpins(torch.tensor([[0.0, 0.5], [0.5, 0.0]]), torch.zeros(2))
        >>> round(pair.log_partition(), 6)  # log(4 cosh(1/2))
        1.506409
    """

    def __init__(self, J: Tensor, field: Tensor, parts: Sequence[tuple[int, bool]] | None = None):
        self.J, self.field = J, field
        sizes = parts or [(len(field), True)]
        ends = np.cumsum([0, *(size for size, _ in sizes)]).tolist()
        self.parts = [
            (slice(a, b), coupled) for a, b, (_, coupled) in zip(ends, ends[1:], sizes, strict=False) if a < b
        ]

    @property
    def n_units(self) -> int:
        """Number of spins M."""
        return len(self.field)

    def free_energy(self, spins: Tensor) -> Tensor:
        r""":math:`-f \cdot s - \frac12 s^\top J s`, ``(*, M)`` to ``(*,)``; also of means."""
        return -(spins * (self.field + 0.5 * (spins @ self.J))).sum(-1)

    @torch.no_grad()
    def gibbs(
        self, spins: Tensor, steps: int = 1, generator: torch.Generator | None = None, *, clamped: int = 0
    ) -> Tensor:
        r"""``steps`` heat-bath sweeps of ``(*, M)`` configurations, every unit once and in order.

        A unit is up where :math:`f_i + \sum_j J_{ij} s_j > \frac12 \ln \frac{u}{1-u}` with u uniform: with
        probability :math:`\sigma(2 f)`, resolved to :math:`2^{-24}` in single and :math:`2^{-53}` in double
        precision. The law stays invariant; sweeps in a fixed order are not reversible.

        Arguments:
            spins: Not modified.
            steps: Sweeps.
            generator: Source of randomness; torch's global one if not given.
            clamped: So many of the first units keep their values.
        """
        flat = spins.to(self.field).reshape(-1, self.n_units).clone(memory_format=torch.contiguous_format)
        for _ in range(steps):
            for part, coupled in self.parts:
                part = slice(max(part.start, clamped), part.stop)
                if part.start >= part.stop:
                    continue
                fields = torch.addmm(self.field[part], flat, self.J[:, part])
                noise = torch.rand(
                    fields.shape, generator=generator, dtype=fields.dtype, device=fields.device
                )
                noise = noise.logit_().div_(2)
                if coupled:
                    heat_bath(flat, part.start, fields, self.J[part, part], noise)
                else:
                    flat[:, part] = (fields > noise).to(fields.dtype).mul_(2).sub_(1)
        return flat.reshape(spins.shape)

    @torch.no_grad()
    def mean_field(
        self,
        start: Tensor,
        *,
        clamped: int,
        damping: float = 0.5,
        tolerance: float = 1e-5,
        iterations: int = 200,
    ) -> Tensor:
        r"""Means of independent units that solve :math:`\mu_i = \tanh(f_i + \sum_j J_{ij} \mu_j)`, ``(n,
        M)``.

        One part after another, the last one first. For an uncoupled part the step is the best one given the
        rest, so that the bound of :meth:`free_energy_bound` can only improve; in a coupled part, where all
        units at once would overshoot, the new means count with weight 1 - ``damping``. It ends when no mean
        moves by more than ``tolerance``, or after ``iterations`` rounds: the bound holds for any means.
        """
        means = start.to(self.field).clone()
        for _ in range(iterations):
            moved = 0.0
            for part, coupled in reversed(self.parts):
                part = slice(max(part.start, clamped), part.stop)
                if part.start >= part.stop:
                    continue
                new = torch.addmm(self.field[part], means, self.J[:, part]).tanh_()
                if coupled:
                    new.lerp_(means[:, part], damping)
                moved = max(moved, float((new - means[:, part]).abs().max()))
                means[:, part] = new
            if moved <= tolerance:
                break
        return means

    def free_energy_bound(self, means: Tensor, *, clamped: int) -> Tensor:
        r""":math:`\langle E \rangle_q - S(q) \ge F` for independent units, ``(n, M)`` to ``(n,)``."""
        return self.free_energy(means) - binary_entropy(means[..., clamped:]).sum(-1)

    def rest(self, clamped: int) -> "PairwiseSpins":
        """The units after the first ``clamped``, without what those add to their fields."""
        sizes = [
            (part.stop - max(part.start, clamped), coupled)
            for part, coupled in self.parts
            if part.stop > clamped
        ]
        return PairwiseSpins(self.J[clamped:, clamped:], self.field[clamped:], sizes or [(0, False)])

    def log_sums(self, fields: Tensor) -> Tensor:
        r""":math:`\log \sum_s e^{f \cdot s + s^\top J s / 2}` for each of many fields, ``(n, M)`` to
        ``(n,)``.

        In place of the law's own field; with gradients, for at most ``MAX_SUMMED_EACH`` enumerated units.
        """
        closed, rest = self._closed_form, self._rest()
        states = spelled(torch.arange(2**self.summed, device=fields.device), self.summed).to(fields)
        pairs = 0.5 * ((states @ self.J[rest][:, rest]) * states).sum(-1)
        shift = states @ self.J[rest, closed]
        found = []
        for block in fields.split(max(1, _BLOCK * 16 // (len(states) * max(1, shift.shape[1])))):
            terms = block[:, rest] @ states.T + pairs
            if closed.stop > closed.start:
                terms = terms + log_2_cosh(block[:, None, closed] + shift).sum(-1)
            found.append(terms.logsumexp(-1))
        return torch.cat(found)

    def annealed(self, t: float, base: Tensor) -> "PairwiseSpins":
        """Independent spins in fields ``base`` at t = 0, this law at t = 1, linear in between."""
        parts = [(part.stop - part.start, coupled) for part, coupled in self.parts]
        return PairwiseSpins(t * self.J, torch.lerp(base.to(self.field), self.field, t), parts)

    @property
    def n_hidden(self) -> int:
        """None is summed over. With the next two, what :mod:`physgen.ais` asks of the start of its path."""
        return 0

    @property
    def hidden_bias(self) -> Tensor:
        """Empty."""
        return self.field[:0]

    @torch.no_grad()
    def draw_visible(self, hidden: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """``(n, M)`` independent spins in the fields of this law, n rows as in ``hidden``, ``(n, 0)``."""
        return draw_spins(self.field.expand(len(hidden), -1), generator)

    def log_partition_uncoupled(self) -> Tensor:
        r""":math:`\log Z` without the couplings."""
        return log_2_cosh(self.field).sum()

    @property
    def summed(self) -> int:
        """Units that an exact sum has to enumerate: all but the largest uncoupled part."""
        return self.n_units - self._closed_form.stop + self._closed_form.start

    @property
    def enumerable(self) -> bool:
        """Whether log Z, moments and independent draws are exact here."""
        return self.summed <= MAX_SUMMED

    def log_partition(self) -> float:
        """Exact log Z in float64, by enumeration of :attr:`summed` units."""
        return float(self._log_weights().logsumexp(0))

    @torch.no_grad()
    def moments(self) -> tuple[float, Tensor, Tensor]:
        r"""Exact :math:`\log Z`, means of s ``(M,)`` and of :math:`s s^\top` ``(M, M)``, float64."""
        log_weights = self._log_weights()
        log_z = log_weights.logsumexp(0)
        first = torch.zeros(self.n_units, dtype=torch.float64, device=self.field.device)
        second = torch.zeros(self.n_units, self.n_units, dtype=torch.float64, device=self.field.device)
        closed = self._closed_form
        for rows, weights in self._blocks(log_weights):
            p = (weights - log_z).exp()
            means = self._with_closed_form(rows, lambda field: field.tanh())
            first += p @ means
            second += (p.unsqueeze(-1) * means).T @ means
        second[closed, closed].fill_diagonal_(1)
        return float(log_z), first, second

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """``(n, M)`` independent draws of the exact law, by enumeration."""
        p = (self._log_weights() - self.log_partition()).exp()
        drawn = torch.multinomial(p, n, replacement=True, generator=generator)
        rows = spelled(drawn, self.summed).to(self.field.device)

        return self._with_closed_form(rows, lambda field: draw_spins(field, generator)).to(self.field.dtype)

    @property
    def _closed_form(self) -> slice:
        """The largest uncoupled part, empty if there is none."""
        return max(
            (part for part, coupled in self.parts if not coupled),
            key=lambda part: part.stop - part.start,
            default=slice(0, 0),
        )

    def _rest(self) -> Tensor:
        """Units that are enumerated."""
        units = torch.arange(self.n_units, device=self.field.device)
        return torch.cat([units[: self._closed_form.start], units[self._closed_form.stop :]])

    def _with_closed_form(self, rows: Tensor, value: Callable[[Tensor], Tensor]) -> Tensor:
        """``(n, M)``: enumerated units as in ``rows``, the others ``value`` of their fields."""
        rest, closed = self._rest(), self._closed_form
        full = rows.new_empty(len(rows), self.n_units)
        full[:, rest] = rows
        full[:, closed] = value(self.field[closed].double() + rows @ self.J[rest, closed].double())
        return full

    @torch.no_grad()
    def _log_weights(self) -> Tensor:
        """Of every state of the enumerated units, with the others summed over, ``(2**summed,)`` float64."""
        if not self.enumerable:
            raise ValueError(
                f"exact sums run over at most {MAX_SUMMED} units, this machine needs {self.summed}; take "
                "physgen.ais.log_partition for log Z and Gibbs chains for samples"
            )
        rest, closed = self._rest(), self._closed_form
        J, field = self.J.double(), self.field.double()
        found = torch.empty(2**self.summed, dtype=torch.float64, device=field.device)
        low, high = self._states(len(found))
        h, l = rest[: high.shape[1]], rest[high.shape[1] :]
        own = (low * (field[l] + 0.5 * (low @ J[l][:, l]))).sum(-1)
        shift = low @ J[l, closed]
        for head, out in zip(high, found.split(len(low)), strict=True):
            out[:] = own + low @ (J[l][:, h] @ head) + head @ (field[h] + 0.5 * (J[h][:, h] @ head))
            if closed.stop > closed.start:
                out += log_2_cosh(field[closed] + head @ J[h, closed] + shift).sum(-1)
        return found

    def _states(self, count: int) -> tuple[Tensor, Tensor]:
        """All states of the last enumerated units, at most 16, and all those of the units before."""
        low = spelled(torch.arange(min(count, _BLOCK), device=self.field.device), min(self.summed, _LOW))
        high = torch.arange(count // len(low), device=self.field.device)
        return low, spelled(high, self.summed - low.shape[1])

    def _blocks(self, over: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows of spins of the enumerated units, some at a time, with the matching stretch of ``over``."""
        low, high = self._states(len(over))
        for head, out in zip(high, over.split(len(low)), strict=True):
            yield torch.cat([head.expand(len(low), -1), low], dim=1), out


def spelled(index: Tensor, n: int) -> Tensor:
    """Numbers as rows of n spins, most significant bit first, -1 for 0, float64.

    Example:
        >>> spelled(torch.tensor([1, 2]), 2).tolist()
        [[-1.0, 1.0], [1.0, -1.0]]
    """
    bits = index.unsqueeze(-1) >> torch.arange(n - 1, -1, -1, device=index.device)
    return 2.0 * (bits & 1).double() - 1.0


def log_2_cosh(x: Tensor) -> Tensor:
    r""":math:`\log(2 \cosh x)` without overflow."""
    return softplus(-2 * x.abs()) + x.abs()


def binary_entropy(means: Tensor) -> Tensor:
    """Entropy of a spin of the given mean, nats, 0 at ±1."""
    return (torch.special.entr((1 + means) / 2) + torch.special.entr((1 - means) / 2)).clamp_min(0)


def upper(n: int) -> tuple[Tensor, Tensor]:
    """Rows and columns of the pairs i < j of n units."""
    i, j = torch.triu_indices(n, n, offset=1)
    return i, j


def symmetric(pairs: Tensor, n: int) -> Tensor:
    """The symmetric matrix with zero diagonal whose upper triangle is ``pairs``, ``(n (n - 1) / 2,)``.

    Example:
        >>> symmetric(torch.tensor([1.0, 2.0, 3.0]), 3).tolist()
        [[0.0, 1.0, 2.0], [1.0, 0.0, 3.0], [2.0, 3.0, 0.0]]
    """
    i, j = (index.to(pairs.device) for index in upper(n))
    half = torch.zeros(n, n, dtype=pairs.dtype, device=pairs.device).index_put((i, j), pairs)
    return half + half.T
