"""Find T_c and critical exponents of a ferromagnet by finite-size scaling.

Several sizes L are simulated at a few temperatures around the transition, the
closer the larger L is, and joined into curves by multi-histogram reweighting.

  T_c       where the Binder cumulants of L and 2L cross, extrapolated with
            the power 1/nu + omega of L
  nu        from the slope dU4/dbeta at the measured T_c
  beta/nu   from |m| there, gamma/nu from chi = beta N <m^2> there

Each is fitted as A L^kappa exp(b L^-omega), so that corrections to scaling of
the smallest sizes do not bias it; omega is 7/4 in two dimensions, 0.83 in
three. Bootstrap replicas of the whole analysis give the statistical errors,
that of T_c included. One power of L is not all of the corrections: the
systematic error is what changes if the next one, 2 or 1.67, takes its place.
The error in brackets has both, in quadrature.

A second run simulates only what is missing. The files of the default sizes
take 0.6 GB.

Example:

  physgen phase_diagram --out runs/square
  physgen phase_diagram --lattice triangular --out runs/triangular
  physgen phase_diagram --lattice cubic --L 6 8 12 16 24 --out runs/cubic
"""

import csv
import dataclasses
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from cyclopts import Parameter
from matplotlib.figure import Figure

from ising import Estimate, collapse, criticality, exact, lattices, reweighting, scaling, store
from ising.reweighting import Multihistogram
from physgen import curves
from workflows import simulate
from workflows._common import check_options, plain, provenance, write_json

log = logging.getLogger("physgen.phase_diagram")

OBSERVABLES = {
    "u4": (reweighting.u4, "Binder cumulant U$_4$"),
    "abs_m": (reweighting.abs_m, "magnetisation per site |m|"),
    "chi": (reweighting.chi, "susceptibility per site χ"),
    "specific_heat": (reweighting.specific_heat, "specific heat per site C"),
}
CURVE_POINTS = 61
COLLAPSED = 0.5  # of the simulated range: further away corrections to scaling are larger than the errors


@Parameter(name="*")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Options of ``physgen phase_diagram``."""

    lattice: str = "square"
    """square, triangular, honeycomb or cubic."""
    L: tuple[int, ...] = (8, 12, 16, 24, 32, 48, 64)
    """Sides in sites, at least three; sizes of ratio 2 are paired."""
    around: float | None = None
    """Temperature to simulate around; the literature value of T_c if not given."""
    width: float = 2.0
    """Range of temperatures, T = around (1 +- width / L^(1/nu))."""
    points: int = 5
    """Temperatures per size."""
    update: str = "wolff"
    """How the spins move, as physgen simulate takes it; auto measures."""
    samples: int = 200
    """Configurations per chain and temperature."""
    chains: int = 512
    """Independent chains per temperature; multiples of 512 are fastest."""
    seed: int = 0
    """Seed of all random numbers."""
    resamples: int = 200
    """Bootstrap replicas behind every error."""
    omega: float | None = None
    """Exponent of the corrections to scaling; 7/4 in two dimensions, 0.83 in three."""
    out: Path = Path("runs/phase_diagram")
    """Folder of the HDF5 files, results.json, the tables and the plots."""
    quiet: bool = False
    """No progress bar."""

    SMOKE = {"L": (4, 8, 12), "points": 3, "samples": 50, "chains": 64, "resamples": 40, "quiet": True}

    def __post_init__(self) -> None:
        check_options(self, folder=True)
        if len(set(self.L)) < 3:
            raise ValueError(f"--L needs at least three sizes to extrapolate from, got {self.L}")
        if self.points < 2 or not 0 < self.width < float("inf"):
            raise ValueError("--points must be at least 2 and --width a number above 0")
        if self.around is not None and not 0 < self.around < float("inf"):
            raise ValueError(f"--around must be a temperature above 0, got {self.around}")
        if self.lattice not in ("square", "triangular", "honeycomb", "cubic"):
            raise ValueError(
                f"--lattice must be square, triangular, honeycomb or cubic, got {self.lattice!r}"
            )


def main(*, config: Config = Config()) -> None:
    sizes = sorted(set(config.L))
    universal = scaling.ISING[len(lattices.build(config.lattice, sizes[0]).shape)]
    multis = {}
    for L in sizes:
        path = simulate_missing(config, L, temperatures(config, L, universal.inverse_nu))
        multis[L] = Multihistogram(list(store.runs(path)), resamples=config.resamples, seed=config.seed)
    log.info("reweighting and finite-size scaling")
    found = analyse(multis, universal, config.omega)
    known = {
        "T_c": exact.critical_temperature(config.lattice),
        "nu": 1 / universal.inverse_nu,
        "beta/nu": universal.beta_nu,
        "gamma/nu": universal.gamma_nu,
    }
    sys.stdout.write("\n".join(lines(found, known)) + "\n")
    write_json(
        config.out / "results.json",
        {"config": plain(config), "provenance": provenance(), "known": known} | described(found),
    )
    write_tables(config.out, multis)
    draw(config.out, multis, found)
    log.info("%s holds results.json, curves.csv, points.csv and the plots", config.out)


def temperatures(config: Config, L: int, inverse_nu: float) -> list[float]:
    """Evenly spaced in (T - T_c) L^(1/nu), so that all sizes see the same part of the transition."""
    centre = exact.critical_temperature(config.lattice) if config.around is None else config.around
    steps = 1 + np.linspace(-config.width, config.width, config.points) / L**inverse_nu
    if steps[0] <= 0.1:
        raise ValueError(
            f"--width {config.width:g} reaches down to T = 0 at L = {L}; take less, or larger sizes"
        )
    return [float(T) for T in centre * steps]


def simulate_missing(config: Config, L: int, wanted: list[float]) -> Path:
    """Simulates the temperatures that the file of this size lacks, and returns its path."""
    path = config.out / f"L{L:03d}.h5"
    present = {}
    for run in store.runs(path) if path.exists() else []:
        present[run.beta] = run
        there = run.seed, run.chains, run.samples, run.update
        asked = config.seed, config.chains, config.samples, config.update
        if there[:3] != asked[:3] or config.update not in ("auto", run.update):
            raise ValueError(
                f"{path} was made with seed, chains, samples, update = {there}, not {asked}; repeat them, or "
                "choose another --out"
            )
    missing = [1 / T for T in wanted if not np.isclose(1 / T, list(present), rtol=1e-9).any()]
    if missing:
        log.info("L = %d: %d temperatures to simulate", L, len(missing))
        shared = {
            name: getattr(config, name)
            for name in ("lattice", "update", "samples", "chains", "seed", "quiet")
        }
        simulate.main(config=simulate.Config(L=(L,), beta=tuple(missing), out=path, **shared))
    return path


@dataclasses.dataclass(frozen=True)
class Found(criticality.Critical):
    """All that is written down and drawn: also the maxima of curves, and data collapses."""

    maxima: dict[str, list[tuple[Estimate, Estimate]]]
    collapses: dict[str, collapse.Collapse]


def analyse(
    multis: Mapping[int, Multihistogram], universal: scaling.Exponents, omega: float | None = None
) -> Found:
    """Critical temperature and exponents, maxima of curves, collapses of the larger half of the sizes."""
    sizes, estimates = sorted(multis), reweighting.estimates
    found = criticality.measure(multis, universal, omega)
    values = found.values
    maxima = {}
    for name in ("chi", "specific_heat"):
        peaks = [scaling.maximum(multis[L], OBSERVABLES[name][0]) for L in sizes]
        maxima[name] = [(estimates(1 / beta), estimates(height)) for beta, height in peaks]
    large = {L: multis[L] for L in sizes[len(sizes) // 2 :]}
    begin = {"u4": 0.0, "abs_m": -values["beta/nu"].mean, "chi": values["gamma/nu"].mean}
    return Found(
        **vars(found),
        maxima=maxima,
        collapses={
            name: collapse.collapse(
                large,
                OBSERVABLES[name][0],
                (values["T_c"].mean, 1 / values["nu"].mean, kappa),
                share=COLLAPSED,
                replicas=30,
            )
            for name, kappa in begin.items()
        },
    )


def lines(found: Found, known: dict[str, float]) -> list[str]:
    """The table on the screen."""
    text = [f"{'':9}  {'measured':>14}  {'statist.':>8}  {'system.':>8}  {'known':>9}  {'off by':>8}  "]
    text[0] += f"{'sigmas':>6}  {'p of fit':>8}"
    for name, value in found.values.items():
        off = f"{100 * (value.mean / known[name] - 1):+.3f} %"
        z = value.z(Estimate(known[name], 0.0))
        text.append(
            f"{name:9}  {value!s:>14}  {found.statistical[name]:8.1e}  {found.systematic[name]:8.1e}  "
            f"{known[name]:9.6f}  {off:>8}  {z:+6.1f}  {found.p_values[name]:8.2f}"
        )
    crossed = ", ".join(f"{a}-{b}: {T}" for (a, b), T in found.crossings.items())
    return [*text, "", f"U4 crossings at T of L-L': {crossed}"]


def described(found: Found) -> dict[str, Any]:
    """All results as plain values."""

    def pair(estimate: Estimate) -> dict[str, float]:
        return {"mean": estimate.mean, "error": estimate.error}

    return {
        "results": {
            name: pair(value)
            | {
                "statistical_error": found.statistical[name],
                "systematic_error": found.systematic[name],
                "p_value": found.p_values[name],
            }
            for name, value in found.values.items()
        },
        "u4_crossings": [
            {"sizes": list(sizes), "temperature": pair(T)} for sizes, T in found.crossings.items()
        ],
        "at_critical_temperature": {
            name: [pair(v) for v in values] for name, values in found.at_critical.items()
        },
        "maxima": {
            name: [{"temperature": pair(T), "height": pair(height)} for T, height in peaks]
            for name, peaks in found.maxima.items()
        },
        "collapse": {
            name: {
                "sizes": [int(L) for L in fit.points.sizes],
                "critical_temperature": pair(fit.critical_temperature),
                "inverse_nu": pair(fit.inverse_nu),
                "kappa": pair(fit.kappa),
                "quality": fit.quality,
            }
            for name, fit in found.collapses.items()
        },
    }


def curve_of(multi: Multihistogram, name: str) -> curves.Curve:
    """A reweighted observable over the simulated range: T rising, values, errors."""
    betas = np.linspace(multi.betas[-1], multi.betas[0], CURVE_POINTS)
    replicas = OBSERVABLES[name][0](multi, betas)
    return 1 / betas, replicas[0], replicas[1:].std(0, ddof=1)


def write_tables(out: Path, multis: Mapping[int, Multihistogram]) -> None:
    """``curves.csv``, reweighted, and ``points.csv``, at the simulated temperatures; errors beside values."""
    header = ["L", "T", *(f"{name}{suffix}" for name in OBSERVABLES for suffix in ("", "_error"))]
    for file, betas_of in (
        ("curves.csv", lambda multi: np.linspace(multi.betas[-1], multi.betas[0], CURVE_POINTS)),
        ("points.csv", lambda multi: multi.betas[::-1]),
    ):
        with (out / file).open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(header)
            for L, multi in multis.items():
                betas = betas_of(multi)
                columns = [1 / betas]
                for curve, _ in OBSERVABLES.values():
                    replicas = curve(multi, betas)
                    columns += [replicas[0], replicas[1:].std(0, ddof=1)]
                writer.writerows([L, *(f"{x:.10g}" for x in row)] for row in zip(*columns, strict=True))


def draw(out: Path, multis: Mapping[int, Multihistogram], found: Found) -> None:
    """``observables.png``: four curves; ``scaling.png``: powers of L at T_c; ``collapse.png``."""
    figure = Figure(figsize=(11, 8), layout="constrained")
    for ax, (name, (curve, label)) in zip(figure.subplots(2, 2).flat, OBSERVABLES.items(), strict=True):
        drawn = {f"L = {L}": curve_of(multi, name) for L, multi in multis.items()}
        points = {
            f"L = {L}": (1 / multi.betas, reweighting.estimates(curve(multi, multi.betas)))
            for L, multi in multis.items()
        }
        curves.reweighted(ax, drawn, points, label, found.values["T_c"].mean)
    figure.savefig(out / "observables.png", dpi=130)

    figure = Figure(figsize=(6, 4.5), layout="constrained")
    nu, beta_nu = found.values["nu"], found.values["beta/nu"]
    slopes = {
        "1/nu": Estimate(1 / nu.mean, nu.error / nu.mean**2),
        "-beta/nu": Estimate(-beta_nu.mean, beta_nu.error),
        "gamma/nu": found.values["gamma/nu"],
    }
    titles = {"1/nu": "dU$_4$/dβ, 1/ν", "-beta/nu": "|m|, −β/ν", "gamma/nu": "βN⟨m²⟩, γ/ν"}
    rows = {titles[name]: (values, slopes[name]) for name, values in found.at_critical.items()}
    curves.power_laws(figure.subplots(), sorted(multis), rows)
    figure.savefig(out / "scaling.png", dpi=130)

    figure = Figure(figsize=(13, 4), layout="constrained")
    ylabels = {"u4": "U$_4$", "abs_m": r"|m| $L^{\beta/\nu}$", "chi": r"χ $L^{-\gamma/\nu}$"}
    for ax, (name, fit) in zip(figure.subplots(1, 3), found.collapses.items(), strict=True):
        scaled = zip(*fit.points.scaled(fit.parameters), strict=True)
        drawn = {f"L = {L:.0f}": rows for L, rows in zip(fit.points.sizes, scaled, strict=True)}
        curves.collapsed(ax, drawn, r"(T − T$_c$) $L^{1/\nu}$", ylabels[name])
        title = f"T$_c$ = {fit.critical_temperature}, 1/ν = {fit.inverse_nu}, κ = {fit.kappa}"
        ax.set_title(f"{title}\nS = {fit.quality:.2g}", fontsize="small")
    figure.savefig(out / "collapse.png", dpi=130)
