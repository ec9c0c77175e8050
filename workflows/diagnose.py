"""Draw autocorrelation and equilibration of the runs in a file of configurations.

One row of figures per temperature: the autocorrelation functions of e and |m|
with the window of tau_int, and their means over blocks of time with error bars
from the scatter between chains, or from tau_int where there is one chain. Runs
of one temperature that began at different starts, random and ordered, are drawn
over one another: they have to agree.

Example:

  physgen diagnose data/square16.h5 --out diagnose.png
"""

import dataclasses
import logging
from pathlib import Path

import numpy as np
from cyclopts import Parameter
from matplotlib.figure import Figure, SubFigure

from ising import Run, store
from physgen import curves
from workflows._common import betas_of

log = logging.getLogger("physgen.diagnose")

ROWS = 12  # temperatures in one picture


@Parameter(name="*")
@dataclasses.dataclass(frozen=True)
class Config:
    """Options of ``physgen diagnose``."""

    file: Path
    """HDF5 file of `physgen simulate`."""
    _: dataclasses.KW_ONLY
    out: Path = Path("diagnose.png")
    """Picture to write, png, pdf or svg."""
    beta: tuple[float, ...] | None = None
    """Only these inverse temperatures."""
    temperature: tuple[float, ...] | None = None
    """Temperatures instead of --beta."""


def main(config: Config) -> None:
    betas = store.betas(config.file)
    if config.beta is not None or config.temperature is not None:
        betas = betas_of(config.beta, config.temperature)
    if len(betas) > ROWS:
        raise ValueError(
            f"{config.file} has {len(betas)} temperatures, one picture holds {ROWS}; choose some by --beta"
        )
    figure = Figure(figsize=(15, 3.4 * len(betas)), layout="constrained")
    for part, beta in zip(figure.subfigures(len(betas), 1, squeeze=False)[:, 0], betas, strict=True):
        draw(part, list(store.runs(config.file, beta=beta)))
    out = config.out if config.out.suffix else config.out.with_suffix(".png")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)
    log.info("%s: %d temperature%s", out, len(betas), "s" if len(betas) > 1 else "")


def draw(figure: SubFigure, runs: list[Run]) -> None:
    """Autocorrelation, e and |m| of the runs at one temperature."""
    left, middle, right = figure.subplots(1, 3)
    names = {f"{run.provenance.get('start', '?')} start, seed {run.seed}": run for run in runs}
    energies = {name: run.energies / run.n_sites for name, run in names.items()}
    orders = {name: np.abs(run.magnetisations) / run.n_sites for name, run in names.items()}
    first = next(iter(names))
    moving = {"e": energies[first], "|m|": orders[first]}
    curves.autocorrelation(left, {k: x for k, x in moving.items() if np.ptp(x) > 0}, runs[0].thin)
    curves.equilibration(middle, energies, "energy per site e  (J)", runs[0].thin)
    curves.equilibration(right, orders, "magnetisation per site |m|", runs[0].thin)
    figure.suptitle(f"T = {1 / runs[0].beta:.5g}, {runs[0].update}", fontsize="medium")
