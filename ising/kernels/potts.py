r"""Updates of Potts models, one chain after another, each with its own random number stream.

Couplings of any sign, one per bond. ``metropolis`` and ``heat_bath`` visit the sites in order, ``wolff`` and
``swendsen_wang`` build clusters from bonds that are active with probability :math:`1 - e^{-\beta |J_{ij}|}`.
Probabilities are compared with 53 random bits.

References:
    | Nonuniversal critical dynamics in Monte Carlo simulations (Swendsen and Wang, 1987)
    | Collective Monte Carlo Updating for Spin Systems (Wolff, 1989)
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..updates.metropolis import LAZINESS
from .xoshiro import fraction, jit, step, streams


class PottsSampler:
    """Many chains of one Potts model at one temperature, from ``spins`` ``(chains, N)`` on.

    The same seed gives the same spins for any number of threads.

    Arguments:
        neighbours: Table of neighbouring sites, ``(N, z)``; padded by the site itself.
        edges: Every bond once, ``(E, 2)``.
        couplings: The J of ``neighbours`` and of ``edges``, ``(N, z)`` and ``(E,)``.
        q: Number of states.
        update: One of :data:`UPDATES`.
        beta: Inverse temperature.
        spins: 0 to q − 1, int8, ``(chains, N)``; not modified.
        seed: What the streams are spawned from.
        threads: Used where there are enough chains.
    """

    def __init__(
        self,
        neighbours: np.ndarray,
        edges: np.ndarray,
        couplings: tuple[np.ndarray, np.ndarray],
        q: int,
        update: str,
        beta: float,
        spins: np.ndarray,
        seed: np.random.SeedSequence,
        threads: int = 1,
    ):
        if update not in UPDATES:
            raise ValueError(
                f"unknown update {update!r} of a Potts model; choose one of {', '.join(UPDATES)}"
            )
        around, self._J = couplings
        if update == "swendsen_wang" and (self._J < 0).any():
            raise ValueError("swendsen_wang needs couplings J >= 0 in a Potts model; take update='wolff'")
        self._update, self._q, self._edges = UPDATES[update], q, edges
        self._neighbours = np.ascontiguousarray(neighbours, dtype=np.uint32)
        self._K = beta * np.ascontiguousarray(around)
        self._active = -np.expm1(-np.abs(self._K))
        self._spins = np.array(spins, dtype=np.int8, order="C")
        self._rng = np.ascontiguousarray(streams(seed, len(spins)).T)
        self._blocks = np.array_split(np.arange(len(spins)), min(threads, len(spins)))

    def sweep(self, n: int) -> float:
        """Makes n sweeps, or n clusters for ``wolff``; returns the changed fraction of spins per sweep."""
        changed = np.zeros(len(self._spins))

        spins = self._spins.view(np.uint8)  # an index without a sign needs no check

        def run(block: np.ndarray) -> None:
            self._update(
                spins, self._rng, block, n, self._neighbours, self._K, self._active, self._q, changed
            )

        if len(self._blocks) == 1:
            run(self._blocks[0])
        else:
            with ThreadPoolExecutor(len(self._blocks)) as pool:
                list(pool.map(run, self._blocks))
        return float(changed.mean()) / (n * self._spins.shape[1])

    def spins(self) -> np.ndarray:
        """The configurations, int8, ``(chains, N)``."""
        return self._spins.copy()

    def measure(self) -> tuple[np.ndarray, np.ndarray]:
        """Total energies, float64, ``(chains,)``, and how many sites are in each state, ``(chains, q)``."""
        energy, populations = (
            np.empty(len(self._spins)),
            np.zeros((len(self._spins), self._q), dtype=np.int64),
        )
        _measure(self._spins, self._edges, self._J, energy, populations)
        return energy, populations


@jit
def _measure(spins, edges, J, energy, populations):
    for chain in range(len(spins)):
        s = spins[chain]
        for i in range(len(s)):
            populations[chain, s[i]] += 1
        energy[chain] = 0.0
        for b in range(len(J)):
            if s[edges[b, 0]] == s[edges[b, 1]]:
                energy[chain] -= J[b]


@jit
def _metropolis(spins, rng, chains, n, neighbours, K, active, q, changed):  # noqa: ARG001  one signature
    n_sites, z = neighbours.shape
    for chain in chains:
        s = spins[chain]
        s0, s1, s2, s3 = rng[chain]
        for _ in range(n):
            for i in range(n_sites):
                old = s[i]
                bits, s0, s1, s2, s3 = step(s0, s1, s2, s3)
                new = old + 1 + int(fraction(bits) * (q - 1))  # one of the others, all alike
                if new >= q:
                    new -= q
                gain = 0.0
                for k in range(z):
                    there = s[neighbours[i, k]]
                    if there == new:
                        gain += K[i, k]
                    elif there == old:
                        gain -= K[i, k]
                bits, s0, s1, s2, s3 = step(s0, s1, s2, s3)
                if fraction(bits) < (LAZINESS if gain >= 0.0 else LAZINESS * np.exp(gain)):
                    s[i] = new
                    changed[chain] += 1
        rng[chain] = s0, s1, s2, s3


@jit
def _heat_bath(spins, rng, chains, n, neighbours, K, active, q, changed):  # noqa: ARG001  one signature
    n_sites, z = neighbours.shape
    weight = np.empty(q)
    for chain in chains:
        s = spins[chain]
        s0, s1, s2, s3 = rng[chain]
        for _ in range(n):
            for i in range(n_sites):
                for state in range(q):
                    weight[state] = 0.0
                for k in range(z):
                    weight[s[neighbours[i, k]]] += K[i, k]
                largest, total = weight[0], 0.0  # its exponential would overflow at low temperature
                for state in range(1, q):
                    largest = max(largest, weight[state])
                alone = np.exp(-largest)
                for state in range(q):
                    if weight[state] == largest:
                        total += 1.0
                    elif weight[state] == 0.0:  # no neighbour in this state: often, where q is large
                        total += alone
                    else:
                        total += np.exp(weight[state] - largest)
                    weight[state] = total
                bits, s0, s1, s2, s3 = step(s0, s1, s2, s3)
                u, new = fraction(bits) * total, 0
                while new < q - 1 and weight[new] <= u:
                    new += 1
                changed[chain] += new != s[i]
                s[i] = new
        rng[chain] = s0, s1, s2, s3


@jit
def _wolff(spins, rng, chains, n, neighbours, K, active, q, changed):
    """Swaps two states, that of a random site and a random other one, on one cluster.

    A bond is active only if it would lose by a swap on one side: equal states where K > 0, and one of each
    where K < 0.
    """
    n_sites, z = neighbours.shape
    cluster = np.empty(n_sites, dtype=np.int32)  # its sites in the order found; also the queue
    found = np.zeros(n_sites, dtype=np.bool_)
    for chain in chains:
        s = spins[chain]
        s0, s1, s2, s3 = rng[chain]
        for _ in range(n):
            bits, s0, s1, s2, s3 = step(s0, s1, s2, s3)
            cluster[0], size, done = int(fraction(bits) * n_sites), 1, 0
            found[cluster[0]] = True
            here = s[cluster[0]]
            bits, s0, s1, s2, s3 = step(s0, s1, s2, s3)
            other = (here + 1 + int(fraction(bits) * (q - 1))) % q
            while done < size:
                i = cluster[done]
                done += 1
                for k in range(z):
                    j = neighbours[i, k]
                    if not found[j] and s[j] == (s[i] if K[i, k] > 0 else here + other - s[i]):
                        bits, s0, s1, s2, s3 = step(s0, s1, s2, s3)
                        if fraction(bits) < active[i, k]:
                            found[j] = True
                            cluster[size] = j
                            size += 1
            for i in cluster[:size]:
                found[i] = False
                s[i] = here + other - s[i]
            changed[chain] += size
        rng[chain] = s0, s1, s2, s3


@jit
def _swendsen_wang(spins, rng, chains, n, neighbours, K, active, q, changed):  # noqa: ARG001  one signature
    """Gives every cluster of active bonds between equal states a new state, all q alike."""
    n_sites, z = neighbours.shape
    cluster = np.empty(n_sites, dtype=np.int32)
    visited = np.empty(n_sites, dtype=np.bool_)
    for chain in chains:
        s = spins[chain]
        s0, s1, s2, s3 = rng[chain]
        for _ in range(n):
            visited[:] = False
            for root in range(n_sites):
                if visited[root]:
                    continue
                old = s[root]
                bits, s0, s1, s2, s3 = step(s0, s1, s2, s3)
                new = int(fraction(bits) * q)
                cluster[0], size, done = root, 1, 0
                visited[root] = True
                while done < size:
                    i = cluster[done]
                    done += 1
                    s[i] = new
                    for k in range(z):
                        j = neighbours[i, k]
                        if not visited[j] and s[j] == old:  # each bond is met once: later one end is visited
                            bits, s0, s1, s2, s3 = step(s0, s1, s2, s3)
                            if fraction(bits) < active[i, k]:
                                visited[j] = True
                                cluster[size] = j
                                size += 1
                if new != old:
                    changed[chain] += size
        rng[chain] = s0, s1, s2, s3


UPDATES = {
    "heat_bath": _heat_bath,
    "metropolis": _metropolis,
    "swendsen_wang": _swendsen_wang,
    "wolff": _wolff,
}
