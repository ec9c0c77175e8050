"""What the samplers of clusters share: spins as bits, bonds in words, one random number stream per chain.

The first word of a chain holds no site but the ghost spin of a field, which is up; site i is bit i % 64 of
word 1 + i // 64.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import int64, uint64
from numba.cpython.unsafe.numbers import trailing_zeros

from ..model import Ising
from .bonds import ONE, WORD, grouped, popcount, probability_digits, satisfied
from .xoshiro import bare, streams

NO_SQUARES, NO_LABELS = np.empty((0, 0)), np.empty((0, 0), dtype=np.int32)  # where none are asked for


class ClusterSampler:
    """See :class:`ising.kernels.Sampler`; left to say is how blocks of chains are swept (``_grow``)."""

    name: str

    @classmethod
    def covers(cls, update: str, model: Ising, device: str) -> bool:  # noqa: ARG003  any Hamiltonian will do
        return update == cls.name and device == "cpu"

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
        h = model.site_fields.numpy()
        self._n_sites, self._field = len(h), bool(h.any())
        self._bonds = grouped(model.lattice.edges.numpy().astype(np.int32), model.bond_couplings.numpy(), h)
        self._words = self._packed(spins)
        self._rng = np.ascontiguousarray(streams(seed, len(spins)).T)
        self._blocks = np.array_split(np.arange(len(spins)), min(threads, len(spins)))
        self._betas = np.empty(0)
        self.set_beta(beta)

    def set_beta(self, beta: float | np.ndarray) -> None:
        per_chain = np.broadcast_to(np.asarray(beta, dtype=np.float64), len(self._words))
        betas, self._which = np.unique(per_chain, return_inverse=True)  # chains share tables
        if not np.array_equal(betas, self._betas):  # an exchange only deals them out anew
            self._betas = betas
            self._digits = probability_digits(betas[:, None, None] * self._bonds.weights)

    def sweep(self, n: int) -> float:
        return self._run(n)

    def squares(self, n: int) -> np.ndarray:
        r"""Makes n sweeps; each gives a cluster estimator of :math:`M^2`, float64, ``(chains, n)``.

        Without a field only: see :mod:`ising.improved`.
        """
        squares = np.empty((len(self._words), n))
        self._run(n, squares=squares)
        return squares

    def spins(self) -> np.ndarray:
        return 2 * self._up().view(np.int8) - 1

    def bits(self) -> np.ndarray:
        return np.packbits(self._up(), axis=-1)

    def measure(self) -> tuple[np.ndarray, np.ndarray]:
        energy, magnetisation = np.zeros((2, len(self._words)))
        alike = (self._bonds.weights[:, 1:] == self._bonds.weights[:, :-1]).all(1)

        def measure_block(block: np.ndarray) -> None:
            _measure(self._words, block, self._bonds, alike, energy, magnetisation)

        self._over_blocks(measure_block)
        return energy, magnetisation - self._n_sites

    def state(self) -> dict[str, np.ndarray]:
        return {"spins": self.spins(), "rng": self._rng.copy()}

    def load(self, state: dict[str, np.ndarray]) -> None:
        self._words, self._rng = self._packed(state["spins"]), np.array(state["rng"], order="C")

    def _packed(self, spins: np.ndarray) -> np.ndarray:
        words = np.zeros((len(spins), 1 + -(-self._n_sites // WORD)), dtype="<u8")
        packed = np.packbits(spins > 0, axis=-1, bitorder="little")
        words[:, 1:].view(np.uint8)[:, : packed.shape[1]] = packed
        words[:, 0] = 2**64 - 1
        return words.astype(np.uint64)

    def _up(self) -> np.ndarray:
        octets = np.ascontiguousarray(self._words[:, 1:].astype("<u8")).view(np.uint8)
        return np.unpackbits(octets, axis=-1, bitorder="little", count=self._n_sites)

    def _run(self, n: int, squares: np.ndarray = NO_SQUARES, labels: np.ndarray = NO_LABELS) -> float:
        flipped = np.zeros(len(self._words))
        self._over_blocks(lambda block: self._grow(block, n, flipped, squares, labels))
        return float(flipped.mean()) / (n * self._n_sites)

    def _grow(self, block, n, flipped, squares, labels) -> None:
        raise NotImplementedError

    def _over_blocks(self, work: Callable[[np.ndarray], None]) -> None:
        if len(self._blocks) == 1:
            work(self._blocks[0])
        else:
            with ThreadPoolExecutor(len(self._blocks)) as pool:
                list(pool.map(work, self._blocks))


@bare
def _measure(spins, chains, bonds, alike, energy, magnetisation):
    """Adds the energy of each given chain, and twice the number of its spins that are up."""
    first, distance, there, against, row, weights = bonds
    for chain in chains:
        words = spins[chain]
        for w in range(ONE, uint64(len(words))):
            magnetisation[chain] += 2 * popcount(words[w])
            for g in range(first[w], first[w + ONE]):
                good, weight = satisfied(words, w, g, distance, there, against), weights[row[g]]
                if alike[row[g]]:
                    count = 2 * int64(popcount(good)) - int64(popcount(there[g]))
                    energy[chain] -= weight[0] * count
                else:
                    left = there[g]
                    while left:
                        k = uint64(trailing_zeros(left))
                        left &= left - ONE
                        energy[chain] -= weight[k] * (2 * int64((good >> k) & ONE) - 1)
