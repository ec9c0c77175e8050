r"""Metropolis and heat bath for 512 lanes at a time: one row of bits per site, one bit per chain or tile.

Covers uniform :math:`|J|` (each bond of either sign), uniform h and up to seven neighbours. Every spin of
every chain gets its own random decision, by the law of :mod:`ising.updates`, colour by colour.

A spin flips with a probability that depends only on its own sign and on how many of its bonds are
unsatisfied. That number is added up in three bits of binary, for all lanes of a row at once; it is the case
in which :mod:`ising.kernels.chances` decides, to :math:`2^{-64}`. The temperature may differ between lanes.

References:
    | Multi-spin coding for a lattice of spins (Jacobs and Rebbi, 1981)
    | A fast algorithm for the Monte Carlo simulation of Ising models (Bhanot, Duke and Salvador, 1986)
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..model import Ising
from ..updates.metropolis import LAZINESS
from . import tiles
from .chances import ANSWER, CERTAIN, GROUP, SCRATCH, begin, digit, digits, finish
from .lanes import (
    ANY_DIFFERS,
    BOTH_DIFFER,
    FLIP_AND,
    MAJORITY,
    OR_AND,
    WORDS,
    XOR3,
    aligned,
    load,
    logic,
    ones,
    splat,
    store,
)  # fmt: skip
from .shishua import draw, streams
from .tally import lane_counts, tally
from .xoshiro import bare, inline

ALL, NONE = np.uint64(2**64 - 1), np.uint64(0)
NO_SIGNS = np.empty(0, dtype=np.uint64)

if LAZINESS != CERTAIN:
    raise AssertionError("a certain flip is decided by four digits, so it must have the probability 15/16")


class Multispin:
    """See :class:`ising.kernels.Sampler`. What it is made of is for :mod:`ising.kernels.exchange` to use."""

    name = "multispin"

    @staticmethod
    def covers(update: str, model: Ising, device: str) -> bool:
        J, h = model.bond_couplings.abs(), model.site_fields
        uniform = bool((J[:1] == J).all() and (h == h[:1]).all())
        crowded = int(model.lattice.degree.max()) > 7
        return update in FLIP_PROBABILITY and device == "cpu" and uniform and not crowded

    def __init__(
        self,
        model: Ising,
        update: str,
        beta: float | np.ndarray,
        spins: np.ndarray,
        seed: np.random.SeedSequence,
        *,
        device: str = "cpu",  # noqa: ARG002
        threads: int = 1,
    ):
        self.n_sites, self._threads = model.lattice.n_sites, threads
        self.layout = tiles.best(model, len(spins))
        self.J = float(model.bond_couplings.abs().max()) if len(model.lattice.edges) else 0.0
        self.h, self.bonds = float(model.site_fields[0]), len(model.lattice.edges)
        degree = (self.layout.neighbours != tiles.NOWHERE).sum(1)
        self.law = Law(update, self.J, self.h, np.unique(degree))
        self.schedule = _schedule(self.layout, degree)
        self.ends = _ends(self.layout)
        self.used, self.scratch = self.layout.used, aligned((self.layout.columns, SCRATCH, WORDS))
        self.rng = streams(seed, self.layout.columns)
        extra = len(self.layout.ghosts) + 2  # one takes what is written beyond the last site, one is zero
        self.rows = aligned((self.layout.columns, self.layout.rows + extra, WORDS))
        self._fill(self.layout.pack(spins))
        self.signed = bool(self.layout.against.any())
        self.form = (0,) * (self.law.cases.bit_length() - 1), self.law.by_spin, (0,) * self.signed
        self.set_beta(beta)

    def sweep(self, n: int) -> float:
        """The flipped fraction is that of the last sweep."""
        self._over_columns(
            lambda column: sweep_column(
                *self.form,
                True,
                self.rows[column],
                self.rng[column],
                self.used[column : column + 1],
                self.scratch[column],
                GROUP,
                n,
                *self.schedule,
                self.law.certain,
                self._rare,
                self._chances[column % len(self._chances)],
            )
        )
        return int(self.scratch[:, 0].sum()) / (self.layout.chains * self.n_sites)

    def bits(self) -> np.ndarray:
        return self.layout.unpack(self.rows[:, : self.layout.rows])

    def spins(self) -> np.ndarray:
        return tiles.bits.unpack(self.bits(), self.n_sites)

    def measure(self) -> tuple[np.ndarray, np.ndarray]:
        ends, sites = self.ends
        counted = self._over_columns(
            lambda column: (tally(self.rows[column], *ends), tally(self.rows[column], *sites))
        )
        unsatisfied, up = (
            self.layout.per_chain(lane_counts(np.stack(x))) for x in zip(*counted, strict=True)
        )
        magnetisation = 2.0 * up - self.n_sites
        return -self.J * (self.bonds - 2.0 * unsatisfied) - self.h * magnetisation, magnetisation

    def set_beta(self, beta: float | np.ndarray) -> None:
        beta = np.asarray(beta, dtype=np.float64)
        if beta.ndim and (beta == beta[0]).all():
            beta = beta[0]
        per_lane = beta[self.layout.lanes[1]] if beta.ndim else beta.reshape(1, 1)
        self._chances = self.law.digits(per_lane)
        self._rare = self.law.rare(self._chances)

    def state(self) -> dict[str, np.ndarray]:
        return {"bits": self.rows[:, : self.layout.rows].copy(), "rng": self.rng.copy()}

    def load(self, state: dict[str, np.ndarray]) -> None:
        self._fill(state["bits"])
        self.rng[:] = state["rng"]

    def _fill(self, rows: np.ndarray) -> None:
        self.rows[:, : self.layout.rows] = rows
        for column in self.rows:
            _copy_ghosts(column, self.schedule[-2], self.schedule[-1])

    def _over_columns(self, work: Callable) -> list:
        columns = range(self.layout.columns)
        if self._threads == 1 or len(columns) == 1:
            return [work(column) for column in columns]
        with ThreadPoolExecutor(self._threads) as pool:
            return list(pool.map(work, columns))


def _metropolis(cost: np.ndarray) -> np.ndarray:
    return LAZINESS * np.exp(-np.maximum(cost, 0))


def _heat_bath(cost: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, cost))


FLIP_PROBABILITY = {"metropolis": _metropolis, "heat_bath": _heat_bath}  # of beta times the cost of the flip


class Law:
    """The probability of a flip by degree, own spin and number of unsatisfied bonds, in few cases.

    Attributes:
        cases: 2, where two and more unsatisfied bonds make the flip certain, and fewer never do; 4 or, told
            apart by the spin, 8, where four and more count as three; else 8 or 16.
        by_spin: Whether the own spin matters.
        certain: Rows ``(degrees * cases, 8)`` of the cases whose flip costs nothing.
    """

    def __init__(self, update: str, J: float, h: float, degrees: np.ndarray):
        self._probability, self.by_spin = FLIP_PROBABILITY[update], h != 0
        unsatisfied = np.minimum(np.arange(8), degrees[:, None, None])
        spin = np.array([[-1], [1]])
        cost = 2 * J * (degrees[:, None, None] - 2 * unsatisfied) + 2 * h * spin  # degree, spin, unsatisfied
        free = (cost <= 0) & (update == "metropolis")
        self.cases = 16 if self.by_spin else 8
        if ((cost[..., 4:] == cost[..., 3:4]) | (free[..., 4:] & free[..., 3:4])).all():
            self.cases //= 2
        if not self.by_spin and free[..., 2:].all() and not free[..., :2].any() and self.cases == 4:
            self.cases = 2
        width = self.cases // 2 if self.by_spin else self.cases
        shape = (len(degrees), self.cases)
        self._cost, self._free = (x[:, : 1 + self.by_spin, :width].reshape(shape) for x in (cost, free))
        self.certain = aligned((len(degrees) * self.cases, WORDS))
        self.certain[self._free.reshape(-1)] = 2**64 - 1

    def probability(self, beta: np.ndarray) -> np.ndarray:
        """Of a flip, 0 where it is certain: ``(*, 1, 1, lanes)`` betas to ``(*, degrees, cases, lanes)``."""
        probability = self._probability(beta * self._cost[..., None])
        return np.where(self._free[..., None], 0.0, probability)

    def digits(self, beta: np.ndarray) -> np.ndarray:
        """Binary digits of the probabilities, rows ``(columns, degrees * 64 * cases, 8)``.

        Arguments:
            beta: By lane, ``(columns, 512)``, or ``(1, 1)`` for all alike.
        """
        return digits(self.probability(beta[:, None, None, :])).reshape(len(beta), -1, WORDS)

    def rare(self, chances: np.ndarray) -> bool:
        """Whether the first two digits of :meth:`digits` are all zero."""
        return not chances.reshape(-1, 64, self.cases, WORDS)[:, :2].any()


def _schedule(layout: tiles.Tiles, degree: np.ndarray) -> tuple[np.ndarray, ...]:
    """Groups of 16 rows of one colour and degree; the last of a kind is filled up with the spare row.

    Returns:
        The rows, ``(16 groups,)``; their neighbours and the signs of the bonds, ``(16 groups, z)``; the place
        of the degree of each group; where each colour ends; the ghosts, and where those of each colour end.
    """
    spare = layout.rows + len(layout.ghosts)
    kinds, kind = np.unique(degree, return_inverse=True)
    groups, kind_of, ends = [], [], []
    for colour in range(layout.colours.max() + 1):
        for k in range(len(kinds)):
            rows = np.flatnonzero((layout.colours == colour) & (kind == k))
            rows = np.append(rows, np.full(-len(rows) % GROUP, spare)).reshape(-1, GROUP)
            groups.append(rows)
            kind_of += [k] * len(rows)
        ends.append(len(kind_of))
    order = np.concatenate(groups)
    own = np.arange(layout.rows)[:, None]
    width = max(2, layout.neighbours.shape[1])
    neighbours, against = np.tile(own, width), np.zeros((layout.rows, width), dtype=np.uint64)
    here = layout.neighbours != tiles.NOWHERE  # a missing neighbour is the site itself, which always agrees
    neighbours[:, : here.shape[1]][here] = layout.neighbours[here]
    against[:, : here.shape[1]][layout.against] = 2**64 - 1
    neighbours = np.vstack([neighbours, np.full((spare + 1 - layout.rows, width), spare)])
    against = np.vstack([against, np.zeros((spare + 1 - layout.rows, width), dtype=np.uint64)])
    colours = layout.colours[layout.ghosts[:, 0]]
    by_colour = np.argsort(colours, kind="stable")
    numbered = np.column_stack([layout.ghosts, layout.rows + np.arange(len(layout.ghosts))])[by_colour]
    ghost_ends = np.searchsorted(colours[by_colour], np.arange(len(ends)), side="right")
    order = order.reshape(-1).astype(np.int32)
    return (
        order,
        np.ascontiguousarray(neighbours[order], dtype=np.int32),
        np.ascontiguousarray(against[order]),
        np.array(kind_of, dtype=np.int64),
        np.array(ends, dtype=np.int64),
        np.ascontiguousarray(numbered, dtype=np.int64),
        ghost_ends.astype(np.int64),
    )


def _ends(layout: tiles.Tiles) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """What :func:`tally` compares: the two ends of every bond, and every row with the one that is zero."""
    i, k = np.nonzero(layout.neighbours != tiles.NOWHERE)
    j = layout.neighbours[i, k]
    itself = np.append(np.arange(layout.rows), layout.ghosts[:, 0])[j]
    once = i < itself  # no row is its own neighbour, not even in another tile: it would have the same colour
    i, j, against = (x[once] for x in (i, j, layout.against[i, k]))
    nothing = np.full(layout.rows, layout.rows + len(layout.ghosts) + 1)
    signs = np.where(against, ALL, NONE) if against.any() else NO_SIGNS
    bonds, sites = (
        np.stack([i, j]).astype(np.int32),
        np.stack([np.arange(len(nothing)), nothing]).astype(np.int32),
    )
    return (*bonds, signs), (*sites, NO_SIGNS)


@bare
def _copy_ghosts(rows, ghosts, ends):
    _copy(rows, ghosts, 0, ends[-1])


@inline
def _copy(rows, ghosts, first, last):
    """Rotates the words and the bits of rows into their ghosts."""
    for g in range(first, last):
        right = np.uint64(ghosts[g, 2])
        left = (np.uint64(64) - right) & np.uint64(63)
        if ghosts[g, 1] == 0:
            row = load(rows, ghosts[g, 0])
            store(rows, ghosts[g, 3], (row >> right) | (row << left))
        else:
            for w in range(WORDS):
                word = rows[ghosts[g, 0], (w + ghosts[g, 1]) & (WORDS - 1)]
                rows[ghosts[g, 3], w] = (word >> right) | (word << left)


@inline
def _other(signed, rows, neighbours, against, g, k):
    """A neighbour, inverted where the bond to it has J < 0."""
    other = load(rows, neighbours[g, k])
    return other ^ splat(against[g, k]) if len(signed) else other


@inline
def _case(which, by_spin, signed, rows, order, neighbours, against, g, certain, at):
    """Whether the flip is free, and the bits of its case: the spin, the unsatisfied bonds in binary."""
    own = load(rows, order[g])
    a, b = _other(signed, rows, neighbours, against, g, 0), _other(signed, rows, neighbours, against, g, 1)
    k = 2
    if len(which) == 1:  # it is enough to know whether one is unsatisfied, and whether two are
        one, two = logic(own, a, b, ANY_DIFFERS), logic(own, a, b, BOTH_DIFFER)
        while k + 1 < neighbours.shape[1]:
            a = _other(signed, rows, neighbours, against, g, k)
            b = _other(signed, rows, neighbours, against, g, k + 1)
            more = logic(own, a, b, ANY_DIFFERS)
            two = logic(two, one, more, OR_AND) | logic(own, a, b, BOTH_DIFFER)
            one = one | more
            k += 2
        if k < neighbours.shape[1]:
            more = own ^ _other(signed, rows, neighbours, against, g, k)
            two, one = logic(two, one, more, OR_AND), one | more
        return two, own, own, own, one
    c0, c1, c2 = a ^ b, logic(own, a, b, BOTH_DIFFER), splat(np.uint64(0))
    while k + 1 < neighbours.shape[1]:
        a = own ^ _other(signed, rows, neighbours, against, g, k)
        b = own ^ _other(signed, rows, neighbours, against, g, k + 1)
        carry = logic(c0, a, b, MAJORITY)
        c0 = logic(c0, a, b, XOR3)
        c2, c1 = logic(c2, c1, carry, FLIP_AND), c1 ^ carry
        k += 2
    if k < neighbours.shape[1]:
        a = own ^ _other(signed, rows, neighbours, against, g, k)
        carry = c0 & a
        c0 = c0 ^ a
        c2, c1 = logic(c2, c1, carry, FLIP_AND), c1 ^ carry
    if len(which) == 2 or (len(which) == 3 and by_spin):
        c1, c0, c2 = c1 | c2, c0 | c2, own
    return digit(which, own, c2, c1, c0, certain, at), own, c2, c1, c0


@bare
def sweep_column(
    which,
    by_spin,
    signed,
    count,
    rows,
    state,
    used,
    scratch,
    size,
    n,
    order,
    neighbours,
    against,
    kinds,
    colour_ends,
    ghosts,
    ghost_ends,
    certain,
    rare,
    chances,
):
    """Makes n sweeps of one column; if ``count``, the first row of scratch then has the flips of the last.

    ``which`` and ``signed`` are tuples whose lengths tell the number of case bits, and whether signs matter.
    """
    cases = 1 << len(which)
    s0, s1, s2, s3, counter, increment = (
        load(state, 0), load(state, 1), load(state, 2), load(state, 3), load(state, 4), load(state, 5),
    )  # fmt: skip
    spare = len(rows) - 2
    flips = nothing = splat(np.uint64(0))
    lanes = load(used, 0)
    for time in range(n):
        group = first_ghost = 0
        for colour in range(len(colour_ends)):
            while group < colour_ends[colour]:
                start, kind = group * GROUP, kinds[group]
                at, sure = kind * 64 * cases, kind * cases
                for g in range(0, GROUP, 2):
                    a0, a1, a2, a3, s0, s1, s2, s3, counter = draw(s0, s1, s2, s3, counter, increment)
                    b0, b1, b2, b3, s0, s1, s2, s3, counter = draw(s0, s1, s2, s3, counter, increment)
                    e0, e1, e2, e3, s0, s1, s2, s3, counter = draw(s0, s1, s2, s3, counter, increment)
                    free, c3, c2, c1, c0 = _case(
                        which, by_spin, signed, rows, order, neighbours, against, start + g, certain, sure
                    )
                    begin(which, scratch, g, free, c3, c2, c1, c0, rare, chances, at, a0, a1, a2, a3, b0, b1)
                    free, c3, c2, c1, c0 = _case(
                        which, by_spin, signed, rows, order, neighbours, against, start + g + 1, certain, sure
                    )
                    begin(
                        which, scratch, g + 1, free, c3, c2, c1, c0, rare, chances, at, b2, b3, e0, e1, e2, e3
                    )
                s0, s1, s2, s3, counter = finish(
                    which, scratch, size, chances, at, s0, s1, s2, s3, counter, increment
                )
                for g in range(start, start + size):
                    row = order[g]
                    store(rows, row, load(rows, row) ^ load(scratch, ANSWER + g - start))
                store(rows, spare, nothing)  # or the random numbers it takes would depend on the past
                if count and time == n - 1:
                    for g in range(start, start + size):
                        if order[g] != spare:
                            flips = flips + ones(load(scratch, ANSWER + g - start) & lanes)
                group += 1
            _copy(rows, ghosts, first_ghost, ghost_ends[colour])
            first_ghost = ghost_ends[colour]
    store(state, 0, s0)
    store(state, 1, s1)
    store(state, 2, s2)
    store(state, 3, s3)
    store(state, 4, counter)
    if count:
        store(scratch, 0, flips)
