"""Simulate Ising configurations into an HDF5 file.

Chains run side by side at each temperature. Burn-in and thinning are measured
from the autocorrelation time unless they are given, so the stored
configurations are nearly independent. Every finished block is safe on disk at
once: after Ctrl-C or a crash the same command continues where it stopped, with
the same bytes as an uninterrupted run.

Many chains are faster than long ones: kernels that work on bits move 512 chains
at once. --update auto measures which update gives the most independent samples
per second here; which one it took is in the file, and naming it gives the same
bytes again.

Example:

  physgen simulate --L 16 --temperature 1.8 2.269 3.0 --out data/square16.h5
  physgen simulate --lattice cubic --L 8 --beta 0.2216 --out data/cubic8.h5
  physgen simulate --L 64 --temperature 2.269185 --update auto --chains 512
"""

import dataclasses
import functools
import logging
import math
import shutil
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from cyclopts import Parameter

from ising import Ising, lattices, stats, store, updates
from ising.simulate import AUTO, Segment, segment_length, stream
from workflows._common import (
    betas_of,
    check_options,
    pick_device,
    progress_bar,
    provenance,
    refuse_beyond_memory,
    sites_of,
)
from workflows._kept import stopped

log = logging.getLogger("physgen.simulate")


@Parameter(name="*")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Options of ``physgen simulate``."""

    lattice: Literal[tuple(sorted(lattices.REGISTRY))] = "square"  # type: ignore[valid-type]
    """Where the spins sit."""
    L: tuple[int, ...] = (16,)
    """Side in sites; two numbers for a rectangular lattice."""
    boundary: tuple[Literal["periodic", "open"], ...] = ("periodic",)
    """For all axes, or one per axis."""
    beta: tuple[float, ...] | None = None
    """Inverse temperatures, k_B = 1; E = -J sum ss - h sum s."""
    temperature: tuple[float, ...] | None = None
    """Temperatures, k_B = 1, instead of --beta."""
    J: float = 1.0
    """Coupling of every bond, an energy; J > 0 is the ferromagnet."""
    h: float = 0.0
    """Field on every site, an energy."""
    update: Literal[(AUTO, *updates.names())] = "metropolis"  # type: ignore[valid-type]
    """How the spins move; auto takes what a measurement finds fastest."""
    samples: int = 1000
    """Configurations stored per chain and temperature."""
    chains: int = 64
    """Independent chains per temperature; multiples of 512 are fastest."""
    burn_in: int | None = None
    """Sweeps discarded at the start; measured if not given."""
    thin: int | None = None
    """Sweeps between stored configurations; 2 tau_int if not given."""
    start: Literal["random", "ordered"] = "random"
    """Initial configuration."""
    seed: int = 0
    """Seed of all random numbers; a further run at the same temperature needs another one."""
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    """Where the sweeps run."""
    out: Path = Path("data/ising.h5")
    """HDF5 file; further temperatures and seeds of the same Hamiltonian are appended."""
    quiet: bool = False
    """No progress bar."""

    SMOKE = {"L": (4,), "beta": (0.3,), "samples": 20, "chains": 8, "burn_in": 5, "thin": 1, "quiet": True}

    def __post_init__(self) -> None:
        check_options(self)


def main(*, config: Config = Config()) -> None:
    betas = betas_of(config.beta, config.temperature)
    periodic = tuple(kind == "periodic" for kind in config.boundary)
    _refuse_beyond_memory(config)
    lattice = lattices.build(config.lattice, config.L, pbc=periodic if len(periodic) > 1 else periodic[0])
    model = Ising(lattice, J=config.J, h=config.h)
    if config.out.exists() and store.hamiltonian(config.out) != model.describe():
        raise ValueError(
            f"{config.out} holds another Hamiltonian, {store.hamiltonian(config.out)}, than this run, "
            f"{model.describe()}; choose another --out"
        )
    journal = store.Journal(config.out)
    options = {
        "update": config.update,
        "samples": config.samples,
        "chains": config.chains,
        "burn_in": config.burn_in,
        "thin": config.thin,
        "start": config.start,
        "seed": config.seed,
        "device": str(pick_device(config.device)),
    }
    keys = {beta: journal.key(model=model.describe(), beta=beta, **options) for beta in betas}
    interrupted = journal.folder.exists()
    if not interrupted:
        _refuse_beyond_disk(config, lattice.n_sites * len(betas))
    published = [key for key in keys.values() if journal.published(key)]
    journal.publish(published)  # which only clears up what a kill has left of them
    if interrupted and len(published) == len(keys):
        log.info("%s was complete already", config.out)
        return
    _refuse_known_seed([beta for beta, key in keys.items() if not (interrupted and key in published)], config)
    try:
        with progress_bar(config.quiet) as bar:
            for beta, key in keys.items():
                if key in published:
                    continue
                task = bar.add_task(f"T = {1 / beta:.4g}", total=config.samples, note="burn-in")
                simulate_one(model, journal, key, beta, options, functools.partial(bar.update, task))
        journal.publish(list(keys.values()), provenance=provenance())
    except KeyboardInterrupt:
        raise stopped(journal.folder) from None
    log.info("%s is written; look at it with: physgen info %s", config.out, config.out)


def _refuse_known_seed(betas: list[float], config: Config) -> None:
    """One seed at one temperature makes one set of chains, so a second run of it would repeat samples."""
    if not config.out.exists():
        return
    with store.archive.entries(config.out) as found:
        known = [entry.head.beta for entry in found if entry.head.seed == config.seed]
    for beta in known:
        if any(math.isclose(beta, other) for other in betas):
            raise ValueError(
                f"{config.out} already holds a run at beta = {beta:.6g} with seed {config.seed}; "
                "choose another --seed for more chains, or another --out"
            )


def _refuse_beyond_memory(config: Config) -> None:
    """Before anything is built: tables of the lattice, the chains and one block of samples."""
    if config.lattice not in lattices.REGISTRY or min(config.L) < 4:
        return  # the lattice itself refuses these, in better words
    sites = sites_of(config.lattice, config.L)
    need = sites * (300 + 10 * config.chains)
    refuse_beyond_memory(need, f"{config.chains} chains of {sites} sites", "a smaller --L or fewer --chains")


def _refuse_beyond_disk(config: Config, bits: int) -> None:
    """Of one sample of one chain at all temperatures."""
    need = bits / 8 * config.chains * config.samples
    place = next(folder for folder in config.out.absolute().parents if folder.exists())
    have = shutil.disk_usage(place).free
    if need > have:
        raise ValueError(
            f"{config.chains} chains of {config.samples} samples need about {need / 1e9:.3g} GB of disk, and "
            f"{place} has {have / 1e9:.3g} GB; take fewer --samples or --chains"
        )


def simulate_one(
    model: Ising, journal: store.Journal, key: str, beta: float, options: dict[str, Any], show: Callable
) -> None:
    """One temperature, from where the journal stands; ``show`` draws the progress."""
    last = journal.last(key)
    if last is not None:
        there = last.first + last.samples
        log.info("T = %.4g: %d samples per chain are there already", 1 / beta, there)
        show(completed=there, note="")
        if last.done:
            return
    length = segment_length(options["chains"], model.lattice.n_sites)
    length = max(1, min(options["samples"] // 10, length))
    progress = Progress()
    for part in stream(model, beta=beta, **options, segment=length, resume=last):
        if part.settings.measured and not progress.rows:
            log.info("T = %.4g: %s", 1 / beta, _choice(part))
        journal.write(key, part, seconds=progress.seconds())
        show(completed=part.first + part.samples, note=progress.after(part))


class Progress:
    """Rate, autocorrelation time and independent samples so far, of the energy of a few chains."""

    WINDOW, CHAINS = 2**16, 16  # energies, and chains they are of

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.rows: deque[np.ndarray] = deque()

    def seconds(self) -> float:
        """Since the last segment."""
        return time.perf_counter() - self.began

    def after(self, part: Segment) -> str:
        """The line after a segment: samples per second of it, tau so far, effective samples in all."""
        self.rows.append(part.energies[: self.CHAINS].copy())
        while sum(row.size for row in self.rows) - self.rows[0].size > self.WINDOW:
            self.rows.popleft()
        tau = stats.tau_int(np.concatenate(self.rows, axis=1))
        chains, rate = len(part.bits), part.energies.size / self.seconds()
        independent = chains * (part.first + part.samples) / (2 * tau)
        self.began = time.perf_counter()
        sweeps = tau * part.settings.thin
        return f"{_short(rate)} samples/s  tau {sweeps:.3g} sweeps  ESS {_short(independent)}"


def _short(count: float) -> str:
    """A count in three digits.

    Example:
        >>> _short(131_072), _short(512)
        ('131k', '512')
    """
    power = 0 if count < 1000 else min(3, int(math.log10(count)) // 3)
    return f"{count / 1000**power:.3g}{' kMG'[power].strip()}"


def _choice(part: Segment) -> str:
    """What was measured, the best first."""
    measured = sorted(part.settings.measured.items(), key=lambda item: -item[1][1])
    return "independent samples/s: " + ", ".join(
        f"{update} {_short(rate)} (tau {tau:.3g} sweeps)" for update, (tau, rate) in measured
    )
