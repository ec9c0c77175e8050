r"""The square lattice on a finite torus, exactly, at any size and temperature (Kaufman, 1949).

With :math:`K = \beta J`, n sites along y, m along x and :math:`\omega_r = \pi r / n`,

.. math::
    Z = \tfrac12 (2 \sinh 2K_x)^{mn/2} \Big[ \prod_{r\,odd} 2\cosh \tfrac{m\gamma_r}{2}
      + \prod_{r\,odd} 2\sinh \tfrac{m\gamma_r}{2} + \prod_{r\,even} 2\cosh \tfrac{m\gamma_r}{2}
      + \prod_{r\,even} 2\sinh \tfrac{m\gamma_r}{2} \Big],

    \sinh^2 \tfrac{\gamma_r}{2} = \sinh^2 \tfrac{\gamma_0}{2}
      + \frac{\sinh 2K_y}{\sinh 2K_x} \sin^2 \tfrac{\omega_r}{2}, \qquad \gamma_0 = 2K_y + \log\tanh K_x ,

where :math:`\gamma_0 < 0` above the critical temperature makes the last product negative. Everything is
carried as logarithms and with its first two derivatives in beta, so energy and specific heat are exact too.

References:
    | Crystal statistics. II (Kaufman, 1949), eq. 83
    | Bounded and inhomogeneous Ising models. I (Ferdinand and Fisher, 1969)
"""

import math
from typing import Any, NamedTuple

import numpy as np

from ..model import check_beta


class Jet(NamedTuple):
    """A function of beta with its first and second derivative, numbers or arrays."""

    value: Any
    first: Any
    second: Any


def kaufman_log_z(Lx: int, Ly: int, beta: float, J: float = 1.0, J_y: float | None = None) -> float:
    r""":math:`\log Z` in nats of the ``Lx`` by ``Ly`` torus, relative error about 1e-15.

    Arguments:
        Lx, Ly: Sides, at least 3. An antiferromagnetic axis needs an even side, as it must not be frustrated.
        beta: Inverse temperature.
        J: Coupling along x (the first axis of the lattice).
        J_y: Coupling along y, the same as ``J`` unless given.

    Example:
        >>> round(kaufman_log_z(16, 16, beta=0.44), 6)
        238.387247
    """
    return float(_log_z(Lx, Ly, beta, J, J_y).value)


def kaufman_energy(Lx: int, Ly: int, beta: float, J: float = 1.0, J_y: float | None = None) -> float:
    r"""Energy per site :math:`-\partial_\beta \log Z / N` of the torus, arguments as above.

    Absolute error about :math:`10^{-15} + 10^{-16} / \beta`.

    Example:
        >>> round(kaufman_energy(16, 16, beta=math.asinh(1) / 2), 6)  # Ferrenberg, Landau and Wong, 1992
        -1.453065
    """
    return 0.0 - float(_log_z(Lx, Ly, beta, J, J_y).first) / (Lx * Ly)


def kaufman_specific_heat(Lx: int, Ly: int, beta: float, J: float = 1.0, J_y: float | None = None) -> float:
    r"""Specific heat per site :math:`\beta^2 \partial_\beta^2 \log Z / N`, arguments as above.

    Absolute error about :math:`10^{-15} (1 + \beta J)^2`.

    Example:
        >>> round(kaufman_specific_heat(16, 16, beta=math.asinh(1) / 2), 6)
        1.498705
    """
    return beta**2 * float(_log_z(Lx, Ly, beta, J, J_y).second) / (Lx * Ly)


def mode_energies(omega: np.ndarray, beta: float, J_x: float, J_y: float) -> Jet:
    r""":math:`\gamma(\omega) \ge 0` and its derivatives in beta, for positive couplings and beta.

    Hyperbolic functions are scaled by :math:`e^{-|\gamma_0|}`, so nothing overflows at any temperature.
    """
    g = _lowest_mode(beta, J_x, J_y)
    q, sign = abs(g.value), math.copysign(1.0, g.value)
    shrink = math.exp(-q)
    x, y = 2 * beta * J_x, 2 * beta * J_y
    slope = 2 * (J_y / math.tanh(y) - J_x / math.tanh(x))
    curve = (2 * J_x * _csch(x)) ** 2 - (2 * J_y * _csch(y)) ** 2
    bend = math.exp(log_sinh(y) - log_sinh(x) - q) * np.sin(omega / 2) ** 2
    sinh_0, cosh_0 = sign * (1 - shrink**2) / 2, (1 + shrink**2) / 2
    u = (1 - shrink) ** 2 / 4 + bend
    u1 = sinh_0 * g.first / 2 + bend * slope
    u2 = (cosh_0 * g.first**2 + sinh_0 * g.second) / 2 + bend * (slope**2 + curve)
    root, root_1 = np.sqrt(u), np.sqrt(u + shrink)
    sinh, cosh = 2 * root * root_1, shrink + 2 * u
    first = 2 * u1 / sinh
    return Jet(q + 2 * np.log(root + root_1), first, (2 * u2 - cosh * first**2) / sinh)


def half_log_2_sinh(beta: float, J_x: float) -> Jet:
    r""":math:`\tfrac12 \log(2 \sinh 2K_x)`, what every site contributes before the modes."""
    x = 2 * beta * J_x
    return Jet((math.log(2) + log_sinh(x)) / 2, J_x / math.tanh(x), -2 * (J_x * _csch(x)) ** 2)


def _lowest_mode(beta: float, J_x: float, J_y: float) -> Jet:
    r""":math:`\gamma_0`, negative above the critical temperature."""
    x = 2 * beta * J_x
    second = -((2 * J_x) ** 2) * _csch(x) / math.tanh(x)
    return Jet(2 * beta * J_y + _log_tanh_half(x), 2 * J_y + 2 * J_x * _csch(x), second)


def _log_z(Lx: int, Ly: int, beta: float, J: float, J_y: float | None) -> Jet:
    """Log Z of the torus and its derivatives in beta."""
    beta = check_beta(beta)
    J_x, J_y = _ferromagnetic(Lx, Ly, J, J if J_y is None else J_y)
    n_sites = Lx * Ly
    if beta == 0:
        return Jet(n_sites * math.log(2), 0.0, n_sites * (J_x**2 + J_y**2))
    odd = mode_energies(np.pi * np.arange(1, 2 * Ly, 2) / Ly, beta, J_x, J_y)
    even = mode_energies(np.pi * np.arange(2, 2 * Ly, 2) / Ly, beta, J_x, J_y)
    zero = _lowest_mode(beta, J_x, J_y)
    logs = [_log_product(odd, Lx, +1), _log_product(odd, Lx, -1)]
    logs += [_log_product(even, Lx, sign) for sign in (+1, -1)]
    carried = Lx * abs(zero.value) / 2
    scales = [x.value + extra for x, extra in zip(logs, (0, 0, carried, carried), strict=True)]
    shift = max(scales)
    drift = logs[0].first
    # the mode at omega = 0 enters as a factor, not as a logarithm: its sinh is zero at the critical point
    factors = [Jet(1.0, 0.0, 0.0), Jet(1.0, 0.0, 0.0), _factor(zero, Lx, +1), _factor(zero, Lx, -1)]
    total = np.zeros(3)
    for log, factor, scale in zip(logs, factors, scales, strict=True):
        weight = math.exp(scale - shift)
        g = log.first - drift
        total += weight * np.array(
            [
                factor.value,
                factor.first + factor.value * g,
                factor.second + 2 * factor.first * g + factor.value * (log.second + g * g),
            ]
        )
    bulk = half_log_2_sinh(beta, J_x)
    ratio = total[1] / total[0]
    return Jet(
        n_sites * bulk.value + shift + math.log(total[0] / 2),
        n_sites * bulk.first + drift + ratio,
        n_sites * bulk.second + total[2] / total[0] - ratio**2,
    )


def _log_product(modes: Jet, m: int, sign: int) -> Jet:
    r""":math:`\sum_r \log(2 \cosh(m\gamma_r/2))`, or with sinh for ``sign = -1``."""
    decay = np.exp(-m * modes.value)
    slope = m / 2 * (1 - sign * decay) / (1 + sign * decay)  # m/2 tanh, or m/2 coth
    curve = sign * m**2 * decay / (1 + sign * decay) ** 2  # (m/2)^2 sech^2, or minus (m/2)^2 csch^2
    return Jet(
        float((m * modes.value / 2 + np.log1p(sign * decay)).sum()),
        float((slope * modes.first).sum()),
        float((slope * modes.second + curve * modes.first**2).sum()),
    )


def _factor(mode: Jet, m: int, sign: int) -> Jet:
    r""":math:`2 \cosh(m\gamma/2)`, or sinh for ``sign = -1``, divided by :math:`e^{m|\gamma|/2}`."""
    decay = math.exp(-m * abs(mode.value))
    even, odd = 1 + decay, math.copysign(1 - decay, mode.value)
    value, slope = (even, odd) if sign > 0 else (odd, even)
    first, second = m / 2 * mode.first, m / 2 * mode.second
    return Jet(value, first * slope, second * slope + first**2 * value)


def _ferromagnetic(Lx: int, Ly: int, J_x: float, J_y: float) -> tuple[float, float]:
    """The couplings of the ferromagnet with the same partition function."""
    for side, coupling, axis in ((Lx, J_x, "x"), (Ly, J_y, "y")):
        if side < 3:
            raise ValueError(
                f"a torus needs at least 3 sites along {axis} to have distinct bonds, got {side}; "
                "use enumeration with open boundaries"
            )
        if coupling == 0 or not math.isfinite(coupling):
            raise ValueError(
                f"the coupling along {axis} must be finite and not 0, got {coupling}; "
                "decoupled chains are exact.chain_log_z"
            )
        if coupling < 0 and side % 2:
            raise ValueError(
                f"an antiferromagnetic torus with an odd side is frustrated, got {side} sites along {axis}; "
                "use exact.energy_distribution"
            )
    return abs(J_x), abs(J_y)


def log_sinh(x: float) -> float:
    r""":math:`\log \sinh x` for any x > 0."""
    return x + math.log(-math.expm1(-2 * x) / 2)


def _log_tanh_half(x: float) -> float:
    return math.log(-math.expm1(-x)) - math.log1p(math.exp(-x))


def _csch(x: float) -> float:
    return 2 * math.exp(-x) / -math.expm1(-2 * x)
