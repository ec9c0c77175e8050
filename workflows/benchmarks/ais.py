"""log Z of a trained 784 x 20 machine, which an exact sum knows, by annealed importance sampling.

  python -m workflows.benchmarks.ais --json ais.json

The machine is trained on 5000 handwritten digits by persistent chains. All contestants take as many chains
and temperatures, in the same run and with one thread; seconds are those of the processor, with our pilot.
"""

import json as json_format
import math
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from cyclopts import App, Parameter
from torch import Tensor
from torch.nn.functional import softplus

from ising.stats import Estimate
from physgen import ais, digits, likelihood
from physgen.energy import PersistentCD
from physgen.models.rbm import RBM
from physgen.partition import UnevenWeights
from workflows.benchmarks._hosts import peer_hosts, say

PEERS = {"rbms": "rbms==0.6.*"}


class Result(NamedTuple):
    """One estimate; the error is nan where none is quoted."""

    mean: float
    error: float
    seconds: float


def main(
    *,
    hidden: int = 20,
    steps: int = 2500,
    chains: int = 100,
    temperatures: int = 1000,
    runs: int = 50,
    peers: bool = True,
    environment: Path | None = None,
    json: Path | None = None,
) -> None:
    """Prints error, spread, coverage and CPU seconds of every contestant.

    Parameters
    ----------
    hidden
        Hidden units of the machine; the exact sum goes over 2^hidden states.
    steps
        Training steps.
    chains
        Of every estimate; half of them in each direction for the acceptance ratio.
    temperatures
        Of every chain.
    runs
        Estimates of each contestant.
    peers
        Other packages take part, from an environment that is made for them.
    environment
        Folder of that environment; a temporary one if not given.
    json
        Writes the table to this file, too.
    """
    torch.set_num_threads(1)
    data = torch.from_numpy((digits.sample().images > 0.5).astype(np.float32))
    rbm = trained(data, hidden, steps)
    exact = rbm.log_partition()
    say(f"exact log Z = {exact:.4f}")
    ways = ours(rbm, data, chains, temperatures) | {"torch, uniform base": plain(rbm, chains, temperatures)}
    with tempfile.TemporaryDirectory() as temporary:
        hosts = peer_hosts(environment or Path(temporary), PEERS) if peers else {}
        if "rbms" in hosts:
            ways["rbms 0.6"] = asked(hosts["rbms"], rbm, chains, temperatures)
        results = {name: [way(seed) for seed in range(runs)] for name, way in ways.items()}
        for host in hosts.values():
            host.close()
    conditions = f"784 x {hidden}, {chains} chains x {temperatures} temperatures, {runs} runs"
    rows = table(results, exact, conditions)
    if json is not None:
        json.write_text(json_format.dumps(rows, indent=1) + "\n")


def trained(data: Tensor, hidden: int, steps: int) -> RBM:
    torch.manual_seed(0)
    rbm = RBM((28, 28), hidden=hidden, visible="bernoulli", spread=0.01).centre(data)
    loss = PersistentCD(rbm, start=data, k=3, chains=200, seed=0)
    optimiser = torch.optim.Adam(rbm.parameters(), lr=4e-3, betas=(0.0, 0.999))
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: max(0.02, 1 - step / steps))
    order = torch.Generator().manual_seed(0)
    for _ in range(steps):
        optimiser.zero_grad()
        loss(data[torch.randint(len(data), (100,), generator=order)]).backward()
        optimiser.step()
        rate.step()
    return rbm


def ours(rbm: RBM, data: Tensor, chains: int, temperatures: int) -> dict[str, Callable[[int], Result]]:
    """Annealing to the model, and both ways; samples of the way back come from chains that start at data."""

    def forward(seed: int) -> Estimate:
        return ais.log_partition(rbm, chains, temperatures, torch.Generator().manual_seed(seed))

    def both(seed: int) -> Estimate:
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randint(len(data), (chains // 2,), generator=generator)
        samples = rbm.gibbs(data[rows], likelihood.UPDATES, generator)
        return ais.bridge(rbm, samples, temperatures, generator)

    return {"this package, forward": timed(forward), "this package, both ways": timed(both)}


def plain(rbm: RBM, chains: int, temperatures: int) -> Callable[[int], Result]:
    """Textbook annealing from fair coins: free energies at every temperature, updates by torch.bernoulli."""
    law = rbm.distribution()
    W, b, c = (x.detach() for x in (law.weight, law.loc, law.hidden_bias))

    def free_energy(v: Tensor, t: float) -> Tensor:
        return -t * (v @ b) - softplus(t * (c + v @ W)).sum(-1)

    def run(seed: int) -> Estimate:
        torch.manual_seed(seed)
        v, log_w = torch.bernoulli(torch.full((chains, len(b)), 0.5)), torch.zeros(chains)
        for k in range(temperatures):
            here, there = k / temperatures, (k + 1) / temperatures
            log_w += free_energy(v, here) - free_energy(v, there)
            h = torch.bernoulli((there * (c + v @ W)).sigmoid())
            v = torch.bernoulli((there * (b + h @ W.mT)).sigmoid())
        log_z0 = (len(b) + len(c)) * math.log(2)
        return Estimate(log_z0 + float(log_w.logsumexp(0)) - math.log(chains), math.nan)

    return timed(run)


def asked(host: object, rbm: RBM, chains: int, temperatures: int) -> Callable[[int], Result]:
    law = rbm.distribution()
    parameters = [x.detach().numpy().copy() for x in (law.weight, law.loc, law.hidden_bias)]
    host.ask("ais", "make", "rbms ais", {"parameters": parameters})

    def run(seed: int) -> Result:
        value, seconds = host.ask("ais", "log_z", chains, temperatures, seed)
        return Result(value, math.nan, seconds)

    return run


def timed(way: Callable[[int], Estimate]) -> Callable[[int], Result]:
    def run(seed: int) -> Result:
        began = time.process_time()
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UnevenWeights)  # what they warn of shows in the table
            estimate = way(seed)
        return Result(estimate.mean, estimate.error, time.process_time() - began)

    return run


def table(results: dict[str, list[Result]], exact: float, conditions: str) -> list[dict[str, str | float]]:
    """Two rows a contestant, error and seconds; the last contestant is the baseline."""
    rows = []
    figures = {name: figure(found, exact) for name, found in results.items()}
    baseline = list(figures)[-1]
    for name, (off, spread, covered, seconds) in figures.items():
        say(
            f"{name:26} error {off:+7.3f}, spread {spread:6.3f} nats, interval covers {covered:5.0%}, "
            f"{seconds:6.3f} CPU-s"
        )
        values = (math.hypot(off, spread), "nats, rms error"), (seconds, "CPU-s per estimate")
        others = math.hypot(*figures[baseline][:2]), figures[baseline][3]
        for (value, unit), other in zip(values, others, strict=True):
            rows.append(
                {
                    "name": name,
                    "value": value,
                    "unit": unit,
                    "baseline": baseline,
                    "baseline_value": other,
                    "ratio": value / other,
                    "conditions": f"{conditions}; mean error {off:+.3f}, one sigma covers {covered:.0%}",
                }
            )
    return rows


def figure(found: list[Result], exact: float) -> tuple[float, float, float, float]:
    """Mean error, spread over runs, coverage of one sigma (nan where no error is quoted), seconds."""
    mean, error, seconds = np.array(found).T
    off = mean - exact
    covered = float((abs(off) < error).mean()) if np.isfinite(error).all() else math.nan
    return float(off.mean()), float(off.std()), covered, float(np.median(seconds))


if __name__ == "__main__":
    app = App(default_parameter=Parameter(negative_iterable=()))
    app.default(main)
    sys.exit(app())
