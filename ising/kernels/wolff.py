"""Wolff clusters, one chain after another, each with its own random number stream.

The law is that of :mod:`ising.updates.wolff`, for couplings of any sign and any field; bonds are drawn as the
cluster meets them. Probabilities are compared with 53 random bits.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from ..model import Ising
from .xoshiro import fraction, jit, step, streams


class Wolff:
    """See :class:`ising.kernels.Sampler`; one sweep is one cluster in every chain."""

    name = "wolff"

    @staticmethod
    def covers(update: str, model: Ising, device: str) -> bool:  # noqa: ARG004  any Hamiltonian will do
        return update == "wolff" and device == "cpu"

    def __init__(
        self,
        model: Ising,
        update: str,  # noqa: ARG002
        beta: float | np.ndarray,
        spins: np.ndarray,
        seed: np.random.SeedSequence,
        *,
        device: str = "cpu",  # noqa: ARG002
        threads: int = 1,
    ):
        self._model = model
        self._neighbours = model.lattice.neighbours[0].numpy().astype(np.int32)
        self._couplings = model.neighbour_couplings.numpy()
        self._fields = np.array(model.site_fields.numpy())
        self._spins = np.array(spins, dtype=np.int8, order="C")
        self._rng = np.ascontiguousarray(streams(seed, len(spins)).T)
        self._blocks = np.array_split(np.arange(len(spins)), min(threads, len(spins)))
        self.set_beta(beta)

    def set_beta(self, beta: float | np.ndarray) -> None:
        self._beta = np.broadcast_to(np.asarray(beta, dtype=np.float64), len(self._spins))
        self._law = [  # chains at one temperature share their table of bond probabilities
            (b, -np.expm1(-2 * b * np.abs(self._couplings)), -np.expm1(-2 * b * np.abs(self._fields)))
            for b in np.unique(self._beta)
        ]

    def sweep(self, n: int) -> float:
        flipped = np.zeros(len(self._spins))

        def run(block: np.ndarray) -> None:
            for beta, bond, tie in self._law:
                chains = block[self._beta[block] == beta]
                _flip_clusters(
                    self._spins,
                    self._rng,
                    chains,
                    n,
                    self._neighbours,
                    self._couplings,
                    bond,
                    self._fields,
                    tie,
                    flipped,
                )

        if len(self._blocks) == 1:
            run(self._blocks[0])
        else:
            with ThreadPoolExecutor(len(self._blocks)) as pool:
                list(pool.map(run, self._blocks))
        return float(flipped.mean()) / (n * self._spins.shape[1])

    def spins(self) -> np.ndarray:
        return self._spins.copy()

    def measure(self) -> tuple[np.ndarray, np.ndarray]:
        energy = self._model.energy(torch.from_numpy(self._spins)).numpy()
        return energy, self._spins.sum(-1, dtype=np.float64)

    def exchange(self, a: np.ndarray, b: np.ndarray) -> None:
        self._spins[np.concatenate([a, b])] = self._spins[np.concatenate([b, a])]

    def state(self) -> dict[str, np.ndarray]:
        return {"spins": self._spins.copy(), "rng": self._rng.copy()}

    def load(self, state: dict[str, np.ndarray]) -> None:
        self._spins, self._rng = (np.array(state[name], order="C") for name in ("spins", "rng"))


@jit
def _flip_clusters(spins, rng, chains, n, neighbours, couplings, bond, fields, tie, flipped):
    """Makes n clusters in each given chain; ``bond`` (N, z) and ``tie`` (N,) are activation probabilities."""
    n_sites, z = neighbours.shape
    cluster = np.empty(n_sites, dtype=np.int32)  # its sites in the order found; also the queue
    found = np.zeros(n_sites, dtype=np.bool_)
    for chain in chains:
        s = spins[chain]
        s0, s1, s2, s3 = rng[chain]
        for _ in range(n):
            bits, s0, s1, s2, s3 = step(s0, s1, s2, s3)
            cluster[0], size, done, tied = int(fraction(bits) * n_sites), 1, 0, False
            found[cluster[0]] = True
            while done < size and not tied:
                i = cluster[done]
                done += 1
                if fields[i] * s[i] > 0:
                    bits, s0, s1, s2, s3 = step(s0, s1, s2, s3)
                    tied = fraction(bits) < tie[i]
                for k in range(z):
                    j = neighbours[i, k]
                    if not found[j] and couplings[i, k] * s[i] * s[j] > 0:
                        bits, s0, s1, s2, s3 = step(s0, s1, s2, s3)
                        if fraction(bits) < bond[i, k]:
                            found[j] = True
                            cluster[size] = j
                            size += 1
            for i in cluster[:size]:
                found[i] = False
                if not tied:
                    s[i] = -s[i]
            if not tied:
                flipped[chain] += size
        rng[chain] = s0, s1, s2, s3
