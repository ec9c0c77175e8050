"""Metropolis on a GPU: batches of small lattices and single large ones, against the plain torch form.

  python -m workflows.benchmarks.gpu --json gpu.json

Before anything is timed the energy at beta = 0.3 is compared with that of Kaufman. Both forms are then timed
at the critical point of the infinite lattice, on the same card in the same run. The plain form takes 2**24
spins and L = 1024 at most: its tables of neighbours leave no room for more.

A lattice of L = 16384 needs about 25 GB of memory on the host, for the list of its bonds.
"""

import json as json_format
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from cyclopts import App, Parameter

from ising import exact, lattices
from ising.kernels import Plain, Sampler, Triton
from ising.model import Ising

BETA_C = math.log(1 + math.sqrt(2)) / 2
PLAIN_SPINS, PLAIN_SIDE = 2**24, 1024


def main(
    *,
    batches: tuple[int, ...] = (16, 32, 64, 128, 256),
    singles: tuple[int, ...] = (1024, 4096, 8192, 16384),
    spins: int = 2**26,
    seconds: float = 1.0,
    json: Path | None = None,
) -> None:
    """Prints attempts per ns and the ratio to the plain torch form.

    Parameters
    ----------
    batches
        Sides of the lattices of which as many are taken as make up SPINS.
    singles
        Sides of the lattices that are alone.
    spins
        Spins of a batch.
    seconds
        Time that each figure is averaged over, at least.
    json
        Writes the table to this file, too.
    """
    if not torch.cuda.is_available():
        sys.exit("gpu: this benchmark needs a CUDA device and torch built for it")
    work = [(L, max(1, spins // L**2)) for L in batches] + [(L, 1) for L in singles]
    rows = []
    for L, chains in work:
        rows.append(compared(L, chains, seconds, "cuda"))
        line = "{name:34} {value:9.1f} {unit}   {baseline} {baseline_value:.3f}   ratio {ratio:.0f}"
        sys.stdout.write(line.format(**rows[-1]) + "\n")
    if json is not None:
        json.write_text(json_format.dumps(rows, indent=1) + "\n")


def compared(L: int, chains: int, seconds: float, device: str) -> dict[str, str | float]:
    """One row of the table."""
    value = rate(Triton, L, chains, seconds, device)
    side = min(L, PLAIN_SIDE)
    fewer = min(chains, max(1, PLAIN_SPINS // side**2))
    baseline = rate(Plain, side, fewer, seconds, device)
    card = torch.cuda.get_device_name() if device == "cuda" else "Triton interpreter"
    return {
        "name": f"metropolis, {chains} x L={L}",
        "value": value,
        "unit": "attempts/ns",
        "baseline": f"torch, {fewer} x L={side}",
        "baseline_value": baseline,
        "ratio": value / baseline,
        "conditions": f"{card}, torch {torch.__version__}, beta_c, independent decisions for all spins",
    }


def rate(form: type[Sampler], L: int, chains: int, seconds: float, device: str) -> float:
    """Spin-flip attempts per ns, the energy having been checked."""
    model, beta = Ising(lattices.square(L)), 0.3
    start = 2 * np.random.default_rng(1).integers(0, 2, (chains, L * L), dtype=np.int8) - 1
    sampler = form(model, "metropolis", beta, start, np.random.SeedSequence(1), device=device)
    sampler.sweep(100)
    energy = sampler.measure()[0].mean() / L**2
    sigma = math.sqrt(exact.kaufman_specific_heat(L, L, beta) / (chains * L**2)) / beta
    deviation = (energy - exact.kaufman_energy(L, L, beta)) / sigma
    if abs(deviation) > 5:
        sys.exit(
            f"gpu: the energy of {form.name} at L = {L} is {deviation:.1f} sigma away from the exact one"
        )
    sampler.set_beta(BETA_C)
    n, spent = 1, 0.0
    while spent < seconds:
        n = 2 * n if spent < 0.1 * seconds else math.ceil(1.2 * n * seconds / spent)
        began = time.perf_counter()
        sampler.sweep(n)  # waits for the device: it returns a number
        spent = time.perf_counter() - began
    return n * chains * L**2 / (1e9 * spent)


if __name__ == "__main__":
    app = App(default_parameter=Parameter(consume_multiple=True, negative_iterable=()))
    app.default(main)
    app()
