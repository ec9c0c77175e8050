"""Parallel tempering: attempts per nanosecond of one core, with exchanges after every sweep.

  python -m workflows.benchmarks.tempering --json tempering.json

32 temperatures from 1.8 to 3.0 at L = 64, 16 ladders here and one ladder
elsewhere: every contestant makes one Metropolis sweep of every replica and one
round of exchanges, again and again. The attempts are those of the sweeps
alone; energies, exchanges and the book of who went where take time and count
for nothing.

How well a ladder works does not depend on who runs it. So the exchange rates
are a check, told as the lowest of all pairs of neighbours, and round trips per
second (a replica goes from the first temperature to the last and back) are
told of this package, whose windows are long enough to have some.

Before anything is timed the energies at all temperatures are compared with
those of Kaufman.
"""

import numpy as np

from ising import exact
from workflows.benchmarks._common import Arena, Check, Config, Contestant, arena, command, row

RATES = ("attempts/ns",)
OURS = "tempering, 16 ladders"


def main(*, config: Config = Config()) -> None:
    with arena(config) as where:
        L, count = (8, 4) if config.quick else (64, 32)
        betas = [1 / T for T in np.linspace(1.8, 3.0, count)]
        known = [exact.kaufman_energy(L, L, beta) for beta in betas]
        contestants = entries(where, L, betas, known)
        where.contest(contestants)
        exchange_rates(where, contestants)


def entries(where: Arena, L: int, betas: list[float], known: list[float]) -> list[Contestant]:
    quick, baselines = where.config.quick, ("mcising tempering", "peapods tempering", "numba loop")
    test = Check(200, 100, 5) if quick else Check(10_000, 200, 50)
    options = {"L": L, "betas": betas}
    units, ladders = (*RATES, "round trips/s"), options | {"ladders": 16}
    ours = Contestant(OURS, where.ours, "ladders", ladders, known, test, units, baselines)
    loop = Contestant(
        "numba loop", where.ours, "numba loop", {"L": L, "beta": betas[-1]}, known[-1], Check(1000, 1000, 10),
        timing_beta=exact.critical_beta("square"), baselines=baselines, conditions="no exchanges",
    )  # fmt: skip
    mcising = where.peer(
        "mcising", baselines[0], options | {"burn_in": 10_000}, known, Check(0, 400, 20),
        kind="mcising tempering", units=RATES,
    )  # fmt: skip
    peapods = where.peer("peapods", baselines[1], options, known, Check(4000, 100, 40), baselines=baselines)
    return [ours, *mcising, *peapods, loop]


def exchange_rates(where: Arena, contestants: list[Contestant]) -> None:
    """The lowest exchange rate of each contestant that tells it."""
    told = [c for c in contestants if c.exchange_rates is not None and c.rates]
    for contestant in told:
        contestant.rates["exchanged"] = [float(contestant.exchange_rates.min())]
        contestant.units = ("exchanged",)
    for contestant in told:
        where.add(row(contestant, "exchanged", told, where.config))


if __name__ == "__main__":
    command(main)
