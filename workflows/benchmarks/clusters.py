"""Clusters at the critical point of the square lattice: independent configurations per second of one core.

  python -m workflows.benchmarks.clusters --json clusters.json

Updates of different kinds and sizes are no equal work, but independent configurations are: updates per second
divided by 2 tau_int of |m|. tau is counted in updates and measured in this run, for every contestant from its
own chains. All take the same time to make up their mind: only updates are timed, not measurements, packing or
storing (workflows.benchmarks.dataset times those).

For one lattice the rate of site updates is told as well, per nanosecond: the sites of a Wolff cluster, all
sites of a Swendsen-Wang sweep. Metropolis takes part in order to show what clusters are worth.

Before anything is timed the energy of every contestant is compared with that of Kaufman at the same size and
temperature, with errors that know of the autocorrelation.
"""

from ising import exact
from workflows.benchmarks._common import Arena, Check, Config, Contestant, arena, command

BETA_C = exact.critical_beta("square")
RATES = ("independent/s",)
BOTH = ("independent/s", "sites/ns")


def main(*, config: Config = Config()) -> None:
    with arena(config) as where:
        for L in (8,) if config.quick else (16, 32, 64, 128, 256):
            batch(where, L)
        for L in (16,) if config.quick else (256, 1024):
            single(where, L)


def batch(where: Arena, L: int) -> None:
    """512 chains at once, against one chain after another."""
    quick = where.config.quick
    chains = 64 if quick else 512
    options, known = {"L": L, "beta": BETA_C}, exact.kaufman_energy(L, L, BETA_C)
    batch = options | {"chains": chains, "ordered": True}
    baselines = (f"mcising Wolff, L={L}", f"numba Wolff loop, L={L}")

    def kernel(name: str, kernel: str, test: Check, **more: object) -> Contestant:
        made = batch | {"kernel": kernel} | more
        return Contestant(f"{name}, L={L}", where.ours, "kernel", made, known, test, RATES, baselines)

    many = Check(100, 200, 1) if quick else Check(300, 400, 1)
    one = Check(100, 4000, 1) if quick else Check(1000, 20_000, 1)
    entries = [kernel(f"{chains} chains, Wolff", "ParallelWolff", many)]
    if L == 64:
        entries += [
            kernel(f"{chains} chains, Metropolis", "Multispin", Check(20_000, 1000, 16)),
            kernel("one chain, Wolff", "Wolff", one, chains=1),
            kernel("one chain, Swendsen-Wang", "SwendsenWang", Check(500, 8000, 1), chains=1),
        ]
    loop = Contestant(baselines[1], where.ours, "numba wolff", options, known, one, RATES, baselines)
    entries.append(loop)
    entries += where.peer("mcising", baselines[0], options | {"algorithm": "wolff"}, known, one, units=RATES)
    if L == 64:
        for name, algorithm, test in (
            ("Swendsen-Wang", "swendsen_wang", Check(500, 8000, 1)),
            ("Metropolis", "metropolis", Check(20_000, 4000, 16)),
        ):
            entries += where.peer(
                "mcising",
                f"mcising {name}, L={L}",
                options | {"algorithm": algorithm},
                known,
                test,
                units=RATES,
                baselines=baselines,
            )
    where.contest(entries)


def single(where: Arena, L: int) -> None:
    """One lattice, cluster after cluster."""
    options, known = {"L": L, "beta": BETA_C}, exact.kaufman_energy(L, L, BETA_C)
    test = Check(100, 2000, 1) if where.config.quick else Check(200, 1000 if L < 1000 else 400, 1)
    for name, kernel, algorithm in (
        ("Wolff", "Wolff", "wolff"),
        ("Swendsen-Wang", "SwendsenWang", "swendsen_wang"),
    ):
        made = options | {"kernel": kernel, "ordered": True}
        baselines = f"mcising {name}, one L={L}", f"numba Wolff loop, one L={L}"
        entries = [
            Contestant(f"{name}, one L={L}", where.ours, "kernel", made, known, test, BOTH, baselines),
            Contestant(baselines[1], where.ours, "numba wolff", options, known, test, BOTH, baselines),
        ]
        made = options | {"algorithm": algorithm}
        entries += where.peer("mcising", baselines[0], made, known, test, units=BOTH)
        where.contest(entries)


if __name__ == "__main__":
    command(main)
