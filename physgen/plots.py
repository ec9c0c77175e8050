"""Figures of comparisons. Every function draws on the Axes (or Figure) that it is given and returns it.

``comparisons`` maps labels to :class:`physgen.comparison.Comparison`, as reports take it; a function that
shows one temperature expects them all at that temperature. Nothing here uses pyplot or its global state.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from .comparison import FAR, NOISE_FLOOR, Comparison, Row, Sample, groups
from .divergence import FORWARD, REVERSE, Divergence
from .train import Record

MONTE_CARLO, EXACT, FLOOR = "#222222", "#888888", "#999999"
PALETTE = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#882255",
    "#666666",
)  # the first six of Okabe and Ito, safe for colour blindness
MARKERS = "sD^vP*"
KINDS = {"exact": "o", "estimated": "o", "bound": "<", "histogram": "D"}
LABELS = {
    "e": "energy per site e",
    "|m|": "magnetisation per site |m|",
    "C": "specific heat per site C",
    "χ": "susceptibility per site χ",
    "U₄": "Binder cumulant U₄",
    "m": "magnetisation per site m",
    "m²": "squared magnetisation m²",
}


def styles(labels: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Colour and marker of each model, the same wherever the labels are the same; the noise floor grey.

    Example:
        >>> styles(["MADE", "VAE"])["VAE"]["color"]
        '#D55E00'
    """
    models = [label for label in dict.fromkeys(labels) if label != NOISE_FLOOR]
    found = {
        label: {"color": PALETTE[i % len(PALETTE)], "marker": MARKERS[i // len(PALETTE) % len(MARKERS)]}
        for i, label in enumerate(models)
    }
    return found | {NOISE_FLOOR: {"color": FLOOR, "marker": "x"}}


def observable(
    ax: Axes,
    comparisons: Mapping[str, Comparison],
    name: str,
    curve: tuple[np.ndarray, np.ndarray] | None = None,
) -> Axes:
    """An observable against temperature: models, Monte Carlo, exact values. Models stand a little aside of T.

    Arguments:
        ax: To draw on.
        comparisons: Of one Hamiltonian.
        name: As ``ising.observables`` registers it.
        curve: Temperatures and exact values to draw as a line; without it those at the points are marked.
    """
    points = _by_label(comparisons)
    every = [c for found in points.values() for c in found]
    if curve is not None:
        ax.plot(*curve, color=EXACT, linewidth=1.2, label="exact", zorder=1)
    else:
        known = sorted({(c.temperature, c.exact[name]) for c in every if name in c.exact})
        if known:
            ax.plot(*zip(*known, strict=True), "_", color=EXACT, markersize=16, label="exact", zorder=1)
    if runs := _runs(points, name):
        values = [row.model for row in runs.values()]
        _errorbars(ax, runs, values, color=MONTE_CARLO, marker="o", label="Monte Carlo")
    looks, shift = styles(points), _shifts(points, [c.temperature for c in every])
    for label, found in points.items():
        if label != NOISE_FLOOR:
            values = [c.observables[name].model for c in found]
            _errorbars(ax, [c.temperature + shift[label] for c in found], values, label=label, **looks[label])
    ax.set_xlabel("temperature T  (J / k$_B$)")
    symbol = every[0].symbols[name]
    ax.set_ylabel(LABELS.get(symbol, symbol))
    return ax


def pulls(ax: Axes, comparisons: Mapping[str, Comparison], name: str) -> Axes:
    """Distance of an observable from its exact value (else from Monte Carlo) in standard errors, against T.

    Linear up to 3, logarithmic beyond, so that no point is ever outside of the frame.
    """
    points = _by_label(comparisons)
    every = [c for found in points.values() for c in found]
    looks, shift = styles(points), _shifts(points, [c.temperature for c in every])
    exact = all(name in c.exact for c in every)
    ax.axhspan(-1, 1, color="#e8e8e8", zorder=0)
    for limit in (-FAR, FAR):
        ax.axhline(limit, color="#bbbbbb", linewidth=0.8, linestyle=":", zorder=0)
    if exact:
        runs = _runs(points, name)
        z = _finite(row.z_exact for row in runs.values())
        ax.plot(list(runs), z, "o", color=MONTE_CARLO, markersize=4)
    for label, found in points.items():
        if label != NOISE_FLOOR:
            rows = [c.observables[name] for c in found]
            z = _finite(row.z_exact if exact else row.z_mc for row in rows)
            ax.plot(
                [c.temperature + shift[label] for c in found], z, linestyle="", markersize=4, **looks[label]
            )
    ax.set_yscale("symlog", linthresh=FAR)
    low, high = (
        sign * max(2 * FAR, 1.5 * abs(limit)) for sign, limit in zip((-1, 1), ax.get_ylim(), strict=True)
    )
    ticks = [sign * FAR * factor for factor in (1, 10, 100) for sign in (-1, 1)]
    ax.set_yticks([t for t in ticks if low < t < high], minor=False)
    ax.yaxis.set_major_formatter("{x:+.0f}")
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_ylim(low, high)
    ax.set_xlabel("temperature T  (J / k$_B$)")
    ax.set_ylabel("z (exact)" if exact else "z (MC)")
    return ax


def observable_with_pulls(
    figure: Figure,
    comparisons: Mapping[str, Comparison],
    name: str,
    curve: tuple[np.ndarray, np.ndarray] | None = None,
) -> Figure:
    """:func:`observable` with its :func:`pulls` beneath."""
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(5, 2))
    observable(above, comparisons, name, curve)
    above.set_xlabel("")
    above.legend(fontsize="small", frameon=False)
    pulls(below, comparisons, name)
    return figure


def histogram(ax: Axes, comparisons: Mapping[str, Comparison], of: str = "m") -> Axes:
    """Distribution of ``"e"`` or ``"m"`` per site: Monte Carlo filled, models outlined, each of unit area."""
    samples = {label: c.model for label, c in comparisons.items() if label != NOISE_FLOOR}
    reference = next((c.monte_carlo for c in comparisons.values() if c.monte_carlo is not None), None)
    values = {label: _series(sample, of) for label, sample in samples.items()}
    if reference is not None:
        values["Monte Carlo"] = _series(reference, of)
    edges = _aligned_edges(np.concatenate(list(values.values()))).tolist()
    looks = styles(comparisons)
    if reference is not None:
        ax.hist(
            values.pop("Monte Carlo"),
            edges,
            density=True,
            histtype="stepfilled",
            color="#d0d0d0",
            label="Monte Carlo",
        )
    for label, x in values.items():
        ax.hist(
            x, edges, density=True, histtype="step", linewidth=1.4, color=looks[label]["color"], label=label
        )
    ax.set_xlabel(LABELS[of])
    ax.set_ylabel("probability density")
    ax.legend(fontsize="small", frameon=False)
    return ax


def correlation(ax: Axes, comparisons: Mapping[str, Comparison]) -> Axes:
    """G(r) along the axes with error bars; errors at different r are correlated."""
    looks = styles(comparisons)
    reference = next((c.monte_carlo for c in comparisons.values() if c.monte_carlo is not None), None)
    if reference is not None and reference.correlation:
        _errorbars(
            ax, range(len(reference.correlation)), reference.correlation, MONTE_CARLO, "o", "Monte Carlo", "-"
        )
    for label, c in comparisons.items():
        if label != NOISE_FLOOR and c.model.correlation:
            _errorbars(
                ax,
                range(len(c.model.correlation)),
                c.model.correlation,
                **looks[label],
                label=label,
                line="-",
            )
    ax.set_xlabel("distance r  (lattice spacings)")
    ax.set_ylabel("G(r) = ⟨s$_0$ s$_r$⟩")
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize="small", frameon=False)
    return ax


def configurations(figure: Figure, comparisons: Mapping[str, Comparison], count: int = 6) -> Figure:
    """Configurations of Monte Carlo and of each model, a row each; spin up dark; of a cube the top plane."""
    rows = {label: c.model.pictures for label, c in comparisons.items() if label != NOISE_FLOOR}
    reference = next((c.monte_carlo for c in comparisons.values() if c.monte_carlo is not None), None)
    if reference is not None:
        rows = {"Monte Carlo": reference.pictures} | rows
    axes = figure.subplots(len(rows), count, squeeze=False)
    for line, (label, pictures) in zip(axes, rows.items(), strict=True):
        for ax, k in zip(line, range(count), strict=True):
            ax.set_axis_off()
            if k < len(pictures):
                ax.imshow(_plane(pictures[k]), cmap="binary", vmin=-1.25, vmax=1.25, interpolation="nearest")
        line[0].set_title(label, fontsize="small", loc="left")
    return figure


def divergences(ax: Axes, comparisons: Mapping[str, Comparison], of: str = "configurations") -> Axes:
    """Kullback-Leibler divergences on a logarithmic axis, a line per model, errors of one sigma.

    Circles are exact or estimated, triangles upper bounds, diamonds counts. A value that is not above zero by
    two errors is shown as an arrow from there to the left. The noise floor is shaded up to its two errors.
    """
    labels = [label for label in comparisons if label != NOISE_FLOOR]
    floor = comparisons[NOISE_FLOOR].divergence(FORWARD, of) if NOISE_FLOOR in comparisons else None
    if floor is not None:
        highest = max(floor.estimate.mean, 0) + 2 * floor.estimate.error
        ax.axvspan(0, highest, color="#e8e8e8", zorder=0, label="noise floor")
    for direction, colour, offset in ((FORWARD, PALETTE[0], 0.14), (REVERSE, PALETTE[1], -0.14)):
        found = [
            (y, d) for y, label in enumerate(labels) if (d := comparisons[label].divergence(direction, of))
        ]
        for i, (y, d) in enumerate(found):
            _divergence(ax, d, y - offset, colour, direction if i == 0 else "_nolegend_")
    ax.set_xscale("log")
    low, high = (math.log10(x) for x in ax.get_xlim())
    ax.set_xlim(10 ** math.floor(low), 10 ** math.ceil(high))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.5, -0.5)
    unit = "nats per site" if of == "configurations" else f"nats, histogram of {of}"
    ax.set_xlabel(f"Kullback–Leibler divergence  ({unit})")
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize="small", frameon=False)
    return ax


def weights(figure: Figure, comparisons: Mapping[str, Comparison]) -> Figure:
    """How ln(w/Z) of draws and of Monte Carlo is distributed, one panel for each model with a density.

    An exact model has all of it at 0; Monte Carlo far to the right of the draws is what they miss.
    """
    weighed = {label: c.weights for label, c in comparisons.items() if c.weights is not None}
    looks = styles(comparisons)
    panels = figure.subplots(len(weighed), 1, squeeze=False)[:, 0]
    for ax, (label, found) in zip(panels, weighed.items(), strict=True):
        sides = [found.draws] if found.monte_carlo is None else [found.draws, found.monte_carlo.ravel()]
        everything = np.concatenate(sides)
        edges = np.linspace(everything.min() - 1e-3, everything.max() + 1e-3, 50).tolist()
        if found.monte_carlo is not None:
            ax.hist(sides[1], edges, density=True, color="#d0d0d0", label="Monte Carlo")
        colour = looks[label]["color"]
        ax.hist(sides[0], edges, density=True, histtype="step", linewidth=1.4, color=colour, label=label)
        ax.axvline(0, color=EXACT, linewidth=0.8, linestyle="--")
        ax.legend(fontsize="small", frameon=False)
        ax.set_ylabel("probability density")
    panels[-1].set_xlabel("ln(w/Z), nats")
    return figure


def training(ax: Axes, records: Mapping[str, Sequence[Record]], metric: str) -> Axes:
    """One metric of several training runs against the step."""
    for (label, found), look in zip(records.items(), styles(records).values(), strict=False):
        seen = [(r.step, r.metrics[metric]) for r in found if metric in r.metrics]
        if seen:
            ax.plot(*zip(*seen, strict=True), color=look["color"], label=label)
    ax.set_xlabel("training step")
    ax.set_ylabel(metric.replace("_", " "))
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize="small", frameon=False)
    return ax


def density_of_states(
    figure: Figure,
    energies: np.ndarray,
    ln_g: np.ndarray,
    error: np.ndarray,
    n_sites: int,
    exact: np.ndarray | None = None,
) -> Figure:
    """Logarithm of g(E) per site; beneath, the distance of ln g from the exact one, or else its error."""
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(5, 2))
    x = energies / n_sites
    if exact is not None:
        above.plot(x, exact / n_sites, color=EXACT, linewidth=1.2, label="exact")
    above.plot(x, ln_g / n_sites, ".", color=PALETTE[0], markersize=3, label="Wang–Landau")
    above.set_ylabel("ln g(E) / N  (nats)")
    above.legend(fontsize="small", frameon=False)
    if exact is None:
        below.plot(x, error, ".", color=PALETTE[0], markersize=3)
    else:
        below.axhline(0, color=EXACT, linewidth=1.2)
        below.errorbar(x, ln_g - exact, error, fmt=".", color=PALETTE[0], markersize=3, linewidth=0.6)
    below.set_ylabel("error of ln g" if exact is None else "ln g − exact")
    below.set_xlabel("energy per site E / N")
    return figure


def _by_label(comparisons: Mapping[str, Comparison]) -> dict[str, list[Comparison]]:
    """All temperatures of each model, in rising order."""
    found: dict[str, list[Comparison]] = {}
    for group in groups(comparisons):
        for label, comparison in group.rows.items():
            found.setdefault(label, []).append(comparison)
    return found


def _runs(points: Mapping[str, list[Comparison]], name: str) -> dict[float, Row]:
    """The Monte Carlo value at each temperature, as the models are compared with it; not of half a run."""
    whole = [c for label, found in points.items() if label != NOISE_FLOOR for c in found if c.monte_carlo]
    return {c.temperature: c.reference[name] for c in sorted(whole, key=lambda c: c.temperature)}


def _shifts(labels: Iterable[str], temperatures: list[float]) -> dict[str, float]:
    """Small steps aside, so that error bars do not hide each other; none for Monte Carlo."""
    width = 0.012 * ((max(temperatures) - min(temperatures)) or 1.0)
    order = [label for label in labels if label != NOISE_FLOOR]
    return {label: width * (1 + i // 2) * (-1) ** i for i, label in enumerate(order)} | {NOISE_FLOOR: 0.0}


def _errorbars(
    ax: Axes,
    x: Iterable[float],
    values: Iterable,
    color: str,
    marker: str,
    label: str,
    line: str = "",
) -> None:
    means, errors = zip(*((v.mean, v.error) for v in values), strict=True)
    ax.errorbar(
        list(x),
        means,
        errors,
        color=color,
        marker=marker,
        label=label,
        linestyle=line,
        markersize=4,
        linewidth=1,
        capsize=2,
    )


def _divergence(ax: Axes, found: Divergence, y: float, colour: str, label: str) -> None:
    value, error = found.estimate.mean, found.estimate.error
    if value > 2 * error:
        ax.errorbar(
            value,
            y,
            xerr=error or None,
            color=colour,
            marker=KINDS[found.kind],
            markersize=5,
            capsize=2,
            label=label,
            linestyle="",
        )
        return
    limit = max(value, 0) + 2 * error
    if limit > 0:
        ax.errorbar(
            limit, y, xerr=0.4 * limit, xuplims=True, color=colour, marker="|", label=label, linestyle=""
        )


def _finite(values: Iterable[float | None]) -> list[float]:
    """z-values to draw: infinite ones at 1000, none where there is none."""
    return [math.nan if z is None or math.isnan(z) else float(np.clip(z, -1e3, 1e3)) for z in values]


def _series(sample: Sample, of: str) -> np.ndarray:
    return (sample.energies if of == "e" else sample.magnetisations).ravel()


def _aligned_edges(values: np.ndarray, at_most: int = 48) -> np.ndarray:
    """Bin edges halfway between the discrete values, alike on both sides of 0, none beyond the last value."""
    levels = np.unique(values.round(9))
    step = np.diff(levels).min() if len(levels) > 1 else 1.0
    width = math.ceil((levels[-1] - levels[0]) / step / at_most) // 2 * 2 + 1  # odd: a bin is centred on 0
    first, last = (round(x / (step * width)) for x in levels[[0, -1]])
    edges = step * width * (np.arange(first, last + 2) - 0.5)
    return np.unique(edges.clip(levels[0] - step / 2, levels[-1] + step / 2))


def _plane(picture: np.ndarray) -> np.ndarray:
    return np.atleast_2d(picture) if picture.ndim <= 2 else picture.reshape(-1, *picture.shape[-2:])[0]
