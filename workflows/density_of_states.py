"""Density of states g(E) by Wang-Landau, from which every temperature follows.

Random walkers that visit all energies alike measure ln g(E) with error bars:
the 1/t algorithm finds the weights, a run with fixed weights measures. All
couplings and fields must be whole multiples of one unit. Beside the table
(columns: total energy, ln g in nats, one standard error) a figure compares it
with the exact counts of the square torus, where these are known quickly.

After Ctrl-C the same command continues, with the same bytes as an uninterrupted
walk; after a crash at most a minute of it is lost.

Example:

  physgen density_of_states --L 16 --out data/square16_ln_g.csv
  physgen density_of_states --lattice triangular --L 6 --J -1 --out ln_g.csv
"""

import csv
import dataclasses
import logging
import math
import os
import time
from pathlib import Path
from typing import Literal

import numpy as np
from cyclopts import Parameter
from matplotlib.figure import Figure

from ising import Ising, exact, lattices, store
from ising.wang_landau import DensityOfStates, Stage, stages
from physgen import plots
from workflows._common import check_options, progress_bar
from workflows._kept import keep, kept, stopped

log = logging.getLogger("physgen.density_of_states")

EVERY = 60.0  # seconds between copies of the walk on the disk
EXACT_SIDES = 32  # Beale's counts of a larger torus take minutes
SHARES = {"explore": (0, 5), "learn": (5, 35), "settle": (35, 40), "measure": (40, 100)}  # of the bar


@Parameter(name="*")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Options of ``physgen density_of_states``."""

    lattice: Literal[tuple(sorted(lattices.REGISTRY))] = "square"  # type: ignore[valid-type]
    """Where the spins sit."""
    L: tuple[int, ...] = (16,)
    """Side in sites; two numbers for a rectangular lattice."""
    boundary: tuple[Literal["periodic", "open"], ...] = ("periodic",)
    """For all axes, or one per axis."""
    J: float = 1.0
    """Coupling of every bond, an energy; J > 0 is the ferromagnet."""
    h: float = 0.0
    """Field on every site, an energy."""
    walkers: int = 16
    """Independent walkers; their spread gives the error bars."""
    sweeps: int = 400_000
    """Sweeps measured per walker; errors fall with the root."""
    ln_f: float = 1e-5
    """Increment of ln g at which the learning ends."""
    ground_states: int | None = None
    """Number of ground states, to normalise by; else all 2^N states do."""
    seed: int = 0
    """Seed of all random numbers."""
    threads: int = 1
    """Walkers are divided among them; the result is the same."""
    out: Path = Path("data/ln_g.csv")
    """Table to write, and a figure of the same name as .png."""
    quiet: bool = False
    """No progress bar."""

    SMOKE = {"L": (4,), "walkers": 4, "sweeps": 2000, "ln_f": 1e-2, "quiet": True}

    def __post_init__(self) -> None:
        check_options(self)
        if self.out.suffix == ".png" or self.out.is_dir():
            raise ValueError(f"--out names a table, say g.csv, beside which goes g.png; got {self.out}")


def main(*, config: Config = Config()) -> None:
    periodic = tuple(kind == "periodic" for kind in config.boundary)
    lattice = lattices.build(config.lattice, config.L, pbc=periodic if len(periodic) > 1 else periodic[0])
    model = Ising(lattice, J=config.J, h=config.h)
    picture = config.out.with_suffix(".png")
    for path in (config.out, picture):
        if path.exists():
            raise ValueError(f"{path} exists; remove it or choose another --out")
    found = walk(model, config)
    contradicted = None
    if config.ground_states is not None:
        try:
            found = found.anchored(config.ground_states)
        except ValueError as error:
            contradicted = error
    config.out.parent.mkdir(parents=True, exist_ok=True)
    write_csv(config.out, found)
    figure = plots.density_of_states(
        Figure(figsize=(6, 5), layout="constrained"),
        *(found.energies, found.ln_g, found.error, found.n_sites),
        exact_ln_g(model, found),
    )
    figure.savefig(picture, dpi=150)
    log.info(
        "%d levels in %s and %s; the largest error of ln g is %.2g",
        *(len(found.energies), config.out, picture, found.error.max()),
    )
    if contradicted is not None:
        raise ValueError(f"--ground-states: {contradicted}; {config.out} is normalised by all 2^N states")


def walk(model: Ising, config: Config) -> DensityOfStates:
    """The walk, from where an interrupted one stopped, with a bar that goes through its four stages."""
    options = {name: getattr(config, name) for name in ("walkers", "sweeps", "ln_f", "seed")}
    key = store.Journal.key(model=model.describe(), **options)
    path = config.out.with_name(f"{config.out.name}.{key}.walk")
    last = stage = restored(path)
    saved = time.monotonic()
    try:
        with progress_bar(config.quiet) as bar:
            task = bar.add_task("ln g", total=100, note="")
            for stage in stages(model, **options, threads=config.threads, resume=last):
                begin, end = SHARES[stage.name]
                completed = begin + (end - begin) * stage.fraction
                bar.update(task, completed=completed, note=f"{stage.name}  {stage.levels} levels")
                if stage.fraction < 1 and time.monotonic() - saved > EVERY:
                    save(path, stage)
                    saved = time.monotonic()
    except KeyboardInterrupt:
        if stage is not None and stage.result is None:
            save(path, stage)
        raise stopped(path) from None
    path.unlink(missing_ok=True)
    return stage.result


def save(path: Path, stage: Stage) -> None:
    """All that the walk needs to go on after this stage."""
    keep(path, stage.state | {"at": np.array([list(SHARES).index(stage.name), stage.fraction])})


def restored(path: Path) -> Stage | None:
    """The stage that was saved last, if any; how far it is counts, not what it had to show."""
    if (state := kept(path)) is None:
        return None
    number, fraction = state.pop("at").tolist()
    log.info("going on after %s", path)
    return Stage(list(SHARES)[int(number)], fraction, 0, math.nan, state)


def exact_ln_g(model: Ising, found: DensityOfStates) -> np.ndarray | None:
    """Beale's counts at the energies that were found; None where they are not at hand."""
    lattice = model.lattice
    square = lattice.name in ("square", "rectangular") and all(lattice.pbc)
    if model.h or not square or max(lattice.shape) > EXACT_SIDES:
        return None
    energies, counts = exact.beale_density_of_states(*lattice.shape)
    known = {round(model.J * e, 6): math.log(c) for e, c in zip(energies, counts, strict=True)}
    return np.array([known[round(float(e), 6)] for e in found.energies])


def write_csv(path: Path, found: DensityOfStates) -> None:
    """The table, complete or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("energy", "ln_g", "error"))
        writer.writerows(zip(*(x.tolist() for x in (found.energies, found.ln_g, found.error)), strict=True))
    temporary.replace(path)
