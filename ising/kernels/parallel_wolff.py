r"""Wolff clusters of 512 chains at once: one row of bits per site and per bond.

The law is that of :mod:`ising.updates.wolff`, or of :mod:`ising.updates.few_clusters`. All bonds are drawn,
by :mod:`ising.kernels.chances`, to :math:`2^{-64}`; one random site of each chain is marked, or five; the
marks then flood along the bonds, line by line of the lattice, to and fro, until nothing changes; and the
marked spins are flipped. The flood goes on for the chain with the longest way, but 512 of them share each
step.

Covers uniform :math:`|J|` (each bond of either sign) and, with one site, uniform h.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import int64, uint64

from ..model import Ising
from ..updates import few_clusters
from . import bits, tiles
from .chances import ANSWER, GROUP, OPEN, SCRATCH, decide, settle, spares, take, untaken, waits
from .lanes import (
    AND_NOT,
    EQUAL_AND,
    FLIP_AND,
    NOT_XOR3,
    OR_AND,
    OR_DIFFER,
    PARTS,
    WIDTH,
    WORDS,
    aligned,
    entry,
    load,
    load_row,
    logic,
    lowest,
    ones,
    part,
    some,
    splat,
    store,
)
from .shishua import draw, keep, resume, streams
from .tables import tables
from .tally import lane_counts, tally
from .xoshiro import bare, fraction, inline

FEWEST_CHAINS = 32  # with fewer, one cluster after another is faster


class ParallelWolff:
    """See :class:`ising.kernels.Sampler`; one sweep is one cluster in every chain."""

    name = "parallel wolff"

    @staticmethod
    def covers(update: str, model: Ising, device: str, chains: int) -> bool:
        J, h = model.bond_couplings.abs(), model.site_fields
        uniform = bool((J[:1] == J).all() and (h == h[:1]).all())
        covered = update == "wolff" or (update == "few_clusters" and not h.any())
        return covered and device == "cpu" and uniform and chains >= FEWEST_CHAINS

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
        self._n_sites, self._bonds = model.lattice.n_sites, len(model.lattice.edges)
        self._seeds = {"wolff": 1, "few_clusters": few_clusters.SITES}[update]
        self._tiles = tiles.cut(model, len(spins), (1, 1))
        self._J = float(model.bond_couplings.abs().max()) if self._bonds else 0.0
        self._h = float(model.site_fields[0])
        self._graph, self._ends = _graph(model)
        self._up = np.full((1, WORDS), 2**64 - 1 if self._h > 0 else 0, dtype=np.uint64)
        self._used, self._rng = self._tiles.used, streams(seed, self._tiles.columns)
        self._rows = aligned((self._tiles.columns, self._n_sites + 1, WORDS))  # the last row is zero
        self._rows[:, :-1] = self._tiles.pack(spins)
        self._blocks = np.array_split(np.arange(self._tiles.columns), min(threads, self._tiles.columns))
        heights = self._n_sites + 1, self._bonds + GROUP, SCRATCH
        self._work = [tuple(aligned((n, WORDS)) for n in heights) for _ in self._blocks]
        self.set_beta(beta)

    def sweep(self, n: int) -> float:
        """Flips n clusters in every chain; the flipped fraction is that of the last ones."""

        def run(block: np.ndarray, work: tuple[np.ndarray, ...]) -> int:
            """The columns of one thread, with memory of its own; returns the flips of the last clusters."""
            dirty = np.empty(len(self._graph[-1]), dtype=np.uint8)
            flips = 0
            for column in block:
                flips += _flip_clusters(
                    self._rows[column],
                    self._rng[column],
                    self._used[column : column + 1],
                    *work,
                    dirty,
                    n,
                    self._seeds,
                    *self._graph,
                    self._bond_chance[column % len(self._bond_chance)],
                    self._tie_chance[column % len(self._tie_chance)] if self._h else NO_TIES,
                    self._up,
                )
            return flips

        if len(self._blocks) == 1:
            flips = [run(self._blocks[0], self._work[0])]
        else:
            with ThreadPoolExecutor(len(self._blocks)) as pool:
                flips = list(pool.map(run, self._blocks, self._work))
        return sum(flips) / (self._tiles.chains * self._n_sites) if n else 0.0

    def bits(self) -> np.ndarray:
        return self._tiles.unpack(self._rows[:, :-1])

    def spins(self) -> np.ndarray:
        return bits.unpack(self.bits(), self._n_sites)

    def measure(self) -> tuple[np.ndarray, np.ndarray]:
        """Total energy and magnetisation, from the unequal ends of bonds and the spins that are up, counted
        in all lanes at once, see :mod:`ising.kernels.tally`; float64, ``(chains,)`` each.
        """
        counted = [
            self._tiles.per_chain(lane_counts(np.stack([tally(rows, *pairs) for rows in self._rows])))
            for pairs in self._ends
        ]
        magnetisation = 2.0 * counted[1] - self._n_sites
        return -self._J * (self._bonds - 2.0 * counted[0]) - self._h * magnetisation, magnetisation

    def set_beta(self, beta: float | np.ndarray) -> None:
        """See :meth:`ising.kernels.Sampler.set_beta`: the tables of the probabilities are written anew."""
        beta = np.asarray(beta, dtype=np.float64)
        if beta.ndim and (beta == beta[0]).all():
            beta = beta[0]
        per_lane = beta[self._tiles.lanes[1]] if beta.ndim else beta.reshape(1, 1)
        self._bond_chance, self._tie_chance = (
            tables(-np.expm1(-2 * per_lane * strength)[:, None]).reshape(len(per_lane), -1, WORDS)
            for strength in (self._J, abs(self._h))
        )

    def state(self) -> dict[str, np.ndarray]:
        return {"bits": self._rows[:, :-1].copy(), "rng": self._rng.copy()}

    def load(self, state: dict[str, np.ndarray]) -> None:
        self._rows[:, :-1], self._rng[:] = state["bits"], state["rng"]


ASKED = ((0,),) + ((),) * 15  # one case, see :func:`ising.kernels.chances.decide`
NO_TIES = np.empty((0, WORDS), dtype=np.uint64)
NO_SIGNS = np.empty(0, dtype=np.uint64)


def _graph(model: Ising) -> tuple[tuple[np.ndarray, ...], tuple[tuple[np.ndarray, ...], ...]]:
    """The tables of the flood, and what :func:`tally` compares for E and M.

    Returns:
        Ends of the bonds, ``(2, E)``, and the words of ones of those with J < 0; for each site its bond to
        the site before it in the same line; its other neighbours and the bonds to them, one site after
        another, and where those of each site begin; for each line the lines next to it.
    """
    lattice = model.lattice
    n, line = lattice.n_sites, lattice.shape[-1]
    low, high = np.ascontiguousarray(lattice.edges.sort(-1).values.numpy().T, dtype=np.int32)
    against = model.bond_couplings.numpy() < 0
    signs = np.where(against, uint64(2**64 - 1), uint64(0)) if against.any() else NO_SIGNS
    beside = (high == low + 1) & (high % line > 0)
    before = np.full(n + 1, len(low), dtype=np.int32)  # no bond: a row of zeros
    before[high[beside]] = np.flatnonzero(beside)
    here, there = np.concatenate([low[~beside], high[~beside]]), np.concatenate([high[~beside], low[~beside]])
    bond = np.tile(np.flatnonzero(~beside), 2)
    spare = np.repeat(
        np.arange(n), np.maximum(2 - np.bincount(here, minlength=n), 0)
    )  # two for each at least
    here, there = np.append(here, spare), np.append(there, spare)
    bond = np.append(bond, np.full(len(spare), len(low)))
    order = np.argsort(here, kind="stable")
    first = np.searchsorted(here[order], np.arange(n + 1)).astype(np.int32)
    pairs = np.unique(np.stack([here // line, there // line]), axis=1)
    pairs = pairs[:, pairs[0] != pairs[1]]
    width = int(np.bincount(pairs[0], minlength=1).max()) if pairs.size else 0
    next_lines = np.repeat(np.arange(n // line), width).reshape(n // line, width)
    slot = np.arange(pairs.shape[1]) - np.searchsorted(pairs[0], pairs[0])
    next_lines[pairs[0], slot] = pairs[1]
    graph = (
        low, high, signs, before,
        there[order].astype(np.int32), bond[order].astype(np.int32), first, next_lines,
    )  # fmt: skip
    sites, nothing = np.arange(n, dtype=np.int32), np.full(n, n, dtype=np.int32)
    return graph, ((low, high, signs), (sites, nothing, NO_SIGNS))


@inline
def _satisfied(rows, low, high, signs, e):
    """Where bond e is satisfied; nowhere beyond the last bond."""
    if e >= len(low):
        return splat(uint64(0))
    sign = splat(signs[e]) if len(signs) else splat(uint64(0))
    return logic(load(rows, entry(low, e)), load(rows, entry(high, e)), sign, NOT_XOR3)


@inline
def decided(asked, scratch, g, chance, w0, w1, w2, w3, w4, w5, taken):
    """The answers of row g where it is asked, elsewhere no; and what is taken of the spare ones."""
    yes, left, _ = decide((), ASKED, asked, asked, asked, asked, scratch, chance, 0, w0, w1, w2, w3, w4, w5)
    turned, taken = take((), ASKED, scratch, g, left & asked, asked, asked, asked, asked, taken)
    return logic(turned, yes, asked, FLIP_AND), taken


@inline
def settle_bonds(bonds, scratch, start, taken, chance, s0, s1, s2, s3, counter, increment):
    """Settles those bonds of a group that wait; returns the state of the generator."""
    waiting = waits(scratch, taken)
    while waiting:
        g = lowest(waiting)
        turned, s0, s1, s2, s3, counter = settle(
            (), ASKED, scratch, g, chance, 0, s0, s1, s2, s3, counter, increment
        )
        store(bonds, start + g, load(bonds, start + g) ^ turned)
        waiting &= waiting - uint64(1)
    return s0, s1, s2, s3, counter


@inline
def _draw_bonds(rows, state, bonds, scratch, low, high, signs, chance):
    """Makes the bonds of one part: each satisfied one with its probability."""
    s0, s1, s2, s3, counter, increment = resume(state)
    for start in range(0, len(low), GROUP):
        s0, s1, s2, s3, counter = spares((), ASKED, scratch, chance, 0, s0, s1, s2, s3, counter, increment)
        taken = untaken()
        for g in range(0, GROUP, 2):
            a0, a1, a2, a3, s0, s1, s2, s3, counter = draw(s0, s1, s2, s3, counter, increment)
            b0, b1, b2, b3, s0, s1, s2, s3, counter = draw(s0, s1, s2, s3, counter, increment)
            asked = _satisfied(rows, low, high, signs, start + g)
            active, taken = decided(asked, scratch, g, chance, a0, a1, a2, a3, b0, b1, taken)
            store(bonds, start + g, active)
            a0, a1, a2, a3, s0, s1, s2, s3, counter = draw(s0, s1, s2, s3, counter, increment)
            asked = _satisfied(rows, low, high, signs, start + g + 1)
            active, taken = decided(asked, scratch, g + 1, chance, b2, b3, a0, a1, a2, a3, taken)
            store(bonds, start + g + 1, active)
        s0, s1, s2, s3, counter = settle_bonds(
            bonds, scratch, start, taken, chance, s0, s1, s2, s3, counter, increment
        )
    keep(state, s0, s1, s2, s3, counter)


@inline
def _tied(rows, state, marked, scratch, n_sites, chance, up):
    """The lanes in which a marked spin is tied to the ghost spin."""
    s0, s1, s2, s3, counter, increment = resume(state)
    tied, along = splat(uint64(0)), load(up, 0)
    for start in range(0, n_sites, GROUP):
        s0, s1, s2, s3, counter = spares((), ASKED, scratch, chance, 0, s0, s1, s2, s3, counter, increment)
        taken = untaken()
        for g in range(0, GROUP, 2):
            a0, a1, a2, a3, s0, s1, s2, s3, counter = draw(s0, s1, s2, s3, counter, increment)
            b0, b1, b2, b3, s0, s1, s2, s3, counter = draw(s0, s1, s2, s3, counter, increment)
            i, j = min(start + g, n_sites), min(start + g + 1, n_sites)  # the last row of marks is zero
            asked = logic(load(marked, i), load(rows, i), along, EQUAL_AND)
            active, taken = decided(asked, scratch, g, chance, a0, a1, a2, a3, b0, b1, taken)
            store(scratch, ANSWER + g, active)
            a0, a1, a2, a3, s0, s1, s2, s3, counter = draw(s0, s1, s2, s3, counter, increment)
            asked = logic(load(marked, j), load(rows, j), along, EQUAL_AND)
            active, taken = decided(asked, scratch, g + 1, chance, b2, b3, a0, a1, a2, a3, taken)
            store(scratch, ANSWER + g + 1, active)
        for g in range(GROUP):
            turned = load(scratch, OPEN + g)
            if some(turned):
                turned, s0, s1, s2, s3, counter = settle(
                    (), ASKED, scratch, g, chance, 0, s0, s1, s2, s3, counter, increment
                )
            tied = tied | (load(scratch, ANSWER + g) ^ turned)
    keep(state, s0, s1, s2, s3, counter)
    return tied


@inline
def _mark_seeds(state, marked, scratch, n_sites, seeds):
    """Marks random sites of every lane of one part, and nothing else."""
    s0, s1, s2, s3, counter, increment = resume(state)
    for i in range(n_sites + 1):
        store(marked, i, splat(uint64(0)))
    for turn in range(0, 64 * seeds, 4):
        w0, w1, w2, w3, s0, s1, s2, s3, counter = draw(s0, s1, s2, s3, counter, increment)
        store(scratch, 0, w0)
        store(scratch, 1, w1)
        store(scratch, 2, w2)
        store(scratch, 3, w3)
        for k in range(4):
            bit = uint64(1) << uint64((turn + k) % 64)
            for w in range(WIDTH):
                marked[int64(fraction(scratch[k, w]) * n_sites), w] |= bit
    keep(state, s0, s1, s2, s3, counter)


@inline
def _along(marked, bonds, there, bond, k, new):
    """What is marked with the marks that come along bond k."""
    return logic(new, load_row(marked, entry(there, k)), load_row(bonds, entry(bond, k)), OR_AND)


@bare
def _flood(marked, bonds, before, there, bond, first, next_lines, dirty):
    """Marks all that is connected with what is marked. A line is dirty while it may mark anything new."""
    lines, line = len(dirty), (len(before) - 1) // len(dirty)
    nothing = load_row(bonds, len(bonds) - 1)  # as there is no such bond
    dirty[:] = 1
    going = fresh_start = True  # what is marked from the start is news to its line
    while going:
        going = False
        for turn in range(2):
            for step in range(lines):
                at = step if turn == 0 else lines - 1 - step
                if dirty[at] == 0:
                    continue
                dirty[at] = 0
                start, stop = at * line, (at + 1) * line
                news, fresh, previous = nothing, nothing, nothing
                for i in range(start, stop):
                    old = load_row(marked, i)
                    new = logic(old, previous, load_row(bonds, entry(before, i)), OR_AND)
                    k = entry(first, i)
                    new = _along(marked, bonds, there, bond, k, new)
                    new = _along(marked, bonds, there, bond, k + 1, new)
                    k += 2
                    while k < entry(first, i + 1):
                        new = _along(marked, bonds, there, bond, k, new)
                        k += 1
                    fresh = new ^ old
                    news = news | fresh
                    store(marked, i, new)
                    previous = new
                if not (fresh_start or some(news)):
                    continue
                again = fresh  # the last site may have a neighbour at the other end
                for back in range(2, line + 1):
                    i = stop - back
                    old = load_row(marked, i)
                    new = logic(old, previous, load_row(bonds, entry(before, i + 1)), OR_AND)
                    again = logic(again, new, old, OR_DIFFER)
                    store(marked, i, new)
                    previous = new
                if some(again):
                    dirty[at] = 1
                if some(news | again):
                    going = True
                    for k in range(next_lines.shape[1]):
                        dirty[next_lines[at, k]] = 1
            fresh_start = False


@bare
def _flip_clusters(
    rows, state, used, marked, bonds, scratch, dirty, n, seeds,
    low, high, signs, before, there, bond, first, next_lines, chance, tie, up,
):  # fmt: skip
    """Makes n clusters in every lane of a column; returns the flips of the last ones, in the lanes used."""
    flips, n_sites = uint64(0), len(marked) - 1
    for left in range(n, 0, -1):
        for p in range(PARTS):
            own, stream, notes = part(rows, p), part(state, p), part(scratch, p)
            _draw_bonds(own, stream, part(bonds, p), notes, low, high, signs, part(chance, p))
            _mark_seeds(stream, part(marked, p), notes, n_sites, seeds)
        _flood(marked, bonds, before, there, bond, first, next_lines, dirty)
        for p in range(PARTS):
            own, marks, notes = part(rows, p), part(marked, p), part(scratch, p)
            tied = splat(uint64(0))
            if len(tie):
                tied = _tied(own, part(state, p), marks, notes, n_sites, part(tie, p), up)
            for i in range(n_sites):
                flip = logic(load(marks, i), tied, tied, AND_NOT)
                store(own, i, load(own, i) ^ flip)
            if left == 1:
                flips += _counted(marks, n_sites, logic(load(part(used, p), 0), tied, tied, AND_NOT), notes)
    return int64(flips)


@inline
def _counted(marked, n_sites, lanes, scratch):
    """How many sites are marked in these lanes."""
    count = splat(uint64(0))
    for i in range(n_sites):
        count = count + ones(load(marked, i) & lanes)
    store(scratch, 0, count)
    total = uint64(0)
    for w in range(WIDTH):
        total += scratch[0, w]
    return total
