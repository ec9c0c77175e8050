"""A benchmark: contestants in processes of their own, checked against known energies, timed in turn.

Times are CPU seconds of a contestant's process with one thread, so that other work on the machine costs
little. It still costs something: every contestant gets several windows, in turn with all others, and its
figure is the best of them. The median is told as well.
"""

import contextlib
import dataclasses
import math
import platform
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from cyclopts import App, Parameter

from ising.kernels.lanes import has_ternary_logic
from ising.stats import Estimate, mean, tau_int
from workflows._common import write_json
from workflows.benchmarks._hosts import Host, own_hosts, peer_hosts, say

SIGMAS = 4.5  # a sampler that is right is sent away by mistake once in 150 000 times


@Parameter(name="*")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the benchmarks."""

    json: Path | None = None
    """Writes the table to this file, too."""
    quick: bool = False
    """Tiny lattices and windows: shows that all works, not how fast it is."""
    peers: bool = True
    """Other packages take part, from an environment that is made for them."""
    environment: Path | None = None
    """Folder of that environment, made there if it is missing; a temporary one if not given."""
    seconds: float = 0.5
    """CPU time of a window."""
    windows: int = 7
    """Windows of each contestant."""

    def __post_init__(self) -> None:
        if self.quick:
            object.__setattr__(self, "seconds", 0.01)
            object.__setattr__(self, "windows", 2)


class Check(NamedTuple):
    """Updates before the check of the energy, measurements, and updates between them."""

    burn_in: int
    samples: int
    thin: int


@dataclasses.dataclass
class Contestant:
    """What is timed, and what its energy must be.

    Attributes:
        name: What the table calls it.
        host: Where it runs.
        kind: What the host calls it.
        options: What it is made of; ``beta`` among them is that of the check.
        energy: Of a site; exact if it is a number. A list where there are several temperatures.
        test: How long the check is.
        units: What is reported of it.
        baselines: It is compared with the first of these that takes part.
        law: Contestants with the same law have the same tau: that of the one that measured it best is used.
        timing_beta: Where it is timed, if not where it is checked.
        conditions: What else there is to say.
    """

    name: str
    host: Host
    kind: str
    options: dict[str, Any]
    energy: float | Estimate | list[float]
    test: Check
    units: tuple[str, ...] = ("attempts/ns",)
    baselines: tuple[str, ...] = ()
    law: str = ""
    timing_beta: float | None = None
    conditions: str = ""

    def __post_init__(self) -> None:
        self.tau = self.common_tau = math.nan  # of |m| in updates, by its own series and by that of its law
        self.measured, self.step = 0, 1  # length of that series, and updates in a window
        self.exchange_rates: np.ndarray | None = None
        self.rates: dict[str, list[float]] = {}

    def ask(self, method: str, *arguments: Any) -> tuple[Any, float]:
        return self.host.ask(self.name, method, *arguments)

    def check(self) -> str:
        """Makes it, and returns what is wrong with its energy, or nothing."""
        self.ask("make", self.kind, self.options)
        if self.test.burn_in:
            self.ask("run", self.test.burn_in)
        series, _ = self.ask("series", self.test.samples, self.test.thin)
        if "abs_m" in series:
            self.tau, self.measured = tau_int(series["abs_m"]) * self.test.thin, series["abs_m"].size
        self.exchange_rates = series.get("exchange_rates")
        if self.timing_beta is not None:
            self.ask("set_beta", self.timing_beta)
        expected = self.energy if isinstance(self.energy, list) else [self.energy]
        energies = series["energy"].reshape(len(expected), -1, self.test.samples)
        for known, found in zip(expected, map(mean, energies), strict=True):
            known = known if isinstance(known, Estimate) else Estimate(known, 0.0)
            if not abs(found.z(known)) < SIGMAS:
                return f"its energy per site is {found}, it should be {known}: {found.z(known):+.1f} sigma"
        return ""

    def calibrate(self, seconds: float) -> None:
        """How many updates fill a window."""
        spent = 0.0
        while spent < 0.2 * seconds:
            _, spent = self.ask("run", self.step)
            factor = 0.25 * seconds / max(spent, 1e-6)
            self.step = max(self.step + 1, math.ceil(self.step * min(8.0, factor)))
        _, spent = self.ask("run", self.step)
        self.step = max(1, round(self.step * seconds / max(spent, 1e-6)))

    def window(self) -> None:
        done, seconds = self.ask("run", self.step)
        for unit in self.units:
            self.rates.setdefault(unit, []).append(figure(unit, done, seconds, self.common_tau))


def figure(unit: str, done: dict[str, float], seconds: float, tau: float) -> float:
    """One window in one of the units of the tables.

    Example:
        >>> figure("independent/s", {"updates": 800, "sites": 3200}, seconds=2.0, tau=4.0)
        50.0
    """
    if unit == "independent/s":
        return done["updates"] / (2 * tau * seconds)
    if unit == "round trips/s":
        return done["round_trips"] / seconds
    return done["sites"] / (1e9 * seconds)


class Arena:
    """Where contestants meet; collects the rows of the table."""

    def __init__(self, config: Config, ours: Host, portable: dict[str, Host], peers: dict[str, Host]):
        self.config, self.ours, self.portable, self.peers = config, ours, portable, peers
        self.rows: list[dict[str, str | float]] = []
        self.wrong: list[str] = []

    def contest(self, contestants: list[Contestant]) -> None:
        """Checks them, times those that are right, prints and keeps their rows."""
        fit = []
        for contestant in contestants:
            if error := contestant.check():
                say(f"{contestant.name} does not take part: {error}")
                self.wrong.append(contestant.name)
                contestant.ask("drop")
            else:
                contestant.calibrate(self.config.seconds)
                fit.append(contestant)
        for contestant in fit:
            alike = [other for other in fit if contestant.law and other.law == contestant.law] or [contestant]
            best = max(alike, key=lambda other: other.measured)
            contestant.common_tau = best.tau
        for _ in range(self.config.windows):
            for contestant in fit:
                contestant.window()
        for contestant in fit:
            for unit in contestant.units:
                self.add(row(contestant, unit, fit, self.config))
            contestant.ask("drop")

    def peer(
        self,
        package: str,
        name: str,
        options: dict[str, Any],
        energy: float | Estimate | list[float],
        test: Check,
        *,
        kind: str = "",
        **more: Any,
    ) -> list[Contestant]:
        """One contestant, or none where the package is missing."""
        if package not in self.peers:
            return []
        return [Contestant(name, self.peers[package], kind or package, options, energy, test, **more)]

    def energy(self, options: dict[str, Any], test: Check) -> Estimate:
        """What another kernel finds, where no exact value is known."""
        self.ours.ask("reference", "make", "kernel", options)
        self.ours.ask("reference", "run", test.burn_in)
        series, _ = self.ours.ask("reference", "series", test.samples, test.thin)
        self.ours.ask("reference", "drop")
        return mean(series["energy"])

    def add(self, entry: dict[str, str | float]) -> None:
        say("{name:44} {value:>11} {unit:14} x {ratio:<7} {baseline}".format(**shown(entry)))
        self.rows.append(entry)


def row(contestant: Contestant, unit: str, fit: list[Contestant], config: Config) -> dict[str, str | float]:
    rates = contestant.rates[unit]
    others = {other.name: other for other in fit if unit in other.units}
    baseline = others[next((name for name in contestant.baselines if name in others), contestant.name)]
    conditions = [
        f"best of {config.windows} windows of {config.seconds:g} CPU-s, median {np.median(rates):.4g}"
    ]
    if unit == "independent/s":
        conditions.append(
            f"tau_int(|m|) = {contestant.common_tau:.3g} updates, its own series alone: {contestant.tau:.3g}"
        )
    conditions += [text for text in (contestant.conditions, processor()) if text]
    value, baseline_value = max(rates), max(baseline.rates[unit])
    return {
        "name": contestant.name,
        "value": value,
        "unit": unit,
        "baseline": baseline.name,
        "baseline_value": baseline_value,
        "ratio": value / baseline_value if baseline_value else math.nan,
        "conditions": "; ".join(conditions),
    }


def shown(entry: dict[str, str | float]) -> dict[str, str]:
    """A row with three digits of each number."""
    return {key: value if isinstance(value, str) else short(value) for key, value in entry.items()}


def short(value: float) -> str:
    """Three digits.

    Example:
        >>> short(0.06831), short(41.26), short(215_733.0)
        ('0.0683', '41.3', '216000')
    """
    if not math.isfinite(value) or value == 0:
        return str(value)
    return f"{round(value, 2 - math.floor(math.log10(abs(value)))):.10g}"


def processor() -> str:
    """What the figures were measured on, without the name of the machine."""
    logic = "with" if has_ternary_logic() else "without"
    return f"one thread, {platform.machine()} {logic} AVX-512"


@contextlib.contextmanager
def arena(config: Config) -> Iterator[Arena]:
    """Starts the hosts, and ends them; writes the JSON file; leaves with status 1 if anything was wrong."""
    with contextlib.ExitStack() as stack:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        peers = peer_hosts(config.environment or temporary / "peers") if config.peers else {}
        ours, portable = own_hosts(temporary / "compiled")
        for host in (ours, *portable.values(), *peers.values()):
            stack.callback(host.close)
        arena = Arena(config, ours, portable, peers)
        yield arena
    if config.json is not None:
        write_json(config.json, arena.rows)
    if arena.wrong:
        sys.exit(f"wrong energies: {', '.join(arena.wrong)}")


def command(main: Any) -> None:
    """Runs a benchmark from the command line."""
    app = App(
        default_parameter=Parameter(name_transform=lambda name: name.replace("_", "-")),
        help=sys.modules["__main__"].__doc__,
        help_format="plaintext",
    )
    app.default(main)
    app()
