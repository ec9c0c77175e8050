r"""Ladders of replicas that share a sampler, and Houdayer moves between the replicas of two ladders.

In a block of n ladders l and l + n / 2 are partners: at each temperature their two replicas may exchange a
cluster (:mod:`ising.houdayer`). That leaves the law of both a product, but what one ladder loses the other
one gains, so that partners are correlated over time.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from . import glasses, kernels, updates
from .houdayer import Houdayer
from .kernels import bits
from .kernels.exchange import Exchanges, Packed
from .kernels.lanes import LANES, WORDS
from .model import Ising
from .simulate import initial_spins, root_seed


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
        """One round of cluster moves of all pairs at equal temperature, on bits where there are any."""
        first, second = np.split(chains(self._exchanges).ravel(), 2)
        state = self._sampler.state()
        if "spins" in state:
            self._mover.move(state["spins"], first, second)
        elif "packed" in state:
            spins = bits.unpack(state["packed"], self._sampler.spins().shape[1])
            self._mover.move(spins, first, second)
            state["packed"] = bits.pack(spins)
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
        """Sweeps and exchanges n times, and moves clusters whenever they are due."""
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
        """As :meth:`Replicas.sample`, of the ladders of this block."""
        energy, magnetisation = self.sampler.measure()
        spins, energy, magnetisation = (
            self.by_temperature(x) for x in (self.sampler.spins(), energy, magnetisation)
        )
        return spins, energy, magnetisation


def chains(exchanges: Exchanges) -> np.ndarray:
    """Chain of each ladder that is at each temperature, ``(ladders, temperatures)``."""
    ladders, n = exchanges.walkers.shape
    return exchanges.walkers + n * np.arange(ladders)[:, None]


class Replicas:
    """All ladders at once, in blocks that share a sampler. Chain ``l * T + w`` is walker w of ladder l.

    With ``houdayer`` sweeps between cluster moves the number of ladders is even, and the second half of them
    are the partners of the first half, in the order in which samples are returned.
    """

    def __init__(
        self,
        model: Ising,
        betas: Sequence[float],
        update: str,
        ladders: int,
        start: str,
        seed: int,
        device: str,
        threads: int,
        houdayer: int = 0,
    ):
        updates.get(update)
        self._betas, self._threads = np.array(betas, dtype=np.float64), threads
        kind = f"tempering with clusters every {houdayer}" if houdayer else "tempering"
        root = root_seed(kind, model.describe(), self._betas.tolist(), update, int(ladders), start, int(seed))
        together = max(1, LANES // len(betas))
        self._paired = bool(houdayer)
        if self._paired:  # partners share a block
            together = max(2, together - together % 2)
        sizes = [min(together, ladders - first) for first in range(0, ladders, together)]
        seeds = root.spawn(3 * len(sizes))
        cluster_seeds = root.spawn(len(sizes))
        self.blocks = []
        for k, size in enumerate(sizes):
            start_seed, run_seed, exchange_seed = seeds[3 * k : 3 * k + 3]
            spins = initial_spins(start, size * len(betas), model.lattice.n_sites, start_seed, update)
            exchanges = Exchanges(self._betas, size, exchange_seed)
            form = kernels.choose(update, model, device, len(spins))
            if form is kernels.Triton:  # it has one temperature per word
                form = kernels.Plain
            sampler = form(model, update, self._betas[exchanges.place], spins, run_seed, device=device)
            clusters = None
            if houdayer:
                clusters = Clusters(model, sampler, exchanges, houdayer, cluster_seeds[k])
            self.blocks.append(Block(sampler, exchanges, clusters))

    def restart_counts(self) -> None:
        """Forgets the exchanges and round trips so far, as after the burn-in."""
        for block in self.blocks:
            block.exchanges.restart_counts()

    @property
    def exchange_rates(self) -> np.ndarray:
        """Accepted share of the exchanges proposed between neighbours, ``(temperatures - 1,)``."""
        accepted, proposed = sum(block.exchanges.swaps for block in self.blocks)
        return accepted / np.maximum(proposed, 1)

    @property
    def round_trips(self) -> int:
        """Of all replicas, from the first temperature to the last and back."""
        return sum(block.exchanges.trips for block in self.blocks)

    @property
    def kernel(self) -> str:
        """Name of the kernel that sweeps."""
        return self.blocks[0].sampler.name

    def sweep(self, n: int) -> None:
        """Repeats n times: one sweep of every replica, then one round of exchanges."""
        if self._threads == 1 or len(self.blocks) == 1:
            for block in self.blocks:
                block.sweep(n)
        else:
            with ThreadPoolExecutor(self._threads) as pool:
                list(pool.map(lambda block: block.sweep(n), self.blocks))

    def sample(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Spins, total energies and total magnetisations by temperature and ladder."""
        parts = [block.sample() for block in self.blocks]
        spins, energy, magnetisation = (self._joined(x) for x in zip(*parts, strict=True))
        return spins, energy, magnetisation

    def watch(self) -> np.ndarray:
        """Energies and absolute magnetisations of all temperatures, ``(2 * temperatures, ladders)``.

        Of partners it is the mean of both, and below come the squares of their overlaps,
        ``(3 * temperatures, ladders / 2)``.
        """
        if not self._paired:
            measured = [block.by_temperature(x) for block in self.blocks for x in block.sampler.measure()]
            return np.concatenate([self._joined(measured[::2]), np.abs(self._joined(measured[1::2]))])
        spins, *measured = self.sample()
        first, second = np.split(spins, 2, axis=1)
        means = (np.add(*np.split(np.abs(x), 2, axis=1)) / 2 for x in measured)
        return np.concatenate([*means, glasses.overlap(first, second) ** 2])

    def _joined(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """All blocks side by side, ``(temperatures, ladders, ...)``; partners after the first of pairs."""
        if self._paired:
            parts = [half for k in (0, 1) for half in (np.split(part, 2, axis=1)[k] for part in parts)]
        return np.concatenate(parts, axis=1)

    def state(self) -> dict[str, np.ndarray]:
        """Everything that :meth:`load` needs to go on with the same bits."""
        return {
            f"{k}/{part}/{name}": array
            for k, block in enumerate(self.blocks)
            for part, keeper in block.parts.items()
            for name, array in keeper.state().items()
        }

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Takes over what :meth:`state` gave; raises ``ValueError`` where the arrays do not fit."""
        old, new = ({name: x.shape for name, x in arrays.items()} for arrays in (state, self.state()))
        if old != new:
            raise ValueError("cannot resume: the ladder was made with other arguments; repeat those")
        for k, block in enumerate(self.blocks):
            for part, keeper in block.parts.items():
                head = f"{k}/{part}/"
                saved = {name.removeprefix(head): x for name, x in state.items() if name.startswith(head)}
                keeper.load(saved)
            block.sampler.set_beta(self._betas[block.exchanges.place])
