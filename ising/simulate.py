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
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace

import numpy as np
import torch

from . import kernels, updates
from .equilibrium import pilot, race, warn_if_unsettled
from .model import Ising, check_beta
from .run import Run
from .segments import Segment, Settings, join

AUTO = "auto"  # asks for the update with the most independent samples per second
SEGMENT_BYTES = 2**24  # packed configurations of a segment, unless its length is given


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
        update: An update rule of :mod:`ising.updates`, or ``auto``: short pilots of all rules that sample
            every magnetisation measure which one gives the most independent samples per second. The samples
            are those of a run that names this rule. Which one it is may depend on the machine; the run tells
            it, and what was measured.
        samples: Samples per chain.
        burn_in: Sweeps before the first sample; by default the pilot decides.
        thin: Sweeps between samples; by default :math:`2 \\tau_{int}` as the pilot finds it.
        chains: Independent chains. Multiples of 512 are fastest where a kernel works on bits.
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
        segment: Samples per chain in a segment; by default 16 MB of packed configurations.
        resume: The last segment of an interrupted stream, to go on after it. The choice of ``auto`` is kept.

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
    if update != AUTO:
        updates.get(update)
    elif resume is not None:
        update = resume.settings.update
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
        kernel="" if update == AUTO else kernels.choose(update, model, str(device), chains).name,
        burn_in=burn_in or 0,
        thin=thin or 1,
        burn_in_asked=burn_in,
    )
    if resume is not None:
        _check_resumable(asked, burn_in, thin, resume.settings)
    length = segment or segment_length(asked.chains, model.lattice.n_sites)
    return _segments(model, asked, burn_in, thin, length, threads, resume)


def segment_length(chains: int, n_sites: int) -> int:
    """Samples per chain in a segment of 16 MB."""
    return max(1, SEGMENT_BYTES // (chains * -(-n_sites // 8)))


def choose_update(
    model: Ising,
    beta: float,
    *,
    chains: int = 64,
    start: str = "random",
    seed: int = 0,
    device: str = "cpu",
    threads: int = 1,
) -> tuple[str, dict[str, list[float]]]:
    """The update with the most independent samples per second, and what was measured of each.

    All rules that change the magnetisation take part, each with its fastest kernel and as many chains as
    asked for. Seconds are those of the processor, and of the clock on a GPU.

    Returns:
        The name, and by name tau in sweeps and independent samples per second, of all chains together. An
        update that was given up early has a longer tau than is stated, and a lower rate.

    Example:
        >>> from ising.lattices import chain
        >>> sorted(choose_update(Ising(chain(8)), 0.5)[1])  # doctest: +ELLIPSIS
        ['few_clusters', 'heat_bath', 'metropolis', ...]
    """
    samplers = {}
    for update in updates.names():
        if not updates.conserves_magnetisation(update):
            root = root_seed("auto", model.describe(), beta, update, int(chains), start, int(seed))
            start_seed, run_seed = root.spawn(2)
            spins = initial_spins(start, chains, model.lattice.n_sites, start_seed)
            build = kernels.choose(update, model, str(device), chains)
            samplers[update] = build(model, update, beta, spins, run_seed, device=device, threads=threads)
    clock = time.process_time if str(device) == "cpu" else time.perf_counter
    runners = {name: (sampler.sweep, _watch(sampler)) for name, sampler in samplers.items()}
    found = race(runners, chains, clock)
    measured = {name: [lap.tau, chains / lap.seconds] for name, lap in found.items()}
    return max(measured, key=lambda name: measured[name][1]), measured


def check_counts(**counts: int | None) -> None:
    """Refuses what is no count; None stands for a default."""
    for name, value in counts.items():
        least = 0 if name in ("seed", "burn_in") else 1
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if value is not None and not (whole and value >= least):
            raise ValueError(f"{name} must be a whole number >= {least}, got {value!r}")


def check_start(start: str) -> None:
    """Refuses what is no start of a chain."""
    if start not in ("random", "ordered"):
        raise ValueError(
            f"start must be 'random' (infinite temperature) or 'ordered' (all up), got {start!r}"
        )


def check_device(device: str) -> None:
    """Refuses what torch cannot run on here."""
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


def initial_spins(
    start: str, chains: int, n_sites: int, seed: np.random.SeedSequence, update: str = "metropolis"
) -> np.ndarray:
    """Where the chains begin, int8, ``(chains, N)``; at M = 0 or 1 where the update never changes it."""
    if start == "ordered":
        return np.ones((chains, n_sites), dtype=np.int8)
    rng = np.random.default_rng(seed)
    if updates.conserves_magnetisation(update):
        half_up = np.where(np.arange(n_sites) < (n_sites + 1) // 2, 1, -1).astype(np.int8)
        return rng.permuted(np.tile(half_up, (chains, 1)), axis=1)
    return 2 * rng.integers(0, 2, (chains, n_sites), dtype=np.int8) - 1


def _segments(
    model: Ising,
    settings: Settings,
    burn_in: int | None,
    thin: int | None,
    length: int,
    threads: int,
    resume: Segment | None,
) -> Iterator[Segment]:
    if settings.update == AUTO:
        settings = _chosen(model, settings, threads)
    decisive = (getattr(settings, name) for name in ("model", "beta", "update", "chains", "start", "seed"))
    start_seed, run_seed = root_seed("simulate", *decisive).spawn(2)
    spins = initial_spins(settings.start, settings.chains, model.lattice.n_sites, start_seed, settings.update)
    build = kernels.choose(settings.update, model, settings.device, settings.chains)
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
        index, first = resume.index + 1, resume.first + resume.samples
        settings = replace(resume.settings, samples=settings.samples)
    while first < settings.samples:
        n = min(length, settings.samples - first)
        bits = np.empty((settings.chains, n, -(-model.lattice.n_sites // 8)), dtype=np.uint8)
        energies, magnetisations = np.empty((2, settings.chains, n))
        for k in range(n):
            acceptance += settings.thin * np.array([sampler.sweep(settings.thin), 1.0])
            bits[:, k] = sampler.bits()
            energies[:, k], magnetisations[:, k] = sampler.measure()
        state = sampler.state() | {"acceptance": acceptance.copy()}
        done = first + n == settings.samples
        yield Segment(index, first, bits, energies, magnetisations, settings, state, done)
        index, first = index + 1, first + n


def _chosen(model: Ising, asked: Settings, threads: int) -> Settings:
    """The settings with an update by name."""
    conditions = {name: getattr(asked, name) for name in ("chains", "start", "seed", "device")}
    update, measured = choose_update(model, asked.beta, **conditions, threads=threads)
    kernel = kernels.choose(update, model, asked.device, asked.chains).name
    return replace(asked, update=update, kernel=kernel, measured=measured)


def _burn_in(sampler: kernels.Sampler, settings: Settings, burn_in: int | None, thin: int | None) -> Settings:
    """Brings the chains to equilibrium and resolves what was left open."""
    if burn_in:
        sampler.sweep(burn_in)
    if burn_in is not None and thin is not None:
        return settings
    sectors = updates.conserves_magnetisation(settings.update)
    found = pilot(sampler.sweep, _watch(sampler), settings.chains, sectors=sectors)
    warn_if_unsettled(found, settings.beta)
    return replace(
        settings,
        burn_in=(burn_in or 0) + found.sweeps,
        thin=thin or max(1, math.ceil(2 * found.tau)),
        tau=found.tau,
        drift=found.drift,
    )


def _watch(sampler: kernels.Sampler) -> Callable[[], np.ndarray]:
    """Measures E and |M| of all chains, ``(2, chains)``."""

    def watch() -> np.ndarray:
        energy, magnetisation = sampler.measure()
        return np.stack([energy, np.abs(magnetisation)])

    return watch


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
