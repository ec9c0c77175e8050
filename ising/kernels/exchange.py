r"""Replica exchange in compiled code: temperatures change places among the chains of a ladder.

Chain ``l * T + w`` is walker w of ladder l. ``place`` tells at which temperature each chain is, ``walkers``
which walker is at each temperature; nothing else moves. :class:`Packed` makes sweeps and exchanges of
packed chains without a return to Python in between.
"""

import math

import numpy as np

from .lanes import LANES, WORDS, aligned
from .multispin import Multispin
from .multispin_sweep import sweep_column
from .tables import DIGITS, HEIGHT, spell, terms, units
from .tally import PLANES, count_lanes, tally_into
from .xoshiro import bare, fraction, inline, jit, step, streams

NOBODY = -1
NEVER, FROM_FIRST, FROM_LAST = 0, 1, 2  # where a walker was last, of the two ends of its ladder


class Exchanges:
    """The places of all walkers, and what happened to them.

    Arguments:
        betas: Inverse temperatures from one end of the ladder to the other.
        ladders: Independent ladders.
        seed: Of the decisions.

    Attributes:
        place: Temperature of each chain, int64, ``(ladders * T,)``.
        walkers: Walker at each temperature, int64, ``(ladders, T)``.
        swaps: Accepted and proposed exchanges of neighbours, int64, ``(2, T - 1)``.
        trips: Round trips from the first temperature to the last and back.
    """

    def __init__(self, betas: np.ndarray, ladders: int, seed: np.random.SeedSequence):
        self.betas, self._rng = betas, streams(seed, 1)[:, 0].copy()
        self.place = np.tile(np.arange(len(betas)), ladders)
        self.walkers = self.place.reshape(ladders, -1).copy()
        self._parity = np.zeros(1, dtype=np.int64)
        self.restart_counts()

    def restart_counts(self) -> None:
        self.swaps, self._trips = np.zeros((2, max(len(self.betas) - 1, 0)), np.int64), np.zeros(1, np.int64)
        self._last = np.full(self.walkers.shape, NEVER)
        np.put_along_axis(self._last, self.walkers[:, :1], FROM_FIRST, axis=1)

    @property
    def trips(self) -> int:
        return int(self._trips[0])

    def propose(self, energies: np.ndarray) -> None:
        """One round: the pairs (0, 1), (2, 3), … or, in turn, (1, 2), (3, 4), …"""
        _propose(energies, *self.arrays())

    def arrays(self) -> tuple[np.ndarray, ...]:
        return (
            self.betas, self.place, self.walkers, self.swaps,
            self._trips, self._last, self._parity, self._rng,
        )  # fmt: skip

    def state(self) -> dict[str, np.ndarray]:
        names = ("place", "walkers", "swaps", "trips", "last", "parity", "rng")
        return dict(zip(names, (array.copy() for array in self.arrays()[1:]), strict=True))

    def load(self, state: dict[str, np.ndarray]) -> None:
        for array, saved in zip(self.arrays()[1:], state.values(), strict=True):
            array[:] = saved


@bare
def _propose(energies, betas, place, walkers, swaps, trips, last, parity, rng):
    s0, s1, s2, s3 = rng[0], rng[1], rng[2], rng[3]
    ladders, n = walkers.shape
    for lower in range(parity[0], n - 1, 2):
        gap = betas[lower] - betas[lower + 1]
        swaps[1, lower] += ladders
        for ladder in range(ladders):
            a, b = walkers[ladder, lower], walkers[ladder, lower + 1]
            gain = gap * (energies[ladder * n + a] - energies[ladder * n + b])
            bits, s0, s1, s2, s3 = step(s0, s1, s2, s3)
            if gain >= 0 or fraction(bits) < math.exp(gain):
                swaps[0, lower] += 1
                walkers[ladder, lower], walkers[ladder, lower + 1] = b, a
                place[ladder * n + a], place[ladder * n + b] = lower + 1, lower
    for ladder in range(ladders):
        home, away = walkers[ladder, 0], walkers[ladder, n - 1]
        if last[ladder, home] == FROM_LAST:
            trips[0] += 1
        last[ladder, home] = FROM_FIRST
        if last[ladder, away] == FROM_FIRST and n > 1:
            last[ladder, away] = FROM_LAST
    parity[0] = 1 - parity[0]
    rng[0], rng[1], rng[2], rng[3] = s0, s1, s2, s3


class Packed:
    """A :class:`Multispin` sampler whose lanes are exchanged without leaving compiled code.

    From then on it is this that sweeps: the sampler keeps the probabilities of its last :meth:`set_beta`.
    """

    def __init__(self, sampler: Multispin, exchanges: Exchanges):
        self._sampler, self._exchanges = sampler, exchanges
        law, layout = sampler.law, sampler.layout
        probability = law.probability(exchanges.betas[:, None, None, None])
        self._codes = terms(units(probability), law.form[1])[..., 0]
        degrees, cases = self._codes.shape[1:]
        self._tables = aligned((layout.columns, degrees, HEIGHT, cases, WORDS))
        self._chain = np.ascontiguousarray(layout.lanes[1])
        self._owner = np.where(layout.counted, self._chain, NOBODY)
        self._planes = aligned((PLANES, WORDS))
        self._energies = np.zeros(len(exchanges.place))

    def sweep(self, n: int) -> None:
        """Repeats n times: one sweep of every chain, then one round of exchanges."""
        s = self._sampler
        _run(
            s.form, n, s.rows, s.rng, s.scratch, s.schedule,
            self._tables.reshape(len(s.rows), -1, WORDS), self._tables, self._codes,
            self._chain, self._owner, *s.ends, self._planes, self._energies,
            np.array([s.J, s.h, s.bonds, s.n_sites], dtype=np.float64), self._exchanges.arrays(),
        )  # fmt: skip


@bare
def _tables_of_lanes(codes, chain, place, tables, square):
    """Writes the tables of the probabilities of each lane, at the temperature of its chain."""
    _, degrees, n_cases = codes.shape
    for kind in range(degrees):
        for case in range(n_cases):
            for word in range(WORDS):
                for k in range(64):
                    square[k, word] = codes[place[chain[64 * word + k]], kind, case]
            spell(square, tables[kind, :, case])


@bare
def _energies_of_chains(rows, bonds, sites, planes, owner, energies, model):
    """Adds the energies of the lanes of one column to those of their chains."""
    _add_counts(rows, bonds, planes, owner, energies, 2.0 * model[0])
    if model[1] != 0:
        _add_counts(rows, sites, planes, owner, energies, -2.0 * model[1])


@inline
def _add_counts(rows, pairs, planes, owner, energies, energy):
    tally_into(rows, pairs[0], pairs[1], pairs[2], planes)
    count_lanes(planes)
    for lane in range(LANES):
        if owner[lane] != NOBODY:
            energies[owner[lane]] += energy * planes[lane % 64, lane // 64]


@jit
def _run(
    form, n, rows, rng, scratch, schedule, chances, tables, codes,
    chain, owner, bonds, sites, planes, energies, model, exchanges,
):  # fmt: skip
    order, neighbours, against, kinds, colour_ends, ghosts, ghost_ends = schedule
    betas, place, walkers, swaps, trips, last, parity, state = exchanges
    square = np.empty((DIGITS, WORDS), dtype=np.uint64)
    for _ in range(n):
        energies[:] = model[1] * model[3] - model[0] * model[2]
        for c in range(len(rows)):
            _tables_of_lanes(codes, chain[c], place, tables[c], square)
            sweep_column(
                form, rows[c], rng[c], scratch[c], 1,
                order, neighbours, against, kinds, colour_ends, ghosts, ghost_ends, chances[c],
            )  # fmt: skip
            _energies_of_chains(rows[c], bonds, sites, planes, owner[c], energies, model)
        _propose(energies, betas, place, walkers, swaps, trips, last, parity, state)
