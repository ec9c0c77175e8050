r"""The density of states g(E), from a random walk that visits all energies alike.

A configuration s is taken with the weight :math:`1 / g(E(s))`, which makes every energy equally likely. The
weights are found as the walk goes, and are then frozen for a measurement:

explore
    Each visit of a level raises its :math:`\ln g` by :math:`\ln f = 1`, until no walker finds a level that is
    new, for as long again as it took to find those that are known.
learn
    :math:`\ln f` is halved when every level was visited since it last was, and becomes :math:`1/t` once it is
    below, t being the flips tried per level. With halving alone the error stops falling; with 1/t it goes on
    as :math:`t^{-1/2}`.
settle, measure
    A multicanonical run: the weights are fixed, the mean over the walkers, and :math:`\ln g` follows from
    the histogram of the visits. Only this part enters the result, which therefore has no bias from weights
    that changed while they were used, and has an error bar: the walkers are independent.

Where the spectrum is symmetric (no field, bipartite lattice) E and −E share one weight. A level that nobody
found is absent from the result; one that is found late sends all walkers back to exploring.

References:
    | Efficient, Multiple-Range Random Walk Algorithm to Calculate the Density of States (Wang, Landau, 2001)
    | Fast algorithm to calculate density of states (Belardinelli and Pereyra, 2007)
    | Multicanonical algorithms for first order phase transitions (Berg and Neuhaus, 1991)
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp, softmax, stdtrit

from .kernels import flat_histogram
from .kernels.xoshiro import streams
from .levels import Grid
from .model import Ising, check_beta
from .simulate import check_counts, initial_spins, root_seed
from .stats import Estimate

PATIENCE = 2**20  # rounds without progress after which the walk gives up
BELIEVED = 1e-4  # chance that a walk contradicts the right number of ground states
ROUNDS = 500  # between two looks at the walkers; a round tries max(N, levels) flips
AFTER = {"explore": "learn", "learn": "settle", "settle": "measure"}


@dataclass(frozen=True, eq=False)
class DensityOfStates:
    r"""The density of states, normalised to :math:`\sum_E g(E) = 2^N` unless :meth:`anchored`.

    Attributes:
        energies: Total energies that were found, rising, float64, ``(levels,)``.
        ln_g: :math:`\ln g(E)` in nats, float64, ``(levels,)``.
        left_out: The same from all walkers but one, for the jackknife, ``(walkers, levels)``.
        n_sites: Number of sites N.
    """

    energies: np.ndarray
    ln_g: np.ndarray
    left_out: np.ndarray
    n_sites: int

    @property
    def error(self) -> np.ndarray:
        """One standard error of ``ln_g``, ``(levels,)``, from the spread of the walkers."""
        return _jackknife_error(self.left_out)

    def anchored(self, degeneracy: float) -> "DensityOfStates":
        """Normalised by the number of ground states, where it is known: 2 for a ferromagnet without field.

        Errors then grow away from the ground state; with the sum over all states they grow towards it.

        Raises:
            ValueError: If the walk itself, normalised by all states, contradicts this number.
        """
        counted = Estimate(float(self.ln_g[0]), float(self.error[0]))
        if counted.sigmas_from(math.log(degeneracy)) > stdtrit(len(self.left_out) - 1, 1 - BELIEVED):
            raise ValueError(
                f"{degeneracy} ground states have ln g = {math.log(degeneracy):.4g}, and the walk found "
                f"{counted} for its lowest level, E = {self.energies[0]:g}"
            )
        shifted = (x - x[..., :1] + math.log(degeneracy) for x in (self.ln_g, self.left_out))
        return DensityOfStates(self.energies, *shifted, self.n_sites)

    def log_z(self, beta: float) -> Estimate:
        r""":math:`\ln Z = \ln \sum_E g(E) e^{-\beta E}` of the whole system, in nats."""
        return self._estimate(beta, lambda log_weight: logsumexp(log_weight, axis=-1))

    def energy(self, beta: float) -> Estimate:
        r"""Energy per site, :math:`\langle E \rangle / N`; the normalisation does not matter."""
        return self._estimate(beta, lambda log_weight: _moments(log_weight, self.energies)[0] / self.n_sites)

    def specific_heat(self, beta: float) -> Estimate:
        r"""Specific heat per site, :math:`\beta^2 (\langle E^2 \rangle - \langle E \rangle^2) / N`."""
        factor = beta**2 / self.n_sites
        return self._estimate(beta, lambda log_weight: factor * _moments(log_weight, self.energies)[1])

    def distribution(self, beta: float) -> np.ndarray:
        """Canonical probabilities of the energies, ``(levels,)``."""
        return softmax(self.ln_g - check_beta(beta) * self.energies)

    def _estimate(self, beta: float, f: Callable[[np.ndarray], np.ndarray]) -> Estimate:
        cost = check_beta(beta) * self.energies
        return Estimate(float(f(self.ln_g - cost)), float(_jackknife_error(f(self.left_out - cost))))


@dataclass(frozen=True, eq=False)
class Stage:
    """Where the walkers stand.

    Attributes:
        name: ``explore``, ``learn``, ``settle`` or ``measure``.
        fraction: How much of this stage is done, 0 to 1; exploring has an unknown end, and 0 until then.
        levels: Energies found so far by all walkers together.
        ln_f: The largest increment of any walker.
        state: All that is needed to go on from here.
        result: The density of states, in the last stage of all.
    """

    name: str
    fraction: float
    levels: int
    ln_f: float
    state: dict[str, np.ndarray]
    result: DensityOfStates | None = None


def density_of_states(
    model: Ising,
    *,
    walkers: int = 16,
    sweeps: int = 400_000,
    ln_f: float = 1e-5,
    seed: int = 0,
    threads: int = 1,
) -> DensityOfStates:
    r"""The density of states of a model whose energies lie on a grid.

    On a square torus with L = 16 the default settings take a minute or two of one core and give
    :math:`\ln g` of every level, :meth:`~DensityOfStates.anchored` to the ground states, to 0.5 % with four
    standard errors to spare; the first excited levels, where :math:`\ln g` is small, are the least accurate.

    Arguments:
        model: All couplings and fields must be whole multiples of one unit: a uniform |J|, say, of any signs.
        walkers: Independent walks; their spread gives the error bars.
        sweeps: Length of the measurement, N flips tried per sweep and walker. Errors fall with its root.
        ln_f: The learning ends where the increment has fallen to this, after 1 / ln_f flips per level.
        seed: The same seed and settings give the same result.
        threads: Walkers are divided among them; the result does not depend on it.

    Example:
        >>> from ising.lattices import square
        >>> g = density_of_states(Ising(square(4)), walkers=8, sweeps=5_000, ln_f=1e-3).anchored(2)
        >>> g.energies[:3], bool(abs(g.ln_g[1] - np.log(32)) < 5 * g.error[1])
        (array([-32., -24., -20.]), True)
    """
    options = {"walkers": walkers, "sweeps": sweeps, "ln_f": ln_f, "seed": seed, "threads": threads}
    [last] = deque(stages(model, **options), maxlen=1)
    return last.result


def stages(
    model: Ising,
    *,
    walkers: int = 16,
    sweeps: int = 400_000,
    ln_f: float = 1e-5,
    seed: int = 0,
    threads: int = 1,
    resume: Stage | None = None,
) -> Iterator[Stage]:
    """The steps of :func:`density_of_states`, as they are made; the last one holds the result.

    Arguments:
        resume: A stage of an interrupted walk with the same settings, to go on after it, byte for byte.

    The other arguments are those of :func:`density_of_states`.
    """
    check_counts(walkers=walkers, sweeps=sweeps, seed=seed, threads=threads)
    if walkers < 2:
        raise ValueError("an error bar needs at least 2 walkers, got 1")
    if not 0 < ln_f < 1:
        raise ValueError(f"ln_f must lie between 0 and 1, where the learning begins, got {ln_f}")
    walk = Walk(model, walkers, seed, threads)
    if resume is not None:
        if not np.array_equal(resume.state["origin"], walk.state["origin"]):
            raise ValueError(
                "cannot resume: the stage is of another model, seed or number of walkers; repeat the old ones"
            )
        walk.state = {key: value.copy() for key, value in resume.state.items()}
    return _stages(walk, sweeps, ln_f, resume)


def _stages(walk: "Walk", sweeps: int, ln_f: float, stage: Stage | None) -> Iterator[Stage]:
    measured = math.ceil(sweeps * walk.n_sites / walk.flips)
    length = {"settle": math.ceil(measured / 10), "measure": measured}
    name, fraction = (stage.name, stage.fraction) if stage else ("explore", 0.0)
    while not (name == "measure" and fraction == 1):
        if fraction == 1:
            name = AFTER[name]
            walk.enter(name)
        rounds = min(ROUNDS, length[name] - walk.rounds) if name in length else ROUNDS
        if walk.run(name, rounds):
            name = "explore"  # what was learned without these levels is of no use
            walk.enter(name)
        if name == "explore":
            fraction = float(walk.explored())
        elif name == "learn":
            fraction = ln_f / max(walk.increment, ln_f)
        else:
            fraction = walk.rounds / length[name]
        state = {key: value.copy() for key, value in walk.state.items()}
        result = walk.result() if name == "measure" and fraction == 1 else None
        yield Stage(name, fraction, walk.n_levels, walk.increment, state, result)


class Walk:
    """All walkers, each with its own spins, random numbers and estimate of ln g."""

    def __init__(self, model: Ising, walkers: int, seed: int, threads: int):
        self.grid = Grid(model)
        self.n_sites, bins = model.lattice.n_sites, int(self.grid.bin_of.max()) + 1
        self.flips = max(self.n_sites, bins)
        self._neighbours = model.lattice.neighbours[0].numpy().astype(np.int32)
        self._blocks = np.array_split(np.arange(walkers), min(threads, walkers))
        root = root_seed("wang_landau", model.describe(), 0.0, "wang_landau", walkers, "random", seed)
        start, run = root.spawn(2)
        spins = initial_spins("random", walkers, self.n_sites, start)
        self.state = {
            "origin": root.generate_state(8),
            "spins": spins,
            "rng": np.ascontiguousarray(streams(run, walkers).T),
            "level": self.grid.level(spins),
            "ln_g": np.zeros((walkers, bins)),
            "seen": np.zeros((walkers, bins), dtype=np.bool_),
            "visits": np.zeros((walkers, bins), dtype=np.int64),
            "ln_f": np.ones(walkers),
            "on_clock": np.zeros(walkers, dtype=np.bool_),
            "rounds": np.zeros(2, dtype=np.int64),  # in this stage; when a level was found last
        }
        self.state["seen"][np.arange(walkers), self.grid.bin_of[self.state["level"]]] = True

    @property
    def rounds(self) -> int:
        """Rounds made in this stage."""
        return int(self.state["rounds"][0])

    @property
    def increment(self) -> float:
        """Largest ln f of all walkers, nats."""
        return float(self.state["ln_f"].max())

    @property
    def n_levels(self) -> int:
        """Levels that any walker has seen."""
        return int(self.state["seen"].any(0)[self.grid.bin_of].sum())

    def enter(self, name: str) -> None:
        """Sets clock, histogram and increment back for a stage; a measurement takes the mean ln g."""
        state = self.state
        state["rounds"][:], state["on_clock"][:] = 0, False
        state["visits"][:] = 0
        state["ln_f"][:] = 0.0 if name in ("settle", "measure") else 1.0
        if name == "settle":
            seen = state["seen"][0]
            own = state["ln_g"][:, seen]
            state["ln_g"][:, seen] = (own - own.mean(1, keepdims=True)).mean(0)

    def run(self, name: str, rounds: int) -> bool:
        """Makes that many rounds; whether a level was found after the exploration had ended."""
        state, grid = self.state, self.grid
        before = state["seen"].sum()

        def run(block: np.ndarray) -> None:
            flat_histogram.walk(
                *(state[key] for key in ("spins", "rng", "level", "ln_g")),
                *(state[key] for key in ("seen", "visits", "ln_f", "on_clock")),
                *(block, rounds, self.flips, self.rounds if name == "learn" else -1),
                *(self._neighbours, grid.couplings, grid.fields, grid.climb, grid.bin_of),
            )

        if len(self._blocks) == 1:
            run(self._blocks[0])
        else:
            with ThreadPoolExecutor(len(self._blocks)) as pool:
                list(pool.map(run, self._blocks))
        state["rounds"][0] += rounds
        if state["seen"].sum() > before:
            state["rounds"][1] = self.rounds
            return name != "explore"
        stuck = name == "explore" or (name == "learn" and not state["on_clock"].all())
        if stuck and self.rounds - state["rounds"][1] >= PATIENCE:
            raise ValueError(
                f"after {self.rounds} rounds of {self.flips} flips some walkers still have not visited all "
                f"{self.n_levels} levels; the energy landscape is too rugged for this walk, use tempering"
            )
        return False

    def explored(self) -> bool:
        """Whether all walkers know the same levels, for as long again as it took to find them."""
        rounds, found = self.state["rounds"]
        return bool((self.state["seen"].all(0) == self.state["seen"].any(0)).all() and rounds > 2 * found)

    def result(self) -> DensityOfStates:
        r"""The measured ln g, of all walkers and of all but one, as the jackknife takes them.

        .. math:: \ln g(E) = \ln \bar g(E) + \ln V(E) + c, \qquad \sum_E g(E) = 2^N ,

        V the visits that a walk with weights :math:`1 / \bar g` has paid to E; levels of one bin share its g.

        Raises:
            ValueError: If a level was measured by one walker at most.
        """
        seen, visits = self.state["seen"][0], self.state["visits"]
        visits = visits.sum(0) - np.vstack([0 * visits[:1], visits])  # of all walkers, then of all but one
        if (visits[:, seen] == 0).any():
            raise ValueError(
                f"{(visits[:, seen] == 0).any(0).sum()} of {self.n_levels} levels were measured by one "
                "walker at most; take more sweeps"
            )
        levels = np.flatnonzero(seen[self.grid.bin_of])
        shared = np.bincount(self.grid.bin_of[levels], minlength=len(seen))
        with np.errstate(divide="ignore"):
            ln_g = self.state["ln_g"][0] + np.log(visits) - np.log(np.maximum(shared, 1))
        ln_g = ln_g[:, self.grid.bin_of[levels]]
        ln_g += self.n_sites * math.log(2) - logsumexp(ln_g, axis=1, keepdims=True)
        return DensityOfStates(self.grid.energies[levels], ln_g[0], ln_g[1:], self.n_sites)


def _moments(log_weight: np.ndarray, energies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of the energy, over the last axis."""
    p = softmax(log_weight, axis=-1)
    mean = (p * energies).sum(-1, keepdims=True)
    return mean[..., 0], (p * (energies - mean) ** 2).sum(-1)


def _jackknife_error(left_out: np.ndarray) -> np.ndarray:
    return np.sqrt((len(left_out) - 1) * left_out.var(0))
