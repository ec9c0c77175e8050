"""Comparisons as one self-contained HTML page: pictures and styles inside, nothing loaded from anywhere."""

import base64
import io
import itertools
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import jinja2
import matplotlib
import numpy as np
from matplotlib.figure import Figure

from . import compare, plots
from .comparison import FAR, FAR_P, NOISE_FLOOR, Comparison, Group, far, groups, kl, unlikely
from .divergence import FORWARD, REVERSE

PACKAGES = ("physgen", "torch", "pyro-ppl", "numpy", "scipy", "matplotlib")
CURVE_POINTS = 40


@dataclass(frozen=True)
class Picture:
    """A figure as an SVG data address, with the words that stand for it where it cannot be seen."""

    source: str
    caption: str


@dataclass(frozen=True)
class Section:
    """One Hamiltonian: its groups by temperature, their pictures, and its observables against temperature."""

    title: str
    groups: list[Group]
    notes: list[str]
    pictures: list[list[Picture]]
    observables: list[Picture]


def write(
    path: str | Path,
    comparisons: Mapping[str, Comparison],
    *,
    title: str = "Generative models against Monte Carlo",
    figures: Mapping[str, Figure] | None = None,
) -> Path:
    """Writes the page of all comparisons, by a rename, so that no reader ever sees half of it.

    Arguments:
        path: Of the page; its folder is made if it is missing.
        comparisons: By label, as :mod:`physgen.compare` makes them. Every one has its row.
        title: Heading of the page.
        figures: Further figures by caption, for instance of :func:`physgen.plots.training`.

    Returns:
        The path.
    """
    if not comparisons:
        raise ValueError("a report needs at least one comparison, got none; make one with physgen.compare")
    page = _template().render(
        title=title,
        sections=[_section(list(found)) for found in _by_hamiltonian(comparisons)],
        figures=[_picture(figure, caption) for caption, figure in (figures or {}).items()],
        versions={"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        directions=(FORWARD, REVERSE),
        limit=FAR,
        p_limit=FAR_P,
        noise_floor=NOISE_FLOOR,
    )
    return _publish(Path(path), page)


def _by_hamiltonian(comparisons: Mapping[str, Comparison]) -> list[list[Group]]:
    return [list(found) for _, found in itertools.groupby(groups(comparisons), key=lambda g: g.first.target)]


def _section(found: list[Group]) -> Section:
    finite = [g for g in found if g.first.beta > 0]
    everything = {f"{i} {label}": c for i, g in enumerate(finite) for label, c in g.rows.items()}
    return Section(
        title=found[0].title.rpartition(", T =")[0],
        groups=found,
        notes=_notes(found),
        pictures=[_pictures(group) for group in found],
        observables=_against_temperature(everything) if len(finite) > 1 else [],
    )


def _notes(found: list[Group]) -> list[str]:
    """What could not be computed, with all the temperatures at which it could not."""
    where: dict[str, list[str]] = {}
    for group in found:
        for label, comparison in group.rows.items():
            if comparison.note:
                where.setdefault(f"{label}: {comparison.note}", []).append(f"{comparison.temperature:.4g}")
    return [f"{note} (T = {', '.join(temperatures)})" for note, temperatures in where.items()]


def _pictures(group: Group) -> list[Picture]:
    """Everything that is drawn at one temperature."""
    rows, found = group.rows, []
    lines = sum(c.name != NOISE_FLOOR for c in rows.values())
    where = f"T = {group.first.temperature:.4g}"
    for of, what in (
        ("configurations", "Divergence per site"),
        ("e", "Histogram of e"),
        ("m", "Histogram of m"),
    ):
        if any(d.of == of for c in rows.values() for d in c.divergences):
            figure, ax = _figure(4.8, 1.4 + 0.42 * lines)
            plots.divergences(ax, rows, of)
            found.append(_picture(figure, f"{what}: Kullback–Leibler divergence of every model, {where}"))
    for of in ("e", "m"):
        figure, ax = _figure()
        plots.histogram(ax, rows, of)
        found.append(_picture(figure, f"Distribution of {of}, {where}"))
    if any(c.model.correlation for c in rows.values()):
        figure, ax = _figure()
        plots.correlation(ax, rows)
        found.append(_picture(figure, f"Correlation function G(r), {where}"))
    if group.weighed:
        figure = Figure(figsize=(4.8, 2.0 * len(group.weighed) + 0.4), layout="constrained")
        plots.weights(figure, rows)
        found.append(_picture(figure, f"Weights of draws and of Monte Carlo, {where}"))
    figure = Figure(figsize=(4.8, 0.95 * (lines + (group.with_run is not None))), layout="constrained")
    plots.configurations(figure, rows)
    found.append(_picture(figure, f"Configurations, {where}"))
    return found


def _against_temperature(comparisons: dict[str, Comparison]) -> list[Picture]:
    """Every observable against T with its exact curve, where one is known."""
    temperatures = [c.temperature for c in comparisons.values()]
    margin = 0.06 * (max(temperatures) - min(temperatures))
    lowest = max(min(temperatures) - margin, min(temperatures) / 2)  # never at or below T = 0
    T = np.linspace(lowest, max(temperatures) + margin, CURVE_POINTS)
    first = next(iter(comparisons.values()))
    curves = compare.exact_curves(first, 1 / T)
    found = []
    for name, symbol in first.symbols.items():
        figure = Figure(figsize=(4.8, 4.0), layout="constrained")
        plots.observable_with_pulls(figure, comparisons, name, (T, curves[name]) if name in curves else None)
        found.append(_picture(figure, f"{symbol} against temperature, with the pulls beneath"))
    return found


def _figure(width: float = 4.8, height: float = 3.2):
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _picture(figure: Figure, caption: str) -> Picture:
    image = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "physgen"}):
        figure.savefig(image, format="svg", metadata={"Date": None})
    return Picture(f"data:image/svg+xml;base64,{base64.b64encode(image.getvalue()).decode()}", caption)


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("physgen"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["far"] = far
    environment.tests["unlikely"] = unlikely
    environment.filters["kl"] = kl
    return environment.get_template("report.html.jinja")


def _publish(path: Path, page: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(page)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path
