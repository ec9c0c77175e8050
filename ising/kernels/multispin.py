r"""Metropolis and heat bath with one machine word per site and one bit per chain.

Covers uniform :math:`|J|` (each bond of either sign), uniform h and up to seven neighbours. Every spin of
every chain gets its own random decision, by the law of :mod:`ising.updates`, in the same order of sites.

A spin flips with a probability p that depends only on its own sign and on how many of its bonds are
unsatisfied. That number is added up in three bit planes for 64 chains at once. The uniform number u and p are
then compared digit by digit, from the most significant: the first binary digit that differs decides, and the
digits of u are random words. Half of the chains are decided by each digit, so twelve digits and a rare rest
compare all 64 of them: the resolution of p is :math:`2^{-64}`.

References:
    | Multi-spin coding for a lattice of spins (Jacobs and Rebbi, 1981)
    | A fast algorithm for the Monte Carlo simulation of Ising models (Bhanot, Duke and Salvador, 1986)
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import int64, uint64

from ..model import Ising
from ..updates.metropolis import LAZINESS
from .xoshiro import inline, jit, step, streams

LANES = 64  # chains in a word
GROUP = 16  # words swept together: enough for the vector units, few enough for the cache
ALL, NONE = np.uint64(2**64 - 1), np.uint64(0)


class Multispin:
    """See :class:`ising.kernels.Sampler`; ``beta`` may differ between words, not within one."""

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
        self._chains, self._threads = len(spins), threads
        self._flip_probability = FLIP_PROBABILITY[update]
        self._J = float(model.bond_couplings.abs().max()) if len(model.lattice.edges) else 0.0
        self._h = float(model.site_fields[0])
        order = np.concatenate([colour.numpy() for colour in model.lattice.colour_classes])
        neighbours = model.lattice.neighbours[0].numpy()
        against = np.where(model.neighbour_couplings.numpy() < 0, ALL, NONE)
        self._degrees, kind = np.unique(model.lattice.degree.numpy(), return_inverse=True)
        self._lattice = order, neighbours, against, kind
        self._edges = model.lattice.edges.numpy(), np.where(model.bond_couplings.numpy() < 0, ALL, NONE)
        words = -(-self._chains // LANES)
        self._rng = streams(seed, words)
        self._bits = _pack(spins, words)
        self._used = np.full(words, ALL)  # the lanes that are chains
        self._used[-1] >>= np.uint64(words * LANES - self._chains)
        self.set_beta(beta)

    def sweep(self, n: int) -> float:
        """The flipped fraction is that of the last sweep."""
        self._run(n - 1)
        before = self._bits.copy()
        self._run(1)
        flipped = (self._bits ^ before) & self._used
        return float(np.bitwise_count(flipped).sum()) / (self._chains * len(before))

    def spins(self) -> np.ndarray:
        return _unpack(self._bits, self._chains)

    def measure(self) -> tuple[np.ndarray, np.ndarray]:
        edges, against = self._edges
        unsatisfied, up = _count(self._bits, edges, against)
        magnetisation = 2.0 * up[: self._chains] - len(self._bits)
        energy = -self._J * (len(edges) - 2.0 * unsatisfied[: self._chains]) - self._h * magnetisation
        return energy, magnetisation

    def set_beta(self, beta: float | np.ndarray) -> None:
        words = self._bits.shape[1]
        per_chain = np.broadcast_to(np.asarray(beta, dtype=np.float64), (self._chains,))
        per_word = per_chain[::LANES]
        if (np.repeat(per_word, LANES)[: self._chains] != per_chain).any():
            raise ValueError(f"beta must be the same for each {LANES} consecutive chains; reorder the chains")
        unsatisfied = np.arange(8).reshape(8, 1)
        law = np.empty((len(self._degrees), 2, 8, words))  # by degree, own spin, unsatisfied bonds, word
        for law_of_degree, degree in zip(law, self._degrees, strict=True):
            for up in (0, 1):
                cost = 2 * self._J * (degree - 2 * unsatisfied) + 2 * self._h * (2 * up - 1)
                law_of_degree[up] = self._flip_probability(per_word * cost)
        self._law = _grouped(law, by_spin=self._h != 0)

    def exchange(self, a: np.ndarray, b: np.ndarray) -> None:
        """Swaps the configurations of chains ``a[k]`` and ``b[k]``, which sit in equal lanes of two words."""
        mask = np.zeros(self._bits.shape[1], dtype=np.uint64)
        partner = np.arange(len(mask))
        np.bitwise_or.at(mask, a // LANES, np.uint64(1) << (a % LANES).astype(np.uint64))
        partner[a // LANES] = b // LANES
        changed = np.flatnonzero(mask)
        difference = (self._bits[:, changed] ^ self._bits[:, partner[changed]]) & mask[changed]
        self._bits[:, changed] ^= difference
        self._bits[:, partner[changed]] ^= difference

    def state(self) -> dict[str, np.ndarray]:
        return {"bits": self._bits.copy(), "rng": self._rng.copy()}

    def load(self, state: dict[str, np.ndarray]) -> None:
        self._bits, self._rng = (np.array(state[name], order="C") for name in ("bits", "rng"))

    def _run(self, n: int) -> None:
        starts = range(0, self._bits.shape[1], GROUP)

        def run(start: int) -> None:
            stop = min(start + GROUP, self._bits.shape[1])
            _sweep(self._bits, self._rng, start, stop, n, *self._lattice, *self._law)

        if self._threads == 1 or len(starts) == 1:
            for start in starts:
                run(start)
        else:
            with ThreadPoolExecutor(self._threads) as pool:
                list(pool.map(run, starts))


def _metropolis(cost: np.ndarray) -> np.ndarray:
    return LAZINESS * np.exp(-np.maximum(cost, 0))


def _heat_bath(cost: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, cost))


FLIP_PROBABILITY = {"metropolis": _metropolis, "heat_bath": _heat_bath}  # of beta times the cost of the flip


def _grouped(law: np.ndarray, *, by_spin: bool) -> tuple[np.ndarray, np.ndarray]:
    """Splits the cases of a flip into groups of four, which the kernel decides one after another.

    Within a group the two low bits of the number of unsatisfied bonds tell the cases apart. Its third bit and
    the own spin, where they matter, tell the groups apart.

    Returns:
        ``(G, 5)`` words that make up the mask of each group, and the probabilities in units of
        :math:`2^{-64}`, shape ``(degrees, G, 4, words)``.
    """
    saturates = bool((law[:, :, 4:] == law[:, :, 3:4]).all())  # four and more count as three
    masks, groups = [], []
    for up in (0, 1) if by_spin else (0,):
        for high in (0,) if saturates else (0, 1):
            masks.append([
                NONE if up else ALL,
                NONE if by_spin else ALL,
                NONE if high else ALL,
                ALL if saturates else NONE,
                ALL if saturates else NONE,
            ])  # fmt: skip
            groups.append(law[:, up, 4 * high : 4 * high + 4])
    probability = np.stack(groups, axis=1)
    units = np.minimum(probability, 1 - 2.0**-53) * 2.0**64
    return np.array(masks, dtype=np.uint64), units.astype(np.uint64)


def _pack(spins: np.ndarray, words: int) -> np.ndarray:
    """``(chains, N)`` spins to ``(N, words)``; the lanes beyond the last chain repeat the first ones."""
    lanes = np.resize(np.arange(len(spins)), words * LANES)
    octets = np.packbits(spins.T[:, lanes] > 0, axis=1, bitorder="little")
    return np.ascontiguousarray(octets).view("<u8").astype(np.uint64)


def _unpack(bits: np.ndarray, chains: int) -> np.ndarray:
    octets = np.ascontiguousarray(bits).astype("<u8").view(np.uint8)
    lanes = np.unpackbits(octets, axis=1, bitorder="little", count=chains)
    return np.ascontiguousarray(2 * lanes.view(np.int8).T - 1)


@inline
def _digit(units):
    """The most significant binary digit, repeated in the whole word."""
    return uint64(int64(units) >> int64(63))


@inline
def _four_digits(p0, p1, p2, p3, x0, x1, undecided, flip, s0, s1, s2, s3):
    """Compares four more digits of u and p; the case ``x1 x0`` of a lane has the probability p0, … or p3."""
    for _ in range(4):
        u, s0, s1, s2, s3 = step(s0, s1, s2, s3)
        low = _digit(p0) ^ (x0 & (_digit(p0) ^ _digit(p1)))
        high = _digit(p2) ^ (x0 & (_digit(p2) ^ _digit(p3)))
        p = low ^ (x1 & (low ^ high))
        differ = undecided & (u ^ p)
        flip |= differ & p  # u < p where the first digit that differs is that of p
        undecided &= ~differ
        p0, p1, p2, p3 = p0 << uint64(1), p1 << uint64(1), p2 << uint64(1), p3 << uint64(1)
    return p0, p1, p2, p3, undecided, flip, s0, s1, s2, s3


@jit
def _sweep(bits, rng, start, stop, n, order, neighbours, against, kind, masks, law):
    """Makes n sweeps of the words ``start`` to ``stop``; each loop over words is one for the vector units."""
    words, z = stop - start, neighbours.shape[1]
    own, c0, c1, c2 = np.empty((4, words), dtype=np.uint64)  # the spin, and the unsatisfied bonds in binary
    x0, x1, undecided = np.empty((3, words), dtype=np.uint64)
    s0, s1, s2, s3 = rng[0, start:stop], rng[1, start:stop], rng[2, start:stop], rng[3, start:stop]
    for _ in range(n):
        for i in order:
            here = bits[i, start:stop]
            for j in range(words):
                own[j] = here[j]
                c0[j] = c1[j] = c2[j] = uint64(0)
            for k in range(z):
                there, sign = bits[neighbours[i, k], start:stop], against[i, k]
                for j in range(words):
                    one = own[j] ^ there[j] ^ sign
                    two = c0[j] & one
                    c0[j] ^= one
                    c2[j] ^= c1[j] & two
                    c1[j] ^= two
            for g in range(len(masks)):
                down, any_spin, few, any_count, saturated = masks[g]
                p = law[kind[i], g]
                p0, p1, p2, p3 = p[0, start:stop], p[1, start:stop], p[2, start:stop], p[3, start:stop]
                left = uint64(0)
                for j in range(words):
                    x0[j] = c0[j] | (c2[j] & saturated)
                    x1[j] = c1[j] | (c2[j] & saturated)
                    u, f = ((own[j] ^ down) | any_spin) & ((c2[j] ^ few) | any_count), uint64(0)
                    a, b, c, d = p0[j], p1[j], p2[j], p3[j]
                    q, r, s, t = s0[j], s1[j], s2[j], s3[j]
                    a, b, c, d, u, f, q, r, s, t = _four_digits(a, b, c, d, x0[j], x1[j], u, f, q, r, s, t)
                    a, b, c, d, u, f, q, r, s, t = _four_digits(a, b, c, d, x0[j], x1[j], u, f, q, r, s, t)
                    a, b, c, d, u, f, q, r, s, t = _four_digits(a, b, c, d, x0[j], x1[j], u, f, q, r, s, t)
                    s0[j], s1[j], s2[j], s3[j] = q, r, s, t
                    here[j] ^= f
                    undecided[j] = u
                    left |= u
                digit = uint64(12)
                while left != 0 and digit < 64:
                    left = uint64(0)
                    for j in range(words):
                        a, b, c, d = p0[j] << digit, p1[j] << digit, p2[j] << digit, p3[j] << digit
                        u, f, q, r, s, t = undecided[j], uint64(0), s0[j], s1[j], s2[j], s3[j]
                        a, b, c, d, u, f, q, r, s, t = _four_digits(
                            a, b, c, d, x0[j], x1[j], u, f, q, r, s, t
                        )
                        s0[j], s1[j], s2[j], s3[j] = q, r, s, t
                        here[j] ^= f
                        undecided[j] = u
                        left |= u
                    digit += uint64(4)


@jit
def _count(bits, edges, against):
    """Unsatisfied bonds and up spins of every lane, added up in bit planes."""
    n_sites, words = bits.shape
    counts = np.zeros((2, words * LANES), dtype=np.int64)
    planes = np.empty((2, 64), dtype=np.uint64)
    for j in range(words):
        planes[:] = uint64(0)
        for e in range(len(edges)):
            carry, p = bits[edges[e, 0], j] ^ bits[edges[e, 1], j] ^ against[e], 0
            while carry != 0:
                planes[0, p], carry = planes[0, p] ^ carry, planes[0, p] & carry
                p += 1
        for i in range(n_sites):
            carry, p = bits[i, j], 0
            while carry != 0:
                planes[1, p], carry = planes[1, p] ^ carry, planes[1, p] & carry
                p += 1
        for what in range(2):
            for p in range(64):
                if planes[what, p] != 0:
                    for lane in range(64):
                        digit = (planes[what, p] >> uint64(lane)) & uint64(1)
                        counts[what, 64 * j + lane] += int64(digit) << p
    return counts[0], counts[1]
