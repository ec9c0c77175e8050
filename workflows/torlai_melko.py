"""How many hidden units does an Ising model need? (Torlai and Melko, 2016.)

A restricted Boltzmann machine is trained on Monte Carlo configurations at each
temperature and with each number of hidden units. Its own energy, |m|, specific
heat and susceptibility stand beside those of the data and the exact ones: near
Tc the fluctuations need the most units, energy and |m| fewer.

Each finished cell (temperature, hidden units) is a file below --out; the same
command continues after a stop and trains only what is missing.

Example:

  physgen torlai_melko --out runs/torlai
  physgen torlai_melko --L 6 --hidden 4 16 36 64 --steps 8000 --out runs/L6
"""

import dataclasses
import logging
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cyclopts import Parameter
from matplotlib.figure import Figure

from ising import Estimate, Ising, Run, exact, lattices, simulate
from physgen import compare, models, plots
from physgen.batches import Batches
from physgen.energy import PersistentCD
from physgen.train import decay, fit, gradient_step
from workflows._common import check_options, plain, progress_bar, provenance, read_json, write_json

log = logging.getLogger("physgen.torlai_melko")

OBSERVABLES = {"energy": "e", "abs_m": "|m|", "specific_heat": "C", "chi": "χ"}


@Parameter(name="*")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Options of ``physgen torlai_melko``."""

    L: int = 4
    """Side of the square lattice."""
    temperature: tuple[float, ...] = (1.5, 2.0, 2.269, 2.6, 3.5)
    """Temperatures, one machine for each and for each number of hidden units."""
    hidden: tuple[int, ...] = (2, 4, 8, 16)
    """Numbers of hidden units."""
    samples: int = 40
    """Monte Carlo configurations per chain."""
    chains: int = 512
    """Monte Carlo chains."""
    steps: int = 2000
    """Gradient steps per machine."""
    batch: int = 256
    """Configurations per step, and persistent chains."""
    k: int = 4
    """Gibbs updates of the persistent chains per step."""
    lr: float = 1e-2
    """Learning rate at the start; it decays to 2 % as a half cosine."""
    drawn: int = 20_000
    """Configurations drawn from each machine to measure it."""
    seed: int = 0
    """Seed of everything."""
    out: Path = Path("runs/torlai_melko")
    """Folder of the cells, results.json and the plots."""
    quiet: bool = False
    """No progress bar."""

    SMOKE = {
        "temperature": (2.0, 3.0),
        "hidden": (1, 2),
        "samples": 40,
        "chains": 64,
        "steps": 4,
        "batch": 16,
        "drawn": 200,
        "quiet": True,
    }

    def __post_init__(self) -> None:
        for name in ("temperature", "hidden"):
            object.__setattr__(self, name, tuple(sorted(set(getattr(self, name)))))
        check_options(self, folder=True)
        if not (self.temperature and self.hidden) or min(self.hidden) < 1:
            raise ValueError("--temperature and --hidden need at least one value each, hidden units >= 1")
        if self.drawn < 100:
            raise ValueError(f"--drawn must be at least 100, or errors say nothing, got {self.drawn}")
        if not all(0 < T < float("inf") for T in self.temperature):
            raise ValueError(f"--temperature must be finite numbers > 0, got {self.temperature}")


def main(*, config: Config = Config()) -> None:
    model = Ising(lattices.square(config.L))
    cells = []
    try:
        with progress_bar(config.quiet) as bar:
            total = len(config.temperature) * len(config.hidden)
            task = bar.add_task("torlai_melko", total=total, note="")
            for T in config.temperature:
                run = None
                for hidden in config.hidden:
                    cell = finished(config, T, hidden)
                    if cell is None:
                        run = run or data(config, model, T)
                        cell = trained(config, model, run, T, hidden)
                    cells.append(cell)
                    bar.update(task, advance=1, note=f"T = {T:g}, {hidden} hidden units")
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"Finished cells are safe in {config.out}; the same command goes on"
        ) from None
    sys.stdout.write("\n".join(lines(cells)) + "\n")
    about = {"config": plain(config), "provenance": provenance()}
    write_json(config.out / "results.json", about | {"cells": cells})
    draw(config, model, cells)
    log.info("%s holds results.json and the plots", config.out)


def data(config: Config, model: Ising, T: float) -> Run:
    """Monte Carlo by clusters, the same for the same seed."""
    return simulate(
        model, beta=1 / T, update="wolff", samples=config.samples, chains=config.chains, seed=config.seed
    )


def cell_path(config: Config, T: float, hidden: int) -> Path:
    """Where the finished cell of one temperature and number of hidden units is kept."""
    return config.out / "cells" / f"L{config.L}-T{T:.12g}-H{hidden}.json"


def settings(config: Config) -> dict[str, Any]:
    """What a cell depends on beside its temperature and hidden units."""
    rest = ("temperature", "hidden", "out", "quiet")
    return {name: value for name, value in plain(config).items() if name not in rest}


def finished(config: Config, T: float, hidden: int) -> dict[str, Any] | None:
    """The stored cell, if there is one; one with other settings is refused."""
    path = cell_path(config, T, hidden)
    if not path.exists():
        return None
    cell = read_json(path)
    if cell["settings"] != settings(config):
        raise ValueError(
            f"{path} was made with {cell['settings']}, not {settings(config)}; repeat them, or change --out"
        )
    return cell


def trained(config: Config, model: Ising, run: Run, T: float, hidden: int) -> dict[str, Any]:
    """Trains one machine, measures it, stores the cell and returns it."""
    torch.manual_seed(config.seed)
    rbm = models.build("rbm", model.lattice.shape, hidden=hidden, symmetric=True)
    batches = Batches(run.spins, config.batch, seed=config.seed, symmetries=["flip"])
    loss = PersistentCD(rbm, run.spins, k=config.k, chains=config.batch, seed=config.seed)
    adam = torch.optim.Adam([rbm.W], config.lr, betas=(0.0, 0.999))
    step = gradient_step(
        loss, adam, schedule=decay(config.steps, final=0.02), average_from=round(0.7 * config.steps)
    )
    fit(step, batches, steps=config.steps)
    step.finish()
    result = compare.against_boltzmann(rbm, model, 1 / T, samples=config.drawn, run=run, seed=config.seed)
    rows = {name: result.observables[name] for name in OBSERVABLES}
    kl = result.forward_kl
    cell = {
        "settings": settings(config),
        "temperature": T,
        "hidden": hidden,
        "machine": {name: pair(row.model) for name, row in rows.items()},
        "monte_carlo": {name: pair(row.monte_carlo) for name, row in rows.items()},
        "exact": {name: row.exact for name, row in rows.items()},
        "kl_per_site": pair(kl),
        "W": rbm.W.tolist(),
    }
    write_json(cell_path(config, T, hidden), cell)
    return cell


def pair(estimate: Estimate) -> list[float]:
    """As results.json holds it: mean and standard error."""
    return [estimate.mean, estimate.error]


def lines(cells: list[dict[str, Any]]) -> list[str]:
    """One line per cell: the machine's observables, with their relative distances in percent."""
    head = f"{'T':>6}  {'hidden':>6}  {'KL/N':>9}" + "".join(f"  {s:>22}" for s in OBSERVABLES.values())
    text = [head + f"     (off by, of {' or '.join(sorted({source(cells, name) for name in OBSERVABLES}))})"]
    for cell in cells:
        columns = []
        for name in OBSERVABLES:
            value, reference = Estimate(*cell["machine"][name]), reference_of(cell, name)
            columns.append(f"  {value!s:>13} {100 * (value.mean / reference - 1):+7.1f}%")
        kl = cell["kl_per_site"][0]
        text.append(f"{cell['temperature']:6.3f}  {cell['hidden']:6d}  {kl:9.2g}" + "".join(columns))
    return text


def reference_of(cell: dict[str, Any], name: str) -> float:
    """The exact value, or that of Monte Carlo where it is not known; nan if it is 0."""
    known = cell["exact"][name]
    return (cell["monte_carlo"][name][0] if known is None else known) or math.nan


def source(cells: list[dict[str, Any]], name: str) -> str:
    """What an observable is compared with."""
    return "Monte Carlo" if any(cell["exact"][name] is None for cell in cells) else "exact"


def draw(config: Config, model: Ising, cells: list[dict[str, Any]]) -> None:
    """``observables.png``: against T; ``hidden.png``: distance from the reference against hidden units."""
    temperatures, hidden = (sorted({cell[key] for cell in cells}) for key in ("temperature", "hidden"))
    figure = Figure(figsize=(11, 8), layout="constrained")
    listed = model.lattice.n_sites <= 16
    fine = np.linspace(temperatures[0], temperatures[-1], 31) if listed else temperatures
    known = [exact.known(model, 1 / T) for T in fine]
    for ax, (name, symbol) in zip(figure.subplots(2, 2).flat, OBSERVABLES.items(), strict=True):
        if all(name in values for values in known):
            ax.plot(
                fine,
                [v[name] for v in known],
                "-" if listed else "_",
                color=plots.EXACT,
                label="exact",
                zorder=1,
            )
        for i, H in enumerate(hidden):
            mine = [cell for cell in cells if cell["hidden"] == H]
            values, errors = np.array([cell["machine"][name] for cell in mine]).T
            T = [cell["temperature"] for cell in mine]
            marker, colour = plots.MARKERS[i % len(plots.MARKERS)], plots.PALETTE[i % len(plots.PALETTE)]
            label = f"{H} hidden unit{'s' if H > 1 else ''}"
            ax.errorbar(T, values, errors, fmt=marker, color=colour, markersize=4, capsize=2, label=label)
        values, errors = np.array([c["monte_carlo"][name] for c in cells if c["hidden"] == hidden[0]]).T
        ax.errorbar(
            temperatures, values, errors, fmt="o", color=plots.MONTE_CARLO, mfc="none", label="Monte Carlo"
        )
        ax.set_xlabel("temperature T  (J / k$_B$)")
        ax.set_ylabel(plots.LABELS[symbol])
    figure.axes[0].legend(fontsize="small", frameon=False)
    figure.savefig(config.out / "observables.png", dpi=130)

    figure = Figure(figsize=(11, 8), layout="constrained")
    for ax, (name, symbol) in zip(figure.subplots(2, 2).flat, OBSERVABLES.items(), strict=True):
        for i, T in enumerate(temperatures):
            mine = [cell for cell in cells if cell["temperature"] == T]
            values, errors = np.array([c["machine"][name] for c in mine]).T
            known = np.array([reference_of(c, name) for c in mine])
            off, errors = abs(values / known - 1), errors / abs(known)
            colour = plots.PALETTE[i % len(plots.PALETTE)]
            ax.errorbar(hidden, off, errors, fmt="o-", color=colour, capsize=2, label=f"T = {T:g}")
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_xticks(hidden, [str(H) for H in hidden])
        ax.set_xlabel("hidden units")
        ax.set_ylabel(f"relative distance of {symbol} from {source(cells, name)}")
    figure.axes[0].legend(fontsize="small", frameon=False)
    figure.savefig(config.out / "hidden.png", dpi=130)
