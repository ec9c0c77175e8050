"""Simulation of one model at one temperature: start, burn-in, thinning, samples.

:func:`stream` yields segments of samples as they are made, each with all that is needed to go on after it;
:func:`simulate` waits for all of them. Time is counted in sweeps; one sweep visits every site once, or flips
one Wolff cluster.

Without instructions, a pilot (:mod:`ising.equilibrium`) finds out how many sweeps to wait. It is the burn-in,
and samples are then taken :math:`2 \\tau_{int}` sweeps apart, where their correlation costs little.
"""

import hashlib
import json
import math
import platform
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch

from . import kernels, updates
from .equilibrium import NotEquilibrated, halves_z, pilot, warn_if_unsettled
from .model import Ising, check_beta
from .run import Run

SEGMENT_BYTES = 2**24  # spins of a segment, unless its length is given


@dataclass(frozen=True)
class Settings:
    """Everything that determines the samples, all resolved; plain values, as they are written to files.

    Attributes:
        model: The Hamiltonian, as :meth:`ising.model.Ising.describe` gives it.
        shape: Sites along each axis.
        beta: Inverse temperature.
        update: Name of the update rule.
        samples: Samples per chain.
        chains: Independent chains.
        start: ``random`` or ``ordered``.
        seed: Seed of all random numbers.
        device: Where the spins live.
        kernel: The form of the update that was taken: ``multispin``, ``wolff`` or ``torch``.
        burn_in: Sweeps before the first sample, the pilot included.
        thin: Sweeps between samples.
        tau: Integrated autocorrelation time found by the pilot, in sweeps, the larger of E and |M|; or None.
        drift: Largest distance between the quarters of the pilot's second half, in standard errors; or None.
        burn_in_asked: The argument ``burn_in``, before the pilot added to it; None if it was left out.
    """

    model: dict[str, object]
    shape: tuple[int, ...]
    beta: float
    update: str
    samples: int
    chains: int
    start: str
    seed: int
    device: str
    kernel: str
    burn_in: int
    thin: int
    tau: float | None = None
    drift: float | None = None
    burn_in_asked: int | None = None


@dataclass(frozen=True, eq=False)
class Segment:
    """Consecutive samples of all chains, and the state of the sampler after them.

    Attributes:
        index: Number of the segment, from 0.
        first: Number of its first sample.
        spins: int8, ±1, shape ``(chains, n, N)``.
        energies: Total energies, float64, shape ``(chains, n)``.
        magnetisations: Total magnetisations, float64, shape ``(chains, n)``.
        settings: What determines the samples.
        state: Spins and random number generators after the last sample, and the summed acceptance.
        done: Whether this is the last segment.
    """

    index: int
    first: int
    spins: np.ndarray
    energies: np.ndarray
    magnetisations: np.ndarray
    settings: Settings
    state: dict[str, np.ndarray]
    done: bool


def simulate(
    model: Ising,
    *,
    beta: float,
    update: str = "metropolis",
    samples: int = 1000,
    burn_in: int | None = None,
    thin: int | None = None,
    chains: int = 64,
    start: str = "random",
    seed: int = 0,
    device: str = "cpu",
    threads: int = 1,
) -> Run:
    """Draws ``chains * samples`` configurations from the Boltzmann law.

    Arguments:
        model: The Hamiltonian.
        beta: Inverse temperature, :math:`k_B = 1`.
        update: An update rule of :mod:`ising.updates`.
        samples: Samples per chain.
        burn_in: Sweeps before the first sample; by default the pilot decides.
        thin: Sweeps between samples; by default :math:`2 \\tau_{int}` as the pilot finds it.
        chains: Independent chains. A multiple of 64 wastes nothing.
        start: ``random`` (infinite temperature) or ``ordered`` (all spins up).
        seed: The same seed and settings give the same spins; see :func:`root_seed`.
        device: ``cpu`` or ``cuda``.
        threads: Used where there are enough chains; the spins do not depend on it.

    Warns:
        NotEquilibrated: If the first and the last half of the samples disagree, or the pilot gave up.

    Example:
        >>> from ising.lattices import square
        >>> run = simulate(Ising(square(4)), beta=0.2, samples=200, seed=1)
        >>> run.spins.shape, run.energy.sigmas_from(-0.4561) < 4.5
        ((64, 200, 16), True)
    """
    began = time.perf_counter()
    run = join(
        stream(
            model,
            beta=beta,
            update=update,
            samples=samples,
            burn_in=burn_in,
            thin=thin,
            chains=chains,
            start=start,
            seed=seed,
            device=device,
            threads=threads,
        )
    )
    return replace(run, provenance=run.provenance | {"seconds": round(time.perf_counter() - began, 3)})


def stream(
    model: Ising,
    *,
    beta: float,
    update: str = "metropolis",
    samples: int = 1000,
    burn_in: int | None = None,
    thin: int | None = None,
    chains: int = 64,
    start: str = "random",
    seed: int = 0,
    device: str = "cpu",
    threads: int = 1,
    segment: int | None = None,
    resume: Segment | None = None,
) -> Iterator[Segment]:
    """The samples of :func:`simulate`, segment by segment, as they are made.

    Burn-in happens before the first segment. Neither the length of the segments nor stopping and resuming
    changes a byte of the samples; a finished simulation may be resumed with more ``samples``.

    Arguments:
        segment: Samples per chain in a segment; by default 16 MB of spins.
        resume: The last segment of an interrupted stream, to go on after it.

    The other arguments are those of :func:`simulate`.

    Example:
        >>> from ising.lattices import square
        >>> [s.first for s in stream(Ising(square(4)), beta=0.2, samples=100, segment=40)]
        [0, 40, 80]
    """
    check_counts(
        samples=samples,
        chains=chains,
        seed=seed,
        threads=threads,
        burn_in=burn_in,
        thin=thin,
        segment=segment,
    )
    check_start(start)
    check_device(device)
    updates.get(update)
    asked = Settings(
        model=model.describe(),
        shape=model.lattice.shape,
        beta=check_beta(beta),
        update=update,
        samples=int(samples),
        chains=int(chains),
        start=start,
        seed=int(seed),
        device=str(device),
        kernel=kernels.choose(update, model, str(device)).name,
        burn_in=burn_in or 0,
        thin=thin or 1,
        burn_in_asked=burn_in,
    )
    if resume is not None:
        _check_resumable(asked, burn_in, thin, resume.settings)
    length = segment or max(1, SEGMENT_BYTES // (asked.chains * model.lattice.n_sites))
    return _segments(model, asked, burn_in, thin, length, threads, resume)


def join(segments: Iterable[Segment]) -> Run:
    """One run from all segments of a stream, from the first to the last.

    Warns:
        NotEquilibrated: If the first and the last half of the samples disagree.
    """
    parts = list(segments)
    if (
        not parts
        or [p.first for p in parts] != np.cumsum([0] + [p.spins.shape[1] for p in parts])[:-1].tolist()
    ):
        raise ValueError(
            f"a run needs all its segments in order, got those starting at {[p.first for p in parts]}"
        )
    settings = parts[-1].settings
    spins, energies, magnetisations = (
        np.concatenate([getattr(p, name) for p in parts], axis=1)
        for name in ("spins", "energies", "magnetisations")
    )
    drift = max(abs(halves_z(x)) for x in (energies, np.abs(magnetisations)))
    if drift > 5:
        warnings.warn(
            f"the first and the last half of the samples differ by {drift:.1f} standard errors at beta = "
            f"{settings.beta:g}; raise burn_in, or take update='wolff' or another start",
            NotEquilibrated,
            stacklevel=2,
        )
    flipped, sweeps = parts[-1].state["acceptance"]
    provenance: dict[str, str | float | int] = {
        "kernel": settings.kernel,
        "device": settings.device,
        "start": settings.start,
        "acceptance": float(flipped / sweeps),
        "drift": drift,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
    }
    if settings.tau is not None:
        provenance |= {"pilot_tau_sweeps": settings.tau, "pilot_drift": float(settings.drift or 0.0)}
    described = {
        name: getattr(settings, name) for name in ("model", "beta", "update", "seed", "burn_in", "thin")
    }
    return Run(
        **described,
        shape=tuple(settings.shape),
        spins=spins,
        energies=energies,
        magnetisations=magnetisations,
        provenance=provenance,
    )


def check_counts(**counts: int | None) -> None:
    """Refuses what is no count; None stands for a default."""
    for name, value in counts.items():
        least = 0 if name in ("seed", "burn_in") else 1
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if value is not None and not (whole and value >= least):
            raise ValueError(f"{name} must be a whole number >= {least}, got {value!r}")


def check_start(start: str) -> None:
    if start not in ("random", "ordered"):
        raise ValueError(
            f"start must be 'random' (infinite temperature) or 'ordered' (all up), got {start!r}"
        )


def check_device(device: str) -> None:
    kind = str(device).split(":")[0]
    if kind not in ("cpu", "cuda") or (kind == "cuda" and not torch.cuda.is_available()):
        raise ValueError(f"device must be 'cpu', or 'cuda' where torch finds a GPU, got {str(device)!r}")


def root_seed(
    kind: str,
    model: dict[str, object],
    beta: float | list[float],
    update: str,
    chains: int,
    start: str,
    seed: int,
) -> np.random.SeedSequence:
    """What all random numbers of a run come from, another one for every other argument.

    Runs that share a seed and differ in temperature, say, would be correlated if they shared random numbers.
    Lengths do not enter: a run with more samples begins as the shorter one.

    Arguments:
        kind: ``simulate`` or ``tempering``.
        model: As :meth:`ising.model.Ising.describe` gives it.
    """
    text = json.dumps([kind, model, beta, update, chains, start], sort_keys=True)
    words = np.frombuffer(hashlib.sha256(text.encode()).digest(), dtype="<u4")
    return np.random.SeedSequence(seed, spawn_key=tuple(words.tolist()))


def initial_spins(start: str, chains: int, n_sites: int, seed: np.random.SeedSequence) -> np.ndarray:
    """Where the chains begin, int8, ``(chains, N)``."""
    if start == "ordered":
        return np.ones((chains, n_sites), dtype=np.int8)
    return 2 * np.random.default_rng(seed).integers(0, 2, (chains, n_sites), dtype=np.int8) - 1


def _segments(
    model: Ising,
    settings: Settings,
    burn_in: int | None,
    thin: int | None,
    length: int,
    threads: int,
    resume: Segment | None,
) -> Iterator[Segment]:
    decisive = (getattr(settings, name) for name in ("model", "beta", "update", "chains", "start", "seed"))
    start_seed, run_seed = root_seed("simulate", *decisive).spawn(2)
    spins = initial_spins(settings.start, settings.chains, model.lattice.n_sites, start_seed)
    build = kernels.choose(settings.update, model, settings.device)
    sampler = build(
        model, settings.update, settings.beta, spins, run_seed, device=settings.device, threads=threads
    )
    acceptance = np.zeros(2)  # summed over the sweeps between samples, and their number
    index, first = 0, 0
    if resume is None:
        settings = _burn_in(sampler, settings, burn_in, thin)
    else:
        sampler.load(resume.state)
        acceptance = np.array(resume.state["acceptance"])
        index, first = resume.index + 1, resume.first + resume.spins.shape[1]
        settings = replace(resume.settings, samples=settings.samples)
    while first < settings.samples:
        n = min(length, settings.samples - first)
        spins = np.empty((settings.chains, n, model.lattice.n_sites), dtype=np.int8)
        energies, magnetisations = np.empty((2, settings.chains, n))
        for k in range(n):
            acceptance += settings.thin * np.array([sampler.sweep(settings.thin), 1.0])
            spins[:, k] = sampler.spins()
            energies[:, k], magnetisations[:, k] = sampler.measure()
        state = sampler.state() | {"acceptance": acceptance.copy()}
        done = first + n == settings.samples
        yield Segment(index, first, spins, energies, magnetisations, settings, state, done)
        index, first = index + 1, first + n


def _burn_in(sampler: kernels.Sampler, settings: Settings, burn_in: int | None, thin: int | None) -> Settings:
    """Brings the chains to equilibrium and resolves what was left open."""
    if burn_in:
        sampler.sweep(burn_in)
    if burn_in is not None and thin is not None:
        return settings

    def watch() -> np.ndarray:
        energy, magnetisation = sampler.measure()
        return np.stack([energy, np.abs(magnetisation)])

    found = pilot(sampler.sweep, watch, settings.chains)
    warn_if_unsettled(found, settings.beta)
    return replace(
        settings,
        burn_in=(burn_in or 0) + found.sweeps,
        thin=thin or max(1, math.ceil(2 * found.tau)),
        tau=found.tau,
        drift=found.drift,
    )


def _check_resumable(asked: Settings, burn_in: int | None, thin: int | None, before: Settings) -> None:
    for name in ("model", "beta", "update", "chains", "start", "seed", "device", "kernel"):
        old, new = asdict(before)[name], asdict(asked)[name]
        if old != new:
            raise ValueError(
                f"cannot resume: {name} was {old!r} and is now {new!r}; repeat the old one or start a new run"
            )
    if burn_in not in (None, before.burn_in, before.burn_in_asked):
        was = before.burn_in if before.burn_in_asked is None else before.burn_in_asked
        raise ValueError(f"cannot resume: burn_in was {was} and is now {burn_in}; leave it out or repeat it")
    if thin not in (None, before.thin):
        raise ValueError(
            f"cannot resume: thin was {before.thin} and is now {thin}; leave it out or repeat it"
        )
