"""Metropolis and heat bath on a CPU: attempts to flip a spin, per nanosecond of one core.

  python -m workflows.benchmarks.metropolis --json metropolis.json

An attempt is one spin that gets its own random decision, whether it flips or
not: that is the same work for every contestant. Codes in which replicas share
random numbers do not take part, as their replicas become equal. A sweep of N
sites in R chains is N * R attempts; measurements are not timed (except in
peapods, which cannot leave them out).

Before anything is timed the energy of every contestant is compared with the
exact one (Kaufman), with errors that know of the autocorrelation; where none
is known, with that of another kernel. Small lattices are checked at the
critical point; large ones, which would take too long to forget their start
there, at beta = 0.3; the cubic and the triangular lattice, where peers may
close the boundary in another way, at beta = 0.2; those in a field at beta =
0.4. All are timed at the critical point of their lattice, the glass where it
is checked, at beta = 0.5.

The portable rows are the same kernel, compiled by other processes without the
instruction for any function of three bits being asked for by name: once for
this processor, and once for the level x86-64-v3, which has the 256-bit
registers of AVX2 but none of 512. --quick leaves them out, as compiling takes
long.
"""

import functools

import numpy as np

from ising import exact
from ising.stats import Estimate
from workflows.benchmarks._common import Arena, Check, Config, Contestant, arena, command

BETA_C = {name: exact.critical_beta(name) for name in ("square", "cubic", "triangular")}
BETA_LARGE, BETA_FIELD, BETA_GLASS, H = 0.3, 0.4, 0.5, 0.1
BASELINES = ("mcising", "numba loop")


def main(*, config: Config = Config()) -> None:
    with arena(config) as where:
        small(where)
        for L in (16,) if config.quick else (1024, 4096):
            large(where, L)
        other_lattice(where, "cubic", 4 if config.quick else 16)
        other_lattice(where, "triangular", 6 if config.quick else 64)
        field(where)
        glass(where)


def small(where: Arena) -> None:
    """Batches of lattices at the critical point, against everybody."""
    quick = where.config.quick
    L, chains = (8, 32) if quick else (64, 512)
    one = Check(500, 400, 20) if quick else Check(20_000, 400, 100)
    many = one._replace(samples=one.samples // 2)
    options = {"L": L, "beta": BETA_C["square"]}
    batch = options | {"kernel": "Multispin", "chains": chains, "ordered": True}
    known = exact.kaufman_energy(L, L, BETA_C["square"])
    kernel = functools.partial(Contestant, kind="kernel", energy=known, test=many, baselines=BASELINES)
    entries = [kernel(f"metropolis, {chains} x L={L}", where.ours, options=batch)]
    if not quick:
        for name, host in where.portable.items():
            entries.append(kernel(f"portable, {name}, {chains} x L={L}", host, options=batch))
        few = batch | {"L": 16, "chains": 64}
        known_16 = exact.kaufman_energy(16, 16, BETA_C["square"])
        entries.append(kernel("metropolis, 64 x L=16", where.ours, options=few, energy=known_16))
    heat_bath = batch | {"update": "heat_bath"}
    against = ("peapods heat bath", *BASELINES)
    entries.append(kernel(f"heat bath, {chains} x L={L}", where.ours, options=heat_bath, baselines=against))
    for name in ("numba loop", "numpy checkerboard"):
        entries.append(Contestant(name, where.ours, name, options, known, one, baselines=BASELINES))
    entries += where.peer("mcising", "mcising", options, known, one)
    entries += where.peer("peapods", "peapods", options, known, one, baselines=BASELINES)
    gibbs = options | {"update": "gibbs"}
    entries += where.peer("peapods", "peapods heat bath", gibbs, known, one, baselines=BASELINES)
    where.contest(entries)


def large(where: Arena, L: int) -> None:
    """A single lattice, which is cut into tiles, against a single small one of the others."""
    test, options = Check(200, 64, 5), {"L": L, "beta": BETA_LARGE, "kernel": "Multispin"}
    known = exact.kaufman_energy(L, L, BETA_LARGE)
    entry = Contestant(f"metropolis, one L={L}", where.ours, "kernel", options, known, test)
    compare(where, entry, "square", 64)


def other_lattice(where: Arena, name: str, L: int) -> None:
    """A batch of another lattice, checked by Swendsen-Wang clusters."""
    beta, chains = 0.2, 32 if where.config.quick else 512
    options = {"L": L, "beta": beta, "lattice": name, "chains": chains}
    clusters = {"chains": 32, "kernel": "SwendsenWang", "update": "swendsen_wang"}
    known = where.energy(options | clusters, Check(200, 400, 5))
    options |= {"kernel": "Multispin"}
    entry = Contestant(f"{name}, {chains} x L={L}", where.ours, "kernel", options, known, Check(500, 100, 10))
    compare(where, entry, name, L, known)


def field(where: Arena) -> None:
    """A batch in a field, checked by Swendsen-Wang clusters with a ghost spin."""
    L, chains = (8, 32) if where.config.quick else (64, 512)
    options = {"L": L, "beta": BETA_FIELD, "h": H, "chains": chains}
    clusters = {"chains": 32, "kernel": "SwendsenWang", "update": "swendsen_wang"}
    known = where.energy(options | clusters, Check(200, 400, 5))
    options |= {"kernel": "Multispin"}
    entry = Contestant(
        f"field h={H}, {chains} x L={L}", where.ours, "kernel", options, known, Check(500, 100, 10)
    )
    compare(where, entry, "square", L, known, h=H)


def compare(
    where: Arena, entry: Contestant, lattice: str, L: int, known: Estimate | None = None, h: float = 0.0
) -> None:
    """Against mcising, or against the numba loop at L = 64; both timed at the critical point."""
    beta, timing = entry.options["beta"], {"timing_beta": BETA_C[lattice]}
    options = {"L": L, "beta": beta, "lattice": lattice, "h": h}
    known = exact.kaufman_energy(L, L, beta) if known is None else known
    name, test = f"mcising {lattice}, L={L}" + f", h={h}" * bool(h), Check(1000, 1000, 10)
    others = where.peer("mcising", name, options, known, test, **timing) or [loop(where)]
    entry.baselines, entry.timing_beta = (others[0].name,), BETA_C[lattice]
    where.contest([entry, *others])


def loop(where: Arena) -> Contestant:
    """The numba loop, which knows the square lattice without a field only."""
    L = 8 if where.config.quick else 64
    options, known = {"L": L, "beta": BETA_LARGE}, exact.kaufman_energy(L, L, BETA_LARGE)
    check = Check(1000, 1000, 10)
    critical = {"timing_beta": BETA_C["square"]}
    return Contestant("numba loop", where.ours, "numba loop", options, known, check, **critical)


def glass(where: Arena) -> None:
    """Bonds of random sign, the same ones for both; checked by the plain rules."""
    L, chains = (8, 32) if where.config.quick else (64, 512)
    signs = np.random.default_rng(1).choice([-1.0, 1.0], 2 * L * L)
    options = {"L": L, "beta": BETA_GLASS, "couplings": signs}
    known = where.energy(options | {"chains": 16, "kernel": "Plain"}, Check(200, 100, 5))
    batch = options | {"chains": chains, "kernel": "Multispin"}
    name, test = f"glass, {chains} x L={L}", Check(500, 100, 10)
    entry = Contestant(name, where.ours, "kernel", batch, known, test)
    right, down = signs.reshape(2, L, L)  # the order of the bonds in ising.lattices.square
    options["couplings"] = np.stack([down, right], axis=-1)
    others = where.peer("peapods", "peapods, the same glass", options, known, Check(1000, 300, 20))
    others = others or [loop(where)]
    entry.baselines = (others[0].name,)
    where.contest([entry, *others])


if __name__ == "__main__":
    command(main)
