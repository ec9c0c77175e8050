"""Measure the capacity of Hopfield networks and draw what they recall.

Random patterns are stored by Hebb's rule, and each is started from itself. The
share of patterns that stay (overlap above 0.7) rises with the number N of units
below the critical load P/N and falls with N above it, so that curves of
different N cross there. Theory: 0.138.

The pictures are recalled from copies with flipped pixels, by every learning
rule and by a dense memory; they resemble one another, which Hebb's rule cannot
bear.

Example:

  physgen hopfield_memory --out runs/hopfield
  physgen hopfield_memory --N 1000 2000 4000 --networks 40 --out runs/hopfield
"""

import dataclasses
import itertools
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cyclopts import Parameter
from matplotlib.figure import Figure

from ising import Estimate
from physgen import capacity, curves, models
from physgen.models.hopfield import RULES
from workflows._common import check_options, plain, progress_bar, provenance, write_json

log = logging.getLogger("physgen.hopfield_memory")

THEORY = 0.138  # Amit, Gutfreund and Sompolinsky


@Parameter(name="*")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Options of ``physgen hopfield_memory``."""

    N: tuple[int, ...] = (500, 1000, 2000)
    """Units, at least two sizes."""
    loads: tuple[float, ...] = tuple(round(0.1 + 0.005 * k, 3) for k in range(17))
    """Patterns per unit, rising."""
    networks: int = 40
    """Networks of the largest size; smaller ones get more in proportion."""
    tested: int = 40
    """Patterns tried in each network at each load."""
    side: int = 24
    """Side of the pictures in pixels."""
    noise: float = 0.2
    """Share of pixels flipped."""
    seed: int = 0
    """Seed of patterns and noise."""
    out: Path = Path("runs/hopfield")
    """Folder of results.json, capacity.png and recall.png."""
    quiet: bool = False
    """No progress bar."""

    SMOKE = {
        "N": (60, 300),
        "loads": (0.1, 0.12, 0.14, 0.16, 0.18),
        "networks": 20,
        "tested": 6,
        "side": 12,
        "quiet": True,
    }

    def __post_init__(self) -> None:
        check_options(self, folder=True)
        if len(set(self.N)) < 2 or min(self.N) < 2:
            raise ValueError(f"--N needs at least two sizes, whose curves can cross, got {self.N}")
        if not 0 <= self.noise <= 0.5:
            raise ValueError(f"--noise is a share of pixels from 0 to 0.5, got {self.noise}")
        if self.side < 8:
            raise ValueError(f"--side needs at least 8 pixels for the pictures to differ, got {self.side}")


def main(*, config: Config = Config()) -> None:
    sizes = sorted(set(config.N))
    overlaps = {}
    with progress_bar(config.quiet) as bar:
        task = bar.add_task("capacity", total=len(sizes), note="")
        for N in sizes:
            networks = round(config.networks * sizes[-1] / N)
            overlaps[N] = capacity.retrieval(
                N, config.loads, networks=networks, tested=config.tested, seed=config.seed
            )
            bar.update(task, advance=1, note=f"N = {N}")
    crossings = {
        f"{a}, {b}": capacity.crossing(config.loads, overlaps[a], overlaps[b], seed=config.seed)
        for a, b in itertools.pairwise(sizes)
    }
    for pair, found in crossings.items():
        where = f"cross at P/N = {found}" if found else "do not cross between these loads"
        sys.stdout.write(f"curves of N = {pair} {where}; theory {THEORY}\n")
    values = {N: [mean_and_error(x) for x in overlaps[N]] for N in sizes}
    shares = {N: [mean_and_error(x > capacity.RETRIEVED) for x in overlaps[N]] for N in sizes}
    results: dict[str, Any] = {
        "loads": list(config.loads),
        "crossings": {pair: found and dataclasses.asdict(found) for pair, found in crossings.items()},
        "overlap": {N: [dataclasses.asdict(e) for e in row] for N, row in values.items()},
        "retrieved": {N: [dataclasses.asdict(e) for e in row] for N, row in shares.items()},
    }
    write_json(config.out / "results.json", {"config": plain(config), "provenance": provenance()} | results)
    draw_capacity(config.loads, values, shares, crossings).savefig(config.out / "capacity.png", dpi=150)
    draw_recall(config).savefig(config.out / "recall.png", dpi=150)
    log.info("%s holds results.json, capacity.png and recall.png", config.out)


def mean_and_error(overlaps: np.ndarray) -> Estimate:
    """Of ``(networks, tested)`` values, with the error from the scatter of the networks."""
    each = overlaps.mean(1)
    return Estimate(float(each.mean()), float(each.std(ddof=1) / len(each) ** 0.5))


def draw_capacity(
    loads: tuple[float, ...],
    values: dict[int, list[Estimate]],
    shares: dict[int, list[Estimate]],
    crossings: dict[str, Estimate | None],
) -> Figure:
    """Overlap and share of retrieved patterns against the load."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    for ax, rows, label in zip(
        figure.subplots(1, 2), (values, shares), ("overlap m", "share with m > 0.7"), strict=True
    ):
        lines = {
            f"N = {N}": (np.array(loads), np.array([e.mean for e in row]), np.array([e.error for e in row]))
            for N, row in rows.items()
        }
        points = {f"N = {N}": (loads, row) for N, row in rows.items()}
        curves.reweighted(ax, lines, points, label, critical=THEORY)
        ax.set_xlabel("load P/N")
    last, found = list(crossings.items())[-1]
    if found:
        ax.set_xlim(ax.get_xlim())
        ax.axvspan(found.mean - found.error, found.mean + found.error, alpha=0.2, color="gray", linewidth=0)
        ax.set_title(f"N = {last} cross at {found}", fontsize="medium")
    return figure


def pictures(side: int) -> np.ndarray:
    """Eight pictures ``(8, side * side)``, +1 ink, -1 paper."""
    y, x = (np.mgrid[:side, :side] - (side - 1) / 2) / (side / 2)
    radius = np.hypot(x, y)
    ink = [
        radius < 0.7,
        (radius > 0.45) & (radius < 0.8),
        (abs(x) < 0.22) | (abs(y) < 0.22),
        (abs(x - y) < 0.35) | (abs(x + y) < 0.35),
        (y > -0.6) & (y < 0.7) & (abs(x) < (y + 0.6) * 0.6),
        np.maximum(abs(x), abs(y)) < 0.6,
        np.floor((x + 1) * 3) % 2 == 0,
        np.floor((y + 1) * 3) % 2 == 0,
    ]
    return np.where(np.stack(ink), 1.0, -1.0).reshape(len(ink), -1)


def draw_recall(config: Config) -> Figure:
    """A row of pictures, a row of noisy ones, and a row for what each network makes of them."""
    stored = pictures(config.side)
    rng = np.random.default_rng(config.seed)
    noisy = torch.from_numpy(np.where(rng.random(stored.shape) < config.noise, -stored, stored))
    networks = {rule: models.build("hopfield", (config.side,) * 2, rule=rule) for rule in RULES}
    networks["dense, n = 4"] = models.build("dense_memory", (config.side,) * 2, power=4)
    rows = {"stored": torch.from_numpy(stored), f"{config.noise:.0%} flipped": noisy}
    rows |= {name: net.store(stored).recall(noisy) for name, net in networks.items()}
    figure = Figure(figsize=(len(stored), 1.1 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(stored))
    for line, (name, row) in zip(axes, rows.items(), strict=True):
        for ax, picture in zip(line, row, strict=True):
            ax.imshow(picture.reshape(config.side, -1).numpy(), cmap="gray_r", vmin=-1, vmax=1)
            ax.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    return figure
