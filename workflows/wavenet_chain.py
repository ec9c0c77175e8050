"""WaveNets on sequences: chains with an exact law, and m(t) of a Metropolis chain.

  chain    draws of the infinite Ising chain, all spins seen (its law needs the
           last spin alone) or a fraction of them (it needs the last xi or so):
           the divergence KL from the exact law per site against the receptive
           field R, beside the least that any predictor from R sites can reach:
           a knee at xi, below 1e-4 once R covers the correlations
  ring     a ring of 16 spins with couplings of all pairs, 1/r^(1 + sigma): the
           same, with the exact law by enumeration
  series   magnetisation of a square lattice after each Metropolis sweep, in
           levels: the autocorrelation time and the distribution of series that
           the network generates, beside those of Monte Carlo

Each trained network is a file below --out; the same command continues after a
stop and trains only what is missing.

Example:

  physgen wavenet_chain --out runs/wavenet
  physgen wavenet_chain --xi 2 4 8 16 --fields 1 4 16 64 --sites 128
  physgen wavenet_chain --L 24 --temperature 2.6 --series-field 128
"""

import dataclasses
import logging
import math
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cyclopts import Parameter
from torch import Tensor

from ising import Ising, exact, lattices, long_range, simulate, stats
from ising.exact.decimated import DecimatedChain
from physgen import models
from physgen.models.wavenet import WaveNet
from physgen.nn import private_seed
from physgen.train import Loss, decay, fit, gradient_step
from workflows._common import check_options, plain, progress_bar, provenance, read_json, write_json
from workflows._wavenet_report import RING_SITES, Cell, draw, lines

log = logging.getLogger("physgen.wavenet_chain")

GROUPS = 8  # of series, whose scatter is the error of tau
LAGS = 4  # largest lag of the figure, in tau
NETWORKS = ("width", "batch", "lr", "seed")
CHAIN = ("sites", "steps", "drawn")
RING = ("sigma", "ring_beta", "steps")
SERIES = ("L", "temperature", "chains", "sweeps", "levels", "window", "series_field", "series_steps")


@Parameter(name="*")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Options of ``physgen wavenet_chain``."""

    xi: tuple[float, ...] = (2.0, 8.0)
    """Correlation lengths of the chains, -1 / ln tanh(beta J), in sites."""
    seen: float = 0.2
    """Probability that a spin of the chain is seen."""
    sites: int = 64
    """Length of the sequences."""
    fields: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    """Receptive fields R, powers of two."""
    width: int = 16
    """Features of a token."""
    steps: int = 1600
    """Gradient steps for each network of a chain."""
    batch: int = 64
    """Sequences of each step, new ones every time."""
    lr: float = 2e-2
    """Learning rate at the start; it decays to 2 % as a half cosine."""
    drawn: int = 4000
    """Sequences to measure the divergence of the conditionals on."""
    sigma: float = 0.5
    """Exponent of the ring, couplings fall off as 1/r^(1 + sigma)."""
    ring_beta: float = 0.25
    """Its inverse temperature."""
    L: int = 16
    """Side of the square lattice of the series."""
    temperature: float = 2.5
    """Its temperature."""
    chains: int = 512
    """Monte Carlo series, and generated ones."""
    sweeps: int = 2000
    """Length of each series."""
    levels: int = 33
    """Levels of m from -1 to 1; halves are rounded to even ones, which are thus a little likelier."""
    window: int = 128
    """Length of the pieces of a series to learn from."""
    series_field: int = 64
    """Receptive field, a power of two."""
    series_steps: int = 1500
    """Gradient steps."""
    seed: int = 0
    """Seed of everything."""
    out: Path = Path("runs/wavenet_chain")
    """Folder of the cells, results.json and wavenet_chain.png."""
    quiet: bool = False
    """No progress bar."""

    SMOKE = {
        "xi": (2.0,),
        "fields": (1, 4),
        "sites": 16,
        "width": 8,
        "steps": 20,
        "drawn": 400,
        "L": 4,
        "temperature": 3.0,
        "chains": 64,
        "sweeps": 200,
        "window": 16,
        "series_field": 4,
        "series_steps": 20,
        "quiet": True,
    }

    def __post_init__(self) -> None:
        check_options(self, positive=("temperature", "sigma", "ring_beta"), folder=True)
        if not (self.xi and self.fields) or not all(0 < xi < math.inf for xi in self.xi):
            raise ValueError("--xi and --fields need at least one value each, xi finite and > 0")
        for field in (*self.fields, self.series_field):
            if field < 1 or field & (field - 1):
                raise ValueError(f"receptive fields are powers of two, got {field}")
        if not 0 < self.seen < 1:
            raise ValueError(f"--seen is a probability between 0 and 1, got {self.seen}")
        if self.levels < 3 or self.chains < 2 * GROUPS or self.sweeps <= self.window:
            raise ValueError(
                f"--levels must be at least 3, --chains at least {2 * GROUPS}, --sweeps more than --window"
            )


def main(*, config: Config = Config()) -> None:
    longest = max(config.xi)
    jobs = [(longest, 1.0, field) for field in sorted(config.fields)[::2]]
    jobs += [(xi, config.seen, field) for xi in sorted(config.xi) for field in sorted(config.fields)]
    short = [field for field in sorted(config.fields) if field <= RING_SITES]
    cells, ring = [], []
    try:
        with progress_bar(config.quiet) as bar:
            task = bar.add_task("wavenet_chain", total=len(jobs) + len(short) + 1, note="")
            bar.update(task, note="series")
            series = kept(config, "series", SERIES, lambda: series_cell(config))
            bar.update(task, advance=1)
            for xi, seen, field in jobs:
                name = f"xi{xi:g}-seen{seen:g}-R{field}"
                bar.update(task, note=name)
                cells.append(
                    kept(config, name, CHAIN, lambda job=(xi, seen, field): chain_cell(config, *job))
                )
                bar.update(task, advance=1)
            for field in short:
                name = f"ring-R{field}"
                bar.update(task, note=name)
                ring.append(kept(config, name, RING, lambda field=field: ring_cell(config, field)))
                bar.update(task, advance=1)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"Finished networks are safe in {config.out}; the same command goes on"
        ) from None
    found = {"config": plain(config), "provenance": provenance(), "chains": cells, "ring": ring}
    found["series"] = series
    write_json(config.out / "results.json", found)
    sys.stdout.write("\n".join(lines(cells, ring, series)) + "\n")
    draw(config, cells, ring, series).savefig(config.out / "wavenet_chain.png", dpi=150)
    log.info("%s holds results.json and wavenet_chain.png", config.out)


def kept(config: Config, name: str, options: tuple[str, ...], make: Callable[[], Cell]) -> Cell:
    """The stored cell, or a new one, which is stored; one made with other ``options`` is refused."""
    path = config.out / "cells" / f"{name}.json"
    settings = {key: value for key, value in plain(config).items() if key in NETWORKS + options}
    if not path.exists():
        write_json(path, {"settings": settings} | make())
    cell = read_json(path)
    if cell["settings"] != settings:
        raise ValueError(
            f"{path} was made with {cell['settings']}, not {settings}; repeat them, or change --out"
        )
    return cell


def wavenet(n_sites: int, field: int, config: Config, **alphabet: Any) -> WaveNet:
    """Dilations 1, 2, 4, ... up to the receptive field asked for."""
    torch.manual_seed(config.seed)
    dilations = tuple(2**k for k in range(field.bit_length() - 1))
    return models.build("wavenet", (n_sites,), dilations=dilations, width=config.width, **alphabet)


def learn(net: WaveNet, loss: Loss, batches: Iterator[Tensor], config: Config, steps: int) -> None:
    """Minimises ``loss`` over ``steps`` batches; the weights are averaged over the last fifth."""
    adam = torch.optim.Adam(net.parameters(), config.lr, betas=(0.9, 0.99), fused=True)
    schedule = decay(steps, final=0.02, warm_up=min(50, steps // 20))
    step = gradient_step(loss, adam, clip=1.0, schedule=schedule, average_from=round(0.8 * steps))
    fit(step, batches, steps=steps)
    step.finish()


def generator(config: Config, key: int) -> torch.Generator:
    """A stream of its own for each purpose."""
    return torch.Generator().manual_seed(private_seed(config.seed, key))


def chain_cell(config: Config, xi: float, seen: float, field: int) -> Cell:
    """Trains one network on exact draws and measures its divergence from the exact law."""
    chain = DecimatedChain(config.sites, xi, seen)
    net = wavenet(config.sites, field, config, **({"symbols": 3, "levels": True} if seen < 1 else {}))
    source = generator(config, 54)
    if seen < 1:
        batches = (torch.stack(chain.draw(config.batch, source)) for _ in range(config.steps))
        learn(net, partial(loss_over_coins, net, seen), batches, config, config.steps)
    else:
        batches = (chain.sample(config.batch, source) for _ in range(config.steps))
        learn(net, net.loss, batches, config, config.steps)
    spins = chain.sample(config.drawn, generator(config, 55))
    kl = stats.mean(torch.cat([divergence(net, chain, part) for part in spins.split(1000)]).numpy()[None])
    return {
        "xi": xi,
        "seen": seen,
        "receptive_field": net.receptive_field,
        "kl": [kl.mean, kl.error],
        "least": chain.least_divergence(field),
    }


def loss_over_coins(net: WaveNet, seen: float, batch: Tensor) -> Tensor:
    r"""Negative log-likelihood per site, its mean over the coin that hides the site or not.

    .. math:: -(1 - \rho) \log q(0 \mid v_{<i}) - \rho \log q(s_i \mid v_{<i})

    The mean over draws is that of ``net.loss``. There is less noise in it: every spin is told, not a fraction
    :math:`\rho` of them, and how often the coin hides a site is known.

    Arguments:
        net: Of the symbols 0, 1, 2, for -1, hidden, 1.
        seen: :math:`\rho`.
        batch: What is seen of each site, v, and the spins s, ``(2, n, N)``.
    """
    values, spins = (batch + 1).long()
    log_q = net(values).log_softmax(-1)
    of_seen = log_q.gather(-1, spins.unsqueeze(-1)).squeeze(-1)
    return -((1 - seen) * log_q[..., 1] + seen * of_seen).mean()


@torch.no_grad()
def divergence(net: WaveNet, chain: DecimatedChain, spins: Tensor) -> Tensor:
    """Of the conditionals, exact from learnt, given each of the draws ``(n, N)``: nats per site, ``(n,)``."""
    p = chain.conditionals(spins)
    if chain.seen < 1:
        q = net.conditionals((spins + 1).long()).double()
    else:
        up = net.conditionals(spins).double()
        p, q = p[..., ::2], torch.stack([1 - up, up], -1)
    return torch.special.xlogy(p, p / q).sum((-2, -1)) / chain.n_sites


def ring_cell(config: Config, field: int) -> Cell:
    """The same for the long-range ring; all of its configurations are listed."""
    states = exact.states(RING_SITES).float()
    p = exact.boltzmann(long_range.ring(RING_SITES, config.sigma), config.ring_beta)
    net, source = wavenet(RING_SITES, field, config), generator(config, 54)
    draws = (states[p.multinomial(config.batch, True, generator=source)] for _ in range(config.steps))
    learn(net, net.loss, draws, config, config.steps)
    with torch.no_grad():
        log_q = torch.cat([net.log_prob(part).double() for part in states.split(4096)])
    kl = float((p * (p.log() - log_q)).sum()) / RING_SITES
    return {"receptive_field": net.receptive_field, "kl": [kl, 0.0], "least": least_divergence(p, field)}


def least_divergence(p: Tensor, field: int) -> float:
    """Of the best predictor from the last ``field`` sites, nats per site, from all ``2^N`` probabilities."""
    n_sites = len(p).bit_length() - 1

    def missing(joint: Tensor) -> Tensor:
        pairs = joint.reshape(-1, 2)
        return -torch.special.xlogy(pairs, pairs / pairs.sum(-1, keepdim=True)).sum()

    loss = 0.0
    for i in range(n_sites):
        known = p.reshape(2 ** (i + 1), -1).sum(-1)
        window = known.reshape(-1, 2 ** (min(field, i) + 1)).sum(0)
        loss += float(missing(window) - missing(known))
    return loss / n_sites


def series_cell(config: Config) -> Cell:
    """Learns the Monte Carlo series, generates new ones, and compares them."""
    run = simulate(
        Ising(lattices.square(config.L)),
        beta=1 / config.temperature,
        samples=config.sweeps,
        thin=1,
        chains=config.chains,
        seed=config.seed,
    )
    top = config.levels - 1
    real = torch.as_tensor(run.magnetisations / run.n_sites).add(1).mul(top / 2).round().long()
    net = wavenet(config.window, config.series_field, config, symbols=config.levels, levels=True)
    learn(net, net.loss, windows(config, real), config, config.series_steps)
    made = net.of_length(config.sweeps).sample(config.chains, generator(config, 56))
    both = {"monte_carlo": described(real.numpy(), top), "generated": described(made.numpy(), top)}
    counts = [np.array(part["histogram"]) for part in both.values()]
    return both | {"total_variation": float(np.abs(counts[0] - counts[1]).sum() / 2)}


def windows(config: Config, series: Tensor) -> Iterator[Tensor]:
    """Pieces of the series that begin anywhere."""
    pieces, source = series.unfold(1, config.window, 1), generator(config, 57)
    while True:
        chain = torch.randint(pieces.shape[0], (config.batch,), generator=source)
        yield pieces[chain, torch.randint(pieces.shape[1], (config.batch,), generator=source)]


def described(series: np.ndarray, top: int) -> Cell:
    """Tau with the scatter of groups of chains, autocorrelation, P(m), |m|, and one series to look at."""
    m = series * (2 / top) - 1
    tau = stats.tau_int(m)
    groups = [stats.tau_int(part) for part in np.array_split(m, GROUPS)]
    lags = range(min(math.ceil(LAGS * tau) + 1, m.shape[1] // 2))
    off = m - m.mean()
    return {
        "tau": [tau, float(np.std(groups, ddof=1) / math.sqrt(GROUPS))],
        "autocorrelation": [
            float((off[:, : off.shape[1] - t] * off[:, t:]).mean() / off.var()) for t in lags
        ],
        "histogram": (np.bincount(series.ravel(), minlength=top + 1) / series.size).tolist(),
        "abs_m": dataclasses.asdict(stats.mean(np.abs(m))),
        "m2": dataclasses.asdict(stats.mean(m * m)),
        "shown": m[0, :500].tolist(),
    }
