r"""Houdayer's isoenergetic cluster move for two replicas of a glass at the same temperature.

A random site with :math:`q_i = s_i^a s_i^b = -1` is taken, with all sites of q = -1 that bonds connect to
it, and the two replicas exchange their spins there. The bonds at the border join q = -1 to q = +1 and cancel
in the sum of both energies; bonds inside and fields only change places. So

.. math:: E(s^a) + E(s^b) \to E(s^a) + E(s^b)

exactly, every move is accepted, and as q itself does not change, the way back is as likely: the joint
Boltzmann law of two replicas is invariant.

The move alone is not ergodic: it goes together with an update and, to be of use, with replica exchange. It
helps where the sites of q = -1 do not percolate, in two dimensions at low temperature. In three they do, and
the move hardly does more than swap the replicas.

References:
    | A cluster Monte Carlo algorithm for 2-dimensional spin glasses (Houdayer, 2001)
    | Efficient cluster algorithm for spin glasses in any space dimension (Zhu, Ochoa and Katzgraber, 2015)
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import int64, uint64

from .kernels.lanes import PARTS, WORDS, aligned, load, part, some, splat, store
from .kernels.xoshiro import fraction, inline, jit, step, streams
from .model import Ising

LANES = 64  # pairs that share a random number stream, and chains in a word of packed spins


class Houdayer:
    """Cluster moves of many pairs of replicas, with one random number stream for each 64 pairs.

    The same seed gives the same moves for any number of threads.

    Arguments:
        model: The glass; clusters grow over its bonds with a coupling other than 0.
        pairs: How many pairs one call moves.
        seed: What the streams are spawned from.
        threads: Used where there are enough pairs.

    Example:
        >>> import torch
        >>> from ising import exact, glasses, lattices
        >>> glass = glasses.gaussian(lattices.square(3), seed=1)
        >>> spins = exact.states(9)[[5, 300]].to(torch.int8).numpy()
        >>> before = glass.energy(torch.from_numpy(spins)).sum()
        >>> sizes = Houdayer(glass, 1, np.random.SeedSequence(1)).move(spins, [0], [1])
        >>> bool(torch.isclose(glass.energy(torch.from_numpy(spins)).sum(), before)), int(sizes[0]) > 0
        (True, True)
    """

    def __init__(self, model: Ising, pairs: int, seed: np.random.SeedSequence, threads: int = 1):
        sites = np.arange(model.lattice.n_sites)[:, None]
        there, J = model.lattice.neighbours[0].numpy(), model.neighbour_couplings.numpy()
        self._neighbours = np.where(J != 0, there, sites).astype(np.int32)
        self._pairs, words = pairs, -(-pairs // LANES)
        self._rng = np.ascontiguousarray(streams(seed, words).T)
        self._blocks = np.array_split(np.arange(words), min(threads, words))

    def move(self, spins: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """One move, in place, between the chains ``first[k]`` and ``second[k]`` for every k.

        Arguments:
            spins: int8, ``(chains, N)``.
            first: Chains, shape ``(pairs,)``; no chain may occur twice.
            second: Their partners, at the same temperature.

        Returns:
            Size of each cluster, ``(pairs,)``; 0 where two replicas are alike.
        """
        first, second = _checked(first, second, self._pairs, len(spins))
        if spins.dtype != np.int8:
            raise ValueError(f"spins must be int8, got {spins.dtype}; they are changed in place")
        sizes = np.zeros(len(first), dtype=np.int64)
        self._each_block(lambda block: _move(spins, first, second, self._rng, block, self._neighbours, sizes))
        return sizes

    def move_words(self, words: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """The same for packed spins, 64 pairs at a time; :meth:`move` would make other moves of equal law.

        Arguments:
            words: uint64, ``(N, W)``; bit k, from the lowest, of ``words[i, w]`` is site i of chain 64 w + k.
            first: Chains, shape ``(pairs,)``; no chain may occur twice.
            second: Their partners, at the same temperatures.

        Returns:
            Size of each cluster, ``(pairs,)``; 0 where two replicas are alike.
        """
        first, second = _checked(first, second, self._pairs, LANES * words.shape[1])
        if words.dtype != np.uint64:
            raise ValueError(f"packed spins are uint64 words, got {words.dtype}")
        columns = np.ascontiguousarray(words.T)
        clusters = np.zeros((len(self._rng), len(words)), dtype=np.uint64)
        self._each_block(
            lambda block: _grow_words(
                columns, first, second, self._rng, block, self._neighbours, clusters,
                aligned((len(words), WORDS)), aligned((len(words), WORDS)),
            )
        )  # fmt: skip
        sizes = np.zeros(len(first), dtype=np.int64)
        _flip_words(columns, first, second, clusters, sizes)
        words[:] = columns.T
        return sizes

    def state(self) -> np.ndarray:
        """The random number streams, for :meth:`load`."""
        return self._rng.copy()

    def load(self, state: np.ndarray) -> None:
        """Goes on from a :meth:`state`."""
        self._rng = np.array(state, order="C")

    def _each_block(self, run: Callable[[np.ndarray], object]) -> None:
        if len(self._blocks) == 1:
            run(self._blocks[0])
        else:
            with ThreadPoolExecutor(len(self._blocks)) as pool:
                list(pool.map(run, self._blocks))


def _checked(first: np.ndarray, second: np.ndarray, pairs: int, chains: int) -> tuple[np.ndarray, np.ndarray]:
    first, second = (np.asarray(x, dtype=np.int64) for x in (first, second))
    both = np.concatenate([first, second])
    if first.shape != (pairs,) or second.shape != (pairs,):
        raise ValueError(
            f"this was made for {pairs} pairs, got {first.shape} first and {second.shape} second"
        )
    if len(np.unique(both)) < len(both) or both.min() < 0 or both.max() >= chains:
        raise ValueError(f"the pairs must be distinct chains from 0 to {chains - 1}, each used once")
    return first, second


@jit
def _move(spins, first, second, rng, block, neighbours, sizes):
    n_sites, z = neighbours.shape
    cluster = np.empty(n_sites, dtype=np.int32)  # first all candidates, then its sites in the order found
    free = np.empty(n_sites, dtype=np.bool_)  # q = -1 and not in the cluster
    for word in block:
        s0, s1, s2, s3 = rng[word]
        for pair in range(LANES * word, min(LANES * (word + 1), len(first))):
            a, b = spins[first[pair]], spins[second[pair]]
            size, done = 0, 0
            for i in range(n_sites):
                free[i] = a[i] != b[i]
                if free[i]:
                    cluster[size] = i
                    size += 1
            if size == 0:
                continue
            bits, s0, s1, s2, s3 = step(s0, s1, s2, s3)
            cluster[0], size = cluster[int(fraction(bits) * size)], 1
            free[cluster[0]] = False
            while done < size:
                i = cluster[done]
                done += 1
                for k in range(z):
                    j = neighbours[i, k]
                    if free[j]:
                        free[j] = False
                        cluster[size] = j
                        size += 1
            for i in cluster[:size]:
                a[i], b[i] = b[i], a[i]
            sizes[pair] = size
        rng[word] = s0, s1, s2, s3


@jit
def _grow_words(columns, first, second, rng, block, neighbours, clusters, cluster, differ):
    """Eight words of pairs at a time, in rows of 512 bits."""
    one = np.empty(len(neighbours), dtype=np.uint64)
    for start in range(0, len(block), WORDS):
        together = block[start : start + WORDS]
        cluster[:], differ[:] = 0, 0
        for k in range(len(together)):
            word = together[k]
            a, b = first[LANES * word : LANES * (word + 1)], second[LANES * word : LANES * (word + 1)]
            one[:] = 0
            for lane in range(len(a)):
                _toggle(one, lane, columns[a[lane] // LANES], a[lane] % LANES)
                _toggle(one, lane, columns[b[lane] // LANES], b[lane] % LANES)
            differ[:, k] = one
            _seed(one, cluster[:, k], rng[word], len(a))
        _flood(cluster, differ, neighbours)
        for k in range(len(together)):
            clusters[together[k]] = cluster[:, k]


@inline
def _seed(differ, cluster, rng, lanes):
    """Marks one random site of q = -1 in each lane: sites at random until there is one."""
    any_site = uint64(0)
    for i in range(len(differ)):
        any_site |= differ[i]
    s0, s1, s2, s3 = rng
    for lane in range(lanes):
        bit = uint64(1) << uint64(lane)
        seeking = any_site & bit != 0
        while seeking:
            bits, s0, s1, s2, s3 = step(s0, s1, s2, s3)
            i = int64(fraction(bits) * len(differ))
            seeking = differ[i] & bit == 0
            if not seeking:
                cluster[i] |= bit
    rng[:] = s0, s1, s2, s3


@jit
def _flip_words(columns, first, second, clusters, sizes):
    for pair in range(len(first)):
        cluster, lane = clusters[pair // LANES], pair % LANES
        for i in range(len(cluster)):
            sizes[pair] += int64((cluster[i] >> uint64(lane)) & uint64(1))
        for chain in (first[pair], second[pair]):
            _toggle(columns[chain // LANES], chain % LANES, cluster, lane)


@inline
def _toggle(target, lane, source, source_lane):
    """Adds one lane of the source to one of the target, modulo 2."""
    up, down = uint64(lane), uint64(source_lane)
    for i in range(len(target)):
        target[i] ^= ((source[i] >> down) & uint64(1)) << up


@inline
def _flood(cluster, differ, neighbours):
    """Grows the clusters over sites of q = -1, to and fro over the lattice until no lane grows."""
    n_sites, z = neighbours.shape
    for p in range(PARTS):
        marked, free, grown = part(cluster, p), part(differ, p), True
        while grown:
            news = splat(uint64(0))
            for at in range(2 * n_sites):
                i = at if at < n_sites else 2 * n_sites - 1 - at
                old = load(marked, i)
                reached = old
                for k in range(z):
                    reached = reached | load(marked, neighbours[i, k])
                reached = reached & load(free, i)
                news = news | (reached ^ old)
                store(marked, i, reached)
            grown = some(news)
