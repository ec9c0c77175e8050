"""Kawasaki exchange, one chain after another, each with its own random number stream.

The Markov chain is that of :mod:`ising.updates.kawasaki`, bond by bond in the same order, for any couplings
and fields. Probabilities are compared with 53 random bits.
"""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from ..model import Ising
from ..updates.kawasaki import bond_classes
from .bits import pack
from .xoshiro import fraction, jit, step, streams


class Kawasaki:
    """See :class:`ising.kernels.Sampler`; one sweep visits every bond once."""

    name = "kawasaki"

    @staticmethod
    def covers(update: str, model: Ising, device: str) -> bool:  # noqa: ARG004  any Hamiltonian will do
        return update == "kawasaki" and device == "cpu"

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
        order = torch.cat([torch.arange(0), *bond_classes(model.lattice)])
        self._bonds = model.lattice.edges[order].numpy().astype(np.int32)
        self._own = 4 * model.bond_couplings[order].numpy()
        self._neighbours = model.lattice.neighbours[0].numpy().astype(np.int32)
        self._couplings = model.neighbour_couplings.numpy()
        self._fields = np.array(model.site_fields.numpy())
        self._spins = np.array(spins, dtype=np.int8, order="C")
        self._rng = np.ascontiguousarray(streams(seed, len(spins)).T)
        self._blocks = np.array_split(np.arange(len(spins)), min(threads, len(spins)))
        self.set_beta(beta)

    def set_beta(self, beta: float | np.ndarray) -> None:
        self._beta = np.array(np.broadcast_to(np.asarray(beta, dtype=np.float64), len(self._spins)))

    def sweep(self, n: int) -> float:
        """Makes n sweeps; returns the fraction of spins that differ after the last one from before it."""
        moved = np.zeros(len(self._spins), dtype=np.int64)

        def run(block: np.ndarray) -> None:
            tables = (self._bonds, self._own, self._neighbours, self._couplings, self._fields)
            _exchange_bonds(self._spins, self._rng, self._beta, block, n, *tables, moved)

        if len(self._blocks) == 1:
            run(self._blocks[0])
        else:
            with ThreadPoolExecutor(len(self._blocks)) as pool:
                list(pool.map(run, self._blocks))
        return float(moved.mean()) / self._spins.shape[1]

    def spins(self) -> np.ndarray:
        return self._spins.copy()

    def bits(self) -> np.ndarray:
        return pack(self._spins)

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
def _exchange_bonds(spins, rng, beta, chains, n, bonds, own, neighbours, couplings, fields, moved):
    """Makes n sweeps of each given chain and counts the sites that the last of them has changed."""
    z = neighbours.shape[1]
    for chain in chains:
        s, b = spins[chain], beta[chain]
        s0, s1, s2, s3 = rng[chain]
        before = s.copy()
        for sweep in range(n):
            if sweep == n - 1:
                before[:] = s
            for bond in range(len(bonds)):
                i, j = bonds[bond]
                if s[i] == s[j]:
                    continue
                difference = fields[i] - fields[j]
                for k in range(z):
                    difference += couplings[i, k] * s[neighbours[i, k]]
                    difference -= couplings[j, k] * s[neighbours[j, k]]
                bits, s0, s1, s2, s3 = step(s0, s1, s2, s3)
                cost = 2 * s[i] * difference + own[bond]
                if fraction(bits) * (1 + math.exp(b * cost)) < 1:
                    s[i], s[j] = s[j], s[i]
        rng[chain] = s0, s1, s2, s3
        for i in range(len(s)):
            moved[chain] += s[i] != before[i]
