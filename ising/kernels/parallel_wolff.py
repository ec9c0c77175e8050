r"""Wolff clusters of 512 chains at once: one row of bits per site and per bond.

The law is that of :mod:`ising.updates.wolff`, or of :mod:`ising.updates.few_clusters`. All bonds are drawn,
by :mod:`ising.kernels.chances`, to :math:`2^{-64}`; one random site of each chain is marked, or three; the
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
from .chances import ANSWER, GROUP, SCRATCH, ask, digits, finish
from .lanes import (
    AND_NOT,
    EQUAL_AND,
    LANES,
    NOT_XOR3,
    OR_AND,
    OR_DIFFER,
    WORDS,
    aligned,
    load,
    logic,
    ones,
    some,
    splat,
    store,
)
from .shishua import draw, streams
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
        self._work = [
            tuple(aligned((n, WORDS)) for n in (self._n_sites + 1, self._bonds + 2, SCRATCH))
            for _ in self._blocks
        ]
        self.set_beta(beta)

    def sweep(self, n: int) -> float:
        def run(block: np.ndarray, work: tuple[np.ndarray, ...]) -> int:
            dirty = np.empty(len(self._graph[-1]), dtype=np.uint8)
            flips = 0
            for column in block:
                flips += _flip_clusters(
                    self._rows[column],
                    self._rng[column],
                    self._used[column : column + 1],
                    *work,
                    dirty,
                    GROUP,
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
        return sum(flips) / (n * self._tiles.chains * self._n_sites)

    def bits(self) -> np.ndarray:
        return self._tiles.unpack(self._rows[:, :-1])

    def spins(self) -> np.ndarray:
        return bits.unpack(self.bits(), self._n_sites)

    def measure(self) -> tuple[np.ndarray, np.ndarray]:
        counted = [
            self._tiles.per_chain(lane_counts(np.stack([tally(rows, *pairs) for rows in self._rows])))
            for pairs in self._ends
        ]
        magnetisation = 2.0 * counted[1] - self._n_sites
        return -self._J * (self._bonds - 2.0 * counted[0]) - self._h * magnetisation, magnetisation

    def set_beta(self, beta: float | np.ndarray) -> None:
        beta = np.asarray(beta, dtype=np.float64)
        if beta.ndim and (beta == beta[0]).all():
            beta = beta[0]
        per_lane = beta[self._tiles.lanes[1]] if beta.ndim else beta.reshape(1, 1)
        self._bond_chance, self._tie_chance = (
            digits(-np.expm1(-2 * per_lane * strength)[:, None]).reshape(len(per_lane), -1, WORDS)
            for strength in (self._J, abs(self._h))
        )

    def state(self) -> dict[str, np.ndarray]:
        return {"bits": self._rows[:, :-1].copy(), "rng": self._rng.copy()}

    def load(self, state: dict[str, np.ndarray]) -> None:
        self._rows[:, :-1], self._rng[:] = state["bits"], state["rng"]


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
    low, high = lattice.edges.sort(-1).values.numpy().T.astype(np.int32)
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
def _three_steps(s0, s1, s2, s3, counter, increment):
    a0, a1, a2, a3, s0, s1, s2, s3, counter = draw(s0, s1, s2, s3, counter, increment)
    b0, b1, b2, b3, s0, s1, s2, s3, counter = draw(s0, s1, s2, s3, counter, increment)
    c0, c1, c2, c3, s0, s1, s2, s3, counter = draw(s0, s1, s2, s3, counter, increment)
    return a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, s0, s1, s2, s3, counter


@inline
def _satisfied(rows, low, high, signs, e):
    """Where bond e is satisfied; nowhere beyond the last bond."""
    if e >= len(low):
        return splat(uint64(0))
    sign = splat(signs[e]) if len(signs) else splat(uint64(0))
    return logic(load(rows, low[e]), load(rows, high[e]), sign, NOT_XOR3)


@bare
def _draw_bonds(rows, state, bonds, scratch, size, low, high, signs, chance):
    """Makes the bonds: each satisfied one with its probability."""
    s0, s1, s2, s3, counter, increment = (
        load(state, 0), load(state, 1), load(state, 2), load(state, 3), load(state, 4), load(state, 5),
    )  # fmt: skip
    for start in range(0, len(low), GROUP):
        for g in range(0, GROUP, 2):
            a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, s0, s1, s2, s3, counter = _three_steps(
                s0, s1, s2, s3, counter, increment
            )
            asked = _satisfied(rows, low, high, signs, start + g)
            ask(scratch, g, asked, chance, a0, a1, a2, a3, b0, b1)
            asked = _satisfied(rows, low, high, signs, start + g + 1)
            ask(scratch, g + 1, asked, chance, b2, b3, c0, c1, c2, c3)
        s0, s1, s2, s3, counter = finish((), scratch, size, chance, 0, s0, s1, s2, s3, counter, increment)
        for g in range(min(size, len(low) - start)):
            store(bonds, start + g, load(scratch, ANSWER + g))
    store(state, 0, s0)
    store(state, 1, s1)
    store(state, 2, s2)
    store(state, 3, s3)
    store(state, 4, counter)


@bare
def _tied(rows, state, marked, scratch, size, n_sites, chance, up):
    """The lanes in which a marked spin is tied to the ghost spin."""
    s0, s1, s2, s3, counter, increment = (
        load(state, 0), load(state, 1), load(state, 2), load(state, 3), load(state, 4), load(state, 5),
    )  # fmt: skip
    tied, along = splat(uint64(0)), load(up, 0)
    for start in range(0, n_sites, GROUP):
        for g in range(0, GROUP, 2):
            a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, s0, s1, s2, s3, counter = _three_steps(
                s0, s1, s2, s3, counter, increment
            )
            i, j = min(start + g, n_sites), min(start + g + 1, n_sites)  # the last row of marks is zero
            asked = logic(load(marked, i), load(rows, i), along, EQUAL_AND)
            ask(scratch, g, asked, chance, a0, a1, a2, a3, b0, b1)
            asked = logic(load(marked, j), load(rows, j), along, EQUAL_AND)
            ask(scratch, g + 1, asked, chance, b2, b3, c0, c1, c2, c3)
        s0, s1, s2, s3, counter = finish((), scratch, size, chance, 0, s0, s1, s2, s3, counter, increment)
        for g in range(size):
            tied = tied | load(scratch, ANSWER + g)
    store(state, 0, s0)
    store(state, 1, s1)
    store(state, 2, s2)
    store(state, 3, s3)
    store(state, 4, counter)
    store(scratch, 0, tied)


@bare
def _mark_seeds(state, marked, scratch, n_sites, seeds):
    """Marks random sites of every lane, and nothing else."""
    s0, s1, s2, s3, counter, increment = (
        load(state, 0), load(state, 1), load(state, 2), load(state, 3), load(state, 4), load(state, 5),
    )  # fmt: skip
    for i in range(n_sites + 1):
        store(marked, i, splat(uint64(0)))
    for turn in range(0, seeds * LANES, 4 * WORDS):
        lane = turn % LANES
        w0, w1, w2, w3, s0, s1, s2, s3, counter = draw(s0, s1, s2, s3, counter, increment)
        store(scratch, 0, w0)
        store(scratch, 1, w1)
        store(scratch, 2, w2)
        store(scratch, 3, w3)
        for k in range(4 * WORDS):
            site = int64(fraction(scratch[k // WORDS, k % WORDS]) * n_sites)
            marked[site, (lane + k) // 64] |= uint64(1) << uint64((lane + k) % 64)
    store(state, 0, s0)
    store(state, 1, s1)
    store(state, 2, s2)
    store(state, 3, s3)
    store(state, 4, counter)


@bare
def _flood(marked, bonds, before, there, bond, first, next_lines, dirty):
    """Marks all that is connected with what is marked. A line is dirty while it may mark anything new."""
    lines, line = len(dirty), (len(before) - 1) // len(dirty)
    nothing = splat(uint64(0))
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
                    old = load(marked, i)
                    new = logic(old, previous, load(bonds, before[i]), OR_AND)
                    k = first[i]
                    new = logic(new, load(marked, there[k]), load(bonds, bond[k]), OR_AND)
                    new = logic(new, load(marked, there[k + 1]), load(bonds, bond[k + 1]), OR_AND)
                    k += 2
                    while k < first[i + 1]:
                        new = logic(new, load(marked, there[k]), load(bonds, bond[k]), OR_AND)
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
                    old = load(marked, i)
                    new = logic(old, previous, load(bonds, before[i + 1]), OR_AND)
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
    rows, state, used, marked, bonds, scratch, dirty, size, n, seeds,
    low, high, signs, before, there, bond, first, next_lines, chance, tie, up,
):  # fmt: skip
    """Makes n clusters in every lane of a column; returns the number of flips in the lanes that are used."""
    n_sites = len(marked) - 1
    count = splat(uint64(0))
    for _ in range(n):
        _draw_bonds(rows, state, bonds, scratch, size, low, high, signs, chance)
        _mark_seeds(state, marked, scratch, n_sites, seeds)
        _flood(marked, bonds, before, there, bond, first, next_lines, dirty)
        tied = splat(uint64(0))
        if len(tie):
            _tied(rows, state, marked, scratch, size, n_sites, tie, up)
            tied = load(scratch, 0)
        lanes = load(used, 0)
        for i in range(n_sites):
            flip = logic(load(marked, i), tied, tied, AND_NOT)
            store(rows, i, load(rows, i) ^ flip)
            count = count + ones(flip & lanes)
    store(scratch, 0, count)
    flips = uint64(0)
    for w in range(WORDS):
        flips += scratch[0, w]
    return int64(flips)
