r"""The infinite lattice: Onsager's energy and specific heat, Yang's magnetisation, critical points.

Per site, in units where :math:`k_B = 1`. Signs of the couplings do not matter on the square lattice without a
field: flipping every second row or column turns one into the other.
"""

import math
from collections.abc import Callable

import numpy as np
from scipy.special import ellipe, ellipkm1

from ..model import check_beta
from .kaufman import Jet, half_log_2_sinh, log_sinh, mode_energies

_CRITICAL_BETA = {
    "square": math.asinh(1) / 2,
    "rectangular": math.asinh(1) / 2,
    "triangular": math.log(3) / 4,
    "honeycomb": math.log(2 + math.sqrt(3)) / 2,
    "cubic": 0.22165463,
}


def critical_beta(lattice_name: str) -> float | None:
    r""":math:`\beta_c J` of the ferromagnet on the infinite lattice; None where none is known.

    Exact in two dimensions; the cubic value is a simulation's, 0.221654626(5).

    References:
        | Antiferromagnetism. The triangular Ising net (Wannier, 1950)
        | Pushing the limits of Monte Carlo simulations for the 3d Ising model (Ferrenberg, Xu, Landau, 2018)

    Example:
        >>> round(critical_beta("square"), 7)
        0.4406868
    """
    return _CRITICAL_BETA.get(lattice_name)


def critical_temperature(lattice_name: str) -> float | None:
    r""":math:`T_c / J = 1 / (\beta_c J)`, or None.

    Example:
        >>> round(critical_temperature("square"), 6)
        2.269185
    """
    beta = critical_beta(lattice_name)
    return None if beta is None else 1 / beta


def onsager_log_z(beta: float, J: float = 1.0, J_y: float | None = None) -> float:
    r""":math:`\log Z / N` in nats of the infinite square lattice, absolute error about 1e-10.

    .. math:: \tfrac12 \log(2 \sinh 2K_x) + \frac{1}{2\pi} \int_0^\pi \gamma(\omega)\, d\omega

    References:
        | Crystal statistics. I (Onsager, 1944), eq. 106

    Example:
        >>> round(onsager_log_z(critical_beta("square")), 6)  # log(2) / 2 + 2 G / pi, Catalan's G
        0.929695
    """
    beta, J_x, J_y = _couplings(beta, J, J_y)
    if beta == 0:
        return math.log(2)
    return float(half_log_2_sinh(beta, J_x).value + _average(lambda g: g.value, beta, J_x, J_y))


def onsager_energy(beta: float, J: float = 1.0, J_y: float | None = None) -> float:
    r"""Energy per site of the infinite square lattice.

    .. math:: u = -J \coth 2K \Big[ 1 + \tfrac{2}{\pi} (2 \tanh^2 2K - 1)\, \mathrm{K}(k) \Big],
        \qquad k = \frac{2 \sinh 2K}{\cosh^2 2K}

    Arguments:
        beta: Inverse temperature.
        J: Coupling along x.
        J_y: Coupling along y, the same unless given; where it differs, the derivative of the integral of
            :func:`onsager_log_z`, absolute error about 1e-9.

    References:
        | Crystal statistics. I (Onsager, 1944)

    Example:
        >>> round(onsager_energy(critical_beta("square")), 6)  # -sqrt(2)
        -1.414214
    """
    beta, J_x, J_y = _couplings(beta, J, J_y)
    if beta == 0:
        return 0.0
    if J_x != J_y:
        return -float(half_log_2_sinh(beta, J_x).first + _average(lambda g: g.first, beta, J_x, J_y))
    tanh = math.tanh(2 * beta * J_x)
    return -J_x / tanh * (1 + 2 / math.pi * _signed_k1(beta * J_x)[0])


def onsager_specific_heat(beta: float, J: float = 1.0, J_y: float | None = None) -> float:
    r"""Specific heat per site of the infinite square lattice; it diverges as :math:`\log |T - T_c|`.

    .. math:: C = \frac{4}{\pi} (K \coth 2K)^2 \Big\{ \mathrm{K} - \mathrm{E} - (1 - \tanh^2 2K)
        \Big[ \tfrac{\pi}{2} + (2 \tanh^2 2K - 1)\, \mathrm{K} \Big] \Big\}

    Arguments as :func:`onsager_energy`; with ``J_y`` the absolute error is about 1e-7, more within 1e-6 of
    the critical point.

    References:
        | Crystal statistics. I (Onsager, 1944)

    Example:
        >>> round(onsager_specific_heat(0.4), 6)
        0.861698
    """
    beta, J_x, J_y = _couplings(beta, J, J_y)
    if beta == 0:
        return 0.0
    if J_x != J_y:
        curvature = half_log_2_sinh(beta, J_x).second + _average(lambda g: g.second, beta, J_x, J_y)
        return beta**2 * float(curvature)
    K = beta * J_x
    signed, elliptic_k, elliptic_e = _signed_k1(K)
    tanh = math.tanh(2 * K)
    bracket = elliptic_k - elliptic_e - _sech(2 * K) ** 2 * (math.pi / 2 + signed)
    return 4 / math.pi * (K / tanh) ** 2 * bracket


def yang_magnetisation(beta: float, J: float = 1.0, J_y: float | None = None) -> float:
    r"""Spontaneous magnetisation :math:`[1 - (\sinh 2K_x \sinh 2K_y)^{-2}]^{1/8}` of the square lattice.

    It is 0 above the critical temperature. For antiferromagnetic couplings it is the staggered magnetisation.

    References:
        | The spontaneous magnetization of a two-dimensional Ising model (Yang, 1952)
        | The spontaneous magnetization of a rectangular Ising model (Chang, 1952)

    Example:
        >>> round(yang_magnetisation(0.5), 6), yang_magnetisation(0.44)
        (0.911319, 0.0)
    """
    beta, J_x, J_y = _couplings(beta, J, J_y)
    if beta == 0:
        return 0.0
    below = -2 * (log_sinh(2 * beta * J_x) + log_sinh(2 * beta * J_y))
    return 0.0 if below >= 0 else (-math.expm1(below)) ** 0.125


def _couplings(beta: float, J: float, J_y: float | None) -> tuple[float, float, float]:
    J_y = J if J_y is None else J_y
    if not (math.isfinite(J) and math.isfinite(J_y)) or J == 0 or J_y == 0:
        raise ValueError(f"both couplings must be finite and not 0, got J = {J} and J_y = {J_y}")
    return check_beta(beta), abs(J), abs(J_y)


def _signed_k1(K: float) -> tuple[float, float, float]:
    r""":math:`(2\tanh^2 2K - 1)\,\mathrm{K}(k)`, :math:`\mathrm{K}(k)` and :math:`\mathrm{E}(k)`."""
    complement = 1 - 2 * _sech(2 * K) ** 2  # 2 tanh^2 - 1, the complementary modulus up to its sign
    elliptic_k = float(ellipkm1(complement**2))
    return (complement * elliptic_k if complement else 0.0), elliptic_k, float(ellipe(1 - complement**2))


def _average(part: Callable[[Jet], np.ndarray], beta: float, J_x: float, J_y: float) -> float:
    r""":math:`\frac{1}{2\pi} \int_0^\pi` of one part of the mode energies."""
    marks = [10.0**-k for k in range(1, 9)]  # near the critical point the integrand is nearly singular at 0
    from scipy.integrate import quad  # half a second that every import would take

    integral = quad(
        lambda omega: float(part(mode_energies(omega, beta, J_x, J_y))), 0, math.pi, points=marks, limit=500
    )
    return integral[0] / (2 * math.pi)


def _sech(x: float) -> float:
    return 2 * math.exp(-x) / (1 + math.exp(-2 * x))
