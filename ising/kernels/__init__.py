"""What makes the updates fast. Private: :mod:`ising.simulate` and :mod:`ising.tempering` are the way in.

A sampler packs many chains once, sweeps them many times and unpacks when asked. :func:`choose` finds the
fastest one that covers an update, a Hamiltonian and a device; all pass the same tests as the rules of
:mod:`ising.updates`.
"""

from typing import Protocol

import numpy as np

from ..model import Ising
from .multispin import LANES, Multispin
from .plain import Plain
from .wolff import Wolff

__all__ = ["LANES", "Multispin", "Plain", "Sampler", "Wolff", "choose"]


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

    def measure(self) -> tuple[np.ndarray, np.ndarray]:
        """Total energy and magnetisation of every chain, float64, ``(chains,)`` each."""

    def set_beta(self, beta: float | np.ndarray) -> None:
        """Changes the inverse temperature: one number, or one per chain."""

    def exchange(self, a: np.ndarray, b: np.ndarray) -> None:
        """Swaps the configurations of the chains ``a[k]`` and ``b[k]``; no chain may occur twice."""

    def state(self) -> dict[str, np.ndarray]:
        """All that :meth:`load` needs to go on as if nothing had happened."""

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Takes over a :meth:`state` of a sampler constructed alike."""


def choose(update: str, model: Ising, device: str) -> type[Sampler]:
    """The fastest sampler for this update, Hamiltonian and device."""
    for fast in (Multispin, Wolff):
        if fast.covers(update, model, device):
            return fast
    return Plain
