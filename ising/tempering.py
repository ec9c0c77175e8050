r"""Replica exchange (parallel tempering): one replica per temperature, neighbours swap configurations.

After every sweep the pairs (0, 1), (2, 3), … or, in turn, (1, 2), (3, 4), … are swapped with probability

.. math:: \min\big(1, e^{(\beta_a - \beta_b)(E_a - E_b)}\big) ,

which leaves the product of the Boltzmann laws unchanged. Configurations that are stuck at a low temperature
come loose on their way through a high one.

References:
    | Replica Monte Carlo Simulation of Spin-Glasses (Swendsen and Wang, 1986)
    | Exchange Monte Carlo Method and Application to Spin Glass Simulations (Hukushima and Nemoto, 1996)
"""

import math
import platform
import time
from dataclasses import dataclass

import numpy as np
import torch

from . import kernels, updates
from .equilibrium import Pilot, pilot, warn_if_unsettled
from .model import Ising, check_beta
from .run import Run
from .simulate import check_counts, check_device, check_start, initial_spins, root_seed


@dataclass(frozen=True, eq=False)
class Ladder:
    """A simulation at several temperatures at once.

    Attributes:
        runs: One run per temperature, in the order of the betas. Sample k of chain c of all runs was taken at
            the same time from one ladder, so the runs are independent across chains, not across temperatures.
        exchange_rates: Accepted fraction of the swaps between neighbours, shape ``(temperatures - 1,)``. A
            rate below about 0.1 is a gap: put a temperature in between.
        round_trips: How often a configuration went from the first temperature to the last and back, all
            ladders together. Few round trips mean that the ladder does not help.
        sweeps: Sweeps over which the two were counted.
    """

    runs: list[Run]
    exchange_rates: np.ndarray
    round_trips: int
    sweeps: int


def simulate(
    model: Ising,
    betas: list[float],
    samples: int,
    *,
    update: str = "metropolis",
    burn_in: int | None = None,
    thin: int | None = None,
    chains: int = 16,
    start: str = "random",
    seed: int = 0,
    device: str = "cpu",
    threads: int = 1,
) -> Ladder:
    """Draws ``chains * samples`` configurations at every temperature.

    Arguments:
        model: The Hamiltonian.
        betas: Inverse temperatures, rising or falling.
        samples: Samples per ladder and temperature.
        update: An update rule of :mod:`ising.updates`, applied once between exchanges.
        burn_in: Sweeps before the first sample; by default a pilot decides, see :mod:`ising.simulate`.
        thin: Sweeps between samples; by default :math:`2 \\tau_{int}` of the slowest temperature.
        chains: Independent ladders.
        start: ``random`` or ``ordered``.
        seed: The same seed and settings give the same spins; see :func:`ising.simulate.root_seed`.
        device: ``cpu`` or ``cuda``.
        threads: Used where there are enough chains; the spins do not depend on it.

    Warns:
        NotEquilibrated: If the pilot gave up.

    Example:
        >>> from ising.lattices import square
        >>> ladder = simulate(Ising(square(4)), [0.5, 0.4, 0.3], 200, seed=1)
        >>> [run.beta for run in ladder.runs], bool((ladder.exchange_rates > 0.5).all())
        ([0.5, 0.4, 0.3], True)
    """
    began = time.perf_counter()
    check_counts(samples=samples, chains=chains, seed=seed, threads=threads, burn_in=burn_in, thin=thin)
    check_start(start)
    check_device(device)
    steps = np.diff([check_beta(beta) for beta in betas])
    if not len(betas) or not ((steps > 0).all() or (steps < 0).all()):
        raise ValueError(f"betas must rise or fall from one to the next, got {list(betas)}; sort them")
    replicas = Replicas(model, betas, update, chains, start, seed, device, threads)
    found = None
    if burn_in:
        replicas.sweep(burn_in)
    if burn_in is None or thin is None:
        found = pilot(replicas.sweep, replicas.watch, chains)
        warn_if_unsettled(found, f"{min(betas):g} to {max(betas):g}")
        burn_in = (burn_in or 0) + found.sweeps
        thin = thin or max(1, math.ceil(2 * found.tau))
    replicas.restart_counts()

    spins = np.empty((len(betas), chains, samples, model.lattice.n_sites), dtype=np.int8)
    energies, magnetisations = np.empty((2, len(betas), chains, samples))
    for k in range(samples):
        replicas.sweep(thin)
        spins[:, :, k], energies[:, :, k], magnetisations[:, :, k] = replicas.sample()
    provenance = _provenance(replicas, betas, device, start, found)
    provenance["seconds"] = round(time.perf_counter() - began, 3)
    described = model.describe(), tuple(model.lattice.shape)
    runs = [
        Run(*described, float(beta), update, int(seed), burn_in or 0, thin, s, E, M, dict(provenance))
        for beta, s, E, M in zip(betas, spins, energies, magnetisations, strict=True)
    ]
    return Ladder(runs, replicas.exchange_rates, replicas.round_trips, samples * thin)


class Replicas:
    """All ladders at once. Chain ``t * width + l`` of the sampler is ladder l at temperature t."""

    def __init__(
        self,
        model: Ising,
        betas: list[float],
        update: str,
        ladders: int,
        start: str,
        seed: int,
        device: str,
        threads: int,
    ):
        updates.get(update)
        form = kernels.choose(update, model, device)
        self._ladders, self._temperatures, self._betas = (
            ladders,
            len(betas),
            np.array(betas, dtype=np.float64),
        )
        # a word of the multi-spin kernel has one temperature: fill it up with ladders nobody looks at
        self._width = -(-ladders // kernels.LANES) * kernels.LANES if form is kernels.Multispin else ladders
        root = root_seed(
            "tempering", model.describe(), self._betas.tolist(), update, int(ladders), start, int(seed)
        )
        start_seed, run_seed, exchange_seed = root.spawn(3)
        spins = initial_spins(start, len(betas) * self._width, model.lattice.n_sites, start_seed)
        per_chain = np.repeat(self._betas, self._width)
        self.sampler = form(model, update, per_chain, spins, run_seed, device=device, threads=threads)
        self._rng, self._parity = np.random.default_rng(exchange_seed), 0
        self._walkers = np.repeat(np.arange(len(betas)), self._width).reshape(len(betas), self._width)
        self.restart_counts()

    def restart_counts(self) -> None:
        self._swaps = np.zeros((2, max(self._temperatures - 1, 0)))  # accepted and proposed
        self.round_trips = 0
        # by ladder and walker: whether it was at the first temperature, and then at the last
        self._departed, self._returning = np.zeros((2, self._width, self._temperatures), dtype=bool)
        self._departed[np.arange(self._width), self._walkers[0]] = True

    @property
    def exchange_rates(self) -> np.ndarray:
        accepted, proposed = self._swaps
        return accepted / np.maximum(proposed, 1)

    def sweep(self, n: int) -> None:
        """Repeats n times: one sweep of every replica, then one round of exchanges."""
        for _ in range(n):
            self.sampler.sweep(1)
            self._exchange()

    def sample(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Spins, total energies and total magnetisations by temperature and ladder."""
        energy, magnetisation = (self._by_temperature(x) for x in self.sampler.measure())
        return self._by_temperature(self.sampler.spins()), energy, magnetisation

    def watch(self) -> np.ndarray:
        """Energies and absolute magnetisations of all temperatures, ``(2 * temperatures, ladders)``."""
        energy, magnetisation = (self._by_temperature(x) for x in self.sampler.measure())
        return np.concatenate([energy, np.abs(magnetisation)])

    def _by_temperature(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(self._temperatures, self._width, *x.shape[1:])[:, : self._ladders]

    def _exchange(self) -> None:
        lower = np.arange(self._parity, self._temperatures - 1, 2)
        self._parity = 1 - self._parity
        if not len(lower):
            return
        energy = self.sampler.measure()[0].reshape(self._temperatures, self._width)
        upper, gap = lower + 1, self._betas[lower] - self._betas[lower + 1]
        gain = gap[:, None] * (energy[lower] - energy[upper])
        swap = self._rng.random(gain.shape) < np.exp(np.minimum(gain, 0))
        pair, ladder = swap.nonzero()
        self.sampler.exchange(lower[pair] * self._width + ladder, upper[pair] * self._width + ladder)
        self._swaps[:, lower] += swap[:, : self._ladders].sum(1), np.full(len(lower), self._ladders)
        self._follow(lower, upper, swap)

    def _follow(self, lower: np.ndarray, upper: np.ndarray, swap: np.ndarray) -> None:
        """Keeps track of which walker is where, and of those back at the first temperature from the last."""
        walkers, ladders = self._walkers, np.arange(self._width)
        walkers[lower], walkers[upper] = (
            np.where(swap, walkers[upper], walkers[lower]),
            np.where(swap, walkers[lower], walkers[upper]),
        )
        home = self._returning[ladders, walkers[0]]
        self.round_trips += int(home[: self._ladders].sum())
        self._returning[ladders, walkers[0]] = False
        self._departed[ladders, walkers[0]] = True
        self._returning[ladders, walkers[-1]] = self._departed[ladders, walkers[-1]]


def _provenance(
    replicas: Replicas, betas: list[float], device: str, start: str, found: Pilot | None
) -> dict[str, str | float | int]:
    versions = {"python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__}
    measured = {} if found is None else {"pilot_tau_sweeps": found.tau, "pilot_drift": found.drift}
    return {
        "kernel": replicas.sampler.name,
        "device": device,
        "start": start,
        "replica_exchange_betas": ", ".join(f"{beta:g}" for beta in betas),
        "exchange_rates": ", ".join(f"{rate:.3f}" for rate in replicas.exchange_rates),
        "round_trips": replicas.round_trips,
        **measured,
        **versions,
    }
