"""Clusters at the critical point of the square lattice: independent configurations per second of one core.

  python -m workflows.benchmarks.clusters --json clusters.json

Updates of different kinds and sizes are no equal work, but independent
configurations are: updates per second divided by 2 tau_int of |m|. tau is
counted in updates and measured in this run. It belongs to a law and not to a
program, so all Wolff contestants get that of the longest series (the 512
chains); what each finds from its own is in the JSON file. Only updates are
timed, not measurements, packing or storing: workflows.benchmarks.dataset times
those.

For one large lattice the rate of site updates is told, per nanosecond: the
sites of a Wolff cluster, all sites of a Swendsen-Wang sweep. Metropolis takes
part in order to show what clusters are worth.

Before anything is timed the energy of every contestant is compared with that
of Kaufman at the same size and temperature, with errors that know of the
autocorrelation.
"""

from ising import exact
from workflows.benchmarks._common import Arena, Check, Config, Contestant, arena, command

BETA_C = exact.critical_beta("square")
RATES = ("independent/s",)
SITES = ("sites/ns",)


def main(*, config: Config = Config()) -> None:
    with arena(config) as where:
        for L in (8,) if config.quick else (16, 32, 64, 128, 256):
            batch(where, L)
        for L in (16,) if config.quick else (256, 1024):
            single(where, L)


def batch(where: Arena, L: int) -> None:
    """Many chains at once, against one chain after another."""
    quick = where.config.quick
    chains = 64 if quick else 512
    options, known = {"L": L, "beta": BETA_C}, exact.kaufman_energy(L, L, BETA_C)
    baselines = (f"mcising Wolff, L={L}", f"numba Wolff loop, L={L}")
    many = Check(100, 200, 1) if quick else Check(300, 400, 1)
    one = Check(100, 4000, 1) if quick else Check(1000, 20_000, 1)

    def kernel(name: str, kernel: str, chains: int, test: Check, update: str) -> Contestant:
        made = options | {"kernel": kernel, "update": update, "chains": chains, "ordered": True}
        law = update if update != "metropolis" else ""  # ours goes by colours, others from site to site
        made_by = where.ours, "kernel", made, known, test, RATES, baselines
        return Contestant(f"{name}, L={L}", *made_by, law=law)

    def mcising(name: str, algorithm: str, test: Check) -> list[Contestant]:
        made = options | {"algorithm": algorithm}
        law = algorithm if algorithm != "metropolis" else ""
        told = {"units": RATES, "baselines": baselines, "law": law}
        return where.peer("mcising", f"mcising {name}, L={L}", made, known, test, **told)

    words = "LineWolff" if L >= 32 else "ParallelWolff"  # as ising.kernels chooses
    loop = Contestant(
        baselines[1], where.ours, "numba wolff", options, known, one, RATES, baselines, law="wolff"
    )
    entries = [
        kernel(f"{chains} chains, Wolff", words, chains, many, "wolff"),
        kernel(f"{chains} chains, few clusters", words, chains, many, "few_clusters"),
        kernel("one chain, Wolff", "Wolff", 1, one, "wolff"),
        loop,
        *mcising("Wolff", "wolff", one),
    ]
    if L == 64:
        fewer, long = Check(500, 8000, 1), Check(20_000, 4000, 16)
        entries += [
            kernel("one chain, Swendsen-Wang", "SwendsenWang", 1, fewer, "swendsen_wang"),
            *mcising("Swendsen-Wang", "swendsen_wang", fewer),
            kernel(
                f"{chains} chains, Metropolis", "Multispin", chains, long._replace(samples=1000), "metropolis"
            ),
            *mcising("Metropolis", "metropolis", long),
        ]
    where.contest(entries)


def single(where: Arena, L: int) -> None:
    """One lattice, cluster after cluster."""
    options, known = {"L": L, "beta": BETA_C}, exact.kaufman_energy(L, L, BETA_C)
    test = Check(100, 2000, 1) if where.config.quick else Check(200, 1000, 1)
    for name, kernel, update in (
        ("Wolff", "Wolff", "wolff"),
        ("Swendsen-Wang", "SwendsenWang", "swendsen_wang"),
    ):
        baselines = f"mcising {name}, one L={L}", f"numba Wolff loop, one L={L}"
        ours = options | {"kernel": kernel, "update": update, "ordered": True}
        peers = options | {"algorithm": update}
        entries = [
            Contestant(f"{name}, one L={L}", where.ours, "kernel", ours, known, test, SITES, baselines),
            Contestant(baselines[1], where.ours, "numba wolff", options, known, test, SITES, baselines),
        ]
        where.contest(entries + where.peer("mcising", baselines[0], peers, known, test, units=SITES))


if __name__ == "__main__":
    command(main)
