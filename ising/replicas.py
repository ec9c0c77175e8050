r"""Ladders of replicas that share a sampler, and Houdayer moves between the replicas of two ladders.

In a block of n ladders l and l + n / 2 are partners: at each temperature their two replicas may exchange a
cluster (:mod:`ising.houdayer`). That leaves the law of both a product, but what one ladder loses the other
one gains, so that partners are correlated over time.
"""

import numpy as np

from . import kernels
from .houdayer import Houdayer
from .kernels.exchange import Exchanges, Packed
from .kernels.lanes import WORDS
from .model import Ising


class Clusters:
    """Houdayer moves of all partners in a block at all temperatures, after every so many sweeps."""

    def __init__(
        self,
        model: Ising,
        sampler: kernels.Sampler,
        exchanges: Exchanges,
        every: int,
        seed: np.random.SeedSequence,
    ):
        self._sampler, self._exchanges = sampler, exchanges
        self._mover = Houdayer(model, exchanges.walkers.size // 2, seed)
        self._since, self._every = 0, every

    @property
    def due(self) -> int:
        """Sweeps until the next moves."""
        return self._every - self._since

    def passed(self, sweeps: int) -> None:
        """Counts sweeps, at most those due, and moves when it is time."""
        self._since += sweeps
        if self._since == self._every:
            self._since = 0
            self.move()

    def move(self) -> None:
        first, second = np.split(chains(self._exchanges).ravel(), 2)
        state = self._sampler.state()
        if "spins" in state:
            self._mover.move(state["spins"], first, second)
        elif isinstance(self._sampler, kernels.Multispin) and self._sampler.layout.cuts != (1, 1):
            spins = self._sampler.spins()  # no glass is cut into tiles: they would not be alike
            self._mover.move(spins, first, second)
            state["bits"] = self._sampler.layout.pack(spins)
        else:
            columns, n_sites, _ = state["bits"].shape
            words = state["bits"].transpose(1, 0, 2).reshape(n_sites, columns * WORDS)
            self._mover.move_words(words, first, second)
            state["bits"] = words.reshape(n_sites, columns, WORDS).transpose(1, 0, 2)
        self._sampler.load(state)

    def state(self) -> dict[str, np.ndarray]:
        return {"streams": self._mover.state(), "clock": np.array([self._since, self._every])}

    def load(self, state: dict[str, np.ndarray]) -> None:
        since, every = state["clock"].tolist()
        if every != self._every:
            raise ValueError(f"cannot resume: houdayer was {every} and is now {self._every}; repeat the old")
        self._mover.load(state["streams"])
        self._since = since


class Block:
    """Some ladders, the sampler of their chains, their places, and their cluster moves if there are any."""

    def __init__(self, sampler: kernels.Sampler, exchanges: Exchanges, clusters: Clusters | None = None):
        self.sampler, self.exchanges, self.clusters = sampler, exchanges, clusters
        self._packed = Packed(sampler, exchanges) if isinstance(sampler, kernels.Multispin) else None

    @property
    def parts(self) -> dict[str, kernels.Sampler | Exchanges | Clusters]:
        """What has a state."""
        clusters = {} if self.clusters is None else {"clusters": self.clusters}
        return {"sampler": self.sampler, "exchanges": self.exchanges} | clusters

    def sweep(self, n: int) -> None:
        while self.clusters is not None and n >= self.clusters.due:
            due = self.clusters.due
            self._sweep(due)
            self.clusters.passed(due)
            n -= due
        self._sweep(n)
        if self.clusters is not None:
            self.clusters.passed(n)

    def _sweep(self, n: int) -> None:
        if self._packed is not None:
            self._packed.sweep(n)
            return
        for _ in range(n):
            self.sampler.sweep(1)
            self.exchanges.propose(self.sampler.measure()[0])
            self.sampler.set_beta(self.exchanges.betas[self.exchanges.place])

    def by_temperature(self, x: np.ndarray) -> np.ndarray:
        """``(chains, ...)`` to ``(temperatures, ladders, ...)``."""
        return x[chains(self.exchanges).T]

    def sample(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        energy, magnetisation = self.sampler.measure()
        spins, energy, magnetisation = (
            self.by_temperature(x) for x in (self.sampler.spins(), energy, magnetisation)
        )
        return spins, energy, magnetisation


def chains(exchanges: Exchanges) -> np.ndarray:
    """Chain of each ladder that is at each temperature, ``(ladders, temperatures)``."""
    ladders, n = exchanges.walkers.shape
    return exchanges.walkers + n * np.arange(ladders)[:, None]
