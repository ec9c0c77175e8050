"""Has a simulation forgotten its start? A test, and a pilot that goes on until it passes.

The pilot is 40 autocorrelation times long, as measured in its own second half (longer where chains are few),
and the two parts of that half agree.
"""

import math
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr
from scipy.stats import norm

from . import stats

PILOT_RECORDS = 256  # measurements the pilot keeps, evenly spaced over all its sweeps
PILOT_LIMIT = 2**17  # sweeps after which the pilot gives up, with a warning


class NotEquilibrated(UserWarning):
    """The start is still felt in the samples, so their averages are biased."""


def halves_z(series: np.ndarray) -> float:
    """How far the two halves of ``(chains, n)`` samples are apart, in standard errors.

    Each chain gives one difference of halves, so correlation in time does not matter. Student's t of the
    chains is turned into the normal deviate of the same tail; 0 for a single chain, which cannot tell.

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
    t = float(difference.mean() / error)
    return math.copysign(float(norm.isf(stdtr(chains - 1, -abs(t)))), t)


class Pilot(NamedTuple):
    """What a pilot found: its length and the autocorrelation time, in sweeps, and whether it has settled."""

    sweeps: int
    tau: float
    drift: float
    settled: bool


def pilot(sweep: Callable[[int], object], measure: Callable[[], np.ndarray], chains: int) -> Pilot:
    """Sweeps until equilibrium as far as the samples themselves can tell.

    Arguments:
        sweep: Called with a number of sweeps.
        measure: The observables to watch, shape ``(k, chains)``.
        chains: With few of them the pilot runs longer, for a better autocorrelation time.
    """
    records: list[np.ndarray] = []
    sweeps, stride = 0, 1
    while True:
        while len(records) < PILOT_RECORDS:
            sweep(stride)
            records.append(measure())
            sweeps += stride
        late = np.stack(records[PILOT_RECORDS // 2 :], axis=-1)
        tau = stride * max(stats.tau_int(x) for x in late)
        drift = max(abs(halves_z(x)) for x in late)
        settled = sweeps >= 40 * tau * max(1, 16 / chains) and drift < 4
        if settled or 2 * sweeps > PILOT_LIMIT:
            return Pilot(sweeps, tau, drift, settled)
        records, stride = records[1::2], 2 * stride


def warn_if_unsettled(found: Pilot, beta: float | str) -> None:
    if not found.settled:
        warnings.warn(
            f"no equilibrium at beta = {beta} after {found.sweeps} sweeps (tau_int about {found.tau:.0f}, "
            f"drift {found.drift:.1f} standard errors); take update='wolff' or start='ordered', or set "
            "burn_in and thin",
            NotEquilibrated,
            stacklevel=2,
        )
