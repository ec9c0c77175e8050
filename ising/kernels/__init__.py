"""What makes the updates fast. Private: :mod:`ising.simulate` and :mod:`ising.tempering` are the way in.

A sampler packs many chains once, sweeps them many times and unpacks when asked. :func:`choose` finds the
fastest one that covers an update, a Hamiltonian and a device; all pass the same tests as the rules of
:mod:`ising.updates`.
"""

from typing import Protocol

import numpy as np

from ..model import Ising
from .gpu import Triton
from .kawasaki import Kawasaki
from .line_wolff import LineWolff
from .multispin import Multispin
from .parallel_wolff import ParallelWolff
from .plain import Plain
from .swendsen_wang import SwendsenWang
from .wolff import Wolff

__all__ = [
    "Kawasaki",
    "LineWolff",
    "Multispin",
    "ParallelWolff",
    "Plain",
    "Sampler",
    "SwendsenWang",
    "Triton",
    "Wolff",
    "choose",
]


class Sampler(Protocol):
    """Many chains of one Hamiltonian, from ``spins`` ``(chains, N)`` on.

    The same seed gives the same spins for any number of threads.
    """

    name: str

    def __init__(
        self,
        model: Ising,
        update: str,
        beta: float | np.ndarray,
        spins: np.ndarray,
        seed: np.random.SeedSequence,
        *,
        device: str = "cpu",
        threads: int = 1,
    ): ...

    def sweep(self, n: int) -> float:
        """Makes n sweeps; returns the flipped fraction of spins, of all chains.

        It is averaged over the n sweeps, or that of the last one where all of them would cost time.
        """

    def spins(self) -> np.ndarray:
        """The configurations, int8, ``(chains, N)``."""

    def bits(self) -> np.ndarray:
        """The configurations as they are stored, uint8, ``(chains, ceil(N/8))``, see :mod:`.bits`."""

    def measure(self) -> tuple[np.ndarray, np.ndarray]:
        """Total energy and magnetisation of every chain, float64, ``(chains,)`` each."""

    def set_beta(self, beta: float | np.ndarray) -> None:
        """Changes the inverse temperature: one number, or one per chain."""

    def state(self) -> dict[str, np.ndarray]:
        """All that :meth:`load` needs to go on as if nothing had happened."""

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Takes over a :meth:`state` of a sampler constructed alike."""


def choose(update: str, model: Ising, device: str, chains: int) -> type[Sampler]:
    """The fastest sampler for this update, Hamiltonian, device and number of chains."""
    for many in (LineWolff, ParallelWolff):
        if many.covers(update, model, device, chains):
            return many
    for fast in (Multispin, Triton, Wolff, SwendsenWang, Kawasaki):
        if fast.covers(update, model, device):
            return fast
    return Plain
