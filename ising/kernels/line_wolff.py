r"""Wolff clusters of many chains on the torus, with lines of the lattice in words: marks flood by addition.

The law is that of :mod:`ising.updates.wolff`, or of :mod:`ising.updates.few_clusters`. As in
:mod:`ising.kernels.parallel_wolff` all bonds are drawn, to :math:`2^{-64}`; random sites of each chain are
marked; the marks flood along the bonds until nothing changes; and what is marked is flipped. There a word
has one site of 64 chains, and the flood goes on for the slowest of 512. Here it has 64 sites of one chain,
and the flood, in the fastest cache, goes on for the slowest of eight.

Lines are flooded one after another, down and up again, each from the lines next to it. Within a line, let m
be the marks and e the sites that are bound to their right neighbour, which is the next lower bit. The sum of
m | e and m carries from each mark to the left as long as e is set, as far as it goes. To the right marks move
one site and then two, and further when it is the turn of the line again.

A row is a block of 64 sites of eight chains, or of more chains where a line is shorter. The first site is the
highest bit, as in a file: so the bytes of a word in reverse are those of a packed configuration.

Covers the square lattice, periodic, with lines of 8, 16, 32 or a multiple of 64 sites; uniform J, no field.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import int64, uint64

from ..model import Ising
from ..updates import few_clusters
from . import bits
from .chances import GROUP, SCRATCH, spares, untaken
from .lanes import (
    AND_NOT,
    LANES,
    NOT_XOR3,
    OR_AND,
    PARTS,
    WIDTH,
    WORDS,
    aligned,
    load,
    load_row,
    logic,
    ones,
    part,
    some,
    splat,
    store,
)
from .parallel_wolff import ASKED, decided, settle_bonds
from .shishua import draw, keep, resume, streams
from .tables import tables
from .xoshiro import bare, fraction, inline

WORD, LATTICES = 64, ("square", "rectangular")


class LineWolff:
    """See :class:`ising.kernels.Sampler`; one sweep is one update of every chain."""

    name = "wolff by lines"

    @staticmethod
    def covers(update: str, model: Ising, device: str, chains: int) -> bool:
        lattice, J = model.lattice, model.bond_couplings
        if update not in ("wolff", "few_clusters") or lattice.name not in LATTICES or not all(lattice.pbc):
            return False
        line = lattice.shape[1]
        fits = line % WORD == 0 or (line >= 8 and WORD % line == 0)
        uniform = bool((J[:1] == J).all()) and not model.site_fields.any()
        enough = 2 * chains >= WORDS * max(1, WORD // line)
        better = line >= 32 or chains < LANES  # short lines of 512 chains are faster the other way
        return device == "cpu" and fits and uniform and enough and better and lattice.is_as_named

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
        self._chains, self._n_sites = spins.shape
        self._shape = _, line = model.lattice.shape
        self._span = min(line, WORD)
        self._fields = WORD // self._span  # chains in a word
        self._seeds = {"wolff": 1, "few_clusters": few_clusters.SITES}[update]
        self._J = float(model.bond_couplings[0])
        groups, high = -(-self._chains // (WORDS * self._fields)), self._n_sites // self._span
        filled = np.resize(bits.pack(spins), (groups * WORDS * self._fields, self._n_sites // 8))
        self._rng, self._rows = streams(seed, groups), blocks(filled, self._shape)
        self._shares = np.array_split(np.arange(groups), min(threads, groups))
        heights = high, 2 * high + GROUP, TABLES * high, SCRATCH
        self._work = [tuple(aligned((n, WORDS)) for n in heights) for _ in self._shares]
        self.set_beta(beta)

    def sweep(self, n: int) -> float:
        """Makes n updates of every chain; the flipped fraction is that of the last ones."""

        def run(share: np.ndarray, work: tuple[np.ndarray, ...]) -> int:
            """The groups of one thread, with memory of its own; returns the flips of the last clusters."""
            sign = uint64(0 if self._J > 0 else 2**64 - 1)
            its = slice(share[0], share[-1] + 1)
            chance = self._chance if len(self._chance) == 1 else self._chance[its]
            shape = self._shape[0], self._span
            return _flip_clusters(
                self._rows[its], self._rng[its], *work, n, self._seeds, *shape, sign, chance
            )

        if len(self._shares) == 1:
            flips = [run(self._shares[0], self._work[0])]
        else:
            with ThreadPoolExecutor(len(self._shares)) as pool:
                flips = list(pool.map(run, self._shares, self._work))
        return sum(flips) / (WORD * self._rows.size) if n else 0.0

    def bits(self) -> np.ndarray:
        return self._packed()[: self._chains]

    def spins(self) -> np.ndarray:
        return bits.unpack(self.bits(), self._n_sites)

    def measure(self) -> tuple[np.ndarray, np.ndarray]:
        """Total energy and magnetisation, from the unequal ends of bonds and the spins that are up; float64,
        ``(chains,)`` each.
        """
        counts = np.zeros((2, len(self._rows), self._fields, WORDS), dtype=np.uint64)
        _count(self._rows, self._shape[0], self._span, counts)
        unequal, up = counts.transpose(0, 1, 3, 2).reshape(2, -1)[:, : self._chains].astype(np.float64)
        return -2 * self._J * (self._n_sites - unequal), 2 * up - self._n_sites

    def set_beta(self, beta: float | np.ndarray) -> None:
        """See :meth:`ising.kernels.Sampler.set_beta`: the tables of the probabilities are written anew."""
        beta = np.asarray(beta, dtype=np.float64)
        if beta.ndim and (beta != beta[0]).any():
            of_words = np.resize(beta, (len(self._rows), WORDS, self._fields))[..., ::-1]
            per_lane = np.repeat(of_words, self._span, axis=-1).reshape(-1, LANES)
        else:
            per_lane = beta.reshape(-1)[:1, None]
        self._chance = tables(-np.expm1(-2 * per_lane * abs(self._J))[:, None]).reshape(
            len(per_lane), -1, WORDS
        )

    def state(self) -> dict[str, np.ndarray]:
        return {"packed": self._packed(), "rng": self._rng.copy()}

    def load(self, state: dict[str, np.ndarray]) -> None:
        self._rows[:] = blocks(state["packed"], self._shape)
        self._rng[:] = state["rng"]

    def _packed(self) -> np.ndarray:
        """The bits of the chains, and of those that fill up the last group."""
        return configurations(self._rows, self._shape)


def configurations(rows: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Blocks ``(groups, N/64, 8)`` of lattices of this shape as packed configurations ``(chains, N/8)``.

    Example:
        >>> rows = np.array([[1 << 63, 0, 0, 0, 0, 0, 0, 1 << 55]], dtype=np.uint64).repeat(3, 0)[None]
        >>> configurations(rows, (3, 8))[[0, 57], :].tolist()
        [[128, 128, 128], [128, 128, 128]]
    """
    height, line = shape
    lines = rows.reshape(len(rows), -1, height, WORDS).transpose(0, 3, 2, 1)
    octets = np.ascontiguousarray(lines, dtype=">u8").view(np.uint8)
    octets = octets.reshape(len(rows) * WORDS, -1, max(1, WORD // line), min(line, WORD) // 8).swapaxes(1, 2)
    return np.ascontiguousarray(octets).reshape(-1, height * line // 8)


def blocks(packed: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The inverse of :func:`configurations`."""
    height, line = shape
    octets = packed.reshape(-1, max(1, WORD // line), height * max(1, line // WORD), min(line, WORD) // 8)
    words = np.ascontiguousarray(octets.swapaxes(1, 2)).reshape(-1, 8).view(">u8")
    lines = words.reshape(-1, WORDS, height, max(1, line // WORD)).transpose(0, 3, 2, 1)
    rows = aligned((len(lines), height * lines.shape[1], WORDS))
    rows[:] = lines.reshape(rows.shape)
    return rows


TABLES = 3  # of the bonds along the lines: those to the next block, and over one site to the right and two
ENDS, ONE, TWO = range(TABLES)


@inline
def _last(span):
    """The last site of each field: its lowest bit."""
    mask = uint64(1)
    for _ in range(64 // span - 1):
        mask |= mask << uint64(span)
    return mask


@inline
def _right(rows, b, after, span, last):
    """The right neighbours of the spins of block b."""
    inner = load(rows, b) << uint64(1)
    return logic(inner, last, last, AND_NOT) | ((load(rows, after) >> uint64(span - 1)) & last)


@inline
def _ask(rows, bonds, height, span, sign):
    """Puts the satisfied bonds where the bonds will be: those down, then those to the right."""
    n, against, last = len(rows), splat(sign), splat(_last(span))
    for first in range(0, n, height):
        after = first + height if first + height < n else 0
        for y in range(height):
            b, below = first + y, first + (y + 1 if y + 1 < height else 0)
            here = load(rows, b)
            store(bonds, b, logic(here, load(rows, below), against, NOT_XOR3))
            store(bonds, n + b, logic(here, _right(rows, b, after + y, span, last), against, NOT_XOR3))


@inline
def _draw(state, bonds, scratch, n, chance):
    """Makes the bonds of one part: each satisfied one with its probability. Rows beyond the last are zero."""
    s0, s1, s2, s3, counter, increment = resume(state)
    for start in range(0, n, GROUP):
        s0, s1, s2, s3, counter = spares((), ASKED, scratch, chance, 0, s0, s1, s2, s3, counter, increment)
        taken = untaken()
        for g in range(0, GROUP, 2):
            a0, a1, a2, a3, s0, s1, s2, s3, counter = draw(s0, s1, s2, s3, counter, increment)
            b0, b1, b2, b3, s0, s1, s2, s3, counter = draw(s0, s1, s2, s3, counter, increment)
            here, there = load(bonds, start + g), load(bonds, start + g + 1)
            here, taken = decided(here, scratch, g, chance, a0, a1, a2, a3, b0, b1, taken)
            a0, a1, a2, a3, s0, s1, s2, s3, counter = draw(s0, s1, s2, s3, counter, increment)
            there, taken = decided(there, scratch, g + 1, chance, b2, b3, a0, a1, a2, a3, taken)
            store(bonds, start + g, here)
            store(bonds, start + g + 1, there)
        s0, s1, s2, s3, counter = settle_bonds(
            bonds, scratch, start, taken, chance, s0, s1, s2, s3, counter, increment
        )
    keep(state, s0, s1, s2, s3, counter)


@inline
def _tabulate(bonds, tables, n, span):
    """Fills the tables of the bonds along the lines; those to the next block are cut."""
    last = splat(_last(span))
    for b in range(n):
        along = load(bonds, n + b)
        store(tables, ENDS * n + b, along & last)
        along = logic(along, last, last, AND_NOT)
        store(bonds, n + b, along)
        one = along >> uint64(1)
        store(tables, ONE * n + b, one)
        store(tables, TWO * n + b, one & (one >> uint64(1)))


@inline
def _mark_seeds(state, marked, scratch, seeds, span):
    """Marks random sites of every chain of one part, and nothing else."""
    s0, s1, s2, s3, counter, increment = resume(state)
    n = len(marked)
    for b in range(n):
        store(marked, b, splat(uint64(0)))
    fields = 64 // span
    for turn in range(0, fields * seeds, 4):
        w0, w1, w2, w3, s0, s1, s2, s3, counter = draw(s0, s1, s2, s3, counter, increment)
        store(scratch, 0, w0)
        store(scratch, 1, w1)
        store(scratch, 2, w2)
        store(scratch, 3, w3)
        for k in range(min(4, fields * seeds - turn)):
            first = span * ((turn + k) % fields)
            for w in range(WIDTH):
                site = int64(fraction(scratch[k, w]) * (n * span))
                marked[site // span, w] |= uint64(1) << uint64(63 - first - site % span)
    keep(state, s0, s1, s2, s3, counter)


@inline
def _along(new, bonds, tables, b, n):
    """The marks of a block with those that they reach in it: to the left all, to the right in three sites."""
    bound = load_row(bonds, n + b)
    carry = ((new | bound) + new) ^ logic(bound, new, new, AND_NOT)
    right = logic(new, new >> uint64(1), load_row(tables, ONE * n + b), OR_AND)
    right = logic(right, right >> uint64(2), load_row(tables, TWO * n + b), OR_AND)
    return logic(right, bound, carry, OR_AND)


@inline
def _from_beside(new, marked, tables, b, before, after, n, turn):
    """The marks of a block with those that come from the blocks beside it, which may be itself."""
    to_right = load_row(marked, before) & load_row(tables, ENDS * n + before)
    new = new | (to_right << turn)
    return logic(new, load_row(marked, after) >> turn, load_row(tables, ENDS * n + b), OR_AND)


@inline
def _down(marked, bonds, tables, height, turn):
    """Floods every line from the lines next to it, from the first to the last. Returns what is new."""
    n = len(marked)
    fresh = load_row(bonds, 2 * n)  # zero
    for first in range(0, n, height):
        before = first - height if first else n - height
        after = first + height if first + height < n else 0
        previous, link = load_row(marked, first + height - 1), load_row(bonds, first + height - 1)
        for y in range(height):
            b, below = first + y, first + (y + 1 if y + 1 < height else 0)
            old, its = load_row(marked, b), load_row(bonds, b)
            new = logic(old, load_row(marked, below), its, OR_AND)
            new = _from_beside(new, marked, tables, b, before + y, after + y, n, turn)
            new = _along(logic(new, previous, link, OR_AND), bonds, tables, b, n)
            store(marked, b, new)
            fresh = fresh | (new ^ old)
            previous, link = new, its
    return fresh


@inline
def _up(marked, bonds, tables, height):
    """The same from the last to the first, but for what comes from beside."""
    n = len(marked)
    for first in range(0, n, height):
        previous = load_row(marked, first)
        for y in range(height - 1, -1, -1):
            b, above = first + y, first + (y - 1 if y else height - 1)
            new = logic(load_row(marked, b), load_row(marked, above), load_row(bonds, above), OR_AND)
            new = _along(logic(new, previous, load_row(bonds, b), OR_AND), bonds, tables, b, n)
            store(marked, b, new)
            previous = new


@bare
def _flood(marked, bonds, tables, height, span):
    """Marks all that is connected with what is marked."""
    for p in range(PARTS):
        _tabulate(part(bonds, p), part(tables, p), len(marked), span)
    while some(_down(marked, bonds, tables, height, uint64(span - 1))):
        _up(marked, bonds, tables, height)


@bare
def _flip_clusters(
    groups, states, marked, bonds, tables, scratch, n, seeds, height, span, sign, chances
):  # fmt: skip
    """Makes n updates of every chain of these groups; returns the flips of the last ones."""
    flips = uint64(0)
    for group in range(len(groups)):
        rows, state, chance = groups[group], states[group], chances[group % len(chances)]
        for left in range(n, 0, -1):
            for p in range(PARTS):
                own, stream, notes, mine = part(rows, p), part(state, p), part(scratch, p), part(bonds, p)
                _ask(own, mine, height, span, sign)
                _draw(stream, mine, notes, 2 * len(rows), part(chance, p))
                _mark_seeds(stream, part(marked, p), notes, seeds, span)
            _flood(marked, bonds, tables, height, span)
            for p in range(PARTS):
                own, marks, count = part(rows, p), part(marked, p), splat(uint64(0))
                for b in range(len(rows)):
                    store(own, b, load(own, b) ^ load(marks, b))
                    if left == 1:
                        count = count + ones(load(marks, b))
                store(part(scratch, p), 0, count)
            if left == 1:
                for w in range(WORDS):
                    flips += scratch[0, w]
    return int64(flips)


@bare
def _count(groups, height, span, counts):
    """Adds up unequal neighbours and spins that are up, of each chain, ``(2, groups, fields, 8)``."""
    last, fields = splat(_last(span)), 64 // span
    for group in range(len(groups)):
        for p in range(PARTS):
            rows, n = part(groups[group], p), groups.shape[1]
            for field in range(fields):
                shift = uint64(span * (fields - 1 - field))
                mine = splat((~uint64(0) >> uint64(64 - span)) << shift)
                unequal, up = splat(uint64(0)), splat(uint64(0))
                for first in range(0, n, height):
                    after = first + height if first + height < n else 0
                    for y in range(height):
                        here, below = load(rows, first + y), first + (y + 1 if y + 1 < height else 0)
                        right = _right(rows, first + y, after + y, span, last)
                        up = up + ones(here & mine)
                        unequal = unequal + ones((here ^ load(rows, below)) & mine)
                        unequal = unequal + ones((here ^ right) & mine)
                store(part(counts[0, group], p), field, unequal)
                store(part(counts[1, group], p), field, up)
