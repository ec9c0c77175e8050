"""Has a simulation forgotten its start? A test, and a pilot that goes on until it passes.

The pilot is 40 autocorrelation times long, as measured in its own second half (longer where chains are few),
and the two parts of that half agree.
"""

import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from . import stats

log = logging.getLogger(__name__)

PILOT_RECORDS = 256  # measurements the pilot keeps, evenly spaced over all its sweeps
PILOT_LIMIT = 2**17  # sweeps after which the pilot gives up, with a warning
LONG = 5.0  # seconds after which a pilot tells where it stands, each time it is twice as long
RACE_START = 2**12  # sweeps that a runner of a race has to forget its start


class NotEquilibrated(UserWarning):
    """The start is still felt in the samples, so their averages are biased."""


def halves_z(series: np.ndarray) -> float:
    """How far the two halves of ``(chains, n)`` samples are apart, in standard errors.

    Each chain gives one difference of halves, so correlation in time does not matter. Student's t of the
    chains is turned into the normal deviate of the same tail, up to 37, where the tail is below the smallest
    number; 0 for a single chain, which cannot tell.

    Example:
        >>> halves_z(np.random.default_rng(0).normal(size=(64, 100)) + np.arange(100)) < -5
        True
    """
    chains, n = series.shape
    if chains < 2 or n < 2:
        return 0.0
    difference = series[:, : n // 2].mean(1) - series[:, n - n // 2 :].mean(1)
    error = difference.std(ddof=1) / math.sqrt(chains)
    if error <= 1e-12 * np.abs(series).max():
        mean = float(difference.mean())
        return math.copysign(math.inf, mean) if abs(mean) > 1e-12 * np.abs(series).max() else 0.0
    return float(stats.normal_deviate(difference.mean() / error, chains - 1))


class Pilot(NamedTuple):
    """What a pilot found: its length and the autocorrelation time, in sweeps, and whether it has settled."""

    sweeps: int
    tau: float
    drift: float
    settled: bool


def pilot(
    sweep: Callable[[int], object],
    measure: Callable[[], np.ndarray],
    chains: int,
    *,
    sectors: bool = False,
) -> Pilot:
    """Sweeps until equilibrium as far as the samples themselves can tell.

    Arguments:
        sweep: Called with a number of sweeps.
        measure: The observables to watch, shape ``(k, chains)``.
        chains: With few of them the pilot runs longer, for a better autocorrelation time.
        sectors: Whether every chain stays in a sector of its own, with averages of its own.
    """
    began = time.monotonic()
    for found in pilots(sweep, measure, chains, sectors=sectors):
        if found.settled or 2 * found.sweeps > PILOT_LIMIT:
            break
        if (seconds := time.monotonic() - began) > LONG:
            log.info(
                "burn-in: %d sweeps in %.0f s, tau about %.0f so far; it goes on to %d or more, at most %d",
                *(found.sweeps, seconds, found.tau, 2 * found.sweeps, PILOT_LIMIT),
            )
    return found


def pilots(
    sweep: Callable[[int], object],
    measure: Callable[[], np.ndarray],
    chains: int,
    *,
    sectors: bool = False,
) -> Iterator[Pilot]:
    """What a pilot knows each time it is twice as long; the arguments are those of :func:`pilot`."""
    longer = max(4 if sectors else 1, 16 / chains)  # a mean of its own for each chain makes tau look smaller
    longer = min(longer, PILOT_RECORDS / 32)  # as tau is never less than half of a record's sweeps
    records: list[np.ndarray] = []
    sweeps, stride = 0, 1
    while True:
        while len(records) < PILOT_RECORDS:
            sweep(stride)
            records.append(measure())
            sweeps += stride
        late = np.stack(records[PILOT_RECORDS // 2 :], axis=-1)
        tau = stride * max(stats.tau_int(centred(x) if sectors else x) for x in late)
        drift = max(abs(halves_z(x)) for x in late)
        yield Pilot(sweeps, tau, drift, sweeps >= 40 * tau * longer and drift < 4)
        records, stride = records[1::2], 2 * stride


def centred(series: np.ndarray) -> np.ndarray:
    """A series ``(chains, n)`` less the mean of each chain, for chains that do not share one."""
    return series - series.mean(1, keepdims=True)


class Lap(NamedTuple):
    """What a race knows of a runner.

    Attributes:
        tau: Integrated autocorrelation time in sweeps; too small while ``over`` is False.
        seconds: Of one independent sample: 2 tau sweeps and one measurement.
        over: Whether the runner has arrived, or is beyond the limit of a pilot.
    """

    tau: float
    seconds: float
    over: bool


def race(
    runners: Mapping[str, tuple[Callable[[int], object], Callable[[], np.ndarray]]],
    chains: int,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, Lap]:
    """Runs pilots against each other until it is clear which makes an independent sample in the least time.

    A pilot that is short against tau finds too small a tau, so it looks better than it is. The one that looks
    best goes on, twice as far, until one that has arrived looks best: none of the others can beat it. The
    slow ones are left early, with a tau that is a lower bound. While the start is still felt nothing is known
    of tau, and for so long, up to a limit, it counts as nothing.

    Arguments:
        runners: By name the arguments ``sweep`` and ``measure`` of :func:`pilot`.
        chains: Chains of every runner.
        clock: Tells seconds. The first sweep, which may compile something, is not counted.
    """
    laps, going = {}, {name: _laps(*runner, chains, clock) for name, runner in runners.items()}
    for name in runners:
        laps[name] = next(going[name])
    while not laps[best := min(laps, key=lambda name: laps[name].seconds)].over:
        laps[best] = next(going[best])
    return laps


def _laps(
    sweep: Callable[[int], object],
    measure: Callable[[], np.ndarray],
    chains: int,
    clock: Callable[[], float],
) -> Iterator[Lap]:
    spent, calls = [0.0, 0.0], 0  # sweeping and measuring

    def timed_sweep(n: int) -> None:
        began = clock()
        sweep(n)
        spent[0] += clock() - began

    def timed_measure() -> np.ndarray:
        nonlocal calls
        began = clock()
        measured = measure()
        spent[1] += clock() - began
        calls += 1
        return measured

    sweep(1)
    measure()
    for found in pilots(timed_sweep, timed_measure, chains):
        per_sweep, per_call = spent[0] / found.sweeps, spent[1] / calls
        unknown = found.drift >= 4 and found.sweeps < RACE_START
        seconds = max(1.0, 0.0 if unknown else 2 * found.tau) * per_sweep + per_call
        yield Lap(found.tau, max(seconds, 1e-9), found.settled or 2 * found.sweeps > PILOT_LIMIT)


def warn_if_unsettled(found: Pilot, beta: float | str) -> None:
    """Warns with :class:`NotEquilibrated`, naming beta, where the pilot never came to equilibrium."""
    if not found.settled:
        warnings.warn(
            f"no equilibrium at beta = {beta} after {found.sweeps} sweeps (tau_int about {found.tau:.0f}, "
            f"drift {found.drift:.1f} standard errors); take a cluster update or start='ordered', or set "
            "burn_in and thin",
            NotEquilibrated,
            stacklevel=2,
        )
