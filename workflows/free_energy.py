"""The free energy over a range of temperatures, from one network and no data.

An autoregressive model whose weights are polynomials of beta learns the whole
range at once: each step draws configurations at one temperature and lowers the
variational free energy there. Then, at each temperature asked for, its draws
are weighted with e^(-beta E) / q, which makes free energy, energy and specific
heat right for any q, with error bars, and are compared with the exact values
where these are known.

Shown is the deviation from the exact value in standard errors, z. The error
bars can be trusted as long as the effective sample size (ESS) is not tiny.

Example:

  physgen free_energy --L 16 --out runs/free_energy
  physgen free_energy --L 8 --beta-min 0.2 --beta-max 0.6 --model odd
"""

import dataclasses
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from cyclopts import Parameter
from matplotlib.figure import Figure

from ising import Ising, exact, lattices, stats
from ising.stats import Estimate
from physgen import importance, models, orders
from physgen.conditional import Conditional, ConditionalDraws, ConditionalReverseKL
from physgen.divergence import effective_sample_size
from physgen.nn import private_seed
from physgen.plots import EXACT, PALETTE
from physgen.train import gradient_step
from workflows import _training
from workflows._common import check_options, pick_device, plain, provenance, write_json

log = logging.getLogger("physgen.free_energy")

SYMBOLS = {"free_energy": "F / N", "energy": "E / N", "specific_heat": "C / N"}
MARGIN = 0.15  # of the interval of beta, that is learned beyond either end, where polynomials are worst


@Parameter(name="*")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Options of ``physgen free_energy``."""

    lattice: Literal[tuple(sorted(lattices.REGISTRY))] = "square"  # type: ignore[valid-type]
    """Which lattice, with periodic boundaries."""
    L: tuple[int, ...] = (16,)
    """Side in sites; two numbers for a rectangular lattice."""
    J: float = 1.0
    """Coupling of neighbours; positive is ferromagnetic."""
    h: float = 0.0
    """Magnetic field."""
    beta_min: float = 0.3
    """Smallest inverse temperature."""
    beta_max: float = 0.5
    """Largest inverse temperature."""
    temperatures: int = 10
    """How many temperatures are evaluated, evenly spaced from 1/beta_max to 1/beta_min."""
    model: Literal["fvbn", "odd", "made"] = "fvbn"
    """Linear, odd masked net, or MADE."""
    hidden: int | None = None
    """Hidden units: of each site for odd (default 1), of the layer for made (default 256)."""
    order: Literal[tuple(orders.REGISTRY)] = "raster"  # type: ignore[valid-type]
    """Order in which the sites are drawn."""
    degree: int = 3
    """Degree of the polynomials of beta."""
    steps: int = 7000
    """Gradient steps, each at one temperature."""
    batch: int = 200
    """Configurations drawn for each step."""
    lr: float = 1e-3
    """Learning rate of Adam at the start; it decays to 2 % as a half cosine."""
    average: float = 0.2
    """Last fraction of the steps over which the weights are averaged (Polyak); 0 turns it off."""
    samples: int = 10_000
    """Draws at each temperature."""
    every: int = 200
    """Steps between two records and checkpoints."""
    seed: int = 0
    """Seed of the weights and of all draws."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train."""
    out: Path = Path("runs/free_energy")
    """Folder of results.json, free_energy.png, config.json, metrics.jsonl and the checkpoint."""
    resume: bool = False
    """Continue from the last checkpoint in --out."""
    quiet: bool = False
    """No progress bar."""

    SMOKE = {"L": (4,), "temperatures": 3, "steps": 4, "every": 2, "samples": 2000, "quiet": True}

    def __post_init__(self) -> None:
        check_options(self, shares=("average",), folder=True)
        if not 0 < self.beta_min < self.beta_max < float("inf"):
            raise ValueError(
                f"--beta-min must be above 0 and below --beta-max, got {self.beta_min} and {self.beta_max}"
            )
        if self.hidden is not None and self.model == "fvbn":
            raise ValueError("--hidden is an option of odd and made; leave it out for fvbn")
        if self.temperatures < 2 or self.samples < 100:
            raise ValueError("a curve needs --temperatures of at least 2 and --samples of at least 100")


def main(*, config: Config = Config()) -> None:
    torch.manual_seed(config.seed)
    device = pick_device(config.device)
    target = Ising(lattices.build(config.lattice, config.L), J=config.J, h=config.h).to(device)
    net = network(config, target).to(device)
    adam = torch.optim.Adam(net.parameters(), lr=config.lr, betas=(0.9, 0.99), fused=True)
    loss = ConditionalReverseKL(target.energy)
    step = gradient_step(loss, adam, clip=1.0, **_training.schedule(config))
    manifest = {"options": plain(config), "beta": None, "model": target.describe()}
    draws = ConditionalDraws(net, config.batch, seed=config.seed)
    _training.train(net, step, draws, config, manifest | {"provenance": provenance()})
    with _training.safe(config):
        points = [measure(config, net, target, T, k) for k, T in enumerate(grid(config))]
    found = {"points": points, "config": plain(config), "provenance": provenance()}
    write_json(config.out / "results.json", found)
    sys.stdout.write("\n".join(lines(points)) + "\n")
    draw(config, points, target).savefig(config.out / "free_energy.png", dpi=150)
    log.info("%s holds results.json and free_energy.png", config.out)


def grid(config: Config) -> list[float]:
    """The temperatures of the curve, units of J, lowest first."""
    return np.linspace(1 / config.beta_max, 1 / config.beta_min, config.temperatures).tolist()


def network(config: Config, target: Ising) -> Conditional:
    """The conditional model, with the Boltzmann factor of the bonds to earlier sites in its direct term."""
    margin = MARGIN * (config.beta_max - config.beta_min)
    hyper = {"symmetric": config.h == 0, "order": config.order}
    net = models.build(
        "conditional",
        target.lattice.shape,
        model=config.model,
        intervals=[(max(config.beta_min - margin, 0.0), config.beta_max + margin)],
        degree=config.degree,
        hyper=hyper | ({} if config.hidden is None else {"hidden": config.hidden}),
    )
    unit = torch.eye(target.lattice.n_sites, device=target.lattice.edges.device)
    net.start_from((target.local_field(unit) - target.site_fields).float())
    return net


@torch.no_grad()
def measure(config: Config, net: Conditional, target: Ising, T: float, k: int) -> dict[str, Any]:
    """Everything at one temperature, as plain values; the k-th has draws of its own."""
    beta, n_sites = 1 / T, target.lattice.n_sites
    seed = private_seed(config.seed, 60, k)
    spins, log_w = importance.log_weights(net.at(beta), target.energy, beta, config.samples, seed=seed)
    energy = target.energy(spins).cpu().numpy()
    log_z, known = importance.log_partition(log_w), known_at(target)(T)
    mean = importance.reweighted(log_w, energy)
    square = importance.reweighted(log_w, (energy - mean.mean) ** 2)
    found = {
        "free_energy": (log_z, -T / n_sites),
        "energy": (mean, 1 / n_sites),
        "specific_heat": (square, beta**2 / n_sites),
    }
    point: dict[str, Any] = {"temperature": T, "ess": effective_sample_size(log_w)}
    for name, (estimate, unit) in found.items():
        value = known.get(name)
        scaled = Estimate(unit * estimate.mean, abs(unit) * estimate.error)
        z = None if value is None else scaled.z(Estimate(value, 0.0))
        point[name] = {"mean": scaled.mean, "error": scaled.error, "exact": value, "z": z}
    variational = stats.mean(-T * log_w[None] / n_sites)
    point["variational"] = {"mean": variational.mean, "error": variational.error}
    return point


def lines(points: list[dict[str, Any]]) -> list[str]:
    """What is shown on the screen."""
    text = [f"{'T':>8}  {'ESS':>6}" + "".join(f"  {s:>16} {'z':>5}" for s in SYMBOLS.values())]
    for point in points:
        cells = [f"{point['temperature']:8.4f}  {point['ess']:6.3f}"]
        for name in SYMBOLS:
            z = point[name]["z"]
            value = Estimate(point[name]["mean"], point[name]["error"])
            cells.append(f"{value!s:>16} {'-' if z is None else f'{z:+.1f}':>5}")
        text.append("  ".join(cells))
    return text


def draw(config: Config, points: list[dict[str, Any]], target: Ising) -> Figure:
    """Free energy, energy and specific heat; how far they are off, how good the draws were, the learning."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    (*curves, off, ess, learning), T = figure.subplots(2, 3).flat, [point["temperature"] for point in points]
    fine = np.linspace(T[0], T[-1], 100)
    exactly = [known_at(target)(x) for x in fine]
    for ax, (name, symbol), color in zip(curves, SYMBOLS.items(), PALETTE, strict=False):
        mean, error, z = ([point[name][key] for point in points] for key in ("mean", "error", "z"))
        ax.plot(
            fine, np.array([x.get(name) for x in exactly], float), color=EXACT, linewidth=1, label="exact"
        )
        ax.errorbar(T, mean, error, fmt="o", markersize=4, color=color, label="network, weighted")
        ax.set(ylabel=symbol)
        if None not in z:
            off.plot(T, z, "o-", markersize=4, linewidth=0.6, color=color, label=symbol)
    curves[0].legend(fontsize="small", frameon=False)
    off.axhspan(-3, 3, color="0.93", zorder=0)
    off.axhline(0, color=EXACT, linewidth=0.8)
    off.set(ylabel="deviation from exact (standard errors)")
    if off.get_legend_handles_labels()[0]:
        off.legend(fontsize="small", frameon=False, ncols=3)
    ess.plot(T, [point["ess"] for point in points], "o-", markersize=4, color=PALETTE[3])
    ess.set(ylabel="effective sample size / draws", ylim=(0, 1))
    records = [json.loads(line) for line in (config.out / "metrics.jsonl").read_text().splitlines()]
    learning.semilogy([r["step"] for r in records], [r["spread"] for r in records], ".-", color=PALETTE[4])
    learning.set(xlabel="step", ylabel=r"spread of $\beta E + \ln q$ (nats)")
    for ax in (*curves, off, ess):
        ax.set_xlabel("temperature T  (J / k$_B$)")
    return figure


def known_at(target: Ising) -> Callable[[float], dict[str, float | None]]:
    """Exact free energy, energy and specific heat per site as a function of T, as far as they are known."""

    def values(T: float) -> dict[str, float | None]:
        log_z = exact.log_z(target, 1 / T)
        free = None if log_z is None else -T * log_z / target.lattice.n_sites
        return {"free_energy": free} | exact.known(target, 1 / T)

    return values
