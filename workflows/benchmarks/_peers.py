"""Contestants from other packages, and the loop in which every contestant waits for work.

Run as a file by the Python of an environment that holds the peers: it imports nothing of ours. A request is a
pickled ``(key, method, arguments)`` on stdin; the reply is the result and the CPU seconds that it took.
"""

import os
import pickle
import sys
import time
import typing
from collections.abc import Callable

import numpy as np


def older_python() -> None:
    """Gives Python 3.11 the decorator without effect that rbms 0.6 imports from 3.12."""
    typing.override = getattr(typing, "override", lambda function: function)


def serve(kinds: dict[str, Callable]) -> None:
    """Answers until stdin ends. ``make`` and ``drop`` are for the loop itself, all else for a contestant."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a package prints must not get between the replies
    made: dict[str, object] = {}
    while True:
        try:
            key, method, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        began, result = time.process_time(), None
        if method == "make":
            kind, options = arguments
            made[key] = kinds[kind](**options)
        elif method == "drop":
            del made[key]
        else:
            result = getattr(made[key], method)(*arguments)
        pickle.dump((result, time.process_time() - began), replies)
        replies.flush()


class Mcising:
    """One lattice of mcising."""

    def __init__(
        self, L: int, beta: float, algorithm: str = "metropolis", lattice: str = "square", h: float = 0.0
    ):
        import mcising

        self._sim = mcising.IsingSimulation(L, 1.0, 0.0, 0.0, h, 1, algorithm, lattice)
        self._sim.set_spins(np.ones(self._sim.num_sites, dtype=np.int8))
        self.set_beta(beta)

    def set_beta(self, beta: float) -> None:
        self._temperature = 1 / beta

    def run(self, n: int) -> dict[str, float]:
        _, sites, _ = self._sim.sweep(n, temperature=self._temperature)
        return {"updates": n, "sites": sites}

    def series(self, n: int, thin: int) -> dict[str, np.ndarray]:
        done = self._sim.production_sweeps(n, thin, temperature=self._temperature, store_configs=False)
        return {"energy": done["energies"][None], "abs_m": np.abs(done["magnetizations"][None])}


class McisingTempering:
    """One ladder of mcising, with swaps after every sweep; each call starts it anew."""

    def __init__(self, L: int, betas: list[float], burn_in: int):
        self._L, self._betas, self._burn_in = L, betas, burn_in

    def _simulate(self, burn_in: int, n: int, thin: int) -> tuple[list[dict], dict]:
        from mcising import _core

        size = self._L, 1.0, 0.0, 0.0, 0.0, 1, "metropolis", "square"
        return _core.run_parallel_tempering(*size, [1 / b for b in self._betas], burn_in, n, thin, 1)

    def run(self, n: int) -> dict[str, float]:
        _, ladder = self._simulate(0, n, n)
        work = {"updates": n, "sites": n * len(self._betas) * self._L**2}
        return work | {"round_trips": int(sum(ladder["round_trips"]))}

    def series(self, n: int, thin: int) -> dict[str, np.ndarray]:
        done, ladder = self._simulate(self._burn_in, n * thin, thin)
        at = {round(1 / row["temperature"], 9): row["energies"] for row in done}
        rates = np.array(ladder["swap_accepted"]) / np.array(ladder["swap_attempted"])
        energies = np.stack([at[round(beta, 9)] for beta in self._betas])
        return {"energy": energies, "exchange_rates": rates}


class Peapods:
    """One lattice of peapods, or a ladder with swaps after every sweep. It measures after every sweep."""

    def __init__(
        self,
        L: int,
        beta: float = 0.0,
        betas: list[float] | None = None,
        update: str = "metropolis",
        couplings: np.ndarray | None = None,
    ):
        self._L, self._update, self._couplings = L, update, couplings
        self._tempering = betas is not None
        self._build([beta] if betas is None else betas)

    def set_beta(self, beta: float) -> None:
        if abs(beta * self._temperatures[0] - 1) > 1e-6:
            self._build([beta])

    def _build(self, betas: list[float]) -> None:
        import peapods

        self._temperatures = 1 / np.array(betas)
        couplings = "ferro" if self._couplings is None else self._couplings
        self._model = peapods.Ising((self._L, self._L), couplings=couplings, temperatures=self._temperatures)

    def _sample(self, n: int) -> dict[str, np.ndarray]:
        swaps = 1 if self._tempering else None
        return self._model.sample(
            n, sweep_mode=self._update, pt_interval=swaps, warmup_ratio=0.0, sequential=True
        )

    def run(self, n: int) -> dict[str, float]:
        self._sample(n)
        return {"updates": n, "sites": n * len(self._temperatures) * self._L**2}

    def series(self, n: int, thin: int) -> dict[str, np.ndarray]:
        """Means over ``thin`` sweeps; the magnetisation, which has a sign, only where it is of one sweep."""
        blocks = [self._sample(thin) for _ in range(n)]
        energies = -np.array([block["energies"] for block in blocks], dtype=np.float64).T
        return {"energy": energies}


class RbmsAis:
    """log Z of one machine of 0/1 units by rbms."""

    def __init__(self, parameters: list[np.ndarray]):
        older_python()
        import torch
        from rbms.bernoulli_bernoulli.classes import BBRBM

        torch.set_num_threads(1)
        W, b, c = map(torch.from_numpy, parameters)
        self._machine = BBRBM(weight_matrix=W, vbias=b, hbias=c)

    def log_z(self, chains: int, temperatures: int, seed: int) -> float:
        import torch
        from rbms.partition_function.ais import compute_partition_function_ais

        torch.manual_seed(seed)
        return compute_partition_function_ais(chains, temperatures + 1, self._machine)


PEERS = {"rbms ais": RbmsAis, "mcising": Mcising, "mcising tempering": McisingTempering, "peapods": Peapods}

if __name__ == "__main__":
    serve(PEERS)
