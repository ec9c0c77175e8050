r"""Finite-size scaling: where the transition is and what its exponents are, from reweighted curves.

Near the critical point of a system of L sites per side

.. math::
    |m| = L^{-\beta/\nu} f(x), \quad \chi = L^{\gamma/\nu} g(x), \quad U_4 = u(x), \qquad
    x = (T - T_c) L^{1/\nu},

up to relative corrections of order :math:`L^{-\omega}`, which every fit here takes along. Arrays named
``replicas`` are those of :mod:`ising.reweighting`: the data and their bootstrap replicas on the first axis.
Whatever is computed row by row carries its errors along, also the error of the critical temperature at which
other curves are read.

References:
    | Finite size scaling analysis of Ising model block distribution functions (Binder, 1981)
    | High-resolution Monte Carlo study of the three-dimensional Ising model (Ferrenberg and Landau, 1991)
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline, PPoly
from scipy.special import chdtrc

from . import reweighting
from .reweighting import Curve, Multihistogram
from .stats import Estimate

CLOSEST = 1.3  # ratio of two sizes whose curves still cross at an angle
_GRID, _FINE = 17, 9  # temperatures of the first look at a curve and of the second


@dataclass(frozen=True)
class Exponents:
    """A universality class: 1/nu, beta/nu, gamma/nu, and omega of the leading and of the next correction."""

    inverse_nu: float
    beta_nu: float
    gamma_nu: float
    omega: float
    next_omega: float


# Two dimensions: Onsager, Yang; the analytic background of chi is smaller than chi by a factor L^(-gamma/nu),
# which is the leading correction to the moments of m and to U4, and the next is L^-2 (Salas and Sokal, 2000).
# Three: Kos, Poland, Simmons-Duffin, Vichi (2016): nu = 0.629971(4), eta = 0.036298(2), omega = 0.82968(23);
# Newman and Riedel (1984): 1.67(11) for the next.
ISING = {
    2: Exponents(1.0, 0.125, 1.75, 1.75, 2.0),
    3: Exponents(1.587374, 0.518149, 1.963702, 0.82968, 1.67),
}


@dataclass(frozen=True, eq=False)
class Fit:
    """A linear least-squares fit to correlated points.

    Attributes:
        replicas: Parameters, shape ``(1 + resamples, parameters)``.
        chi2: Weighted sum of squared residuals.
        dof: Points minus parameters; 0 also for exact points, which leave nothing to test.
    """

    replicas: np.ndarray
    chi2: float
    dof: int

    @property
    def p_value(self) -> float:
        """Chance that a true law fits worse; 1 where nothing is left to test."""
        return float(chdtrc(self.dof, self.chi2)) if self.dof else 1.0

    def parameter(self, k: int) -> Estimate:
        """Coefficient k of the fit, with the error of the replicas."""
        return reweighting.estimates(self.replicas[:, k])


def least_squares(columns: Sequence[np.ndarray], replicas: np.ndarray) -> Fit:
    r"""Fits :math:`y = \sum_k c_k X_k`, weighted with the inverse covariance of the replicas of y.

    Replicas that do not vary at all are exact values; these count alike.

    Arguments:
        columns: The :math:`X_k`, shape ``(n,)`` each.
        replicas: y, shape ``(1 + resamples, n)``.

    Example:
        >>> L = np.array([4.0, 8.0, 16.0])
        >>> fit = least_squares([np.ones(3), 1 / L], np.tile(2 - 3 / L, (20, 1)))
        >>> round(fit.parameter(0).mean, 9), round(fit.parameter(1).mean, 9)
        (2.0, -3.0)
    """
    X = np.stack(columns, axis=1).astype(float)
    (n, parameters), resamples = X.shape, len(replicas) - 1
    if n < parameters or resamples < n + 4:
        raise ValueError(
            f"a fit of {parameters} parameters needs as many points, and 4 bootstrap replicas more; got "
            f"{n} points and {resamples} replicas"
        )
    spread, exact = np.ptp(replicas, axis=0), not np.ptp(replicas, axis=0).any()
    if not exact and not spread.all():
        raise ValueError("some of the values are exact and some are not; fit the one or the other")
    weight = np.eye(n) if exact else np.linalg.inv(np.cov(replicas[1:].T).reshape(n, n))
    found = replicas @ np.linalg.solve(X.T @ weight @ X, X.T @ weight).T
    residual = replicas[0] - X @ found[0]
    dof = 0 if exact else n - parameters
    # the inverse of a covariance estimated from few replicas is too large on average (Hartlap et al., 2007),
    # here of what the parameters leave free
    scale = (resamples - dof - 2) / (resamples - 1)
    return Fit(found, scale * float(residual @ weight @ residual) if dof else 0.0, dof)


def power_law(sizes: Sequence[int], replicas: np.ndarray, omega: float | None = None) -> Fit:
    r"""Fits :math:`\log y = a + \kappa \log L + b L^{-\omega}`; ``parameter(1)`` is :math:`\kappa`.

    Arguments:
        sizes: L, shape ``(n,)``.
        replicas: Positive y, shape ``(1 + resamples, n)``.
        omega: Of the correction, which without it is left out: a bias of order :math:`L_{min}^{-\omega}` then
            remains, and the error shrinks.
    """
    L = np.asarray(sizes, dtype=float)
    if replicas.min() <= 0:
        raise ValueError("a power law needs positive values, at every size and in every replica; run longer")
    columns = [np.ones(len(L)), np.log(L)] + ([L**-omega] if omega is not None else [])
    return least_squares(columns, np.log(replicas))


def extrapolate(sizes: Sequence[float], replicas: np.ndarray, power: float) -> Fit:
    r"""Fits :math:`y = y_\infty + a L^{-p}`; ``parameter(0)`` is :math:`y_\infty`.

    Crossings approach :math:`\beta_c` with :math:`p = 1/\nu + \omega`, maxima of curves with
    :math:`p = 1/\nu`.
    """
    L = np.asarray(sizes, dtype=float)
    return least_squares([np.ones(len(L)), L**-power], replicas)


def critical_point(crossings: Mapping[tuple[int, int], np.ndarray], inverse_nu: float, omega: float) -> Fit:
    r"""Fits the crossings of pairs of sizes a < b, of any ratio; ``parameter(0)`` is :math:`\beta_c`.

    .. math::
        \beta_{ab} = \beta_c + c \, \frac{a^{-\omega} - b^{-\omega}}{b^{1/\nu} - a^{1/\nu}} ,

    which is where the curves :math:`U^* + u L^{-\omega} + u' (\beta - \beta_c) L^{1/\nu}` of two sizes cross.

    Arguments:
        crossings: Of :func:`crossings`, replicas by pair of sizes.
    """
    small, large = np.array(list(crossings), dtype=float).T
    column = (small**-omega - large**-omega) / (large**inverse_nu - small**inverse_nu)
    return least_squares([np.ones(len(small)), column], np.stack([*crossings.values()], axis=1))


def crossing(small: Multihistogram, large: Multihistogram, curve: Curve = reweighting.u4) -> np.ndarray:
    """Replicas of the inverse temperature at which the curves of two sizes cross, ``(1 + resamples,)``.

    Of several crossings the steepest counts: curves that have merged cross by chance, at small angles.
    """
    low, high = max(small.betas[0], large.betas[0]), min(small.betas[-1], large.betas[-1])
    if low >= high:
        raise ValueError("the two sizes have no temperatures in common; simulate them around one temperature")
    for n in (_GRID, _FINE):
        betas = np.linspace(low, high, n)
        spline = CubicSpline(betas, curve(large, betas) - curve(small, betas), axis=1)
        found = _roots(spline)
        margin = np.ptp(found) / 4 + (betas[1] - betas[0]) / 2
        low, high = max(low, found.min() - margin), min(high, found.max() + margin)
    return found


def crossings(
    multis: Mapping[int, Multihistogram], curve: Curve = reweighting.u4, ratio: float = 2.0
) -> dict[tuple[int, int], np.ndarray]:
    """The :func:`crossing` of each size with the one nearest to ``ratio`` times it, by pairs of sizes.

    Curves of neighbouring sizes are nearly parallel and cross at random. Each pair has another smaller size;
    sizes within a factor of 1.3 are not paired, unless there are no others.
    """
    sizes, found = sorted(multis), {}
    for small in sizes[:-1]:
        large = min((L for L in sizes if small < L), key=lambda L: abs(math.log(L / (ratio * small))))
        if large >= CLOSEST * small or not found:
            found[small, large] = crossing(multis[small], multis[large], curve)
    return found


def maximum(multi: Multihistogram, curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """Replicas of the inverse temperature at which a curve peaks, and of its height there."""
    low, high = multi.betas[0], multi.betas[-1]
    for n in (_GRID, _FINE):
        betas = np.linspace(low, high, n)
        values = curve(multi, betas)
        top = betas[values.argmax(1)]
        if n == _GRID and np.isin(top, multi.betas[[0, -1]]).any():
            raise ValueError(
                f"the maximum is not between the simulated temperatures, beta = {low:.6g} to {high:.6g}; add "
                "runs beyond it, or run longer"
            )
        spline = CubicSpline(betas, values, axis=1)
        found = _roots(spline.derivative(), near=top)
        margin = np.ptp(found) / 4 + (betas[1] - betas[0]) / 2
        low, high = max(low, found.min() - margin), min(high, found.max() + margin)
    return found, _each(spline, found)


def read(multi: Multihistogram, curve: Curve, betas: np.ndarray) -> np.ndarray:
    """Replicas of a curve, each at its own inverse temperature, ``betas`` of shape ``(1 + resamples,)``."""
    margin = np.ptp(betas) / 4 + 1e-6 * abs(betas[0])
    grid = np.linspace(betas.min() - margin, betas.max() + margin, _FINE)
    return _each(CubicSpline(grid, curve(multi, grid), axis=1), betas)


def _each(spline: CubicSpline, x: np.ndarray) -> np.ndarray:
    """The curve of each replica at its own x."""
    return np.array([row(at) for row, at in zip(_rows(spline), x, strict=True)])


def _rows(spline: CubicSpline) -> list[PPoly]:
    """The curve of each replica by itself; ``roots`` of several at once loses roots that they share."""
    return [PPoly(spline.c[..., row], spline.x) for row in range(spline.c.shape[-1])]


def _roots(spline: CubicSpline, near: np.ndarray | None = None) -> np.ndarray:
    """One zero per replica: the steepest of the data and the nearest to it, or the nearest to ``near``."""
    every = [row.roots(extrapolate=False) for row in _rows(spline)]
    if missing := sum(len(roots) == 0 for roots in every):
        raise ValueError(
            f"{missing} of {len(every)} bootstrap replicas have no crossing or maximum between beta = "
            f"{spline.x[0]:.6g} and {spline.x[-1]:.6g}; run longer, or spread the temperatures"
        )
    if near is None:
        slopes = np.abs(spline.derivative()(every[0])[0])
        near = np.full(len(every), every[0][slopes.argmax()])
    return np.array([roots[np.abs(roots - x).argmin()] for roots, x in zip(every, near, strict=True)])
