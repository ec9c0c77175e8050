"""What a comparison holds, and how it is laid out as plain text. Made by :mod:`physgen.compare`."""

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import ndtr

from ising.stats import Estimate

from .divergence import FORWARD, REVERSE, Divergence, Joint
from .weights import Weights

NOISE_FLOOR = "Monte Carlo, half vs half"
FAR = 3.0  # standard errors beyond which a difference is marked
FAR_P = float(2 * ndtr(-FAR))  # their two-sided probability: joint p-values below it are marked


@dataclass(frozen=True, eq=False)
class Sample:
    """What is kept of a set of configurations.

    Attributes:
        energies, magnetisations: Per site, ``(chains, n)``.
        observables: Every registered observable with its error.
        correlation: G(r) for r = 0, 1, … along the axes; empty where an axis is open.
        pictures: Up to 8 configurations, ``(k, *shape)`` int8.
    """

    energies: np.ndarray
    magnetisations: np.ndarray
    observables: dict[str, Estimate]
    correlation: tuple[Estimate, ...]
    pictures: np.ndarray

    @property
    def size(self) -> int:
        """Number of configurations."""
        return self.energies.size


@dataclass(frozen=True)
class Row:
    """One observable of the model beside its Monte Carlo and exact values, where there are any.

    Example:
        >>> row = Row("e", Estimate(-1.40, 0.03), Estimate(-1.45, 0.04), exact=-1.43)
        >>> round(row.z_mc, 6), round(row.z_exact, 6)
        (1.0, 1.0)
    """

    symbol: str
    model: Estimate
    monte_carlo: Estimate | None
    exact: float | None

    @property
    def z_mc(self) -> float | None:
        """Signed distance from Monte Carlo in combined standard errors."""
        return None if self.monte_carlo is None else self.model.z(self.monte_carlo)

    @property
    def z_exact(self) -> float | None:
        """Signed distance from the exact value in standard errors."""
        return None if self.exact is None else self.model.z(Estimate(self.exact, 0.0))


@dataclass(frozen=True, eq=False)
class Comparison:
    """One model at one temperature, measured against the Boltzmann law.

    Attributes:
        name: The model's, empty if it was not given.
        target: The Hamiltonian as ``Ising.describe()`` tells it.
        beta: Inverse temperature.
        shape: Sides of the lattice.
        divergences: All that could be found, those of whole configurations first.
        ess: Effective sample size of the weights p/q over their number, 0 to 1; None without a density.
        model, monte_carlo: What was measured on either side; of a run the held-out chains, if any were named.
        symbols: Of every observable, in the order of display.
        exact: Exact values of observables, as far as they are known.
        joint: Hotelling's test on the means of e, e², |m|, m² and m together, against Monte Carlo.
        noise_floor: One half of the Monte Carlo chains against the other.
        provenance: Seeds and settings of both sides.
        note: What the caller had to say, then what could not be computed and why, and what the draws miss.
        weights: Of a model whose density is exact and whose draws are independent.
    """

    name: str
    target: dict[str, Any]
    beta: float
    shape: tuple[int, ...]
    divergences: tuple[Divergence, ...]
    ess: float | None
    model: Sample
    monte_carlo: Sample | None
    symbols: dict[str, str]
    exact: dict[str, float]
    joint: Joint | None
    noise_floor: "Comparison | None" = None
    provenance: dict[str, object] = field(default_factory=dict)
    note: str = ""
    weights: Weights | None = None

    @property
    def temperature(self) -> float:
        """1 / beta, units of J."""
        return 1 / self.beta if self.beta else math.inf

    @property
    def observables(self) -> dict[str, Row]:
        """Every observable by name."""
        reference = self.monte_carlo.observables if self.monte_carlo else {}
        return {
            name: Row(symbol, self.model.observables[name], reference.get(name), self.exact.get(name))
            for name, symbol in self.symbols.items()
        }

    @property
    def reference(self) -> dict[str, Row]:
        """The Monte Carlo values themselves beside the exact ones; empty without a run."""
        if self.monte_carlo is None:
            return {}
        return {
            name: Row(symbol, self.monte_carlo.observables[name], None, self.exact.get(name))
            for name, symbol in self.symbols.items()
        }

    def divergence(self, direction: str, of: str = "configurations") -> Divergence | None:
        """The divergence in that direction of that quantity, or None where there is none."""
        return next((d for d in self.divergences if (d.direction, d.of) == (direction, of)), None)

    @property
    def forward_kl(self) -> Estimate | None:
        """KL(p‖q) per site; ask :meth:`divergence` whether it is exact, estimated or a bound."""
        found = self.divergence(FORWARD)
        return found.estimate if found else None

    @property
    def reverse_kl(self) -> Estimate | None:
        """KL(q‖p) per site; ask :meth:`divergence` whether it is exact, estimated or counted."""
        found = self.divergence(REVERSE)
        return found.estimate if found else None


@dataclass(frozen=True)
class Group:
    """All comparisons with one Hamiltonian at one temperature, by label, the noise floor last."""

    title: str
    rows: dict[str, Comparison]

    @property
    def first(self) -> Comparison:
        """Any of them, for what they have in common."""
        return next(iter(self.rows.values()))

    @property
    def with_run(self) -> Comparison | None:
        """A comparison that has Monte Carlo beside it, to show it once for all."""
        return next((c for c in self.rows.values() if c.monte_carlo is not None), None)

    @property
    def weighed(self) -> dict[str, Weights]:
        """The weights of all models that have them."""
        return {label: c.weights for label, c in self.rows.items() if c.weights is not None}


def groups(comparisons: Mapping[str, Comparison]) -> list[Group]:
    """Largest systems first, by rising temperature; rows as given."""
    found: dict[tuple[int, str, float], dict[str, Comparison]] = {}
    for key, comparison in comparisons.items():
        place = (
            -math.prod(comparison.shape),
            json.dumps(comparison.target),
            round(comparison.temperature, 9),
        )
        found.setdefault(place, {})[key] = comparison
    return [Group(_title(next(iter(rows.values()))), _labelled(rows)) for _, rows in sorted(found.items())]


def _labelled(rows: Mapping[str, Comparison]) -> dict[str, Comparison]:
    """By name, with the key where several have the same one or none; the noise floor last."""
    times = Counter(c.name for c in rows.values())
    found = {
        c.name if c.name and times[c.name] == 1 else f"{c.name} {key}".strip(): c for key, c in rows.items()
    }
    floor = next((c.noise_floor for c in rows.values() if c.noise_floor is not None), None)
    return found if floor is None else {**found, NOISE_FLOOR: floor}


def table(comparisons: Mapping[str, Comparison]) -> str:
    """Every comparison as plain text: one block of divergences and one of observables per temperature."""
    if not comparisons:
        raise ValueError("a table needs at least one comparison, got none")
    blocks = []
    for group in groups(comparisons):
        header = ["", f"{FORWARD}/N", f"{REVERSE}/N", "ESS", "KL hist e", "KL hist m", "joint p"]
        lines = [header] + [[label, *_divergence_cells(c)] for label, c in group.rows.items()]
        notes = [f"{label}: {c.note}" for label, c in group.rows.items() if c.note]
        blocks += [group.title, "\n".join([_aligned(lines), *notes]), _aligned(_observable_lines(group))]
        if group.weighed:
            columns = {label: weights.columns() for label, weights in group.weighed.items()}
            names = next(iter(columns.values()))
            rows = [[name, *(c[name] for c in columns.values())] for name in names]
            blocks.append(_aligned([["weights, per site", *columns], *rows]))
    return "\n\n".join([*blocks, LEGEND])


LEGEND = (
    "KL/N in nats per site, p Boltzmann, q model; [x] exact, [s] estimated from samples, [<] upper bound, "
    "[h] from counts. Histogram KL(p‖q) in nats. z: distance from Monte Carlo | from the exact value, in "
    f"standard errors, ! beyond {FAR:g}; joint p, ! below {FAR_P:.2g}. Monte Carlo, its z, joint p and "
    "histograms: of the held-out chains alone, where any are named; half vs half: of the whole run."
)
_MARK = {"exact": "[x]", "estimated": "[s]", "bound": "[<]", "histogram": "[h]"}


def _title(comparison: Comparison) -> str:
    target = comparison.target
    size = " × ".join(map(str, comparison.shape))
    J, h = (
        f"{name} = {value:g}"
        if isinstance(value := target[name], float | int)
        else f"{name} given per {unit}"
        for name, unit in (("J", "bond"), ("h", "site"))
    )
    edges = "" if all(target["pbc"]) else ", open" if not any(target["pbc"]) else ", partly open"
    return f"{target['lattice']} {size}{edges}, {J}, {h}, T = {comparison.temperature:.4g}"


def _divergence_cells(comparison: Comparison) -> list[str]:
    cells = []
    for direction in (FORWARD, REVERSE):
        found = comparison.divergence(direction)
        cells.append(f"{kl(found)} {_MARK[found.kind]}" if found else "-")
    cells.append("-" if comparison.ess is None else f"{comparison.ess:.3g}")
    for of in ("e", "m"):
        found = comparison.divergence(FORWARD, of)
        cells.append(kl(found) if found else "-")
    return [*cells, "-" if comparison.joint is None else _p(comparison.joint.p_value)]


def kl(found: Divergence) -> str:
    """The value with its error; where there is none, as of an exact sum, 4 digits."""
    return str(found.estimate) if found.estimate.error else f"{found.estimate.mean:.4g}"


def _p(p_value: float) -> str:
    return f"{p_value:.2g}" + ("!" if unlikely(p_value) else "")


def _observable_lines(group: Group) -> list[list[str]]:
    symbols, exact = group.first.symbols, group.first.exact
    lines = [["", *symbols.values()]]
    lines.append(["exact", *(f"{exact[name]:z.6f}" if name in exact else "-" for name in symbols)])
    if group.with_run is not None:
        lines += _two_lines("Monte Carlo", group.with_run.reference)
    for label, comparison in group.rows.items():
        lines += _two_lines(label, comparison.observables)
    return lines


def _two_lines(label: str, rows: dict[str, Row]) -> list[list[str]]:
    values = [label, *(str(row.model) for row in rows.values())]
    distances = ["  z", *(f"{_z(row.z_mc)} | {_z(row.z_exact)}" for row in rows.values())]
    return [values, distances]


def _z(z: float | None) -> str:
    return "-" if z is None else f"{z:+.1f}" + ("!" if far(z) else "")


def far(z: float) -> bool:
    """Whether a distance deserves a mark: beyond 3 standard errors, or not a number."""
    return not abs(z) <= FAR


def unlikely(p_value: float) -> bool:
    """The same mark for a p-value: what a distance beyond 3 standard errors has by chance, or less."""
    return not p_value >= FAR_P


def _aligned(lines: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    )
