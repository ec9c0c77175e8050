"""Observables: estimates from series of energy and magnetisation, and correlations of configurations.

Adding a function with :func:`observable` adds a column to every comparison and report.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import stats
from .stats import Estimate


@dataclass(frozen=True, eq=False)
class Series:
    """What a simulation records at one temperature.

    Attributes:
        energy: Total energies, shape ``(chains, samples)``.
        magnetisation: Total magnetisations :math:`M = \\sum_i s_i`, shape ``(chains, samples)``.
        n_sites: Number of sites N.
        beta: Inverse temperature, :math:`k_B = 1`.
    """

    energy: np.ndarray
    magnetisation: np.ndarray
    n_sites: int
    beta: float


REGISTRY: dict[str, Callable[[Series], Estimate]] = {}


def observable(symbol: str) -> Callable[[Callable[[Series], Estimate]], Callable[[Series], Estimate]]:
    """Registers an estimator under its own name, in the order of display, with the symbol of the paper."""

    def register(estimator: Callable[[Series], Estimate]) -> Callable[[Series], Estimate]:
        estimator.symbol = symbol  # type: ignore[attr-defined]
        REGISTRY[estimator.__name__] = estimator
        return estimator

    return register


@observable("e")
def energy(series: Series) -> Estimate:
    r"""Energy per site, :math:`e = \langle E \rangle / N`.

    Example:
        >>> flat = Series(np.full((2, 8), -32.0), np.full((2, 8), -16.0), n_sites=16, beta=1.0)
        >>> energy(flat).mean, abs_m(flat).mean, round(u4(flat).mean, 4)
        (-2.0, 1.0, 0.6667)
    """
    return stats.mean(series.energy / series.n_sites)


@observable("|m|")
def abs_m(series: Series) -> Estimate:
    r"""Order parameter of a ferromagnet in a finite volume, :math:`\langle |M| \rangle / N`."""
    return stats.mean(np.abs(series.magnetisation) / series.n_sites)


@observable("C")
def specific_heat(series: Series) -> Estimate:
    r"""Specific heat per site, :math:`C = \beta^2 (\langle E^2 \rangle - \langle E \rangle^2) / N`."""
    return _variance(series.energy, series.beta**2 / series.n_sites)


@observable("χ")
def chi(series: Series) -> Estimate:
    r"""Susceptibility per site, :math:`\chi = \beta (\langle M^2 \rangle - \langle |M| \rangle^2) / N`.

    This is the one with :math:`|M|`, finite on both sides of the transition; in the disordered phase of the
    infinite system the plain :math:`\beta N \langle m^2 \rangle` is larger by the factor
    :math:`1 / (1 - 2/\pi)`.
    """
    return _variance(np.abs(series.magnetisation), series.beta / series.n_sites)


@observable("U₄")
def u4(series: Series) -> Estimate:
    r"""Binder cumulant, :math:`U_4 = 1 - \langle m^4 \rangle / (3 \langle m^2 \rangle^2)`.

    0 for a Gaussian, 2/3 for :math:`m = \pm m_0`, and not a number where every magnetisation is zero.

    References:
        | Finite size scaling analysis of Ising model block distribution functions (Binder, 1981)
    """
    square = (series.magnetisation / series.n_sites) ** 2
    if not square.any():
        return Estimate(float("nan"), float("nan"))
    return stats.jackknife(lambda m2, m4: 1 - m4 / (3 * m2 * m2), square, square * square)


@observable("m")
def m(series: Series) -> Estimate:
    r"""Magnetisation per site, :math:`\langle M \rangle / N`; zero by symmetry without a field.

    In an ordered phase a chain may never change its sign, and its autocorrelation cannot tell the error. With
    eight chains or more the error comes from the spread between chains, which are independent.
    """
    x = series.magnetisation / series.n_sites
    chains = len(x)
    if chains < 8:
        return stats.mean(x)
    error = float(x.mean(1).std(ddof=1)) / math.sqrt(chains)
    naive = float(x.var()) / x.size
    return Estimate(float(x.mean()), error, max(0.5, 0.5 * error**2 / naive) if naive > 0 else 0.5)


@observable("m²")
def m2(series: Series) -> Estimate:
    r"""Second moment of the magnetisation per site, :math:`\langle M^2 \rangle / N^2`."""
    return stats.mean((series.magnetisation / series.n_sites) ** 2)


def _variance(series: np.ndarray, factor: float) -> Estimate:
    """Jackknife of a variance; taken about the sample mean, so that no digits cancel."""
    x = series - series.mean()
    return stats.jackknife(lambda x1, x2: factor * (x2 - x1 * x1), x, x * x)


def correlation(spins: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    r"""Spin correlation along the axes of a periodic lattice, per configuration.

    .. math:: G(r) = \frac{1}{N d} \sum_{i, a} s_i \, s_{i + r \hat a}, \qquad r = 0 \dots L_{min} / 2

    averaged over all N sites and the d axes, by fast Fourier transform. Not connected:
    :math:`G(r) \to \langle m^2 \rangle` at large r. Only periodic axes make sense here.

    Arguments:
        spins: Configurations, shape ``(*, N)``.
        shape: Sides of the lattice; their product is N.

    Returns:
        Shape ``(*, min(shape) // 2 + 1)``.

    Example:
        >>> correlation(np.array([1, -1, 1, -1]), (4,))
        array([ 1., -1.,  1.])
    """
    field = _unfold(spins, shape)
    axes = tuple(range(field.ndim - len(shape), field.ndim))
    reach = min(shape) // 2 + 1
    along = []
    for axis in axes:
        others = tuple(a for a in axes if a != axis)
        power = np.abs(np.fft.rfft(field, axis=axis)) ** 2
        wave = power.mean(others) / field.shape[axis]
        along.append(np.fft.irfft(wave, n=field.shape[axis])[..., :reach])
    pairs = spins.shape[-1] * len(shape)
    return (
        np.rint(np.sum(along, axis=0) * spins.shape[-1]) / pairs
    )  # sums of ±1: what is not whole is rounding


def structure_factor(spins: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    r"""Structure factor of each configuration on a periodic lattice.

    .. math:: S(k) = \frac{1}{N} \Big| \sum_j s_j e^{i k \cdot r_j} \Big|^2

    Arguments:
        spins: Configurations, shape ``(*, N)``.
        shape: Sides of the lattice; their product is N.

    Returns:
        Shape ``(*, *shape)``; component ``n`` of an axis of L sites is :math:`k = 2 \pi n / L`, and
        :math:`S(0) = N m^2`.

    Example:
        >>> structure_factor(np.ones(9), (3, 3))[0, 0]
        np.float64(9.0)
    """
    field = _unfold(spins, shape)
    axes = tuple(range(field.ndim - len(shape), field.ndim))
    return np.abs(np.fft.fftn(field, axes=axes)) ** 2 / np.prod(shape)


def correlation_estimates(spins: np.ndarray, shape: tuple[int, ...]) -> list[Estimate]:
    """:func:`correlation` of ``(chains, samples, N)`` spins as one Estimate per distance r = 0, 1, …

    The estimates share their configurations: they are correlated with each other.
    """
    per_chain = np.stack([correlation(chain, shape) for chain in spins])
    return [stats.mean(per_chain[..., r]) for r in range(per_chain.shape[-1])]


def _unfold(spins: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if spins.shape[-1] != np.prod(shape):
        raise ValueError(
            f"the last axis of spins must hold the {np.prod(shape)} sites of {shape}, got shape {spins.shape}"
        )
    return np.asarray(spins, dtype=np.float64).reshape(*spins.shape[:-1], *shape)
