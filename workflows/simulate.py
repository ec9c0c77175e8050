"""Simulate Ising configurations into an HDF5 file.

Chains run side by side at each temperature. Burn-in and thinning are measured from the autocorrelation
time unless they are given, so the stored configurations are nearly independent. Every finished block is
safe on disk at once: after Ctrl-C or a crash the same command continues where it stopped, with the same
bytes as an uninterrupted run.

Example:

  physgen simulate --L 16 --temperature 1.8 2.269 3.0 --samples 400 --chains 64 --out data/square16.h5
"""

import dataclasses
import logging
import shlex
import sys
import time
from pathlib import Path
from typing import Literal

import numpy as np
from cyclopts import Parameter
from rich.progress import Progress

from ising import Ising, lattices, stats, store
from ising.simulate import Segment, stream
from workflows._common import betas_of, pick_device, progress_bar, provenance

log = logging.getLogger("physgen.simulate")


@Parameter(name="*")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Options of ``physgen simulate``."""

    lattice: str = "square"
    """chain, square, rectangular, triangular, honeycomb or cubic."""
    L: tuple[int, ...] = (16,)
    """Side in sites; two numbers for a rectangular lattice."""
    boundary: tuple[Literal["periodic", "open"], ...] = ("periodic",)
    """For all axes, or one per axis."""
    beta: tuple[float, ...] | None = None
    """Inverse temperatures, in units of 1/J."""
    temperature: tuple[float, ...] | None = None
    """Temperatures, in units of J, instead of --beta."""
    J: float = 1.0
    """Coupling of every bond; J > 0 is the ferromagnet."""
    h: float = 0.0
    """Field on every site."""
    update: str = "metropolis"
    """metropolis, heat_bath or wolff."""
    samples: int = 1000
    """Configurations stored per chain and temperature."""
    chains: int = 64
    """Independent chains per temperature."""
    burn_in: int | None = None
    """Sweeps discarded at the start; measured if not given."""
    thin: int | None = None
    """Sweeps between stored configurations; 2 tau_int if not given."""
    start: Literal["random", "ordered"] = "random"
    """Initial configuration."""
    seed: int = 0
    """Seed of all random numbers; a further run of the same settings needs another one."""
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    """Where the sweeps run."""
    out: Path = Path("data/ising.h5")
    """HDF5 file; further temperatures and seeds of the same Hamiltonian are appended."""
    quiet: bool = False
    """No progress bar."""

    SMOKE = {"L": (4,), "beta": (0.3,), "samples": 20, "chains": 8, "burn_in": 5, "thin": 1, "quiet": True}


def main(*, config: Config) -> None:
    betas = betas_of(config.beta, config.temperature)
    periodic = tuple(kind == "periodic" for kind in config.boundary)
    pbc = periodic if len(periodic) > 1 else periodic[0]
    model = Ising(lattices.build(config.lattice, config.L, pbc=pbc), J=config.J, h=config.h)
    device = str(pick_device(config.device))
    journal = store.Journal(config.out)
    try:
        with progress_bar(config.quiet) as bar:
            for beta in betas:
                options = {
                    name: getattr(config, name)
                    for name in ("update", "samples", "chains", "burn_in", "thin", "start", "seed")
                }
                _simulate_one(model, journal, bar, beta=beta, device=device, **options)
        journal.publish(provenance=provenance())
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"Finished blocks are safe in {journal.folder}; the same command continues:\n"
            f"  physgen simulate {shlex.join(sys.argv[2:])}"
        ) from None
    log.info("%s: see `physgen info %s`", config.out, config.out)
