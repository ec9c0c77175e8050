"""Figures of Monte Carlo: reweighted curves, finite-size scaling, autocorrelation and equilibration.

As in :mod:`physgen.plots` every function draws on the Axes that it is given and returns it. A curve is x, y
and the standard error of y; curves and points of one label share their colour.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from scipy import fft

from ising import stats
from ising.stats import Estimate

from .plots import EXACT, MARKERS, PALETTE

TEMPERATURE = "temperature T  (J / k$_B$)"
Curve = tuple[np.ndarray, np.ndarray, np.ndarray]


def reweighted(
    ax: Axes,
    curves: Mapping[str, Curve],
    points: Mapping[str, tuple[Sequence[float], Sequence[Estimate]]],
    ylabel: str,
    critical: float | None = None,
) -> Axes:
    """Curves with bands of one standard error, and the simulated points they come from, against T."""
    for k, (label, (x, y, dy)) in enumerate(curves.items()):
        colour = PALETTE[k % len(PALETTE)]
        ax.plot(x, y, color=colour, linewidth=1, label=label)
        ax.fill_between(x, y - dy, y + dy, color=colour, alpha=0.3, linewidth=0)
        if label in points:
            T, values = points[label]
            _errorbars(ax, T, values, colour, MARKERS[k % len(MARKERS)])
    if critical is not None:
        ax.axvline(critical, color=EXACT, linewidth=0.8, linestyle=":", zorder=0)
    ax.set_xlabel(TEMPERATURE)
    ax.set_ylabel(ylabel)
    ax.legend(fontsize="small", frameon=False)
    return ax


def collapsed(ax: Axes, curves: Mapping[str, Curve], xlabel: str, ylabel: str) -> Axes:
    """Scaled points of all sizes, which lie on one curve where the exponents are right."""
    for k, (label, (x, y, dy)) in enumerate(curves.items()):
        look = {"color": PALETTE[k % len(PALETTE)], "marker": MARKERS[k % len(MARKERS)]}
        ax.errorbar(x, y, dy, **look, linestyle="", markersize=3, linewidth=0.8, label=label)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.legend(fontsize="small", frameon=False)
    return ax


def power_laws(
    ax: Axes, sizes: Sequence[int], rows: Mapping[str, tuple[Sequence[Estimate], Estimate]]
) -> Axes:
    """Values against L on logarithmic axes, relative to the smallest size, and the fitted slopes as lines."""
    L = np.array(sizes, dtype=float)
    for k, (label, (values, slope)) in enumerate(rows.items()):
        colour, first = PALETTE[k % len(PALETTE)], values[0].mean
        relative = [Estimate(v.mean / first, v.error / first) for v in values]
        # through the largest size: the smaller ones carry corrections that the exponent does not
        ax.plot(L, relative[-1].mean * (L / L[-1]) ** slope.mean, color=colour, linewidth=1)
        _errorbars(ax, L, relative, colour, MARKERS[k % len(MARKERS)], f"{label}: {slope}")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.minorticks_off()
    ax.set_xlabel("L  (sites per side)")
    ax.set_ylabel("relative to the smallest L")
    ax.legend(fontsize="small", frameon=False)
    return ax


def autocorrelation(ax: Axes, series: Mapping[str, np.ndarray], spacing: int = 1) -> Axes:
    r"""Normalised autocorrelation :math:`\rho(t)` of ``(chains, n)`` series, with tau_int and its window.

    Arguments:
        ax: To draw on.
        series: By name.
        spacing: Sweeps from one sample to the next; t and tau are drawn in sweeps.
    """
    reach = 1
    for k, (label, x) in enumerate(series.items()):
        colour = PALETTE[k % len(PALETTE)]
        tau, rho = stats.tau_int(x), autocorrelation_function(x)
        window = min(len(rho) - 1, int(np.ceil(5 * tau)))
        reach = max(reach, min(len(rho) - 1, 2 * window))
        t = spacing * np.arange(len(rho))
        text = f"{label}: τ$_{{int}}$ = {tau * spacing:.3g} sweeps"
        ax.plot(t, rho, color=colour, marker=".", markersize=3, linewidth=1, label=text)
        ax.axvline(t[window], color=colour, linewidth=0.8, linestyle="--")
    ax.axhline(0, color=EXACT, linewidth=0.8)
    ax.set_xlim(0, spacing * reach)
    ax.set_xlabel("t  (sweeps; dashed: end of the window, 5 τ)")
    ax.set_ylabel("autocorrelation ρ(t)")
    ax.legend(fontsize="small", frameon=False)
    return ax


def autocorrelation_function(series: np.ndarray) -> np.ndarray:
    r""":math:`\rho(t)`, t = 0 … n − 1 samples, averaged over the chains; 1 at t = 0.

    Example:
        >>> autocorrelation_function(np.array([[1.0, -1.0, 1.0, -1.0]])).round(6).tolist()
        [1.0, -1.0, 1.0, -1.0]
    """
    x = np.atleast_2d(series)
    if x.max() == x.min():
        raise ValueError("a constant series has no autocorrelation function")
    n = x.shape[1]
    power = np.abs(fft.rfft(x - x.mean(), n=2 * n)) ** 2
    covariance = fft.irfft(power.mean(0), n=2 * n)[:n] / np.arange(n, 0, -1)
    return covariance / covariance[0]


def equilibration(ax: Axes, series: Mapping[str, np.ndarray], ylabel: str, spacing: int = 1) -> Axes:
    """Means of ``(chains, n)`` samples over blocks of time and all chains, and the running mean.

    Error bars come from the scatter between chains and hold whatever the autocorrelation time is; those of a
    single chain come from that time, so they are right only where it is much shorter than a block. Blocks
    that drift, or starts that disagree, say that burn-in was too short.
    """
    for k, (label, x) in enumerate(series.items()):
        chains, n = x.shape
        colour = PALETTE[k % len(PALETTE)]
        edges = np.linspace(0, n, min(n, 16) + 1).astype(int)
        lengths = np.diff(edges)
        blocks = np.add.reduceat(x, edges[:-1], axis=1) / lengths
        centres = spacing * (edges[1:] + edges[:-1]) / 2
        if chains > 1:
            errors = blocks.std(0, ddof=1) / chains**0.5
        else:
            errors = np.minimum(stats.mean(x).error * (n / lengths) ** 0.5, x.std())
        found = [Estimate(*pair) for pair in zip(blocks.mean(0).tolist(), errors.tolist(), strict=True)]
        _errorbars(ax, centres, found, colour, MARKERS[k % len(MARKERS)], label)
        running = np.cumsum(x.mean(0)) / np.arange(1, n + 1)
        ax.plot(spacing * np.arange(1, n + 1), running, color=colour, linewidth=1)
    ax.set_xlabel("sweeps after burn-in  (points: blocks, line: running mean)")
    ax.set_ylabel(ylabel)
    ax.legend(fontsize="small", frameon=False)
    return ax


def _errorbars(
    ax: Axes,
    x: Sequence[float] | np.ndarray,
    values: Sequence[Estimate],
    colour: str,
    marker: str,
    label: str | None = None,
) -> None:
    means, errors = zip(*((v.mean, v.error) for v in values), strict=True)
    look = {"color": colour, "marker": marker, "linestyle": "", "markersize": 4, "linewidth": 1, "capsize": 2}
    ax.errorbar(x, means, errors, **look, label=label)
