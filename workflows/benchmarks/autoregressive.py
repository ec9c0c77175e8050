"""Autoregressive samplers: what a cache saves, and how well one learns the Hamiltonian in a CPU budget.

  python -m workflows.benchmarks.autoregressive --json autoregressive.json

Draws: a network that goes from site to site and keeps what it has computed,
against one full pass per site, with one thread. The fields of the draws are
compared with those of a full pass first. All passes cost the same, whatever the
site, so a few of them are timed and counted N times.

Training, with no data, on the 16 x 16 square lattice at beta = 0.44: physgen
neural_sampler against the plain loop of Wu, Wang and Zhang (2019), written for
this benchmark: two masked dense layers, a full pass per site and draw, REINFORCE
with the mean as baseline, beta (1 - 0.998^step), batches of 256, Adam at 1e-3. Both
have the same CPU seconds, draws included. Told are the effective sample size
of later draws and KL(q||p) per site against the exact ln Z of Kaufman.
"""

import copy
import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from cyclopts import Parameter
from torch import Tensor, nn
from torch.nn.functional import linear, logsigmoid

from ising import Ising, exact, lattices
from physgen import importance, models
from physgen.autoregressive import Autoregressive
from physgen.divergence import effective_sample_size
from physgen.reverse_kl import Density, Draws, ReverseKL
from physgen.train import GradientStep, decay, gradient_step
from workflows._common import write_json
from workflows.benchmarks._common import command, processor, shown
from workflows.benchmarks._hosts import say

BETA = 0.44
TOLERANCE = 1e-4  # of float32 fields of order 1, sums of some hundred terms in another order


@Parameter(name="*")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the benchmark."""

    json: Path | None = None
    """Writes the table to this file, too."""
    quick: bool = False
    """Tiny lattices and budgets: shows that all works, not how fast it is."""
    budget: float = 100.0
    """CPU seconds of each training."""
    windows: int = 5
    """Timings of every sampler, of which the best counts."""
    seed: int = 1
    """Seed of weights and draws."""


def main(*, config: Config = Config()) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(config.seed)
    if config.quick:
        config = dataclasses.replace(config, budget=0.3, windows=2)
    L, n = (4, 64) if config.quick else (16, 1000)
    kinds = {
        "fvbn": ("fvbn", {}),
        "made, 512 units": ("made", {"hidden": 512}),
        "pixelcnn, depth 3, width 32, kernel 5": ("pixelcnn", {"depth": 3, "width": 32, "kernel": 5}),
    }
    rows = [
        row
        for name, (kind, hyper) in kinds.items()
        for row in sampling(name, models.build(kind, (L, L), **hyper), n, config.windows)
    ]
    rows += training(L, config)
    if config.json is not None:
        write_json(config.json, rows)


def sampling(name: str, net: Autoregressive, n: int, windows: int) -> list[dict[str, str | float]]:
    """Samples per second with the cache, and by a full pass for every site."""
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.02 * torch.randn_like(p))
        spins, fields = net.draw(n)  # compiles, too
        off = float((fields - net(spins)).abs().max())
        if off > TOLERANCE:
            raise ArithmeticError(f"{name}: cached fields differ from those of a full pass by {off:.1g}")
        cached = min(seconds(lambda: net.draw(n)) for _ in range(windows))
        one = min(seconds(lambda: net(spins)) for _ in range(windows))
    N = net.n_sites
    note = f"{N} sites, batch {n}, best of {windows}; fields agree to {off:.1g}"
    return [row(f"{name}, cached", n / cached, "samples/s", "a full pass per site", n / (one * N), note)]


def training(L: int, config: Config) -> list[dict[str, str | float]]:
    """Effective sample size and KL(q||p) per site after the budget, ours and the plain loop's."""
    target, batch = Ising(lattices.square(L)), 256 if not config.quick else 16
    log_z = exact.log_z(target, BETA)
    assert log_z is not None
    found = []
    for train in (plain_loop, own_loop):
        net, steps, spent = train(target, batch, config)
        _, log_w = importance.log_weights(net, target.energy, BETA, 2000 if L > 4 else 200, seed=config.seed)
        kl = float((log_z - log_w).mean()) / L**2
        found.append((effective_sample_size(log_w), kl, f"{steps} steps in {spent:.1f} CPU-s"))
    (other_ess, other_kl, other_note), (ess, kl, note) = found
    conditions = f"L = {L}, beta = {BETA}, no data; {note}, the plain loop {other_note}"
    return [
        row("training, effective sample size", ess, "of 1", "plain loop", other_ess, conditions),
        row("training, KL(q||p)", kl, "nats per site", "plain loop", other_kl, conditions),
    ]


def own_loop(target: Ising, batch: int, config: Config) -> tuple[Density, int, float]:
    """As physgen neural_sampler, with twice the batch, as many steps as there is time for."""
    began, N = time.process_time(), target.lattice.n_sites
    net = models.build("frontier", target.lattice.shape)
    net.start_from(BETA * target.local_field(torch.eye(N)).float())

    def trained(net: Autoregressive, steps: int) -> tuple[GradientStep, Draws]:
        step = gradient_step(
            ReverseKL(target.energy, BETA, anneal=round(0.2 * steps)),
            torch.optim.Adam(net.parameters(), lr=1.5e-3, betas=(0.9, 0.99), fused=True),
            clip=1.0,
            schedule=decay(steps, final=0.02, warm_up=min(50, steps // 20)),
            average_from=round(0.8 * steps),
        )
        return step, Draws(net, 2 * batch, seed=config.seed)

    step, draws = trained(copy.deepcopy(net), 1000)
    step(next(draws))  # compiles, too
    few = 2 if config.quick else 50
    pace = seconds(lambda: [step(next(draws)) for _ in range(few)]) / few
    steps = max(2, int(0.95 * (config.budget - time.process_time() + began) / pace))
    step, draws = trained(net, steps)
    while step.done < steps and time.process_time() - began < config.budget:
        step(next(draws))
    step.finish()
    return net, step.done, time.process_time() - began


def plain_loop(target: Ising, batch: int, config: Config) -> tuple[Density, int, float]:
    """The loop of the paper, until the time is over."""
    began, net = time.process_time(), Plain(target.lattice.n_sites)
    adam, done = torch.optim.Adam(net.parameters(), lr=1e-3), 0
    while time.process_time() - began < config.budget:
        beta = BETA * (1 - 0.998 ** (done + 1))
        spins = net.sample(batch)
        log_q = net.log_prob(spins)
        with torch.no_grad():
            cost = beta * target.energy(spins).float() + log_q
        adam.zero_grad()
        ((cost - cost.mean()) * log_q).mean().backward()
        adam.step()
        done += 1
    return net, done, time.process_time() - began


class Plain(nn.Module):
    """Two masked dense layers, two channels for each site; a draw passes through all of it for each site."""

    def __init__(self, n_sites: int, channels: int = 2):
        super().__init__()
        self.n_sites = n_sites
        site = torch.arange(n_sites)
        hidden = site.repeat_interleave(channels)
        self.register_buffer("before", (hidden[:, None] > site).float())
        self.register_buffer("upto", (site[:, None] >= hidden).float())
        self.inner, self.outer = nn.Linear(n_sites, len(hidden)), nn.Linear(len(hidden), n_sites)
        self.slope = nn.PReLU(len(hidden))

    def forward(self, spins: Tensor) -> Tensor:
        """Logits of spin up, ``(n, N)``."""
        hidden = self.slope(linear(spins, self.inner.weight * self.before, self.inner.bias))
        return linear(hidden, self.outer.weight * self.upto, self.outer.bias)

    def log_prob(self, spins: Tensor) -> Tensor:
        return logsigmoid(self(spins) * spins).sum(-1)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        spins = torch.zeros(n, self.n_sites)
        for i in range(self.n_sites):
            up = torch.bernoulli(self(spins)[:, i].sigmoid(), generator=generator)
            spins[:, i] = 2 * up - 1
        return spins


def seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def row(
    name: str, value: float, unit: str, baseline: str, other: float, conditions: str
) -> dict[str, str | float]:
    entry = {
        "name": name,
        "value": value,
        "unit": unit,
        "baseline": baseline,
        "baseline_value": other,
        "ratio": value / other if other else math.nan,
        "conditions": f"{conditions}; {processor()}",
    }
    say("{name:44} {value:>9} {unit:14} x {ratio:<8} {baseline} {baseline_value}".format(**shown(entry)))
    return entry


if __name__ == "__main__":
    command(main)
