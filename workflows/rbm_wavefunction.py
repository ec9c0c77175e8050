"""Find a ground state with a Boltzmann machine as the trial function.

Variational Monte Carlo: walkers are drawn from psi squared, the energy is the
mean of the local energy, and stochastic reconfiguration (or Adam) lowers it.

  trap   particles in a harmonic trap, hbar = m = 1, with a repulsion 1/r or
         without; psi is a Gaussian-binary machine, positive: bosons, or two
         electrons in a singlet. It has no cusp where particles meet; --jastrow
         adds one, which is a different and a much better trial function.
  chain  the transverse-field Ising chain -J sum s^z s^z - h sum s^x on a ring;
         psi is a spin machine with real weights.

Shown are the energy with its blocking error and its distance from the exact
one, the variance of the local energy, which is zero for the exact state, and
for the trap the parts of the energy with the virial theorem.

Example:

  physgen rbm_wavefunction --out runs/dot
  physgen rbm_wavefunction --jastrow --out runs/dot-jastrow
  physgen rbm_wavefunction --particles 5 --dimensions 3 --no-repulsion
  physgen rbm_wavefunction --system chain --sites 16 --h 1 --out runs/chain
"""

import dataclasses
import json
import logging
import math
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from cyclopts import Parameter
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ising import stats
from ising.stats import Estimate
from physgen.plots import EXACT, MONTE_CARLO, PALETTE
from physgen.train import gradient_step
from physgen.wavefunctions import (
    Chain,
    EnergyLoss,
    Enumeration,
    GaussianBinary,
    PadeJastrow,
    Product,
    SpinMachine,
    SpinWalkers,
    Trap,
    Walkers,
    chain,
    jastrow,
)
from workflows import _training
from workflows._common import check_options, plain, progress_bar, provenance, write_json

log = logging.getLogger("physgen.rbm_wavefunction")

TRAP = ("particles", "dimensions", "omega", "repulsion", "jastrow", "symmetric")
CHAIN = ("sites", "h", "J", "tied", "even")
BINS = 30


@Parameter(name="*")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Options of ``physgen rbm_wavefunction``."""

    system: Literal["trap", "chain"] = "trap"
    """Particles in a harmonic trap, or the transverse-field Ising chain."""
    particles: int = 2
    """Trap: how many particles."""
    dimensions: int = 2
    """Trap: of space."""
    omega: float = 1.0
    """Trap: its frequency."""
    repulsion: bool = True
    """Trap: whether particles repel each other by 1/r."""
    jastrow: bool = False
    """Trap: multiply the machine by a Pade-Jastrow factor with the exact cusp."""
    symmetric: bool = False
    """Trap: make psi symmetric under exchange by summing all orders; up to 5 particles."""
    sites: int = 16
    """Chain: spins on the ring."""
    h: float = 1.0
    """Chain: transverse field."""
    J: float = 1.0
    """Chain: coupling."""
    tied: bool = True
    """Chain: repeat each hidden unit at every site, so that psi is invariant under translations."""
    even: bool = True
    """Chain: no biases, so that psi is invariant under the flip of all spins."""
    hidden: int | None = None
    """Hidden units: 8 for the trap; 4 per site for a tied chain; as many as sites for a free one."""
    sampler: Literal["auto", "langevin", "metropolis", "enumerate"] = "auto"
    """Langevin (trap), Metropolis (both) or all states (chain, 16 sites); auto is the first that fits."""
    optimiser: Literal["sr", "adam"] = "sr"
    """Stochastic reconfiguration, or Adam on the plain gradient."""
    lr: float | None = None
    """Step: for sr of imaginary time, in units of 1/omega or 1/(J + h), 0.2 if not given; of Adam 0.02."""
    walkers: int = 500
    """Independent Markov chains."""
    moves: int | None = None
    """Between two draws: 10 moves of all particles, or 2 sweeps of the chain."""
    steps: int = 400
    """Optimisation steps."""
    average: float = 0.2
    """Last fraction of the steps over which the parameters are averaged; 0 turns it off."""
    samples: int = 400
    """Draws of every walker for the final averages."""
    every: int = 10
    """Steps between two records and checkpoints."""
    seed: int = 0
    """Seed of the parameters and of the walkers."""
    out: Path = Path("runs/wavefunction")
    """Folder of results.json, wavefunction.png, config.json, metrics.jsonl and the checkpoint."""
    resume: bool = False
    """Continue from the last checkpoint in --out."""
    quiet: bool = False
    """No progress bar."""

    SMOKE = {"hidden": 2, "walkers": 100, "steps": 20, "every": 10, "samples": 20, "quiet": True}

    def __post_init__(self) -> None:
        check_options(self, shares=("average",), folder=True)
        if self.walkers < 2 or self.samples < 2:
            raise ValueError("error bars need --walkers and --samples of at least 2")
        other = CHAIN if self.system == "trap" else TRAP
        changed = [name for name in other if getattr(self, name) != getattr(Config, name)]
        if changed:
            system = "chain" if self.system == "trap" else "trap"
            raise ValueError(
                f"--{changed[0]} is an option of --system {system}; leave it out or change --system"
            )
        wrong = {"trap": "enumerate", "chain": "langevin"}[self.system]
        if self.sampler == wrong:
            raise ValueError(f"--sampler {wrong} does not fit --system {self.system}; take auto")
        if self.jastrow and not self.repulsion:
            raise ValueError("--jastrow is for particles that repel each other; leave out --no-repulsion")


def main(*, config: Config = Config()) -> None:
    build = trap_of if config.system == "trap" else chain_of
    hamiltonian, psi, walkers = build(config)
    sr, enumerated = config.optimiser == "sr", config.sampler == "enumerate"
    loss = EnergyLoss(psi, hamiltonian, natural=sr, enumerate=enumerated, longest=longest_of(config))
    parameters = [p for p in psi.parameters() if p.requires_grad]
    if sr:
        optimiser = torch.optim.SGD(parameters, (config.lr or 0.2) / hamiltonian.unit)
    else:
        optimiser = torch.optim.Adam(parameters, config.lr or 0.02)
    step = gradient_step(loss, optimiser, **_training.schedule(config))
    manifest = {"options": plain(config), "provenance": provenance()}
    _training.train(psi, step, walkers, config, manifest)
    with _training.safe(config):
        found = averages(config, hamiltonian, psi, walkers)
    found |= {"config": plain(config), "provenance": provenance()}
    write_json(config.out / "results.json", found)
    sys.stdout.write("\n".join(lines(found)) + "\n")
    draw(config, found).savefig(config.out / "wavefunction.png", dpi=150)
    log.info("%s holds results.json and wavefunction.png", config.out)


def trap_of(config: Config) -> tuple[Trap, torch.nn.Module, Walkers]:
    """Particles in a trap: Hamiltonian, trial function and the walkers that sample it."""
    trap = Trap(config.particles, config.dimensions, config.omega, config.repulsion)
    width = config.omega**-0.5
    psi: torch.nn.Module = GaussianBinary(
        config.particles,
        config.dimensions,
        config.hidden or 8,
        width=width,
        spread=0.3,
        symmetric=config.symmetric,
        seed=config.seed,
    )
    if config.jastrow:
        psi = Product(psi, PadeJastrow(config.particles, config.dimensions, beta=0.5 / width))
    walkers = Walkers(
        psi,
        config.particles * config.dimensions,
        config.walkers,
        move="metropolis" if config.sampler == "metropolis" else "langevin",
        moves=config.moves or 10,
        spread=width,
        seed=config.seed,
    )
    return trap, psi, walkers


def chain_of(config: Config) -> tuple[Chain, SpinMachine, SpinWalkers | Enumeration]:
    """Spins on a ring: Hamiltonian, trial function and what averages over it."""
    ring = Chain(config.sites, config.h, config.J)
    hidden = config.hidden or (4 if config.tied else config.sites)
    psi = SpinMachine(config.sites, hidden, tied=config.tied, even=config.even, seed=config.seed)
    if config.sampler == "enumerate":
        return ring, psi, Enumeration(config.sites)
    return ring, psi, SpinWalkers(psi, config.walkers, sweeps=config.moves or 2, seed=config.seed)


def longest_of(config: Config) -> float:
    """Cap on the direction of a step: the cusp that a machine lacks makes that of particles noisier."""
    return 0.2 if config.system == "trap" else 0.3


@torch.no_grad()
def averages(config: Config, hamiltonian: Any, psi: torch.nn.Module, walkers: Any) -> dict[str, Any]:
    """The final averages as plain values."""
    if config.sampler == "enumerate":
        x = next(walkers)
        weights = torch.softmax(2 * psi.log_psi(x), 0)
        energies = hamiltonian.local_energy(psi, x)
        mean = float(weights @ energies)
        found = {"variance": float(weights @ (energies - mean).square())}
        found |= correlations(hamiltonian, [Estimate(float(c), 0.0) for c in weights @ chain.correlation(x)])
        return found | about(Estimate(mean, 0.0), hamiltonian.exact_energy)
    x = draws(config, walkers)
    smooth = config.system == "trap" and config.repulsion and not config.jastrow
    energy = (hamiltonian.tamed if smooth else hamiltonian.local_energy)(psi, x.flatten(0, 1))
    energy = energy.reshape(x.shape[:2]).numpy()
    found = {"variance": float(energy.var()), "acceptance": walkers.acceptance}
    found |= about(stats.blocking(energy), hamiltonian.exact_energy)
    return found | (
        trap_averages(hamiltonian, x, psi) if config.system == "trap" else chain_averages(hamiltonian, x)
    )


def draws(config: Config, walkers: Any) -> Tensor:
    """``(walkers, samples, coordinates)`` from a frozen psi, after some draws to forget the training."""
    walkers.adapting = False
    with progress_bar(config.quiet) as bar:
        discarded = max(10, config.samples // 10)
        task = bar.add_task("averaging", total=discarded + config.samples, note="")
        kept = []
        for _ in range(discarded + config.samples):
            kept.append(next(walkers).clone())
            bar.update(task, advance=1)
    return torch.stack(kept[discarded:], 1)


def about(energy: Estimate, exact: float | None) -> dict[str, Any]:
    """The energy as plain values, with its distance from the exact one where that is known."""
    error = {} if exact is None else {"relative_error": (energy.mean - exact) / abs(exact)}
    return {"energy": dataclasses.asdict(energy), "exact": exact} | error


def trap_averages(trap: Trap, x: Tensor, psi: torch.nn.Module) -> dict[str, Any]:
    """Parts of the energy, the virial theorem, and distributions of distances with errors between walkers."""
    parts = trap.parts(psi, x.flatten(0, 1))
    series = {name: part.reshape(x.shape[:2]).numpy() for name, part in parts._asdict().items()}
    series["virial"] = 2 * series["kinetic"] - 2 * series["harmonic"] + series["repulsion"]
    found: dict[str, Any] = {
        "parts": {name: dataclasses.asdict(stats.blocking(value)) for name, value in series.items()}
    }
    place = x.reshape(*x.shape[:2], -1, trap.dimensions)
    distances = {"distance from the centre": place.norm(dim=-1)}
    if trap.particles > 1:
        distances["distance of two particles"] = jastrow.pairs(x, trap.dimensions)[1]
    return found | {"distributions": {name: histogram(r.flatten(1).numpy()) for name, r in distances.items()}}


def histogram(r: np.ndarray) -> dict[str, list[float]]:
    """Density of ``(walkers, n)`` distances and its standard error, from the scatter between walkers."""
    edges = np.linspace(0, float(np.quantile(r, 0.999)), BINS + 1)
    share = np.stack([np.histogram(row, edges)[0] for row in r]) / (r.shape[1] * np.diff(edges))
    error = share.std(0, ddof=1) / math.sqrt(len(r))
    return {
        "r": (edges[1:] / 2 + edges[:-1] / 2).tolist(),
        "P": share.mean(0).tolist(),
        "error": error.tolist(),
    }


def chain_averages(ring: Chain, x: Tensor) -> dict[str, Any]:
    """Correlation functions with errors by blocking, of spins ``(walkers, samples, N)``."""
    series = chain.correlation(x).movedim(-1, 0).numpy()
    return correlations(ring, [stats.blocking(c) for c in series])


def correlations(ring: Chain, found: list[Estimate]) -> dict[str, Any]:
    """Of s^z at distance r, with the exact ones where they can be had."""
    result: dict[str, Any] = {"correlation": [dataclasses.asdict(c) for c in found]}
    if ring.sites <= chain.MAX_ENUMERATED:
        probability = ring.ground_state()[1] ** 2
        every = chain.correlation(chain.all_spins(ring.sites)).numpy()
        result["exact_correlation"] = (probability @ every).tolist()
    return result


def lines(found: dict[str, Any]) -> list[str]:
    """What is shown on the screen."""
    text = [f"energy    {Estimate(**found['energy'])}"]
    if found["exact"] is not None:
        error, scale = found["relative_error"], found["energy"]["error"] / abs(found["exact"])
        text.append(f"exact     {found['exact']:.10g}   off by {error:+.2e} +- {scale:.1e}")
    text.append(f"variance  {found['variance']:.3g} of the local energy")
    text += [f"{name:<9} {Estimate(**value)}" for name, value in found.get("parts", {}).items()]
    return text


def draw(config: Config, found: dict[str, Any]) -> Figure:
    """Energy and variance while learning; distances, or spin correlations, at the end."""
    figure = Figure(figsize=(14, 4), layout="constrained")
    energy, variance, last = figure.subplots(1, 3)
    records = [json.loads(line) for line in (config.out / "metrics.jsonl").read_text().splitlines()]
    at, E, spread = (np.array([r[name] for r in records]) for name in ("step", "energy", "variance"))
    error = 0 * E if config.sampler == "enumerate" else np.sqrt(spread / config.walkers)
    energy.errorbar(at, E, error, color=PALETTE[0], marker=".", linewidth=0.8, label="one step's error")
    if found["exact"] is not None:
        energy.axhline(found["exact"], color=EXACT, linestyle="--", label="exact")
    settled = E[len(E) // 4 :]
    low, high = min(settled.min(), found["exact"] or math.inf), settled.max()
    margin = max(0.2 * (high - low), 2 * float(np.median(error)), 1e-9 * abs(low))
    energy.set(xlabel="step", ylabel="energy  (units of the Hamiltonian)", ylim=(low - margin, high + margin))
    energy.legend(fontsize="small", frameon=False)
    variance.semilogy(at, np.maximum(spread, 1e-30), color=PALETTE[0])
    variance.set(xlabel="step", ylabel="variance of the local energy")
    (distances if config.system == "trap" else correlation)(last, found)
    return figure


def distances(ax: Axes, found: dict[str, Any]) -> None:
    """Distributions of distances with their error bars."""
    for colour, (name, value) in zip(PALETTE, found["distributions"].items(), strict=False):
        r, P, error = (np.array(value[key]) for key in ("r", "P", "error"))
        ax.errorbar(r, P, error, color=colour, marker=".", linewidth=0.8, capsize=2, label=name)
    ax.set(xlabel="r  (units of length)", ylabel="density P(r)", ylim=(0, None))
    ax.legend(fontsize="small", frameon=False)


def correlation(ax: Axes, found: dict[str, Any]) -> None:
    """The correlation function of the trial function beside the exact one."""
    values = [Estimate(**c) for c in found["correlation"]]
    r = np.arange(len(values))
    if "exact_correlation" in found:
        ax.plot(r, found["exact_correlation"], "_", color=EXACT, markersize=16, label="exact")
    errors = [c.error for c in values]
    look = {"color": MONTE_CARLO, "marker": "o", "markersize": 4, "linestyle": "", "capsize": 2}
    ax.errorbar(r, [c.mean for c in values], errors, **look, label="trial function")
    ax.set(xlabel="distance r  (sites)", ylabel=r"$\langle s^z_0 s^z_r \rangle$")
    ax.legend(fontsize="small", frameon=False)
