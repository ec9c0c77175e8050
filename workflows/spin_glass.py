"""Simulate an Edwards-Anderson spin glass by replica exchange and Houdayer moves.

Every disorder sample has pairs of replicas at all temperatures. Neighbouring
temperatures are swapped after every sweep, and now and then the two replicas of
each pair exchange a cluster, which helps in two dimensions and hardly in three.

Shown are the energy per site and the overlap q of two replicas, averaged over
the disorder; its scatter gives all error bars. The distribution P(q) at the
lowest temperatures and the energy are drawn. Two columns tell whether the
glass has come to equilibrium, both in standard errors, which should be small:

  drift     of <q^2> between the two halves of the samples
  identity  [e] = -beta (B/N) (1 - [<q_link>]) for B Gaussian couplings, which
            an energy that is too low or an overlap that is too high breaks

Finished disorder samples are kept until the last one is done: after Ctrl-C or a
crash the same command makes the others, with the same bytes.

Example:

  physgen spin_glass --L 12 --out runs/glass
  physgen spin_glass --glass gaussian --L 8 --temperatures 0.3 0.5 0.8 1.2 1.8
  physgen spin_glass --lattice cubic --L 6 --between 0.6 2.2 --burn-in 20000
"""

import contextlib
import dataclasses
import logging
import math
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
from cyclopts import Parameter
from matplotlib.figure import Figure

from ising import Estimate, Ising, glasses, lattices, stats, store, tempering, updates
from physgen import curves
from workflows._common import (
    betas_of,
    check_options,
    plain,
    progress_bar,
    provenance,
    refuse_beyond_memory,
    sites_of,
    write_json,
)
from workflows._kept import keep, kept, stopped

log = logging.getLogger("physgen.spin_glass")

KEPT = "spin_glass.parts"  # folder of finished disorder samples, until all are
BINS = 41  # of P(q); fewer where a lattice has fewer overlaps
DRAWN = 3  # temperatures whose P(q) is drawn
GAP = 0.1  # an exchange rate below this one stops the walkers
UPDATES = tuple(name for name in updates.names() if not updates.conserves_magnetisation(name))


@Parameter(name="*")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Options of ``physgen spin_glass``."""

    lattice: Literal[tuple(sorted(lattices.REGISTRY))] = "square"  # type: ignore[valid-type]
    """Where the spins sit; all axes are periodic."""
    L: tuple[int, ...] = (12,)
    """Side in sites; two numbers for a rectangular lattice."""
    glass: Literal["bimodal", "gaussian"] = "bimodal"
    """Couplings +1 or -1 alike, or of the normal law of mean 0 and width 1; bimodal is many times faster."""
    disorder: tuple[int, ...] = tuple(range(32))
    """Seeds of the couplings, one disorder sample for each, at least two."""
    temperatures: tuple[float, ...] | None = None
    """Temperatures of the ladder, k_B = 1; chosen for even exchange rates if not given."""
    between: tuple[float, float] = (0.3, 2.0)
    """Lowest and highest temperature of the ladder that is chosen."""
    update: Literal[UPDATES] = "metropolis"  # type: ignore[valid-type]
    """How the spins move between exchanges."""
    houdayer: int = 30
    """Sweeps between Houdayer moves; one costs as much as 20 sweeps of a bimodal glass."""
    chains: int = 16
    """Independent pairs of replicas per temperature and disorder sample."""
    burn_in: int = 5000
    """Sweeps discarded at the start."""
    samples: int = 500
    """Measurements of every pair."""
    thin: int = 10
    """Sweeps between measurements."""
    seed: int = 0
    """Seed of the simulation, not of the disorder."""
    out: Path = Path("runs/spin_glass")
    """Folder of results.json and spin_glass.png."""
    quiet: bool = False
    """No progress bar."""

    SMOKE = {
        "L": (4,), "disorder": (0, 1, 2), "temperatures": (0.5, 1.0, 1.5), "chains": 8, "burn_in": 100,
        "samples": 100, "thin": 2, "quiet": True,
    }  # fmt: skip

    def __post_init__(self) -> None:
        check_options(self, folder=True)
        if self.samples < 2:
            raise ValueError("--samples must be at least 2: the drift compares the two halves of the samples")
        if min(self.disorder, default=0) < 0:
            raise ValueError(f"--disorder takes whole numbers >= 0, got {min(self.disorder)}")
        if len(set(self.disorder)) < max(2, len(self.disorder)):
            raise ValueError(
                "--disorder needs at least two different seeds: their scatter gives the error bars"
            )
        if self.temperatures is not None and len(set(self.temperatures)) < max(2, len(self.temperatures)):
            raise ValueError("--temperatures needs at least two different ones; neighbours are exchanged")


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """What one disorder sample gave, the lowest temperature first.

    Attributes:
        energy: Per site, at each temperature.
        q2: Mean of q², and ``drift`` its change from the first half of the samples to the second.
        link: Mean link overlap.
        histogram: Share of the pairs with each of the N + 1 overlaps, both signs alike, ``(T, N + 1)``.
        exchange_rates: Between neighbouring temperatures.
        round_trip_time: In sweeps.
    """

    energy: list[Estimate]
    q2: np.ndarray
    drift: np.ndarray
    link: np.ndarray
    histogram: np.ndarray
    exchange_rates: np.ndarray
    round_trip_time: float


def main(*, config: Config = Config()) -> None:
    if min(config.L) > 3:  # the lattice itself refuses smaller ones, in better words
        refuse_beyond_memory(*needed(config))
    lattice = lattices.build(config.lattice, config.L)
    betas = ladder_of(config, lattice)
    samples = []
    try:
        with progress_bar(config.quiet) as bar:
            task = bar.add_task("disorder", total=len(config.disorder), note=f"{len(betas)} temperatures")
            for seed in config.disorder:
                samples.append(sample_of(config, glass_of(config, lattice, seed), betas))
                trip, rate = samples[-1].round_trip_time, samples[-1].exchange_rates.min()
                bar.update(task, advance=1, note=f"round trip {trip:.3g} sweeps  lowest rate {rate:.2f}")
    except KeyboardInterrupt:
        raise stopped(config.out / KEPT) from None
    found = averaged(samples, betas, lattice, config.glass)
    sys.stdout.write("\n".join(lines(found)) + "\n")
    if min(found["exchange_rates"]) < GAP:
        log.warning("an exchange rate is below %g: put a temperature into that gap", GAP)
    write_json(config.out / "results.json", {"config": plain(config), "provenance": provenance()} | found)
    draw(config, found).savefig(config.out / "spin_glass.png", dpi=150)
    for seed in config.disorder:
        part_of(config, glass_of(config, lattice, seed), betas).unlink()
    with contextlib.suppress(OSError):  # parts of other options are in it
        (config.out / KEPT).rmdir()
    log.info("%s holds results.json and spin_glass.png", config.out)


def needed(config: Config) -> tuple[float, str, str]:
    """Bytes for the spins of one disorder sample, and while their overlaps are taken; who needs them."""
    sites, temperatures = sites_of(config.lattice, config.L), len(config.temperatures or range(24))
    spins = sites * 2 * config.chains * config.samples * temperatures
    what = f"{2 * config.chains} replicas of {sites} sites at {temperatures} temperatures"
    return 2 * spins + 300 * sites, what, "a smaller --L, fewer --chains or fewer --samples"


def sample_of(config: Config, glass: Ising, betas: list[float]) -> Sample:
    """One disorder sample, unless an interrupted command has left it."""
    path = part_of(config, glass, betas)
    if (arrays := kept(path)) is None:
        found = simulate(config, glass, betas)
        arrays = {name: np.asarray(value) for name, value in vars(found).items() if name != "energy"}
        keep(path, arrays | {"energy": np.array([dataclasses.astuple(e) for e in found.energy])})
        return found
    energy = [Estimate(*values) for values in arrays.pop("energy").tolist()]
    return Sample(energy, **arrays | {"round_trip_time": float(arrays["round_trip_time"])})


def part_of(config: Config, glass: Ising, betas: list[float]) -> Path:
    """Where a finished disorder sample is kept."""
    return config.out / KEPT / store.Journal.key(model=glass.describe(), betas=betas, **options_of(config))


def options_of(config: Config) -> dict[str, Any]:
    """How each disorder sample is simulated."""
    return {
        name: getattr(config, name)
        for name in ("samples", "update", "burn_in", "thin", "chains", "seed", "houdayer")
    }


def glass_of(config: Config, lattice: lattices.Lattice, seed: int) -> Ising:
    """The disorder sample of one seed."""
    return getattr(glasses, config.glass)(lattice, seed)


def ladder_of(config: Config, lattice: lattices.Lattice) -> list[float]:
    """Inverse temperatures, the lowest temperature first."""
    if config.temperatures is not None:
        return sorted(betas_of(None, config.temperatures), reverse=True)
    ends = sorted(betas_of(None, config.between), reverse=True)
    first = glass_of(config, lattice, config.disorder[0])
    return tempering.spaced(first, *ends, update=config.update, seed=config.seed)


def simulate(config: Config, glass: Ising, betas: list[float]) -> Sample:
    """Tempering of one disorder sample, and what is kept of it."""
    ladder = tempering.simulate(glass, betas, **options_of(config))
    N, pairs = glass.lattice.n_sites, list(zip(ladder.runs, ladder.partners, strict=True))
    q = np.stack(ladder.overlaps)
    level = np.rint((q + 1) * N / 2).astype(int)
    share = np.stack([np.bincount(x.ravel(), minlength=N + 1) / x.size for x in level])
    early, late = np.array_split(q**2, 2, axis=-1)
    return Sample(
        energy=[stats.mean((a.energies + b.energies) / (2 * N)) for a, b in pairs],
        q2=(q**2).mean((1, 2)),
        drift=late.mean((1, 2)) - early.mean((1, 2)),
        link=np.array([glasses.link_overlap(a.spins, b.spins, glass.lattice).mean() for a, b in pairs]),
        histogram=(share + share[:, ::-1]) / 2,
        exchange_rates=ladder.exchange_rates,
        round_trip_time=ladder.round_trip_time,
    )


def averaged(
    samples: list[Sample], betas: list[float], lattice: lattices.Lattice, glass: str
) -> dict[str, Any]:
    """Disorder averages as plain values, one entry per temperature; ``samples`` holds the energies behind."""
    energy = np.array([[e.mean for e in sample.energy] for sample in samples])
    q2, drift, link = (np.stack([getattr(s, name) for s in samples]) for name in ("q2", "drift", "link"))
    bonds = len(lattice.edges) / lattice.n_sites
    checks = {"drift": sigmas(drift)}
    if glass == "gaussian":
        checks["identity"] = sigmas(energy + np.array(betas) * bonds * (1 - link))
    q, density = binned(np.stack([sample.histogram for sample in samples]))
    times = [sample.round_trip_time for sample in samples]
    return {
        "temperatures": [1 / beta for beta in betas],
        "energy_per_site": described(energy),
        "q2": described(q2),
        "link_overlap": described(link),
        "equilibrium": {name: z.tolist() for name, z in checks.items()},
        "exchange_rates": np.mean([sample.exchange_rates for sample in samples], axis=0).tolist(),
        "round_trip_time": float(np.median(times)) if math.isfinite(np.median(times)) else None,
        "overlap_distribution": {"q": q.tolist(), "P": described(density)},
        "samples": [[dataclasses.asdict(e) for e in sample.energy] for sample in samples],
    }


def described(values: np.ndarray) -> dict[str, list]:
    """Mean over the first axis, disorder, and its standard error."""
    return {"mean": values.mean(0).tolist(), "error": standard_error(values).tolist()}


def standard_error(values: np.ndarray) -> np.ndarray:
    """Of the mean over the first axis."""
    return values.std(0, ddof=1) / math.sqrt(len(values))


def sigmas(values: np.ndarray) -> np.ndarray:
    """Mean over disorder in standard errors, 0 where nothing varies; as rare as they are for few samples."""
    error = standard_error(values)
    t = np.divide(values.mean(0), error, out=np.zeros_like(error), where=error > 0)
    return stats.normal_deviate(t, len(values) - 1)


def binned(shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres of bins in q, and the density P(q) there: ``(*, N + 1)`` shares to ``(*, bins)``.

    Bins lie alike on both sides of zero and take several of the overlaps, which are 2/N apart.
    """
    N = shares.shape[-1] - 1
    q = 2 * np.arange(N + 1) / N - 1
    width = -(-(N + 1) // BINS)
    steps = np.abs(2 * np.arange(N + 1) - N)  # from q = 0, in halves of 2/N
    bin_of = np.sign(q) * ((steps + width) // (2 * width))
    first = np.unique(bin_of, return_index=True)[1]
    count = np.diff(np.append(first, N + 1))
    return np.add.reduceat(q, first) / count, np.add.reduceat(shares, first, -1) / count * N / 2


def lines(found: dict[str, Any]) -> list[str]:
    """The table on the screen."""
    checks = found["equilibrium"]
    text = [
        f"{'T':>8}  {'energy per site':>16}  {'<q^2>':>12}  {'exchange':>8}"
        + "".join(f"  {c:>8}" for c in checks)
    ]
    estimates = (
        [str(Estimate(m, e)) for m, e in zip(found[name]["mean"], found[name]["error"], strict=True)]
        for name in ("energy_per_site", "q2")
    )
    rates = [*(f"{rate:.2f}" for rate in found["exchange_rates"]), ""]
    for T, e, q2, rate, *z in zip(found["temperatures"], *estimates, rates, *checks.values(), strict=True):
        text.append(f"{T:8.4f}  {e:>16}  {q2:>12}  {rate:>8}" + "".join(f"  {x:+8.1f}" for x in z))
    trip = found["round_trip_time"]
    seen = "fewer than half of the samples had one" if trip is None else f"{trip:.4g} sweeps (median)"
    return [*text, "", f"round trip of a replica: {seen}"]


def draw(config: Config, found: dict[str, Any]) -> Figure:
    """P(q) at the lowest temperatures, and the energy."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    q, P = np.array(found["overlap_distribution"]["q"]), found["overlap_distribution"]["P"]
    T = np.array(found["temperatures"])
    low = {
        f"T = {T[k]:.3g}": (q, np.array(P["mean"][k]), np.array(P["error"][k]))
        for k in range(min(DRAWN, len(T)))
    }
    curves.reweighted(left, low, {}, "P(q)")
    left.set(xlabel="overlap q", xlim=(-1, 1), ylim=(0, None))
    mean, error = (np.array(found["energy_per_site"][x]) for x in ("mean", "error"))
    sides = " × ".join(map(str, config.L))
    label = f"{config.glass}, {config.lattice}, L = {sides}, {len(config.disorder)} samples"
    points = T, [Estimate(m, e) for m, e in zip(mean, error, strict=True)]
    curves.reweighted(right, {label: (T, mean, error)}, {label: points}, "energy per site e")
    return figure
