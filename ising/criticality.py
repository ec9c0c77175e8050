r"""The critical temperature and the exponents of a ferromagnet from reweighted curves of several sizes.

T_c is where the Binder cumulants of L and about 2 L cross, extrapolated by their theory.
There 1/nu comes from the slope of the cumulant, beta/nu from :math:`\langle |m| \rangle` and gamma/nu from
:math:`\beta N \langle m^2 \rangle`, each fitted as :math:`A L^\kappa \exp(b L^{-\omega})`.

One correction is not all of them: on the square lattice the exact moments of L = 4 to 10 have further ones,
of relative order :math:`L^{-3}`, which shift these fits. What is left is judged by the next exponent in the
place of the leading one, on the same data. The shift is a systematic error, beside the statistical one.

References:
    | Finite size scaling analysis of Ising model block distribution functions (Binder, 1981)
    | Universal amplitude ratios in the critical two-dimensional Ising model on a torus (Salas, Sokal, 2000)
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from . import reweighting, scaling
from .reweighting import Multihistogram
from .stats import Estimate

EXPONENTS = {  # what is read at T_c, and the exponent that it tells
    "1/nu": reweighting.u4_slope,
    "-beta/nu": reweighting.abs_m,
    "gamma/nu": reweighting.chi_symmetric,
}


@dataclass(frozen=True)
class Critical:
    """T_c and the exponents by name, and what they were fitted to.

    The errors of ``values`` are the ``statistical`` and the ``systematic`` ones in quadrature.
    """

    values: dict[str, Estimate]
    statistical: dict[str, float]
    systematic: dict[str, float]
    p_values: dict[str, float]
    crossings: dict[tuple[int, int], Estimate]
    at_critical: dict[str, list[Estimate]]


def measure(
    multis: Mapping[int, Multihistogram], universal: scaling.Exponents, omega: float | None = None
) -> Critical:
    """T_c, nu, beta/nu and gamma/nu, and the p-values of their fits.

    Arguments:
        multis: Reweighted runs by size, at least three sizes of which some are about twice others.
        universal: The class, of which only 1/nu and the exponents of corrections enter.
        omega: Instead of the leading one of the class.
    """
    omega, estimates = universal.omega if omega is None else omega, reweighting.estimates
    pairs = scaling.crossings(multis)
    replicas, p_values, at_critical = fitted(multis, pairs, universal.inverse_nu, omega)
    others = [
        fitted(multis, pairs, universal.inverse_nu, other)[0]
        for other in {universal.omega, universal.next_omega} - {omega}
    ]
    found = {name: estimates(values) for name, values in replicas.items()}
    systematic = {
        name: max(abs(float(other[name][0]) - value.mean) for other in others)
        for name, value in found.items()
    }
    return Critical(
        {
            name: Estimate(value.mean, math.hypot(value.error, systematic[name]))
            for name, value in found.items()
        },
        {name: value.error for name, value in found.items()},
        systematic,
        p_values,
        {pair: estimates(1 / beta) for pair, beta in pairs.items()},
        {name: estimates(values) for name, values in at_critical.items()},
    )


def fitted(
    multis: Mapping[int, Multihistogram],
    pairs: Mapping[tuple[int, int], np.ndarray],
    inverse_nu: float,
    omega: float,
) -> tuple[dict[str, np.ndarray], dict[str, float], dict[str, np.ndarray]]:
    """Replicas of T_c and the exponents, p-values of their fits, and replicas of what was read at T_c."""
    sizes = sorted(multis)
    crossing = scaling.critical_point(pairs, inverse_nu, omega)
    beta_c = crossing.replicas[:, 0]
    at_critical = {
        name: np.stack([scaling.read(multis[L], curve, beta_c) for L in sizes], axis=1)
        for name, curve in EXPONENTS.items()
    }
    fits = {name: scaling.power_law(sizes, values, omega) for name, values in at_critical.items()}
    replicas = {
        "T_c": 1 / beta_c,
        "nu": 1 / fits["1/nu"].replicas[:, 1],
        "beta/nu": -fits["-beta/nu"].replicas[:, 1],
        "gamma/nu": fits["gamma/nu"].replicas[:, 1],
    }
    p_values = (fit.p_value for fit in (crossing, *fits.values()))
    return replicas, dict(zip(replicas, p_values, strict=True)), at_critical
