r"""Data collapse: curves of all sizes fall on one where T_c and the exponents are right.

With :math:`x = (T - T_c) L^{1/\nu}` and :math:`\tilde y = y L^{-\kappa}` every point is compared with the
straight line through its neighbours of the other sizes (value Y, error dY),

.. math:: S = \frac{1}{n} \sum_i \frac{(\tilde y_i - Y_i)^2}{d\tilde y_i^2 + dY_i^2} .

S is about 1 or below where the collapse is as good as the errors, and much larger where it is not.
Corrections to scaling are not in it. Where S is large they pull the result by more than its errors: leave
small sizes out.

References:
    | Low-temperature behavior of two-dimensional Gaussian Ising spin glasses (Houdayer and Hartmann, 2004)
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from . import reweighting
from .reweighting import Curve, Multihistogram
from .stats import Estimate

NOTHING = 1e9  # the quality of curves that do not meet


@dataclass(frozen=True, eq=False)
class Points:
    """Curves of several sizes, shape ``(sizes, n)`` each but for ``sizes`` itself.

    Attributes:
        sizes: L, rising, ``(sizes,)``.
        temperatures: Rising along each row.
        values: The observable.
        errors: Its standard errors.
    """

    sizes: np.ndarray
    temperatures: np.ndarray
    values: np.ndarray
    errors: np.ndarray

    def scaled(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        r"""x, :math:`\tilde y` and its error at :math:`(T_c, 1/\nu, \kappa)`."""
        critical, inverse_nu, kappa = parameters
        L = self.sizes[:, None]
        return (
            (self.temperatures - critical) * L**inverse_nu,
            self.values * L**-kappa,
            self.errors * L**-kappa,
        )


@dataclass(frozen=True, eq=False)
class Collapse:
    """The best collapse.

    Attributes:
        critical_temperature, inverse_nu, kappa: With errors.
        quality: S at the best parameters.
        points: The data.
    """

    critical_temperature: Estimate
    inverse_nu: Estimate
    kappa: Estimate
    quality: float
    points: Points

    @property
    def parameters(self) -> np.ndarray:
        r""":math:`(T_c, 1/\nu, \kappa)` of the minimum, ``(3,)``."""
        return np.array([self.critical_temperature.mean, self.inverse_nu.mean, self.kappa.mean])


def quality(parameters: np.ndarray, points: Points) -> float:
    r"""S at :math:`(T_c, 1/\nu, \kappa)`; or 1e9 where fewer than half of the points have neighbours.

    Example:
        >>> L, x = np.array([8.0, 16.0, 32.0]), np.linspace(-1, 1, 41)
        >>> y = L[:, None] ** -0.125 * (1 - np.tanh(x))
        >>> points = Points(L, 2.269 + x / L[:, None], y, np.full_like(y, 0.001))
        >>> [quality(np.array([critical, 1.0, -0.125]), points) < 1 for critical in (2.269, 2.29)]
        [True, False]
    """
    x, y, dy = points.scaled(parameters)
    count, n = x.shape
    # brackets[i, p, j]: the interval of size j in which point p of size i lies
    brackets = (x[None, None, :, :] <= x[:, :, None, None]).sum(-1) - 1
    inside = (brackets >= 0) & (brackets < n - 1) & ~np.eye(count, dtype=bool)[:, None, :]
    low, other = np.clip(brackets, 0, n - 2), np.arange(count)
    w, wx, wy, wxx, wxy = np.zeros((5, count, n))
    for end in (low, low + 1):
        X, Y, weight = x[other, end] - x[:, :, None], y[other, end], inside / dy[other, end] ** 2
        for total, term in ((w, 1.0), (wx, X), (wy, Y), (wxx, X * X), (wxy, X * Y)):
            total += (weight * term).sum(-1)
    compared = inside.any(-1)
    if 2 * compared.sum() < compared.size:
        return NOTHING
    w, wx, wy, wxx, wxy = (total[compared] for total in (w, wx, wy, wxx, wxy))
    determinant = w * wxx - wx**2
    line, variance = (wxx * wy - wx * wxy) / determinant, wxx / determinant  # at the point itself, X = 0
    return float(((y[compared] - line) ** 2 / (dy[compared] ** 2 + variance)).mean())


def collapse(
    multis: Mapping[int, Multihistogram],
    curve: Curve,
    start: tuple[float, float, float],
    *,
    share: float = 1.0,
    points: int = 33,
    replicas: int = 40,
) -> Collapse:
    r"""The parameters of the best collapse, with the scatter of bootstrap replicas as errors.

    Arguments:
        multis: Reweighted runs by size L, at least two.
        curve: Of :mod:`ising.reweighting`, or of that form.
        start: First guess of :math:`(T_c, 1/\nu, \kappa)`.
        share: Of the simulated range of each size, on either side of the first guess of T_c.
        points: Temperatures of each curve.
        replicas: How many of the replicas to fit.
    """
    sizes = np.array(sorted(multis), dtype=float)
    ends = np.array([1 / multis[L].betas[[-1, 0]] for L in sorted(multis)])
    low, high = (start[0] + share * (ends - start[0])).T
    betas = 1 / np.linspace(low, high, points, axis=1)
    values = np.stack([curve(multis[L], b) for L, b in zip(sorted(multis), betas, strict=True)], axis=1)
    data = [Points(sizes, 1 / betas, y, values[1:].std(0, ddof=1)) for y in values[: 1 + replicas]]
    return fit(data, start)


def fit(data: list[Points], start: tuple[float, float, float]) -> Collapse:
    """The best parameters of the first of ``data``; the others are its replicas and give the errors."""
    if len(data[0].sizes) < 2 or len(data) < 3:
        raise ValueError("a collapse needs at least two sizes and two replicas for its errors")
    step = np.array([0.1 * np.ptp(data[0].temperatures[-1]), 0.1, 0.1])
    best = [_minimise(data[0], np.array(start), step)]
    best += [_minimise(replica, best[0], step) for replica in data[1:]]
    critical, inverse_nu, kappa = reweighting.estimates(np.array(best))
    return Collapse(critical, inverse_nu, kappa, quality(best[0], data[0]), data[0])


def _minimise(points: Points, start: np.ndarray, step: np.ndarray) -> np.ndarray:
    simplex = start + np.concatenate([np.zeros((1, 3)), np.diag(step)])
    options = {"initial_simplex": simplex, "xatol": 1e-5, "fatol": 1e-5, "maxfev": 1000}
    found = minimize(quality, start, args=(points,), method="Nelder-Mead", options=options)
    if not found.success or found.fun >= NOTHING:
        raise ValueError(
            f"no collapse was found from T_c, 1/nu, kappa = {start.round(4).tolist()}; begin nearer to it, "
            "or simulate the sizes over ranges that overlap in (T - T_c) L^(1/nu)"
        )
    return found.x
