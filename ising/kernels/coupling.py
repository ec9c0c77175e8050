r"""Heat bath of three coupled configurations in 512 lanes: top, bottom, and one carried between them.

The same random numbers decide in all three. With n of its z neighbours up a spin becomes +1 where

.. math:: u < p_n, \qquad p_n = \frac{1}{1 + e^{-2 \beta (J (2n - z) + h)}} ,

and since :math:`p_n` rises with n for a ferromagnet, what was ordered :math:`(\text{bottom} \le \text{carried}
\le \text{top})` stays so. The random part of a row, whether :math:`u < p_n` for each n, is worked out once;
after that a configuration costs nine logic instructions per site on the square lattice.

Without a field half of it is saved: by :math:`p_{z-n} = 1 - p_n` a spin follows a random sign with the
probability :math:`2 \min(p_n, p_{z-n})`, and its neighbours' majority otherwise.

A lane compares u with all thresholds digit by digit, as in :mod:`ising.kernels.chances`: eight digits in every
lane of 16 rows, then two slots for the few that are open, to :math:`2^{-64}`.
"""

import copy
import functools
from collections.abc import Callable

import numpy as np

from ..model import Ising
from . import tiles
from .chances import DIGITS, GROUP, digits
from .lanes import (
    AND_NOT,
    CHOOSE,
    EQUAL_AND,
    FLIP_AND,
    MAJORITY,
    NONE,
    OR_AND,
    OR_DIFFER,
    WORDS,
    XOR3,
    aligned,
    load,
    logic,
    some,
    splat,
    store,
)
from .shishua import draw
from .tally import lane_counts, tally
from .xoshiro import bare, inline

TOP, BOTTOM, CARRIED, CHAINS = 0, 1, 2, 3
ALL = np.uint64(2**64 - 1)

# The scratch memory of a group; answers and what is open are kept for up to eight thresholds.
OPEN, SLOT_A, SLOT_B, SIGN = 0, GROUP, 2 * GROUP, 3 * GROUP
OF_SLOT, ANSWER = 4 * GROUP, 6 * GROUP  # a threshold has two answers in the slots, and twice what is open
ALONE = 14 * GROUP
SCRATCH = 15 * GROUP
FIRST_ROWS = 8  # of the 64 of a threshold: the digits of its cells


class Coupled:
    """Three configurations of up to 512 chains, moved by the same random numbers.

    A chain is one lane, or several where there are fewer chains; see :mod:`ising.kernels.tiles`.

    Arguments:
        model: A ferromagnet of uniform J and h, or an antiferromagnet without field on a bipartite lattice:
            that is the same ferromagnet once every second spin is turned.
        beta: Inverse temperature.
        chains: A power of two, at most 512.
        rng: State of a generator, ``(6, 8)``, one of :func:`ising.kernels.shishua.streams`.
    """

    def __init__(self, model: Ising, beta: float, chains: int, rng: np.ndarray):
        self.chains, self.n_sites = chains, model.lattice.n_sites
        self._J = float(model.bond_couplings[0]) if len(model.lattice.edges) else 0.0
        self._h, self._bonds = float(model.site_fields[0]), len(model.lattice.edges)
        turned = model.lattice.staggering.numpy() < 0 if self._J < 0 else np.zeros(self.n_sites, dtype=bool)
        self._turned = np.packbits(turned)
        ferromagnet = Ising(model.lattice, J=abs(self._J), h=self._h)
        self._tiles = tiles.best(ferromagnet, chains)
        self._turned_rows = np.where(turned[self._tiles.sites[0]], ALL, np.uint64(0))
        degree = (self._tiles.neighbours != tiles.NOWHERE).sum(1)
        z, degrees = self._tiles.neighbours.shape[1], np.unique(degree)
        symmetric = self._h == 0 and degrees.tolist() == [z] and z > 0
        self._chances = _thresholds(beta, abs(self._J), self._h, degrees, z, symmetric)
        self._schedule, self._pairs = _schedule(self._tiles, degree), _pairs(self._tiles)
        self._sweep = _sweeper(z, symmetric)
        self.restart(rng)

    def restart(self, rng: np.ndarray) -> "Coupled":
        """A new set of chains with other random numbers; what is carried begins at the top."""
        height = self._tiles.rows + len(self._tiles.ghosts) + 2  # a spare one for writing, and one of zeros
        self._rows, self._rng = aligned((height, CHAINS, WORDS)), rng.copy()
        self._scratch = aligned((SCRATCH, WORDS))
        self._rows[:-2, CARRIED] = ALL
        self.spread()
        return self

    def another(self, rng: np.ndarray) -> "Coupled":
        """Chains of the same law that share nothing that changes."""
        return copy.copy(self).restart(rng)

    def spread(self) -> None:
        """Puts the top to all up and the bottom to all down."""
        self._rows[:-2, TOP], self._rows[:-2, BOTTOM] = ALL, 0

    def sweep(self, n: int) -> None:
        """Moves all three by n sweeps."""
        rows = self._rows.reshape(-1, WORDS)
        self._sweep(rows, self._rng, self._scratch, GROUP, n, *self._schedule, self._chances)

    def met(self) -> np.ndarray:
        """In which chains top and bottom are equal, bool, ``(chains,)``."""
        apart = aligned((1, WORDS))
        _compare(self._rows, self._tiles.rows, apart)
        lanes = np.unpackbits(apart.astype("<u8").view(np.uint8), bitorder="little").astype(np.int64)
        return self._tiles.per_chain(lanes[None]) == 0

    def rows(self, which: int = CARRIED) -> np.ndarray:
        """A copy of the configurations, those that are carried, ``TOP`` or ``BOTTOM``, as rows of lanes."""
        rows = aligned((len(self._rows), WORDS))
        rows[:] = self._rows[:, which]
        return rows

    def measure(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Total energy and magnetisation of configurations in rows, ``(chains,)`` each."""
        bonds, sites = self._pairs
        turned = self._turned_rows if self._turned.any() else np.empty(0, dtype=np.uint64)
        unequal = self._count(tally(rows, *bonds, np.empty(0, dtype=np.uint64)))
        magnetisation = 2.0 * self._count(tally(rows, *sites, turned)) - self.n_sites
        energy = -abs(self._J) * (self._bonds - 2.0 * unequal) - self._h * magnetisation
        return energy, magnetisation

    def bits(self, rows: np.ndarray) -> np.ndarray:
        """Configurations in rows, packed as :mod:`ising.kernels.bits` says, ``(chains, ceil(N/8))``."""
        return self._tiles.unpack(rows[None, : self._tiles.rows]) ^ self._turned

    def _count(self, planes: np.ndarray) -> np.ndarray:
        return self._tiles.per_chain(lane_counts(planes[None]))


def _cells(thresholds: int, symmetric: bool) -> tuple[int, int]:
    """How many digits are compared in every lane, and the binary logarithm of the cells left open."""
    return 7 if symmetric else 8, (thresholds - 1).bit_length()


def _thresholds(beta: float, J: float, h: float, degrees: np.ndarray, z: int, symmetric: bool) -> np.ndarray:
    """What u is compared with, by degree and n: rows ``(degrees * thresholds * 64, 8)``.

    The first digits of u number :math:`2^k` cells. Whole cells are given to the spins that need n neighbours
    up and not n - 1; in the few cells left over new digits are compared with what was not given away. The
    first 8 rows of a threshold are the digits of its cells, the others those of the second comparison.
    """
    n = np.arange((z + 1) // 2 if symmetric else z + 1)
    field = J * (2 * np.minimum(n, degrees[:, None]) - degrees[:, None]) + h
    q = (1 + symmetric) * np.exp(-np.logaddexp(0, -2 * beta * field))
    first, spare = _cells(len(n), symmetric)
    cells = np.floor(2**first * np.diff(q, axis=1, prepend=0)).cumsum(1)
    cells = np.minimum(cells, 2**first - 2**spare) / 2**first
    rest = np.maximum.accumulate((q - cells) * 2.0 ** (first - spare), axis=1)
    whole, rest = (digits(x[..., None, None])[..., 0, :] for x in (cells, rest))
    rows = aligned((q.size * DIGITS, WORDS))
    rows[:] = np.concatenate([whole[:, :, :FIRST_ROWS], rest[:, :, :-FIRST_ROWS]], axis=2).reshape(-1, WORDS)
    return rows


def _schedule(layout: tiles.Tiles, degree: np.ndarray) -> tuple[np.ndarray, ...]:
    """Groups of 16 rows of one colour and degree; the last of a kind is filled up with the spare row.

    Returns:
        The rows, ``(16 groups,)``; their neighbours ``(16 groups, z)``; the place of the degree of each group;
        where each colour ends; the ghosts, and where those of each colour end. Rows are those of the top.
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
    order = np.concatenate(groups).reshape(-1)
    zeros = spare + 1  # what is not there is not up
    neighbours = np.full((zeros, max(2, layout.neighbours.shape[1])), zeros)
    there = np.where(layout.neighbours == tiles.NOWHERE, zeros, layout.neighbours)
    neighbours[: layout.rows, : there.shape[1]] = there
    colours = layout.colours[layout.ghosts[:, 0]]
    by_colour = np.argsort(colours, kind="stable")
    copies = layout.rows + np.arange(len(layout.ghosts))
    ghosts = np.column_stack([layout.ghosts, copies])[by_colour] * [CHAINS, 1, 1, CHAINS]
    return (
        (CHAINS * order).astype(np.int32),
        np.ascontiguousarray(CHAINS * neighbours[order], dtype=np.int32),
        np.array(kind_of, dtype=np.int64),
        np.array(ends, dtype=np.int64),
        np.ascontiguousarray(ghosts, dtype=np.int64),
        np.searchsorted(colours[by_colour], np.arange(len(ends)), side="right").astype(np.int64),
    )


def _pairs(layout: tiles.Tiles) -> tuple[np.ndarray, np.ndarray]:
    """What :func:`tally` compares: the two ends of every bond, and every row with the one that is zero."""
    i, k = np.nonzero(layout.neighbours != tiles.NOWHERE)
    j = layout.neighbours[i, k]
    once = i < np.append(np.arange(layout.rows), layout.ghosts[:, 0])[j]
    nothing = np.full(layout.rows, layout.rows + len(layout.ghosts) + 1)
    sites = np.stack([np.arange(layout.rows), nothing])
    return np.stack([i[once], j[once]]).astype(np.int32), sites.astype(np.int32)


@bare
def _compare(rows, n, apart):
    """Where top and bottom differ in any row."""
    differ = splat(np.uint64(0))
    for row in range(n):
        differ = logic(differ, load(rows, CHAINS * row), load(rows, CHAINS * row + 1), OR_DIFFER)
    store(apart, 0, differ)


@inline
def _copy(rows, ghosts, first, last):
    """Rotates the words and the bits of rows into their ghosts."""
    for g in range(first, last):
        right = np.uint64(ghosts[g, 2])
        left = (np.uint64(64) - right) & np.uint64(63)
        for chain in range(CHAINS):
            for w in range(WORDS):
                word = rows[ghosts[g, 0] + chain, (w + ghosts[g, 1]) & (WORDS - 1)]
                rows[ghosts[g, 3] + chain, w] = (word >> right) | (word << left)


@inline
def _digit(left, w, chances, at, answer):
    d = load(chances, at)
    return logic(left, d, answer, CHOOSE), logic(left, w, d, EQUAL_AND)


@functools.cache
def _sweeper(z: int, symmetric: bool) -> Callable:
    """The compiled sweep for up to z neighbours."""
    thresholds = (z + 1) // 2 if symmetric else z + 1
    first, spare = _cells(thresholds, symmetric)
    block = DIGITS * thresholds

    @inline
    def begin(scratch, g, chances, at, w0, w1, w2, w3, w4, w5, w6, w7):
        """Compares the first digits of row g with all thresholds, and tells where they do not decide."""
        for j in range(thresholds):
            answer = splat(np.uint64(0))
            if not symmetric:
                answer = w0 & load(chances, at + 7)
            answer = logic(answer, w7, load(chances, at + 6), MAJORITY)
            answer = logic(answer, w6, load(chances, at + 5), MAJORITY)
            answer = logic(answer, w5, load(chances, at + 4), MAJORITY)
            answer = logic(answer, w4, load(chances, at + 3), MAJORITY)
            answer = logic(answer, w3, load(chances, at + 2), MAJORITY)
            answer = logic(answer, w2, load(chances, at + 1), MAJORITY)
            store(scratch, ANSWER + GROUP * j + g, logic(answer, w1, load(chances, at), MAJORITY))
            at += DIGITS
        left = logic(w4, w5, w6 if first - spare > 5 else w5, NONE) & logic(w1, w2, w3, NONE)
        if first - spare > 6:
            left = logic(left, w7, w7, AND_NOT)
        if first - spare > 7:
            left = logic(left, w0, w0, AND_NOT)
        if symmetric:
            store(scratch, SIGN + g, w0)
        return left

    @inline
    def place(scratch, g, left, taken_a, taken_b, third):
        """Gives each lane's first two open rows a slot; a third one waits."""
        more = left & taken_a
        waits = more & taken_b
        store(scratch, SLOT_A + g, left ^ more)
        store(scratch, SLOT_B + g, more ^ waits)
        store(scratch, OPEN + g, waits)
        return taken_a | left, taken_b | more, third | waits

    @inline
    def answered(scratch, g, j):
        """The answer of row g for threshold j, with what the slots found."""
        a, b = load(scratch, SLOT_A + g), load(scratch, SLOT_B + g)
        answer = logic(load(scratch, ANSWER + GROUP * j + g), a, load(scratch, OF_SLOT + 4 * j), OR_AND)
        return logic(answer, b, load(scratch, OF_SLOT + 4 * j + 1), OR_AND)

    @inline
    def continued(scratch, at, left_at, chances, of, w0, w1, w2, w3, w4, w5, w6, w7):
        """Compares eight more digits with one threshold, and returns what is still open."""
        answer, left = load(scratch, at), load(scratch, left_at)
        answer, left = _digit(left, w0, chances, of, answer)
        answer, left = _digit(left, w1, chances, of + 1, answer)
        answer, left = _digit(left, w2, chances, of + 2, answer)
        answer, left = _digit(left, w3, chances, of + 3, answer)
        answer, left = _digit(left, w4, chances, of + 4, answer)
        answer, left = _digit(left, w5, chances, of + 5, answer)
        answer, left = _digit(left, w6, chances, of + 6, answer)
        answer, left = _digit(left, w7, chances, of + 7, answer)
        store(scratch, at, logic(answer, left, left, AND_NOT))
        store(scratch, left_at, left)
        return left

    @inline
    def finish(scratch, size, taken_a, taken_b, third, chances, at, s0, s1, s2, s3, counter, increment):
        """Decides what is open in all rows of the group; the answers of the slots are left there."""
        for j in range(thresholds):
            store(scratch, OF_SLOT + 4 * j, splat(np.uint64(0)))
            store(scratch, OF_SLOT + 4 * j + 1, splat(np.uint64(0)))
            store(scratch, OF_SLOT + 4 * j + 2, taken_a)
            store(scratch, OF_SLOT + 4 * j + 3, taken_b)
        i = FIRST_ROWS
        while i < DIGITS:
            a0, a1, a2, a3, s0, s1, s2, s3, counter = draw(s0, s1, s2, s3, counter, increment)
            a4, a5, a6, a7, s0, s1, s2, s3, counter = draw(s0, s1, s2, s3, counter, increment)
            b0, b1, b2, b3, s0, s1, s2, s3, counter = draw(s0, s1, s2, s3, counter, increment)
            b4, b5, b6, b7, s0, s1, s2, s3, counter = draw(s0, s1, s2, s3, counter, increment)
            still = splat(np.uint64(0))
            for j in range(thresholds):
                slot, of = OF_SLOT + 4 * j, at + DIGITS * j + i
                a = continued(scratch, slot, slot + 2, chances, of, a0, a1, a2, a3, a4, a5, a6, a7)
                b = continued(scratch, slot + 1, slot + 3, chances, of, b0, b1, b2, b3, b4, b5, b6, b7)
                still = still | a | b
            i += 8
            if not some(still):
                break
        if some(third):
            for g in range(size):
                left = load(scratch, OPEN + g)
                if some(left):
                    for j in range(thresholds):
                        store(scratch, ALONE + j, left)
                    i = FIRST_ROWS
                    while i < DIGITS:
                        a0, a1, a2, a3, s0, s1, s2, s3, counter = draw(s0, s1, s2, s3, counter, increment)
                        a4, a5, a6, a7, s0, s1, s2, s3, counter = draw(s0, s1, s2, s3, counter, increment)
                        still = splat(np.uint64(0))
                        for j in range(thresholds):
                            row, of = ANSWER + GROUP * j + g, at + DIGITS * j + i
                            still = still | continued(
                                scratch, row, ALONE + j, chances, of, a0, a1, a2, a3, a4, a5, a6, a7
                            )
                        i += 8
                        if not some(still):
                            break
        return s0, s1, s2, s3, counter

    @inline
    def below(scratch, g, n):
        """Where a spin with n neighbours up becomes +1."""
        if n > z:
            return splat(np.uint64(0))
        if not symmetric:
            return answered(scratch, g, n)
        sign = load(scratch, SIGN + g)
        if 2 * n == z:
            return sign
        if 2 * n < z:
            return sign & answered(scratch, g, n)
        return logic(answered(scratch, g, z - n), sign, splat(ALL), CHOOSE)

    @inline
    def moved(rows, neighbours, g, chain, e0, e1, e2, e3, e4, e5, e6, e7):
        """The new spin of one configuration: counts the neighbours that are up, and picks the answer."""
        d0, d1 = load(rows, neighbours[g, 0] + chain), load(rows, neighbours[g, 1] + chain)
        if z == 4:  # two instructions less than the way for all
            d2, d3 = load(rows, neighbours[g, 2] + chain), load(rows, neighbours[g, 3] + chain)
            two, one = logic(d0, d1, d2, MAJORITY), logic(d0, d1, d2, XOR3)
            few = logic(d3, logic(two, e4, e2, CHOOSE), logic(two, e2, e0, CHOOSE), CHOOSE)
            return logic(one ^ d3, logic(two, e3, e1, CHOOSE), few, CHOOSE)
        c0, c1, c2 = d0 ^ d1, d0 & d1, splat(np.uint64(0))
        k = 2
        while k + 1 < z:
            d0, d1 = load(rows, neighbours[g, k] + chain), load(rows, neighbours[g, k + 1] + chain)
            carry = logic(c0, d0, d1, MAJORITY)
            c0 = logic(c0, d0, d1, XOR3)
            c2, c1 = logic(c2, c1, carry, FLIP_AND), c1 ^ carry
            k += 2
        if k < z:
            d0 = load(rows, neighbours[g, k] + chain)
            carry, c0 = c0 & d0, c0 ^ d0
            c2, c1 = logic(c2, c1, carry, FLIP_AND), c1 ^ carry
        up = logic(c0, e1, e0, CHOOSE)
        if z > 1:
            up = logic(c1, logic(c0, e3, e2, CHOOSE), up, CHOOSE)
        if z > 3:
            high = logic(c0, e5, e4, CHOOSE)
            if z > 5:
                high = logic(c1, logic(c0, e7, e6, CHOOSE), high, CHOOSE)
            up = logic(c2, high, up, CHOOSE)
        return up

    @bare
    def sweep(
        rows, state, scratch, size, n, order, neighbours, kinds, colour_ends, ghosts, ghost_ends, chances
    ):
        """Makes n sweeps of the three configurations of all lanes."""
        s0, s1, s2, s3, counter, increment = (
            load(state, 0), load(state, 1), load(state, 2), load(state, 3), load(state, 4), load(state, 5),
        )  # fmt: skip
        for _ in range(n):
            group = first_ghost = 0
            for colour in range(len(colour_ends)):
                while group < colour_ends[colour]:
                    start, at = group * GROUP, kinds[group] * block
                    taken_a = taken_b = third = splat(np.uint64(0))
                    for g in range(size):
                        a0, a1, a2, a3, s0, s1, s2, s3, counter = draw(s0, s1, s2, s3, counter, increment)
                        b0, b1, b2, b3, s0, s1, s2, s3, counter = draw(s0, s1, s2, s3, counter, increment)
                        left = begin(scratch, g, chances, at, a0, a1, a2, a3, b0, b1, b2, b3)
                        taken_a, taken_b, third = place(scratch, g, left, taken_a, taken_b, third)
                    s0, s1, s2, s3, counter = finish(
                        scratch, size, taken_a, taken_b, third, chances, at, s0, s1, s2, s3, counter, increment
                    )
                    for g in range(size):
                        e0, e1 = below(scratch, g, 0), below(scratch, g, 1)
                        e2, e3 = below(scratch, g, 2), below(scratch, g, 3)
                        e4, e5 = below(scratch, g, 4), below(scratch, g, 5)
                        e6, e7 = below(scratch, g, 6), below(scratch, g, 7)
                        row = order[start + g]
                        top = moved(rows, neighbours, start + g, TOP, e0, e1, e2, e3, e4, e5, e6, e7)
                        bottom = moved(rows, neighbours, start + g, BOTTOM, e0, e1, e2, e3, e4, e5, e6, e7)
                        carried = moved(rows, neighbours, start + g, CARRIED, e0, e1, e2, e3, e4, e5, e6, e7)
                        store(rows, row + TOP, top)
                        store(rows, row + BOTTOM, bottom)
                        store(rows, row + CARRIED, carried)
                    group += 1
                _copy(rows, ghosts, first_ghost, ghost_ends[colour])
                first_ghost = ghost_ends[colour]
        store(state, 0, s0)
        store(state, 1, s1)
        store(state, 2, s2)
        store(state, 3, s3)
        store(state, 4, counter)

    return sweep
