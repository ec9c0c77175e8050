r"""Error analysis of correlated series: numpy and scipy only, a leaf that anything may import.

Every series has the shape ``(chains, n)``; a plain ``(n,)`` is one chain. Chains are independent of one
another, samples within a chain need not be. Autocorrelation times are in samples, 1/2 where there is none.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from scipy import fft
from scipy.special import gammaincinv, ndtri, stdtr

FEWEST_BLOCKS = 64  # of a jackknife, unless tau or the caller demands fewer
FEWEST_CHAINS = 16  # whose scatter alone is an error bar


class ChainTooShort(UserWarning):
    """The series is too short for its own autocorrelation time, so its error bar is a guess."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its one-sigma standard error, autocorrelation included.

    Prints two digits of the error in brackets, in units of the last digits shown.

    Attributes:
        mean: The estimate.
        error: One standard error; 0 means exact, nan means unknown.
        tau: Integrated autocorrelation time in samples, 1/2 where they are independent.

    Example:
        >>> print(Estimate(-1.41973, 0.00124), Estimate(251.3, 4.2), Estimate(0.5, 0.0))
        -1.4197(12) 251.3(4.2) 0.5
    """

    mean: float
    error: float
    tau: float = 0.5

    def __str__(self) -> str:
        if not math.isfinite(self.mean) or self.error <= 1e-16 * abs(self.mean):  # below rounding
            return f"{self.mean:.10g}"
        if not math.isfinite(self.error):
            return f"{self.mean:.6g}({self.error})"
        largest = max(abs(self.mean), self.error)
        if 1e-4 <= largest < 1e7:
            return _bracketed(self.mean, self.error)
        power = math.floor(math.log10(largest))
        mantissas = (float(Decimal(x).scaleb(-power)) for x in (self.mean, self.error))
        return f"{_bracketed(*mantissas)}e{power:+03d}"

    def sigmas_from(self, value: float) -> float:
        """Distance from an exact value in standard errors, never negative."""
        return abs(self.z(Estimate(value, 0.0)))

    def z(self, other: "Estimate") -> float:
        r"""Signed :math:`(a - b) / \sqrt{\sigma_a^2 + \sigma_b^2}` of two independent estimates.

        Two exact values are 0 apart if equal, else infinitely many standard errors.

        Example:
            >>> Estimate(1.0, 0.3).z(Estimate(2.0, 0.4))
            -2.0
        """
        difference, error = self.mean - other.mean, math.hypot(self.error, other.error)
        if error == 0:
            return math.copysign(math.inf, difference) if difference else 0.0
        return difference / error


def normal_deviate(t: np.ndarray | float, dof: int) -> np.ndarray:
    """The normal deviate with the tail of Student's t: how many sigmas t means, where an error is estimated.

    At most 37, where the tail is below the smallest number.

    Example:
        >>> normal_deviate(np.array([6.4, -6.4]), 3).round(1), float(normal_deviate(2.0, 10**6).round(3))
        (array([ 2.7, -2.7]), 2.0)
    """
    tail = np.maximum(stdtr(dof, -np.abs(t)), np.finfo(float).tiny)
    return np.copysign(-ndtri(tail), t)


def tau_int(series: np.ndarray, window: float = 5.0) -> float:
    r"""Integrated autocorrelation time, in samples.

    .. math:: \tau = \tfrac12 + \sum_{t=1}^{M} \rho(t), \qquad M = \min\{m : m \ge c\,\tau(m)\}

    Independent samples have :math:`\tau = 1/2`; the variance of a mean of n samples is
    :math:`2 \tau \sigma^2 / n`. Packages that define :math:`1 + 2\sum\rho` report twice this number.

    The mean of all chains is subtracted, and the bias of order :math:`\tau/n` that this causes is added back.
    What remains is the cut at M (an exponential decay loses a share of about :math:`e^{-c}`) and a relative
    noise of about :math:`\sqrt{(4M + 2)/(\text{chains} \cdot n)}`. Values below 1/2 are returned as 1/2.

    Arguments:
        series: Shape ``(chains, n)`` or ``(n,)``; the autocorrelation is averaged over chains.
        window: The constant c. Larger means less bias and more noise.

    References:
        | The pivot algorithm (Madras and Sokal, 1988), appendix C
        | Monte Carlo errors with less errors (Wolff, 2004), eq. 49 for the bias

    Example:
        >>> from scipy.signal import lfilter
        >>> x = lfilter([1], [1, -0.5], np.random.default_rng(0).normal(size=(4, 20_000)))
        >>> round(tau_int(x), 1)  # AR(1): (1 + a) / (2 (1 - a)) = 1.5
        1.5
    """
    return _tau_and_variance(_checked(series), window)[0]


def mean(series: np.ndarray) -> Estimate:
    r"""Mean of ``(chains, n)`` samples with error :math:`\sqrt{2 \tau \sigma^2 / (\text{chains} \cdot n)}`.

    A constant series has error 0 and tau 1/2. Warns :class:`ChainTooShort` where all chains together hold
    fewer than 50 tau or one holds fewer than 10 tau: the error bar is then uncertain, most likely too small.
    Chains of one sample are independent samples.

    Example:
        >>> mean(np.random.default_rng(0).normal(size=(4, 10_000))).sigmas_from(0.0) < 4
        True
    """
    x = _checked(series)
    tau, variance = _tau_and_variance(x)
    _warn_if_short(x, tau)
    return Estimate(float(x.mean()), math.sqrt(2 * tau * variance / x.size), tau)


def jackknife(f: Callable[..., float], *series: np.ndarray, blocks: int | None = None) -> Estimate:
    r"""``f`` of the means of several ``(chains, n)`` series, with its error and without its leading bias.

    Blocks are left out in turn, :math:`\hat\theta = g\theta - \sum_j (1 - m_j/N)\,\theta_{-j}`, where block j
    holds :math:`m_j` of all N samples. A block is a group of whole chains where there are enough of them,
    else a stretch of one chain of at least 8 tau, so that what correlation remains between blocks understates
    the error by about 6 % at most. With g blocks the error itself is known to about :math:`1/\sqrt{2g}`.

    Arguments:
        f: A number from one mean per series. It is called with floats, once per block.
        series: All of one shape. Give ``e`` and ``e * e`` to have both :math:`\langle e \rangle` and
            :math:`\langle e^2 \rangle`.
        blocks: About how many blocks; 64 to 128 unless given, fewer where tau demands it.

    Returns:
        The estimate; its ``tau`` is the largest of the series. Where all are constant the error is 0.

    References:
        | Delete-m jackknife for unequal m (Busing, Meijer and van der Leeden, 1999)

    Example:
        >>> e = np.random.default_rng(0).normal(size=(4, 4096))
        >>> variance = jackknife(lambda e, e2: e2 - e * e, e, e * e)
        >>> variance.sigmas_from(1.0) < 4
        True
    """
    checked = [_checked(x) for x in series]
    if not checked or len({x.shape for x in checked}) > 1:
        raise ValueError(
            f"jackknife needs at least one series, all of one shape, got {[x.shape for x in checked]}; "
            "cut them to the same chains and samples"
        )
    if all(x.max() == x.min() for x in checked):
        return Estimate(float(f(*(float(x[0, 0]) for x in checked))), 0.0)
    slowest = max(checked, key=_tau)
    tau = _tau(slowest)
    if len(slowest) < (blocks or FEWEST_BLOCKS):  # else blocks are whole chains: independent, whatever tau is
        _warn_if_short(slowest, tau)
    bins, sizes = _block_sums(np.stack(checked), tau, blocks)
    total, count, g = bins.sum(-1), sizes.sum(), len(sizes)
    full = float(f(*(total / count)))
    left_out = np.array([f(*means) for means in ((total[:, None] - bins) / (count - sizes)).T], dtype=float)
    h = count / sizes
    corrected = g * full - ((1 - 1 / h) * left_out).sum()
    variance = ((h * full - (h - 1) * left_out - corrected) ** 2 / (h - 1)).mean()
    return Estimate(float(corrected), math.sqrt(variance), tau)


def binning(series: np.ndarray) -> list[Estimate]:
    r"""The mean with its naive error from blocks of :math:`2^k` samples, k = 0, 1, 2, ….

    The errors rise with k and level off where blocks are much longer than tau: read the plateau, or see
    that there is none. Stops where fewer than 16 blocks would remain. ``tau`` of level
    k is :math:`\tfrac12 (\sigma_k/\sigma_0)^2`.

    References:
        | Error estimates on averages of correlated data (Flyvbjerg and Petersen, 1989)

    Example:
        >>> levels = binning(np.random.default_rng(0).normal(size=(1, 4096)))
        >>> len(levels), levels[0].tau
        (9, 0.5)
    """
    x = _checked(series)
    centre = float(x.mean())
    x = x - x[0, 0]
    levels: list[Estimate] = []
    while x.size >= 16 or not levels:
        error = math.sqrt(x.var(ddof=1) / x.size) if x.size > 1 else math.nan
        first = levels[0].error if levels else error
        levels.append(Estimate(centre, error, 0.5 * (error / first) ** 2 if first > 0 else 0.5))
        if x.shape[1] < 2:
            break
        x = x[:, : x.shape[1] // 2 * 2].reshape(len(x), -1, 2).mean(-1)
    return levels


def blocking(series: np.ndarray, confidence: float = 0.99) -> Estimate:
    r"""Mean of ``(chains, n)`` samples, its error from the first level of :func:`binning` to be trusted.

    Blocks are doubled until the correlation of neighbouring blocks, on this level and on all above, is no
    more than chance,

    .. math:: \sum_{l \ge k} N_l (\rho_l + 1/N_l)^2 < \chi^2_{99 \%},

    with one degree of freedom per level of :math:`N_l` blocks. Needs no window and no autocorrelation time.
    Where no level of 16 blocks or more passes, whole chains are the blocks if there are 16 of them; else the
    error is that of 16 blocks or so, which is too small, and :class:`ChainTooShort` warns.

    Arguments:
        series: ``(chains, n)`` or ``(n,)``.
        confidence: Of the chi-squared test. More means shorter blocks.

    References:
        | Error estimates on averages of correlated data (Flyvbjerg and Petersen, 1989)
        | Standard error estimation by an automated blocking method (Jonsson, 2018), Phys. Rev. E 98, 043304

    Example:
        >>> from scipy.signal import lfilter
        >>> x = lfilter([1], [1, -0.5], np.random.default_rng(0).normal(size=(4, 8192)))
        >>> round(blocking(x).error / mean(x).error, 1)
        1.0
    """
    x = _checked(series)
    centre, total, by_chain = float(x.mean()), x.size, x.mean(1)
    if x.max() == x.min():
        return Estimate(centre, 0.0)
    x = x - centre
    variances, tests = [], []
    while x.shape[1] > 1 and (x.size >= FEWEST_CHAINS or not tests):
        pairs = len(x) * (x.shape[1] - 1)
        rho = (x[:, 1:] * x[:, :-1]).mean() / np.square(x).mean()
        tests.append(pairs * (rho + 1 / x.size) ** 2)
        variances.append(x.var(ddof=1) * 2 ** len(variances) / total)
        x = x[:, : x.shape[1] // 2 * 2].reshape(len(x), -1, 2).mean(-1)
    above = np.cumsum(tests[::-1])[::-1]
    good = above < 2 * gammaincinv(np.arange(len(tests), 0, -1) / 2, confidence)  # of chi-squared
    if good.any():
        found = variances[int(good.argmax())]
    elif len(x) >= FEWEST_CHAINS or not variances:
        found = by_chain.var(ddof=1) / len(x)
    else:
        found = variances[-1]
        warnings.warn(
            f"{len(x)} chain(s) of {np.shape(series)[-1]} samples are still correlated when cut into "
            f"{FEWEST_CHAINS} blocks, so the error is too small; run longer, or take more chains",
            ChainTooShort,
            stacklevel=2,
        )
    return Estimate(centre, math.sqrt(found), 0.5 * float(found / (variances[0] if variances else found)))


def _checked(series: np.ndarray) -> np.ndarray:
    x = np.atleast_2d(np.asarray(series, dtype=np.float64))
    if x.ndim != 2 or x.size == 0:
        raise ValueError(
            f"a series has the shape (chains, n) with at least one sample, got {np.shape(series)}"
        )
    if not np.isfinite(x).all():
        raise ValueError(
            f"a series must be finite, but {(~np.isfinite(x)).sum()} of {x.size} samples are not: "
            "find out where they come from before averaging"
        )
    return x


def _tau(x: np.ndarray) -> float:
    return _tau_and_variance(x)[0]


def _tau_and_variance(x: np.ndarray, window: float = 5.0) -> tuple[float, float]:
    """tau_int and the variance of one sample, both corrected for the subtracted mean."""
    n = x.shape[1]
    if x.max() == x.min():
        return 0.5, 0.0
    spectrum = fft.rfft(x - x.mean(), n=fft.next_fast_len(2 * n, real=True))
    power = (spectrum.real**2 + spectrum.imag**2).mean(0)
    covariance = fft.irfft(power, n=fft.next_fast_len(2 * n, real=True))[:n] / np.arange(n, 0, -1)
    tau = np.cumsum(covariance) / covariance[0] - 0.5
    inside = np.arange(n) >= window * tau
    cut = int(inside.argmax()) if inside.any() else n - 1
    # the mean of the same data was subtracted: every covariance is low by the variance of that mean
    covariance = covariance + max(2 * tau[cut], 0.0) * covariance[0] / x.size
    return max(0.5, float(covariance[: cut + 1].sum() / covariance[0] - 0.5)), float(covariance[0])


def _warn_if_short(x: np.ndarray, tau: float) -> None:
    chains, n = x.shape
    if x.max() > x.min() and (x.size < 50 * tau or 1 < n < 10 * tau):
        warnings.warn(
            f"{chains} chain(s) of {n} samples are too short for tau_int = {tau:.1f}: an error bar needs "
            f"{math.ceil(10 * tau)} per chain and {math.ceil(50 * tau)} in all, so run longer or thin more",
            ChainTooShort,
            stacklevel=3,
        )


def _block_sums(x: np.ndarray, tau: float, blocks: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Sums ``(series, g)`` over the blocks of ``(series, chains, n)``, and the blocks' sizes ``(g,)``."""
    _, chains, n = x.shape
    fewest, most = (blocks, blocks) if blocks else (FEWEST_BLOCKS, 2 * FEWEST_BLOCKS)
    if chains >= fewest:
        edges = np.linspace(0, chains, min(chains, most) + 1).astype(int)
        sums, sizes = np.add.reduceat(x.sum(-1), edges[:-1], axis=1), np.diff(edges) * n
    else:
        wanted = math.ceil(fewest / chains)
        pieces = min(n, wanted if blocks else max(1, min(wanted, int(n / (8 * tau)))))
        edges = np.linspace(0, n, pieces + 1).astype(int)
        sums = np.add.reduceat(x, edges[:-1], axis=2).reshape(len(x), -1)
        sizes = np.tile(np.diff(edges), chains)
    if len(sizes) < 2:
        raise ValueError(
            f"a jackknife needs at least two blocks, but {chains} chain(s) of {n} samples with "
            f"tau_int = {tau:.1f} make one; run longer or more chains"
        )
    return sums, sizes


def _bracketed(mean: float, error: float) -> str:
    """``1.234(56)``; an error of one or more keeps its point, ``123.4(5.6)``."""
    two_digits, power = f"{error:.1e}".split("e")
    digits = max(0, 1 - int(power))
    in_brackets = f"{error:.{digits}f}" if digits < 2 else two_digits.replace(".", "")
    return f"{mean:.{digits}f}({in_brackets})"
