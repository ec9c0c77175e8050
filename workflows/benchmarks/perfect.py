"""Exact samples per second of one core, against coupling from the past one lattice at a time.

  python -m workflows.benchmarks.perfect --json perfect.json

Both draw from the same law in the same run. Before anything is timed the mean energy of both is compared with
that of Kaufman. Seconds are those of the processor; the trial that chooses the length of a block is included.
"""

import json as json_format
import math
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np
from cyclopts import App, Parameter

from ising import Ising, exact, lattices, perfect

BETA_C = math.log(1 + math.sqrt(2)) / 2
SIGMAS = 4


def main(
    *,
    size: int = 64,
    temperatures: tuple[float, ...] = (3.0, 2.5, 1 / BETA_C),
    samples: tuple[int, ...] = (65_536, 8192, 512),
    ones: tuple[int, ...] = (60, 10, 1),
    json: Path | None = None,
) -> None:
    """Prints exact samples per second and the ratio to one lattice at a time.

    Parameters
    ----------
    size
        Side L of the square lattice.
    temperatures
        Temperatures, k_B = J = 1.
    samples
        How many samples to draw at each of them.
    ones
        How many the baseline draws; their energy is checked at the first temperature only.
    json
        Writes the table to this file, too.
    """
    check(size, temperatures[0], ones[0])
    rows = []
    for temperature, n, few in zip(temperatures, samples, ones, strict=True):
        rows.append(compared(size, temperature, n, few))
        line = "{name:34} {value:9.1f} {unit}   {baseline} {baseline_value:.3g}   ratio {ratio:.0f}"
        sys.stdout.write(line.format(**rows[-1]) + "\n")
    if json is not None:
        json.write_text(json_format.dumps(rows, indent=1) + "\n")


def check(L: int, temperature: float, n: int) -> None:
    """Ends the program where an energy is wrong; compiles everything."""
    beta = 1 / temperature
    run = perfect.sample(Ising(lattices.square(L)), beta, 4096, seed=2)
    single = [energy(one_by_one(L, beta, seed)) for seed in range(n)]
    truth = exact.kaufman_energy(L, L, beta)
    for name, energies in (("bit-parallel", run.energies[:, 0] / L**2), ("one at a time", np.array(single))):
        sigma = math.sqrt(exact.kaufman_specific_heat(L, L, beta) / len(energies)) / (beta * L)
        deviation = (energies.mean() - truth) / sigma
        if abs(deviation) > SIGMAS:
            sys.exit(f"perfect: the {name} energy is {deviation:.1f} sigma away from the exact one")


def compared(L: int, temperature: float, n: int, few: int) -> dict[str, str | float]:
    """One row of the table."""
    beta, model = 1 / temperature, Ising(lattices.square(L))
    value = n / seconds(lambda: perfect.sample(model, beta, n, seed=1))
    baseline = few / seconds(lambda: [one_by_one(L, beta, seed) for seed in range(few)])
    return {
        "name": f"perfect, L={L}, T={temperature:.4g}",
        "value": value,
        "unit": "exact samples/s",
        "baseline": "numba, one lattice at a time",
        "baseline_value": baseline,
        "ratio": value / baseline,
        "conditions": f"{n} and {few} samples, one core, CPU time, numba {numba.__version__}, "
        f"{platform.machine()}",
    }


def seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def energy(spins: np.ndarray) -> float:
    """Energy per site of one lattice, ``(L, L)`` int8."""
    return -float((spins * (np.roll(spins, 1, 0) + np.roll(spins, 1, 1))).mean())


@numba.njit
def one_by_one(L, beta, seed):
    """Coupling from the past by doubling: one lattice, the random number of each site and time by hashing."""
    up = np.empty(9)
    for total in range(-4, 5):
        up[total + 4] = 1 / (1 + math.exp(-2 * beta * total))
    top, bottom = np.empty((L, L), dtype=np.int8), np.empty((L, L), dtype=np.int8)
    past = 1
    while True:
        top[:], bottom[:] = 1, -1
        for back in range(past, 0, -1):
            for colour in range(2):
                for x in range(L):
                    for y in range((x + colour) & 1, L, 2):
                        u = hashed((np.uint64(seed) << 40) ^ np.uint64(back * L * L + x * L + y))
                        left, right, above, below = x - 1, (x + 1) % L, y - 1, (y + 1) % L
                        a = top[left, y] + top[right, y] + top[x, above] + top[x, below]
                        b = bottom[left, y] + bottom[right, y] + bottom[x, above] + bottom[x, below]
                        top[x, y] = 1 if u < up[a + 4] else -1
                        bottom[x, y] = 1 if u < up[b + 4] else -1
        if (top == bottom).all():
            return top
        past *= 2


@numba.njit
def hashed(z):
    """A number in [0, 1) from a counter, by the finaliser of SplitMix64."""
    z = z * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return float((z ^ (z >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53


if __name__ == "__main__":
    app = App(default_parameter=Parameter(consume_multiple=True, negative_iterable=()))
    app.default(main)
    app()
