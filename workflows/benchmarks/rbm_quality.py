"""How well restricted Boltzmann machines learn Ising models with default settings, against the exact law.

  python -m workflows.benchmarks.rbm_quality --json rbm_quality.json

The settings are those of `physgen train_rbm` (physgen/recipe.py) with the
hidden units and steps named in a row, the same for every size and temperature;
nothing is tuned. KL(p || q) of the Boltzmann law p to the machine q, total, in
nats:

  4 x 4   by the sum over 2^16 states
  6 x 6   mean of log p - log q over 100 000 perfect samples, Z of the torus by
          Kaufman, that of the machine by the sum over its hidden states
  8 x 8   the same with Z of the machine by annealed importance sampling; and
          its e, |m|, C, chi against exact values (Kaufman, transfer matrix):
          these plus what weights q/p change in means over the perfect samples,
          which no chain can bias and which is known ten times as well as the
          means themselves

All learn from 20 000 perfect samples, at 8 x 8 from 200 000: the chi of n
samples is itself off by 2.1 / sqrt(n) in units of its own, 1.5 % for 20 000.
"tied" machines have the same weights at every site (--tied) and follow natural
gradients. "plain" leaves out what the lattice knows (its symmetries, and that
up and down are equal), as peers have to. The floor is the mean KL of the
maximum-likelihood fit of so many parameters to so many samples, parameters /
(2 samples); symmetries are worth more samples, so that with them machines get
below it. Peers run with their own defaults for as many CPU-seconds as the plain
machine took.
"""

import contextlib
import functools
import math
import time
from typing import Any

import numpy as np
import torch

from ising import Ising, exact, lattices, perfect
from physgen import ais
from physgen.batches import Batches
from physgen.distributions import BernoulliRBM
from physgen.models.rbm import RBM
from physgen.recipe import rbm_step
from physgen.train import fit
from workflows._common import write_json
from workflows.benchmarks._common import Config, command, processor, say, shown
from workflows.benchmarks.rbm import peers

SAMPLES, SAMPLES_8, T_C = 20_000, 200_000, 2 / math.log(1 + math.sqrt(2))
SYMMETRIES = ["translation", "reflection", "transposition", "flip"]


def main(*, config: Config = Config()) -> None:
    torch.set_num_threads(1)
    table = Table()
    steps, seeds = (20, 1) if config.quick else (8000, 5)
    by_peers(table, config, four(table, 2.27, steps, seeds, plain=True))
    for T, times in ((2.27, seeds), (1.8, 1), (3.5, 1)):
        four(table, T, steps, times)
    larger(table, 6, 2.27, 20, steps, quick=config.quick)
    for seed in range(1 if config.quick else 3):
        larger(table, 8, T_C, 3, 3 * steps // 8, quick=config.quick, tied=True, seed=seed)
    larger(table, 8, T_C, 64, steps, quick=config.quick)
    if config.json is not None:
        write_json(config.json, table.rows)


class Table:
    """Prints and keeps rows."""

    def __init__(self):
        self.rows: list[dict[str, Any]] = []

    def add(self, name: str, value: float, unit: str, baseline: str, known: float, conditions: str) -> None:
        ratio = value / known if known else math.nan
        row = {"name": name, "value": value, "unit": unit, "baseline": baseline, "baseline_value": known}
        self.rows.append(row | {"ratio": ratio, "conditions": f"{conditions}; {processor()}"})
        say(
            "{name:46} {value:>9} {unit:9} {baseline} {baseline_value}; {conditions}".format(
                **shown(self.rows[-1])
            )
        )


def trained(
    data: torch.Tensor, L: int, hidden: int, steps: int, seed: int, *, plain: bool = False, tied: bool = False
) -> tuple[RBM, float]:
    """A machine by the recipe, and the CPU-seconds that it took."""
    began = time.process_time()
    torch.manual_seed(seed)
    rbm = RBM((L, L), hidden, symmetric=not plain, tied=tied)
    step = rbm_step(rbm, data, steps=steps, seed=seed)
    symmetries = [] if plain else SYMMETRIES
    fit(step, Batches(data, 256, seed=seed, symmetries=symmetries, shape=(L, L)), steps=steps)
    step.finish()
    return rbm, time.process_time() - began


def four(table: Table, T: float, steps: int, seeds: int, *, plain: bool = False) -> float:
    """4 x 4 with 16 hidden units; returns the CPU-seconds of one training."""
    law, states = exact.boltzmann(Ising(lattices.square(4)), 1 / T), exact.states(16)
    found = []
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(1000 + seed)
        data = states[torch.multinomial(law, SAMPLES, replacement=True, generator=generator)].float()
        rbm, seconds = trained(data, 4, 16, steps, seed, plain=plain)
        log_q = rbm.distribution(torch.float64).log_prob(states).detach()
        found.append((float((law * (law.log() - log_q)).sum()), seconds))
    kl, seconds = np.mean(found, axis=0)
    each = ", ".join(f"{x:.4f}" for x, _ in found)
    parameters = 16 * 16 + (32 if plain else 0)
    name = f"4 x 4, T = {T:g}, 16 hidden" + ", plain" * plain
    conditions = f"{steps} steps, {seconds:.1f} CPU-s, {seeds} seeds: {each}"
    table.add(name, kl, "nats", "floor", parameters / (2 * SAMPLES), conditions)
    return seconds


def by_peers(table: Table, config: Config, seconds: float) -> None:
    """The same data for the peers, in 0 and 1, for as long."""
    law, states = exact.boltzmann(Ising(lattices.square(4)), 1 / 2.27), exact.states(16)
    generator = torch.Generator().manual_seed(1000)
    data = (states[torch.multinomial(law, SAMPLES, replacement=True, generator=generator)] + 1).float() / 2
    with contextlib.ExitStack() as stack:
        for name, host in peers(config, stack, "learn").items():
            host.ask(name, "make", name, {"data": data.numpy(), "hidden": 16})
            plain, spent = host.ask(name, "learn", seconds)
            W, b, c = (torch.as_tensor(np.array(x)).double() for x in plain)
            log_q = BernoulliRBM(W, b, c).log_prob((states.double() + 1) / 2)
            kl = float((law * (law.log() - log_q)).sum())
            conditions = f"its own defaults, {spent:.1f} CPU-s"
            table.add(
                f"4 x 4, T = 2.27, 16 hidden, {name}", kl, "nats", "floor", 288 / (2 * SAMPLES), conditions
            )


def larger(
    table: Table,
    L: int,
    T: float,
    hidden: int,
    steps: int,
    *,
    quick: bool,
    tied: bool = False,
    seed: int = 0,
) -> None:
    """Perfect samples to learn from and others to judge by."""
    model, new = Ising(lattices.square(L)), 2_000 if quick else 100_000
    learnt = new if quick else SAMPLES if L < 8 else SAMPLES_8
    data, unseen = draws(L, T, learnt, 3 + seed), draws(L, T, new, 2)
    rbm, seconds = trained(data, L, hidden, steps, seed, tied=tied)
    log_p = -model.energy(unseen.double()) / T - exact.kaufman_log_z(L, L, 1 / T)
    law = rbm.distribution(torch.float64)
    free = torch.cat([law.free_energy(rows.double()) for rows in unseen.split(10_000)]).detach()
    if rbm.enumerable:
        log_z, of_z = rbm.log_partition(), 0.0
    else:
        estimate = ais.log_partition(rbm, 500, 1000, torch.Generator().manual_seed(0))
        log_z, of_z = estimate.mean, estimate.error
    ratio = log_p + free + log_z
    error = math.hypot(float(ratio.std()) / len(ratio) ** 0.5, of_z)
    name = f"{L} x {L}, T = {T:.4g}, {hidden} hidden" + f", tied, seed {seed}" * tied
    parameters = sum(p.numel() for p in rbm.parameters() if p.requires_grad)
    conditions = f"+- {error:.4f}, {steps} steps, {seconds:.1f} CPU-s"
    table.add(name, float(ratio.mean()), "nats", "floor", parameters / (2 * len(data)), conditions)
    if not rbm.enumerable:
        observables(table, name, model, T, unseen, torch.softmax(-ratio, 0))


@functools.cache
def draws(L: int, T: float, n: int, seed: int) -> torch.Tensor:
    """Perfect samples ``(n, L * L)``."""
    return torch.as_tensor(perfect.sample(Ising(lattices.square(L)), 1 / T, n, seed=seed).spins[:, 0]).float()


def observables(
    table: Table, name: str, model: Ising, T: float, spins: torch.Tensor, weights: torch.Tensor
) -> None:
    """e, |m|, C and chi of the machine against exact values, by weights of perfect samples."""
    L = model.lattice.shape[0]
    reference = known(L, T)
    change = changes(model, spins, weights, T)
    blocks = [
        changes(model, rows, w / w.sum(), T)
        for rows, w in zip(spins.chunk(20), weights.chunk(20), strict=True)
    ]
    ess = 1 / float(weights.square().sum()) / len(weights)
    for key, exactly in reference.items():
        error = (
            100 * float(np.std([block[key] for block in blocks], ddof=1)) / len(blocks) ** 0.5 / abs(exactly)
        )
        off = 100 * change[key] / exactly
        conditions = f"off by {off:+.2f} +- {error:.2f} %; effective share of samples {ess:.3f}"
        table.add(f"{name}: {key}", exactly + change[key], "per site", "exact", exactly, conditions)


def known(L: int, T: float) -> dict[str, float]:
    """Exact values of the torus, per site."""
    M, p = exact.strip_magnetisation(L, L, 1 / T)
    mean, square = float(p @ np.abs(M)), float(p @ M**2)
    return {
        "e": exact.kaufman_energy(L, L, 1 / T),
        "|m|": mean / L**2,
        "C": exact.kaufman_specific_heat(L, L, 1 / T),
        "chi": (square - mean**2) / L**2 / T,
    }


def changes(model: Ising, spins: torch.Tensor, weights: torch.Tensor, T: float) -> dict[str, float]:
    """What weights that add up to 1 change in the observables of the rows."""
    with_weights = of(model, spins, weights, T)
    without = of(model, spins, torch.full_like(weights, 1 / len(weights)), T)
    return {key: with_weights[key] - without[key] for key in without}


def of(model: Ising, spins: torch.Tensor, weights: torch.Tensor, T: float) -> dict[str, float]:
    """Observables per site, means with weights that add up to 1."""
    N = model.lattice.n_sites
    e, m = model.energy(spins.double()) / N, spins.double().mean(-1).abs()
    mean_e, mean_m = float(weights @ e), float(weights @ m)
    C = N * (float(weights @ e.square()) - mean_e**2) / T**2
    chi = N * (float(weights @ m.square()) - mean_m**2) / T
    return {"e": mean_e, "|m|": mean_m, "C": C, "chi": chi}


if __name__ == "__main__":
    command(main)
