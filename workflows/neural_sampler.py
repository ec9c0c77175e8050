"""Train an autoregressive model on a Hamiltonian alone, and sample with it.

No data: the model draws its own configurations and lowers the variational free
energy, beta F_q = <beta E + ln q> >= -ln Z, while the temperature comes down
from infinity. Near the critical point of the square lattice the defaults take,
on one core, a minute for L = 16 (ESS 0.99), two for L = 24 (0.94) and four for
L = 32 (0.81). The draws are then used in two ways that are right for any q:

  weights     e^(-beta E) / q gives ln Z and every average, with error bars
  metropolis  the draws as proposals of a Markov chain, with or without cluster
              moves between them

Shown are free energies per site (variational, by weights, exact), the
divergence from the Boltzmann law, the effective sample size (ESS), and the
observables with and without weights. With --data the model first learns from
Monte Carlo configurations by maximum likelihood. A model can lose a part of the
configurations and still look well in all of these: where data exist, check it
with physgen compare.

Example:

  physgen neural_sampler --L 16 --beta 0.44 --out runs/sampler
  physgen neural_sampler --model made --L 8 --temperature 2.269 --h 0.1
  physgen neural_sampler --lattice triangular --L 8 --beta 0.25 --clusters
"""

import dataclasses
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from cyclopts import Parameter
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ising import Ising, exact, lattices, stats, updates
from ising.stats import Estimate
from physgen import importance, models, orders
from physgen.autoregressive import Autoregressive
from physgen.batches import Stateful
from physgen.divergence import effective_sample_size
from physgen.nn import private_seed
from physgen.plots import EXACT, PALETTE
from physgen.reverse_kl import Draws, InTurn, ReverseKL
from physgen.train import GradientStep, gradient_step
from workflows import _training
from workflows._common import betas_of, check_options, pick_device, plain, provenance, write_json

log = logging.getLogger("physgen.neural_sampler")

AFTER_DATA = 0.2  # of the learning rate: at all of it, reverse KL undoes first what data have taught


@Parameter(name="*")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Options of ``physgen neural_sampler``."""

    lattice: Literal[tuple(sorted(lattices.REGISTRY))] = "square"  # type: ignore[valid-type]
    """Which lattice, with periodic boundaries."""
    L: tuple[int, ...] = (16,)
    """Side in sites; two numbers for a rectangular lattice."""
    J: float = 1.0
    """Coupling of neighbours; positive is ferromagnetic."""
    h: float = 0.0
    """Magnetic field."""
    beta: float | None = None
    """Inverse temperature."""
    temperature: float | None = None
    """Temperature instead of --beta."""
    data: Path | None = None
    """HDF5 file of `physgen simulate` to learn from first; it tells the lattice, J, h and temperature."""
    reverse: float = 0.4
    """Last fraction of the steps, after --data, by reverse KL; 0 for data alone."""
    augment: bool = True
    """Apply random symmetries of the lattice to the data."""
    model: Literal["frontier", "fvbn", "odd", "made", "pixelcnn"] = "frontier"
    """What a site reads: the frontier; all before it (fvbn linear, odd and made masked nets); a window."""
    hidden: int | None = None
    """Hidden units: of each site for frontier (default 5) and odd (1), of the layer for made (256)."""
    order: Literal[tuple(orders.REGISTRY)] = "raster"  # type: ignore[valid-type]
    """Order in which the sites are drawn."""
    steps: int = 4000
    """Gradient steps."""
    batch: int = 512
    """Configurations drawn for each step."""
    lr: float = 1.5e-3
    """Learning rate of Adam at the start, 20 % of it after --data; it decays to 2 % as a half cosine."""
    anneal: float = 0.2
    """First fraction of the steps, in which beta rises from 0 to its value; not after --data."""
    average: float = 0.2
    """Last fraction of the steps over which the weights are averaged (Polyak); 0 turns it off."""
    samples: int = 20_000
    """Draws for weights and averages, and proposals of the Markov chains."""
    chains: int = 200
    """Markov chains."""
    clusters: bool = False
    """Move every chain by one Wolff cluster before each proposal."""
    every: int = 200
    """Steps between two records and checkpoints."""
    seed: int = 0
    """Seed of the weights and of all draws."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train."""
    out: Path = Path("runs/sampler")
    """Folder of results.json, neural_sampler.png, config.json, metrics.jsonl and the checkpoint."""
    resume: bool = False
    """Continue from the last checkpoint in --out."""
    quiet: bool = False
    """No progress bar."""

    SMOKE = {"L": (4,), "beta": 0.3, "steps": 4, "every": 2, "samples": 4000, "chains": 20, "quiet": True}

    def __post_init__(self) -> None:
        check_options(self, shares=("anneal", "average", "reverse"), folder=True)
        if self.hidden is not None and self.model not in ("frontier", "odd", "made"):
            raise ValueError(
                f"--hidden is an option of frontier, odd and made; leave it out for {self.model}"
            )
        if self.samples < 2 * self.chains:
            raise ValueError(f"--samples must be at least twice --chains, got {self.samples}")


def main(*, config: Config = Config()) -> None:
    torch.manual_seed(config.seed)
    data = _training.load(config) if config.data is not None else None
    beta = (
        data.beta
        if data
        else betas_of(*([v] if v is not None else None for v in (config.beta, config.temperature)))[0]
    )
    device = pick_device(config.device)
    target = (
        data.hamiltonian if data else Ising(lattices.build(config.lattice, config.L), J=config.J, h=config.h)
    )
    target = target.to(device)
    net = network(config, target, beta).to(device)
    step, batches = training(config, net, target, beta, data)
    manifest = {"options": plain(config), "beta": beta, "model": target.describe()}
    began = time.process_time()
    _training.train(net, step, batches, config, manifest | {"provenance": provenance()})
    seconds = time.process_time() - began
    with _training.safe(config):
        found, log_w = results(config, net, target, beta)
        if data:
            found |= held_out(net, target, beta, data.validation, log_w)
    found |= {"cpu_seconds": seconds, "config": plain(config), "provenance": provenance()}
    write_json(config.out / "results.json", found)
    sys.stdout.write("\n".join(lines(found)) + "\n")
    draw(config, found, log_w).savefig(config.out / "neural_sampler.png", dpi=150)
    log.info("%s holds results.json and neural_sampler.png", config.out)


def training(
    config: Config, net: Autoregressive, target: Ising, beta: float, data: _training.Data | None
) -> tuple[GradientStep, Stateful]:
    """The step and its batches: the model's own draws, after data where there are any."""
    adam = torch.optim.Adam(net.parameters(), lr=config.lr, betas=(0.9, 0.99), fused=True)
    draws = Draws(net, config.batch, seed=config.seed)
    rates = _training.schedule(config)
    if data is None:
        loss = ReverseKL(target.energy, beta, anneal=round(config.anneal * config.steps))
        return gradient_step(loss, adam, clip=1.0, **rates), draws
    first = config.steps - round(config.reverse * config.steps)
    stages = [_training.schedule(config, n)["schedule"] for n in (first, config.steps - first)]
    rates["schedule"] = lambda i: stages[0](i) if i < first else AFTER_DATA * stages[1](i - first)
    loss = InTurn(net.loss, ReverseKL(target.energy, beta), first)
    batches = InTurn(_training.batches_of(data, config), draws, first)
    return gradient_step(loss, adam, clip=1.0, **rates), batches


@torch.no_grad()
def held_out(
    net: Autoregressive, target: Ising, beta: float, spins: Tensor, log_w: np.ndarray
) -> dict[str, Any]:
    """KL(p||q) on configurations that were not learned from, and what it says of the draws."""
    log_z, n_sites = exact.log_z(target, beta), target.lattice.n_sites
    log_z = importance.log_partition(log_w).mean if log_z is None else log_z
    parts = [
        -beta * target.energy(part).double() - net.log_prob(part.float()).double()
        for part in spins.split(1000)
    ]
    forward, reverse = (
        stats.mean(torch.cat(parts).cpu().numpy()[None] - log_z),
        stats.mean((log_z - log_w)[None]),
    )
    return {
        "forward_kl": {"mean": forward.mean / n_sites, "error": forward.error / n_sites, "tau": forward.tau},
        "warning": importance.warning(forward, reverse),
    }


def network(config: Config, target: Ising, beta: float) -> Autoregressive:
    """The model, with the Boltzmann factor of the bonds to earlier sites in its direct term."""
    hyper: dict[str, Any] = {} if config.hidden is None else {"hidden": config.hidden}
    even = not target.site_fields.any()
    if config.model == "frontier":
        hyper["bonds"] = _training.bonds(target.lattice, config.order)
    net = models.build(config.model, target.lattice.shape, order=config.order, symmetric=even, **hyper)
    unit = torch.eye(target.lattice.n_sites, device=target.lattice.edges.device)
    net.start_from(beta * (target.local_field(unit) - target.site_fields).float())
    return net


@torch.no_grad()
def results(
    config: Config, net: Autoregressive, target: Ising, beta: float
) -> tuple[dict[str, Any], np.ndarray]:
    """What the trained model gives, as plain values, and the log weights of its draws."""
    n_sites = target.lattice.n_sites
    spins, log_w = importance.log_weights(net, target.energy, beta, config.samples, seed=config.seed)
    log_z, known = exact.log_z(target, beta), exact.known(target, beta)
    by_weights = importance.log_partition(log_w)
    found: dict[str, Any] = {
        "beta_f": {
            "variational": dataclasses.asdict(stats.mean(-log_w[None] / n_sites)),
            "weights": {"mean": -by_weights.mean / n_sites, "error": by_weights.error / n_sites, "tau": 0.5},
            "exact": None if log_z is None else -log_z / n_sites,
        },
        "beta": beta,
        "ess": effective_sample_size(log_w),
    }
    if log_z is not None:
        found["reverse_kl"] = dataclasses.asdict(stats.mean((log_z - log_w)[None] / n_sites))
    moves = between(config, target, beta) if config.clusters else None
    made = importance.metropolis(
        net,
        target.energy,
        beta,
        chains=config.chains,
        samples=config.samples // config.chains,
        start=spins[: config.chains],
        between=moves,
        seed=config.seed,
    )
    kept = made.spins[:, made.spins.shape[1] // 10 :]
    of_draws, of_chains = series(spins[None], target), series(kept, target)
    found["acceptance"] = made.acceptance
    found["observables"] = {
        name: {
            "draws": dataclasses.asdict(stats.mean(value)),
            "weights": dataclasses.asdict(importance.reweighted(log_w, value[0])),
            "metropolis": dataclasses.asdict(stats.mean(of_chains[name])),
            "exact": known.get(name),
        }
        for name, value in of_draws.items()
    }
    return found, log_w


def between(config: Config, target: Ising, beta: float) -> Any:
    """One Wolff cluster of every chain, made between two proposals."""
    generator = torch.Generator(target.lattice.edges.device).manual_seed(private_seed(config.seed, 53))
    return lambda spins: updates.get("wolff")(spins, target, beta, generator)[0]


def series(spins: Tensor, target: Ising) -> dict[str, np.ndarray]:
    """Energy and |m| per site, ``(chains, n)``."""
    energy, total = target.energy(spins), spins.sum(-1, dtype=torch.float64).abs()
    return {
        name: (x / target.lattice.n_sites).cpu().numpy() for name, x in (("energy", energy), ("abs_m", total))
    }


def lines(found: dict[str, Any]) -> list[str]:
    """What is shown on the screen."""
    free = found["beta_f"]
    text = ["free energy  beta F / N"]
    text += [f"  {name:<12}{Estimate(**free[name])}" for name in ("variational", "weights")]
    if free["exact"] is not None:
        text.append(f"  exact       {free['exact']:.8f}")
        text.append(f"KL(q||p)      {Estimate(**found['reverse_kl'])} nats per site")
    if "forward_kl" in found:
        text.append(f"KL(p||q)      {Estimate(**found['forward_kl'])} nats per site, held-out data")
        if found["warning"]:
            text.append(f"Warning: {found['warning']}.")
    text.append(f"ESS           {found['ess']:.4f}    acceptance {found['acceptance']:.3f}")
    for name, value in found["observables"].items():
        text.append(f"{name}")
        for kind in ("draws", "weights", "metropolis"):
            text.append(f"  {kind:<12}{Estimate(**value[kind])}")
        if value["exact"] is not None:
            text.append(f"  exact       {value['exact']:.6f}")
    text.append(f"trained in {found['cpu_seconds']:.1f} CPU-s")
    return text


def draw(config: Config, found: dict[str, Any], log_w: np.ndarray) -> Figure:
    """How it has learned, and the weights at the end."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    learning, weights = figure.subplots(1, 2)
    lines = (config.out / "metrics.jsonl").read_text().splitlines()
    learned(learning, config, found, [json.loads(line) for line in lines])
    weights.hist(log_w - importance.log_partition(log_w).mean, bins=60, color=PALETTE[0], density=True)
    weights.set(xlabel=r"$\ln\,(w / Z)$  (nats)", ylabel="density", title=f"ESS {found['ess']:.3f}")
    return figure


def learned(axes: Axes, config: Config, found: dict[str, Any], records: list[dict[str, Any]]) -> None:
    """Divergence per site while learning, once annealed; where ln Z is unknown, free energy."""
    by_data = [r for r in records if "free_energy" not in r]
    own = [r for r in records if "free_energy" in r]
    least, energy = found["beta_f"]["exact"], found["observables"]["energy"]["exact"]
    axes.set(xlabel="step", xlim=(0, config.steps))
    if least is None:
        axes.plot([r["step"] for r in own], [r["free_energy"] for r in own], color=PALETTE[0], marker=".")
        axes.set(ylabel=r"$\beta_t F_q / N$  (nats)")
        return
    if by_data and energy is not None:
        entropy = found["beta"] * energy - least
        steps, excess = [r["step"] for r in by_data], [r["loss"] - entropy for r in by_data]
        axes.plot(steps, excess, color=PALETTE[1], marker=".", label=r"KL$(p\|q)$, training data")
    if config.data is None:
        own = [r for r in own if r["step"] > config.anneal * config.steps + config.every]
    if own:
        steps, excess = [r["step"] for r in own], [r["free_energy"] - least for r in own]
        axes.plot(steps, excess, color=PALETTE[0], marker=".", label=r"KL$(q\|p)$, draws")
    elif not by_data:
        axes.set_title("no record yet at the full $\\beta$: see --every", fontsize="medium")
    end = Estimate(**found["reverse_kl"])
    axes.axhline(end.mean, color=EXACT, linestyle="--", linewidth=0.8)
    look = {"fmt": "s", "color": EXACT, "capsize": 2, "label": r"KL$(q\|p)$ at the end"}
    axes.errorbar(config.steps, end.mean, end.error, **look, clip_on=False)
    if config.anneal and config.data is None:
        axes.axvspan(0, config.anneal * config.steps, color="0.93", label="annealing")
    shown = np.concatenate([line.get_ydata() for line in axes.lines])
    axes.set(yscale="log" if (shown > 0).any() else "linear", ylabel="divergence per site  (nats)")
    axes.legend(fontsize="small", frameon=False)
