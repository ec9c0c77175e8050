r"""The density of states of the finite torus, exactly, in whole numbers.

With :math:`x = e^{-2K}` the partition function is :math:`Z = x^{-N} \sum_k g_k x^{2k}`, where :math:`g_k`
counts the states of energy :math:`-2N + 4k` (in units of J). Two equal factors of Kaufman's products, as
:math:`\omega_r` and :math:`2\pi - \omega_r` give, are a polynomial in x over :math:`x^{2m}`,

.. math::
    2\, (2 \sinh 2K)^m\, [\cosh(m\gamma_r) \pm 1] \, x^{2m} = p_m \pm 2 d^m,
    \quad p_0 = 2, \quad p_1 = A, \quad p_{k+1} = A p_k - d^2 p_{k-1},

    d = x (1 - x^2), \qquad A = (1 + x^2)^2 - 2 d \cos\omega_r .

They are evaluated modulo primes that contain the needed roots of unity, interpolated there and joined by the
Chinese remainder theorem. Nothing is rounded.

References:
    | Exact distribution of energies in the two-dimensional Ising model (Beale, 1996)
"""

import functools
import itertools
import math
from collections.abc import Iterator

import numpy as np

from ..model import check_beta


@functools.lru_cache(maxsize=64)
def beale_density_of_states(Lx: int, Ly: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Energies (in units of J) that occur on the ``Lx`` by ``Ly`` torus, and how many states have each.

    The counts add up to ``2**(Lx * Ly)``. The time grows steeply with the sides.

    Example:
        >>> energies, counts = beale_density_of_states(4, 4)
        >>> energies[:3], counts[:3], sum(counts) == 2**16
        ((-32, -24, -20), (2, 32, 64), True)
    """
    if min(Lx, Ly) < 3:
        raise ValueError(f"a torus needs sides of at least 3 to have distinct bonds, got {Lx} x {Ly}")
    n_sites = Lx * Ly
    counts, modulus = [0] * (n_sites + 1), 1
    primes = _primes(math.lcm(2 * Ly, 2 * (n_sites + 1)))
    while modulus <= 2**n_sites:
        p, root = next(primes)
        residues = _interpolate(_products(Lx, Ly, p, root), p, root)
        inverse = pow(modulus, -1, p)
        counts = [c + modulus * ((r - c) * inverse % p) for c, r in zip(counts, residues, strict=True)]
        modulus *= p
    levels = [(4 * k - 2 * n_sites, c) for k, c in enumerate(counts) if c]
    return tuple(e for e, _ in levels), tuple(c for _, c in levels)


def energy_distribution(Lx: int, Ly: int, beta: float, J: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Total energies of the torus and their Boltzmann probabilities; any sign of J, odd sides too.

    Example:
        >>> energies, p = energy_distribution(4, 4, beta=0.44)
        >>> round(float(energies @ p) / 16, 6)
        -1.562847
    """
    energies, log_weights = _log_weights(Lx, Ly, beta, J)
    p = np.exp(log_weights - log_weights.max())
    return energies, p / p.sum()


def beale_log_z(Lx: int, Ly: int, beta: float, J: float = 1.0) -> float:
    r""":math:`\log Z` in nats from the density of states; where Kaufman's form fails, the frustrated torus.

    Example:
        >>> round(beale_log_z(5, 5, beta=0.44, J=-1.0), 6)
        22.462803
    """
    _, log_weights = _log_weights(Lx, Ly, beta, J)
    top = log_weights.max()
    return float(top + math.log(np.exp(log_weights - top).sum()))


def _log_weights(Lx: int, Ly: int, beta: float, J: float) -> tuple[np.ndarray, np.ndarray]:
    beta = check_beta(beta)
    levels, counts = beale_density_of_states(Lx, Ly)
    energies = J * np.array(levels, dtype=float)
    return energies, np.array([math.log(c) for c in counts]) - beta * energies


def _products(m: int, n: int, p: int, root: int) -> np.ndarray:
    """The polynomial ``x**N Z`` modulo p at ``m n + 1`` powers of a root of unity."""
    n_points, order = m * n + 1, math.lcm(2 * n, 2 * (m * n + 1))
    x = _powers(pow(root, order // (2 * n_points), p), n_points, p)
    zeta = pow(root, order // (2 * n), p)
    x_m, d = _power(x, m, p), x * (1 - x * x % p) % p
    d2, d_m = d * d % p, _power(d, m, p)
    total = np.zeros_like(x)
    for parity in (1, 0):
        plus, minus = np.ones_like(x), np.ones_like(x)
        for r in range(parity, n + 1, 2):
            if r in (0, n):  # these modes have no partner
                sign = -1 if r == 0 else 1
                low, high = _power(1 + sign * x, m, p), x_m * _power(1 - sign * x, m, p) % p
            else:
                two_cos = (pow(zeta, r, p) + pow(zeta, -r, p)) % p
                A = ((1 + x * x) % p * ((1 + x * x) % p) - two_cos * d) % p
                before, low = np.full_like(x, 2), A
                for _ in range(m - 1):
                    before, low = low, (A * low % p - d2 * before) % p
                high = 2 * d_m
            plus, minus = plus * ((low + high) % p) % p, minus * ((low - high) % p) % p
        total += plus + minus
    return total % p * pow(2, -1, p) % p


def _interpolate(values: np.ndarray, p: int, root: int) -> list[int]:
    """Coefficients of the polynomial in ``x**2`` with these values: a Fourier transform modulo p."""
    n_points = len(values)
    order = next(k for k in itertools.count(1) if pow(root, k * n_points, p) == 1) * n_points
    table = _powers(pow(root, -(order // n_points), p), n_points, p)
    index = np.arange(n_points)
    sums = [int((table[k * index % n_points] * values % p).sum() % p) for k in range(n_points)]
    scale = pow(n_points, -1, p)
    return [s * scale % p for s in sums]


def _power(base: np.ndarray, exponent: int, p: int) -> np.ndarray:
    result = np.ones_like(base)
    for _ in range(exponent):
        result = result * base % p
    return result


def _powers(base: int, count: int, p: int) -> np.ndarray:
    return np.array(list(itertools.accumulate(range(count - 1), lambda a, _: a * base % p, initial=1)))


def _primes(order: int) -> Iterator[tuple[int, int]]:
    """Primes below 2**31 (products fit 63 bits), each with an element of the given multiplicative order."""
    factors = [
        f for f in range(2, order + 1) if order % f == 0 and all(f % g for g in range(2, math.isqrt(f) + 1))
    ]
    for p in range((2**31 - 2) // order * order + 1, order, -order):
        if not _is_prime(p):
            continue
        candidates = (pow(g, (p - 1) // order, p) for g in itertools.count(2))
        yield p, next(c for c in candidates if all(pow(c, order // f, p) != 1 for f in factors))


def _is_prime(p: int) -> bool:
    """Miller and Rabin's test with bases that decide every p below 3.2e9."""
    shift = ((p - 1) & -(p - 1)).bit_length() - 1
    for base in (2, 3, 5, 7):
        y = pow(base, (p - 1) >> shift, p)
        if y not in (1, p - 1) and all((y := y * y % p) != p - 1 for _ in range(shift - 1)):
            return False
    return True
