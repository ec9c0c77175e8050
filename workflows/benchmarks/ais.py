"""log Z of trained 784 x 20 machines, which an exact sum knows, by annealed importance sampling.

  python -m workflows.benchmarks.ais --json ais.json

The machines are trained on 5000 handwritten digits by persistent chains, from several seeds and for different
times: some have modes that the data do not have. All contestants take as many chains and temperatures, in the
same run and with one thread; seconds are those of the processor, with our pilot. Takes about five minutes.
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
from physgen.partition.bennett import meeting
from workflows.benchmarks._hosts import Host, environment, say
from workflows.benchmarks.rbm import installed, share


class Result(NamedTuple):
    """One estimate; the error is nan where none is quoted."""

    mean: float
    error: float
    seconds: float


def main(
    *,
    hidden: int = 20,
    steps: tuple[int, ...] = (2500, 2500, 600),
    chains: int = 100,
    temperatures: int = 1000,
    runs: int = 50,
    peer_runs: int = 10,
    peers: bool = True,
    environment: Path | None = None,
    json: Path | None = None,
) -> None:
    """Prints error, spread, coverage and CPU seconds of every contestant, for every machine.

    Parameters
    ----------
    hidden
        Hidden units of the machines; the exact sum goes over 2^hidden states.
    steps
        Training steps of each machine; their seeds are 0, 1, ...
    chains
        Of every estimate; half of them in each direction for the acceptance ratio.
    temperatures
        Of every chain.
    runs
        Estimates of each of our contestants.
    peer_runs
        Estimates of each other contestant.
    peers
        Other packages take part, from an environment that is made for them.
    environment
        Folder of that environment; a temporary one if not given.
    json
        Writes the table to this file, too.
    """
    torch.set_num_threads(1)
    data = torch.from_numpy((digits.sample().images > 0.5).astype(np.float32)).flatten(1)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        host = rbms(environment or Path(temporary)) if peers else None
        for seed, length in enumerate(steps):
            rbm = trained(data, hidden, length, seed)
            rbm.log_partition()  # compiles
            began = time.process_time()
            exact = rbm.log_partition()
            machine = f"784 x {hidden}, seed {seed}, {length} steps"
            say(f"{machine}: exact log Z = {exact:.4f}, {time.process_time() - began:.2f} CPU-s")
            contest = Contest(rbm, data, exact, chains, temperatures)
            results = {name: [way(i) for i in range(runs)] for name, way in contest.ours().items()}
            say(
                f"forward and reverse, two errors wide, enclose it in {np.mean(contest.enclosed):.0%} of runs"
            )
            others = {"torch, uniform base": plain(rbm, chains, temperatures)}
            if host is not None:
                others["rbms 0.6"] = asked(host, rbm, chains, temperatures)
            results |= {name: [way(i) for i in range(peer_runs)] for name, way in others.items()}
            rows += table(results, exact, f"{machine}, {chains} chains x {temperatures} temperatures")
        if host is not None:
            host.close()
    if json is not None:
        json.write_text(json_format.dumps(rows, indent=1) + "\n")


def trained(data: Tensor, hidden: int, steps: int, seed: int) -> RBM:
    torch.manual_seed(seed)
    rbm = RBM((28, 28), hidden=hidden, visible="bernoulli", spread=0.01).centre(data)
    loss = PersistentCD(rbm, start=data, k=3, chains=200, seed=seed)
    optimiser = torch.optim.Adam(rbm.parameters(), lr=4e-3, betas=(0.0, 0.999))
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: max(0.02, 1 - step / steps))
    order = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        optimiser.zero_grad()
        loss(data[torch.randint(len(data), (100,), generator=order)]).backward()
        optimiser.step()
        rate.step()
    return rbm


class Contest:
    """Our estimates of log Z of one machine, by seed.

    Attributes:
        enclosed: For every estimate from exact samples, whether its two ends enclose the exact value;
            by chance 95 % do, where both are unbiased.
    """

    def __init__(self, rbm: RBM, data: Tensor, exact: float, chains: int, temperatures: int):
        self.rbm, self.data, self.exact = rbm, data, exact
        self.chains, self.temperatures = chains, temperatures
        self.enclosed: list[bool] = []

    def ours(self) -> dict[str, Callable[[int], Result]]:
        return {
            "this package, forward": timed(self._forward),
            "both ways, exact samples": timed(self._independent),
            "both ways, chains from data": timed(self._from_data),
        }

    def _forward(self, seed: int) -> Estimate:
        generator = torch.Generator().manual_seed(seed)
        return ais.log_partition(self.rbm, self.chains, self.temperatures, generator)

    def _independent(self, seed: int) -> Estimate:
        torch.manual_seed(seed)
        samples = self.rbm.sample(self.chains // 2)
        found = ais.both_ways(self.rbm, samples, len(samples), self.temperatures)
        forward, reverse = (weights.estimate for weights in found)
        self.enclosed.append(forward.mean - 2 * forward.error < self.exact < reverse.mean + 2 * reverse.error)
        return meeting(*found).estimate

    def _from_data(self, seed: int) -> Estimate:
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randint(len(self.data), (self.chains // 2,), generator=generator)
        samples = self.rbm.gibbs(self.data[rows], likelihood.UPDATES, generator)
        return ais.bridge(self.rbm, samples, self.temperatures, generator)


def rbms(folder: Path) -> Host | None:
    """A process of rbms 0.6, with our torch, where it is there or can be had."""
    python = environment(folder)
    if not installed(python, "rbms"):
        return None
    share(python)
    return Host("rbms", [str(python), str(Path(__file__).with_name("_peers.py"))], {})


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


def asked(host: Host, rbm: RBM, chains: int, temperatures: int) -> Callable[[int], Result]:
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
    others = math.hypot(*figures[baseline][:2]), figures[baseline][3]
    for name, (off, spread, covered, seconds) in figures.items():
        values = math.hypot(off, spread), seconds
        chance = math.sqrt(covered * (1 - covered) / len(results[name]))
        share = "nothing" if math.isnan(covered) else f"{covered:.0%} ± {chance:.0%}"
        more, longer = (value / other for value, other in zip(values, others, strict=True))
        say(
            f"  {name:27} mean error {off:+7.3f}, rms {values[0]:6.3f} nats, one sigma covers {share}, "
            f"{seconds:6.3f} CPU-s; of {baseline}: rms x {more:.3f}, CPU x {longer:.2f}"
        )
        note = f"{len(results[name])} runs, mean error {off:+.3f}, one sigma covers {share}"
        for unit, value, other in zip(("nats, rms error", "CPU-s per estimate"), values, others, strict=True):
            rows.append(
                {
                    "name": name,
                    "value": value,
                    "unit": unit,
                    "baseline": baseline,
                    "baseline_value": other,
                    "ratio": value / other,
                    "conditions": f"{conditions}, {note}",
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
