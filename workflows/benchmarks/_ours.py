"""The contestants of this package, and the loops that users write. Run as a module by a benchmark."""

import numpy as np
import torch

from ising import Ising, lattices
from ising.kernels.line_wolff import LineWolff
from ising.kernels.multispin import Multispin
from ising.kernels.parallel_wolff import ParallelWolff
from ising.kernels.plain import Plain
from ising.kernels.swendsen_wang import SwendsenWang
from ising.kernels.wolff import Wolff
from ising.tempering import Replicas
from workflows.benchmarks import _loops
from workflows.benchmarks._peers import serve

KERNELS = {
    kernel.__name__: kernel for kernel in (LineWolff, Multispin, ParallelWolff, Plain, SwendsenWang, Wolff)
}


class Kernel:
    """One sampler of :mod:`ising.kernels`; a sweep of it is an update."""

    def __init__(
        self,
        kernel: str,
        L: int,
        beta: float,
        chains: int = 1,
        update: str = "metropolis",
        lattice: str = "square",
        h: float = 0.0,
        couplings: np.ndarray | None = None,
        ordered: bool = False,
    ):
        built = lattices.build(lattice, L)
        model = Ising(built, J=1.0 if couplings is None else torch.from_numpy(couplings), h=h)
        start = np.ones((chains, built.n_sites), dtype=np.int8)
        if not ordered:
            start = 2 * np.random.default_rng(1).integers(0, 2, start.shape, dtype=np.int8) - 1
        self._sampler = KERNELS[kernel](model, update, beta, start, np.random.SeedSequence(1))
        self._chains, self._sites, self._whole = (
            chains,
            built.n_sites,
            kernel not in ("Wolff", "ParallelWolff", "LineWolff"),
        )

    def set_beta(self, beta: float) -> None:
        self._sampler.set_beta(beta)

    def run(self, n: int) -> dict[str, float]:
        """A Wolff cluster counts the sites that it has flipped, a sweep counts all."""
        flipped = self._sampler.sweep(n)
        visits = n * self._chains * self._sites
        return {"updates": n * self._chains, "sites": visits if self._whole else flipped * visits}

    def series(self, n: int, thin: int) -> dict[str, np.ndarray]:
        energy, magnetisation = np.empty((2, self._chains, n))
        for k in range(n):
            self._sampler.sweep(thin)
            energy[:, k], magnetisation[:, k] = self._sampler.measure()
        return {"energy": energy / self._sites, "abs_m": np.abs(magnetisation) / self._sites}


class Ladders:
    """Parallel tempering of this package."""

    def __init__(self, L: int, betas: list[float], ladders: int):
        model = Ising(lattices.square(L))
        self._replicas = Replicas(model, betas, "metropolis", ladders, "random", 1, "cpu", 1)
        self._ladders, self._sites = ladders, ladders * len(betas) * L * L
        self._temperatures, self._size = len(betas), L * L

    def run(self, n: int) -> dict[str, float]:
        before = self._replicas.round_trips
        self._replicas.sweep(n)
        trips = self._replicas.round_trips - before
        return {"updates": n * self._ladders, "sites": n * self._sites, "round_trips": trips}

    def series(self, n: int, thin: int) -> dict[str, np.ndarray]:
        energy = np.empty((self._temperatures, self._ladders, n))
        for k in range(n):
            self._replicas.sweep(thin)
            energy[:, :, k] = self._replicas.watch()[: self._temperatures]
        return {"energy": energy / self._size, "exchange_rates": self._replicas.exchange_rates}


OURS = {
    "ladders": Ladders,
    "kernel": Kernel,
    "numba loop": _loops.Metropolis,
    "numpy checkerboard": _loops.Checkerboard,
}
OURS |= {"numba wolff": _loops.Wolff}

if __name__ == "__main__":
    serve(OURS)
