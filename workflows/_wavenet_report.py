"""What ``physgen wavenet_chain`` shows of its cells: the table on the screen and the figure."""

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ising import Estimate
from ising.exact.decimated import DecimatedChain
from physgen.plots import EXACT, MARKERS, MONTE_CARLO, PALETTE

RING_SITES = 16
WANTED = 1e-4  # nats per site, a line in the figure
Cell = dict[str, Any]


def lines(cells: list[Cell], ring: list[Cell], series: Cell) -> list[str]:
    """What is shown on the screen."""
    text = [f"{'xi':>5}  {'seen':>5}  {'R':>4}  {'KL per site':>14}  {'least':>9}   (nats)"]
    for cell in cells:
        kl = Estimate(*cell["kl"])
        law = f"{cell['xi']:5g}  {cell['seen']:5g}  {cell['receptive_field']:4d}"
        text.append(f"{law}  {kl!s:>14}  {cell['least']:9.2e}")
    text += covered(cells)
    text.append(f"ring of {RING_SITES} sites, 1/r^(1 + sigma)")
    text += [f"{c['receptive_field']:18d}  {c['kl'][0]:14.3e}  {c['least']:9.2e}" for c in ring]
    text.append(f"{'series':<12}  {'tau_int':>12}  {'<|m|>':>14}  {'<m^2>':>14}")
    for kind in ("monte_carlo", "generated"):
        part = series[kind]
        values = Estimate(*part["tau"]), Estimate(**part["abs_m"]), Estimate(**part["m2"])
        text.append(f"{kind:<12}  {values[0]!s:>12}  {values[1]!s:>14}  {values[2]!s:>14}")
    text.append(f"total variation of P(m)  {series['total_variation']:.4f}")
    return text


def covered(cells: list[Cell]) -> list[str]:
    """The largest divergence that is left of receptive fields that cover two correlation lengths."""
    wide = [cell for cell in cells if cell["receptive_field"] >= 2 * cell["xi"]]
    if not wide:
        return []
    worst = max(wide, key=lambda cell: cell["kl"][0])
    where = f"xi {worst['xi']:g}, R {worst['receptive_field']}, least {worst['least']:.1e}"
    return [f"R >= 2 xi: KL per site at most {worst['kl'][0]:.1e}  ({where})"]


def draw(config: Any, cells: list[Cell], ring: list[Cell], series: Cell) -> Figure:
    """Divergences, autocorrelation of the series, distribution of m, and a stretch of m(t)."""
    figure = Figure(figsize=(11, 8), layout="constrained")
    (divergence, correlation), (law, shown) = figure.subplots(2, 2)
    draw_divergence(divergence, config, cells)
    fields = [cell["receptive_field"] for cell in ring]
    label = rf"ring of {RING_SITES}, $\sigma$ = {config.sigma:g}"
    divergence.plot(fields, [cell["kl"][0] for cell in ring], "x", color=PALETTE[-1], label=label)
    divergence.plot(fields, [cell["least"] or math.nan for cell in ring], color=PALETTE[-1], linewidth=1)
    styles = {"monte_carlo": ("Monte Carlo", MONTE_CARLO), "generated": ("WaveNet", PALETTE[0])}
    m = np.linspace(-1, 1, config.levels)
    for kind, (label, colour) in styles.items():
        part = series[kind]
        tau = f"{label}, $\\tau_{{int}}$ = {Estimate(*part['tau'])}"
        correlation.plot(part["autocorrelation"], color=colour, label=tau)
        law.plot(m, part["histogram"], "o-", markersize=3, color=colour, label=label)
        shown.plot(part["shown"], color=colour, linewidth=0.8, label=label)
    correlation.set(xlabel="lag  (sweeps)", ylabel=r"autocorrelation of m", yscale="log")
    law.set(xlabel="magnetisation per site m", ylabel="probability of a level")
    shown.set(xlabel="time  (sweeps)", ylabel="magnetisation per site m")
    for ax in figure.axes:
        ax.legend(fontsize="small", frameon=False)
    return figure


def draw_divergence(ax: Axes, config: Any, cells: list[Cell]) -> None:
    """KL against R, with the least possible, and each correlation length marked."""
    laws = dict.fromkeys((cell["xi"], cell["seen"]) for cell in cells)
    fine = np.unique(np.geomspace(1, max(config.fields), 60).round().astype(int))
    for i, (xi, seen) in enumerate(laws):
        mine = [cell for cell in cells if (cell["xi"], cell["seen"]) == (xi, seen)]
        kl, errors = np.array([cell["kl"] for cell in mine]).T
        colour, label = PALETTE[i % len(PALETTE)], rf"$\xi$ = {xi:g}, {100 * seen:g} % seen"
        fields = [cell["receptive_field"] for cell in mine]
        marker = MARKERS[i % len(MARKERS)]
        ax.errorbar(fields, np.abs(kl), errors, fmt=marker, color=colour, capsize=2, label=label)
        if seen < 1:
            chain = DecimatedChain(config.sites, xi, seen)
            ax.plot(fine, [chain.least_divergence(int(R)) for R in fine], color=colour, linewidth=1)
            ax.axvline(xi, color=colour, linestyle=":", linewidth=1)
            ax.annotate(r"$\xi$", (xi, 1), xycoords=("data", "axes fraction"), color=colour, va="bottom")
    ax.axhline(WANTED, color="0.8", linewidth=1, zorder=0)
    ax.plot([], [], color=EXACT, linewidth=1, label="least possible, exact")
    ax.set(xscale="log", yscale="log", xlabel="receptive field R  (sites)", ylabel="KL per site  (nats)")
    ax.set_xscale("log", base=2)
    lowest = min(max(abs(cell["kl"][0]), 1e-7) for cell in cells)
    ax.set_ylim(lowest / 3, None)
