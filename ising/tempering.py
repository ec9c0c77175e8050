r"""Replica exchange (parallel tempering): one replica per temperature, neighbours swap temperatures.

After every sweep the pairs (0, 1), (2, 3), … or, in turn, (1, 2), (3, 4), … are swapped with probability

.. math:: \min\big(1, e^{(\beta_a - \beta_b)(E_a - E_b)}\big) ,

which leaves the product of the Boltzmann laws unchanged. Configurations that are stuck at a low temperature
come loose on their way through a high one. In glasses two ladders can be run side by side that exchange
clusters as well (:mod:`ising.houdayer`).

References:
    | Replica Monte Carlo Simulation of Spin-Glasses (Swendsen and Wang, 1986)
    | Exchange Monte Carlo Method and Application to Spin Glass Simulations (Hukushima and Nemoto, 1996)
    | Efficient cluster algorithm for spin glasses in any space dimension (Zhu, Ochoa and Katzgraber, 2015)
"""

import math
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.special import log_ndtr, ndtr

from . import glasses, updates
from .equilibrium import Pilot, pilot, warn_if_unsettled
from .model import Ising, check_beta
from .replicas import Replicas
from .run import Run
from .simulate import check_counts, check_device, check_start


@dataclass(frozen=True, eq=False)
class Ladder:
    """A simulation at several temperatures at once.

    Attributes:
        runs: One run per temperature, in the order of the betas. Sample k of chain c of all runs was taken at
            the same time from one ladder, so the runs are independent across chains, not across temperatures.
        exchange_rates: Accepted fraction of the swaps between neighbours, shape ``(temperatures - 1,)``. A
            rate below about 0.1 is a gap: put a temperature in between, or see :func:`spaced`.
        round_trips: How often a configuration went from the first temperature to the last and back, all
            ladders together. Few round trips mean that the ladder does not help.
        sweeps: Sweeps over which the two were counted.
        state: All that ``resume`` needs; plain arrays, which ``numpy.savez`` can keep.
        partners: With Houdayer moves a second run per temperature. Its chain c exchanges clusters with chain
            c of ``runs``: at one time the two are independent, over time they are not. So ``runs`` and
            ``partners`` have honest error bars each by itself; from both together take the mean of each pair
            first, as in ``stats.mean((run.energies + partner.energies) / 2)``.
    """

    runs: list[Run]
    exchange_rates: np.ndarray
    round_trips: int
    sweeps: int
    state: dict[str, np.ndarray] = field(repr=False)
    partners: list[Run] = field(default_factory=list)

    @property
    def round_trip_time(self) -> float:
        """Sweeps that one replica needs for a round trip, on average; infinite if there was none."""
        replicas = (len(self.runs) + len(self.partners)) * self.runs[0].chains
        return self.sweeps * replicas / self.round_trips if self.round_trips else math.inf

    @property
    def overlaps(self) -> list[np.ndarray]:
        """Overlap q of the two replicas of each pair at each temperature, ``(chains, samples)`` each."""
        if not self.partners:
            raise ValueError("overlaps are those of partners; simulate with houdayer=1")
        both = zip(self.runs, self.partners, strict=True)
        return [glasses.overlap(run.spins, partner.spins) for run, partner in both]


def simulate(
    model: Ising,
    betas: Sequence[float],
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
    houdayer: int = 0,
    resume: Ladder | None = None,
) -> Ladder:
    """Draws ``chains * samples`` configurations at every temperature.

    Arguments:
        model: The Hamiltonian.
        betas: Inverse temperatures, rising or falling; :func:`spaced` finds good ones.
        samples: Samples per ladder and temperature.
        update: An update rule of :mod:`ising.updates`, applied once between exchanges. Where all couplings
            have one size, as in the ±J glass, ``metropolis`` and ``heat_bath`` move 512 replicas at once.
        burn_in: Sweeps before the first sample; by default a pilot decides, see :mod:`ising.simulate`.
        thin: Sweeps between samples; by default :math:`2 \\tau_{int}` of the slowest temperature.
        chains: Independent ladders.
        start: ``random`` or ``ordered``.
        seed: The same seed and settings give the same spins; see :func:`ising.simulate.root_seed`.
        device: ``cpu`` or ``cuda``.
        threads: Used where there are enough ladders; the spins do not depend on it.
        houdayer: Sweeps between Houdayer moves, for glasses: there are then two ladders for each chain, with
            one move of each pair of replicas at every temperature. 0 for none. A move takes about as long as
            20 sweeps of 512 replicas at once; among those 30 is a good number, and pays from L = 24 or so on
            (two dimensions, T = 0.3). Where sweeps are slow take 1.
        resume: What an earlier call with the same arguments returned, to go on after it: the new ladder has
            the next samples, as if it had never stopped.

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
    if houdayer:
        check_counts(houdayer=houdayer)
        if updates.conserves_magnetisation(update):
            raise ValueError(f"{update} conserves the magnetisation and houdayer does not; leave one of them")
    steps = np.diff([check_beta(beta) for beta in betas])
    if not len(betas) or not ((steps > 0).all() or (steps < 0).all()):
        raise ValueError(f"betas must rise or fall from one to the next, got {list(betas)}; sort them")
    ladders = 2 * chains if houdayer else chains
    replicas = Replicas(model, betas, update, ladders, start, seed, device, threads, houdayer)
    found = None
    if resume is not None:
        _check_resumable(resume, model, betas, update, chains, seed, start, thin)
        burn_in, thin = resume.runs[0].burn_in, resume.runs[0].thin
        replicas.load(resume.state)
    else:
        if burn_in:
            replicas.sweep(burn_in)
        if burn_in is None or thin is None:
            found = pilot(replicas.sweep, replicas.watch, chains)
            warn_if_unsettled(found, f"{min(betas):g} to {max(betas):g}")
            burn_in = (burn_in or 0) + found.sweeps
            thin = thin or max(1, math.ceil(2 * found.tau))
    replicas.restart_counts()

    spins = np.empty((len(betas), ladders, samples, model.lattice.n_sites), dtype=np.int8)
    energies, magnetisations = np.empty((2, len(betas), ladders, samples))
    for k in range(samples):
        replicas.sweep(thin)
        spins[:, :, k], energies[:, :, k], magnetisations[:, :, k] = replicas.sample()
    provenance = _provenance(replicas, betas, device, start, found)
    provenance["seconds"] = round(time.perf_counter() - began, 3)
    described = model.describe(), tuple(model.lattice.shape)
    halves = (np.split(x, ladders // chains, axis=1) for x in (spins, energies, magnetisations))
    runs, *partners = (
        [
            Run(*described, float(beta), update, int(seed), burn_in or 0, thin, s, E, M, dict(provenance))
            for beta, s, E, M in zip(betas, *half, strict=True)
        ]
        for half in zip(*halves, strict=True)
    )
    counts = replicas.exchange_rates, replicas.round_trips, samples * thin
    return Ladder(runs, *counts, replicas.state(), *partners)


def spaced(
    model: Ising, first: float, last: float, *, rate: float = 0.4, update: str = "metropolis", seed: int = 0
) -> list[float]:
    r"""Inverse temperatures between two ends whose neighbours all swap at about the same rate.

    A pilot ladder measures the mean and the variance of E. Between two temperatures with normal laws of E,

    .. math:: P = \langle \min(1, e^{\Delta\beta\, \Delta E}) \rangle

    is known in closed form; each next temperature is put where it equals ``rate``, and the rest of the way
    is shared so that the last one is met.

    Arguments:
        first: One end.
        last: The other end.
        rate: Between 0.2 and 0.4 a walker travels fastest (Kone and Kofke, 2005).

    Example:
        >>> from ising.lattices import square
        >>> betas = spaced(Ising(square(8)), 0.55, 0.3, rate=0.4)
        >>> betas[0], betas[-1], 3 <= len(betas) <= 8
        (0.55, 0.3, True)

    References:
        | Selection of temperature intervals for parallel-tempering simulations (Kone and Kofke, 2005)
    """
    check_beta(first)
    check_beta(last)
    if first == last:
        raise ValueError(f"the two ends of a ladder must differ, got beta = {first:g} twice")
    if not 0 < rate < 1:
        raise ValueError(f"rate must be between 0 and 1, got {rate}")
    grid = np.linspace(first, last, 24)
    pilots = simulate(model, grid.tolist(), 400, update=update, burn_in=400, thin=2, chains=21, seed=seed)
    mean = np.array([run.energies.mean() for run in pilots.runs])
    variance = np.array([run.energies.var() for run in pilots.runs])
    order = np.argsort(grid)

    def exchanged(a: float, b: float) -> float:
        moments = [np.interp([a, b], grid[order], values[order]) for values in (mean, variance)]
        return _swap_rate(a, b, *moments[0], *moments[1])

    def reach(target: float) -> list[float]:
        """Temperatures from the first on, as long as they are needed, at this rate."""
        betas = [first]
        while exchanged(betas[-1], last) < target:
            near, far = betas[-1], last
            for _ in range(50):
                middle = (near + far) / 2
                near, far = (middle, far) if exchanged(betas[-1], middle) > target else (near, middle)
            betas.append(near)
        return [*betas, last]

    count = len(reach(rate))
    low, high = rate, 1.0  # the highest rate that takes no more temperatures
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if len(reach(middle)) <= count else (low, middle)
    return [float(beta) for beta in reach(low)]


def _swap_rate(a: float, b: float, mean_a: float, mean_b: float, var_a: float, var_b: float) -> float:
    """Mean of min(1, e^x) for x = (a - b)(E_a - E_b), normal."""
    mean, spread = (a - b) * (mean_a - mean_b), abs(a - b) * math.sqrt(var_a + var_b)
    if spread == 0:
        return math.exp(min(mean, 0.0))
    beyond = math.exp(mean + spread**2 / 2 + log_ndtr(-mean / spread - spread))
    return float(ndtr(mean / spread) + beyond)


def _check_resumable(
    before: Ladder,
    model: Ising,
    betas: Sequence[float],
    update: str,
    chains: int,
    seed: int,
    start: str,
    thin: int | None,
) -> None:
    """The state alone does not tell what it is of: arrays of other ladders have the same shapes."""
    run = before.runs[0]
    begun = run.provenance["start"]
    old = run.model, [run.beta for run in before.runs], run.update, run.chains, run.seed, begun, run.thin
    new = model.describe(), [float(beta) for beta in betas], update, int(chains), int(seed), start
    names = ("model", "betas", "update", "chains", "seed", "start", "thin")
    for name, was, now in zip(names, old, (*new, thin or run.thin), strict=True):
        if was != now:
            raise ValueError(
                f"cannot resume: {name} was {was!r} and is now {now!r}; repeat the old one or start a new run"
            )


def _provenance(
    replicas: Replicas, betas: Sequence[float], device: str, start: str, found: Pilot | None
) -> dict[str, str | float | int]:
    versions = {"python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__}
    measured = {} if found is None else {"pilot_tau_sweeps": found.tau, "pilot_drift": found.drift}
    return {
        "kernel": replicas.kernel,
        "device": device,
        "start": start,
        "replica_exchange_betas": ", ".join(f"{beta:g}" for beta in betas),
        "exchange_rates": ", ".join(f"{rate:.3f}" for rate in replicas.exchange_rates),
        "round_trips": replicas.round_trips,
        **measured,
        **versions,
    }
