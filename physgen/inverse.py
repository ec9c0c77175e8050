r"""The inverse Ising problem: couplings and fields from configurations.

The law sought is :math:`p(s) \propto \exp(\sum_{i<j} J_{ij} s_i s_j + \sum_i h_i s_i)` with all pairs
allowed, so J and h are those of the Hamiltonian times :math:`\beta`.

==================  =====================================================================================
method              how, and what it costs in accuracy
==================  =====================================================================================
pseudo-likelihood   logistic regression of every spin on all others; consistent: only statistical errors
mean field          :math:`J = -C^{-1}`, C the connected correlations; biased where couplings are strong
TAP                 the same with Onsager's reaction term; less biased, and without magnetisation equal
exact               maximum likelihood by enumeration, up to 20 spins; the smallest errors there are
==================  =====================================================================================

Error bars come from groups of configurations, whole chains where there are enough, so that correlation within
a chain is counted.

References:
    | Statistical Analysis of Non-Lattice Data (Besag, 1975)
    | High-dimensional Ising model selection using l1-regularized logistic regression (Ravikumar et al., 2010)
    | Inverse statistical problems: from the inverse Ising problem to data science (Nguyen et al., 2017)
    | Controlling the False Discovery Rate (Benjamini and Hochberg, 1995)
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import stdtr

from .learning import maximum_likelihood
from .logistic import joint_curvature, newton, site_curvature
from .models.boltzmann import Boltzmann
from .pairwise import MAX_SUMMED, spelled

FEWEST_GROUPS, MOST_GROUPS = 64, 128  # of configurations, for error bars
MAX_REFITTED = 6000  # parameters whose curvature matrix is inverted as a whole


@dataclass(frozen=True, eq=False)
class Couplings:
    """What was inferred, in units of the temperature unless :meth:`divided` by beta.

    Attributes:
        J: Couplings ``(N, N)``, symmetric with zero diagonal.
        h: Fields ``(N,)``.
        J_error, h_error: One standard error of each, nan where the method gives none. A pair that was found
            to be uncoupled has J = 0 and the error with which that was found.
        method: How.
    """

    J: np.ndarray
    h: np.ndarray
    J_error: np.ndarray
    h_error: np.ndarray
    method: str

    def divided(self, beta: float) -> "Couplings":
        """The same in units of energy, for configurations at inverse temperature beta."""
        if not beta > 0:
            raise ValueError(f"couplings in units of energy need beta > 0, got {beta}")
        values = {name: getattr(self, name) / beta for name in ("J", "h", "J_error", "h_error")}
        return replace(self, **values)

    def relative_error(self, J: np.ndarray) -> float:
        r""":math:`\sqrt{\sum_{i<j} (J_{ij} - J^0_{ij})^2 / \sum_{i<j} (J^0_{ij})^2}` over all pairs."""
        return float(np.linalg.norm(self.J - J) / np.linalg.norm(J))


def infer(spins: np.ndarray, method: str = "pseudo-likelihood", **options: Any) -> Couplings:
    """Couplings and fields from ``(chains, samples, N)`` configurations ±1, or from ``(n, N)`` as one chain.

    Arguments:
        spins: For instance of a stored run; divide the result by its beta.
        method: A name of the table above.
        options: Of :func:`pseudo_likelihood`.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> up = rng.choice([-1, 1], 20_000)
        >>> pair = np.stack([up, up * np.where(rng.random(20_000) < 0.75, 1, -1)], axis=-1)
        >>> found = infer(pair)  # tanh J = 1/2
        >>> abs(found.J[0, 1] - np.arctanh(0.5)) < 4 * found.J_error[0, 1]
        np.True_
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; choose one of {', '.join(METHODS)}")
    x = np.asarray(spins)
    x = x[None] if x.ndim == 2 else x
    if x.ndim != 3 or not x.size or not (np.abs(x) == 1).all():
        raise ValueError(
            f"spins are -1 and +1, of shape (chains, samples, N), got shape {np.shape(spins)}; turn 0/1 "
            "data x into 2 * x - 1"
        )
    stuck = np.flatnonzero(np.abs(x.mean((0, 1), dtype=float)) == 1)
    if len(stuck):
        raise ValueError(
            f"site {stuck[0]} has one value in all configurations, so its couplings are unbounded; take more "
            "configurations, or a higher temperature"
        )
    return METHODS[method](_groups(x), **options)


def pseudo_likelihood(
    groups: list[np.ndarray], *, select: float | None = 0.01, l1: float | None = None
) -> Couplings:
    r"""Maximum of :math:`\sum_i \langle \ln \sigma(2 s_i (h_i + \sum_j J_{ij} s_j)) \rangle`.

    First one regression per spin, both estimates of a coupling averaged. Its error bars tell which couplings
    are not zero; only those are kept, and estimated again by the joint maximum under :math:`J_{ij} = J_{ji}`.
    On a lattice this takes away the noise of all pairs that are no bonds. Error bars are those of the second
    step, given the choice: couplings not far above their own noise come out too large where they are kept.

    Arguments:
        groups: Configurations ``(n, N)`` in groups that are independent of one another.
        select: Expected share of false ones among the couplings kept (Benjamini-Hochberg); None keeps all
            pairs.
        l1: Weight of a penalty :math:`\lambda \sum_{i<j} |J_{ij}|` instead of the choice; no error bars.
    """
    if l1 is not None:
        return _penalised(np.concatenate(groups).astype(np.float64), l1)
    found = _regressions(groups)
    if select is None:
        return found
    N = len(found.h)
    i, j = np.triu_indices(N, 1)
    z = found.J[i, j] / found.J_error[i, j]
    kept = _discoveries(2 * stdtr(len(groups) - 1, -np.abs(z)), select)
    support = np.zeros((N, N), dtype=bool)
    support[i[kept], j[kept]] = support[j[kept], i[kept]] = True
    name = f"pseudo-likelihood, {kept.sum()} of {len(kept)} pairs"
    if kept.sum() + N > MAX_REFITTED:
        return replace(found, J=np.where(support, found.J, 0.0), method=name)
    J, h, shifts = newton(groups, lambda *at: joint_curvature(*at, support), found.J * support, found.h)
    error = _spread(shifts)
    return Couplings(J, h, np.where(support, error[:, :N], found.J_error), error[:, N], name)


def mean_field(groups: list[np.ndarray]) -> Couplings:
    r"""Naive: :math:`J = -C^{-1}` off the diagonal, :math:`h_i = \tanh^{-1} m_i - \sum_j J_{ij} m_j`."""

    def solve(C: np.ndarray, m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        J = -np.linalg.inv(C)
        np.fill_diagonal(J, 0)
        return J, np.arctanh(m) - J @ m

    return _jackknifed(solve, groups, "mean field")


def tap(groups: list[np.ndarray]) -> Couplings:
    r"""Thouless, Anderson and Palmer: :math:`(C^{-1})_{ij} = -J_{ij} - 2 J_{ij}^2 m_i m_j`.

    :math:`h_i = \tanh^{-1} m_i - \sum_j J_{ij} m_j + m_i \sum_j J_{ij}^2 (1 - m_j^2)`. Where the quadratic
    equation has no solution the coupling at its extremum is taken.
    """

    def solve(C: np.ndarray, m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        inverse, mm = np.linalg.inv(C), np.outer(m, m)
        J = -2 * inverse / (1 + np.sqrt(np.maximum(1 - 8 * mm * inverse, 0)))
        np.fill_diagonal(J, 0)
        return J, np.arctanh(m) - J @ m + m * (J**2 @ (1 - m**2))

    return _jackknifed(solve, groups, "TAP")


def exact(groups: list[np.ndarray]) -> Couplings:
    """Maximum likelihood by enumeration of all states, up to 20 spins."""
    S = np.concatenate(groups)
    N = S.shape[1]
    if N > MAX_SUMMED:
        raise ValueError(f"the exact method is for at most {MAX_SUMMED} spins, got {N}; take another method")
    machine = Boltzmann((N,))
    maximum_likelihood(machine, S)
    law = machine.law()
    i, j = np.triu_indices(N, 1)

    def features(s: np.ndarray) -> np.ndarray:
        return np.concatenate([s[:, i] * s[:, j], s], axis=1).astype(np.float64)

    log_z, size = law.log_partition(), min(2**N, 2**14)
    second, first = 0.0, 0.0
    for start in range(0, 2**N, size):
        states = spelled(torch.arange(start, start + size), N)
        p, phi = (-law.free_energy(states) - log_z).exp().detach().numpy(), features(states.numpy())
        first, second = first + p @ phi, second + (p[:, None] * phi).T @ phi
    fisher = second - np.outer(first, first)
    scores = np.stack([(features(group) - first).sum(0) for group in groups]) / len(S)
    error = _spread(np.linalg.solve(fisher, scores.T))
    J_error = np.zeros((N, N))
    J_error[i, j] = J_error[j, i] = error[: len(i)]
    J, h = machine.couplings.detach().numpy(), machine.a.detach().numpy()
    return Couplings(J, h, J_error, error[len(i) :], "exact maximum likelihood")


METHODS: dict[str, Callable[..., Couplings]] = {
    "pseudo-likelihood": pseudo_likelihood,
    "mean field": mean_field,
    "TAP": tap,
    "exact": exact,
}


def _groups(x: np.ndarray) -> list[np.ndarray]:
    """Configurations ``(n, N)`` in 64 to 128 groups: whole chains, or stretches of time where few."""
    chains, samples, _ = x.shape
    if chains >= FEWEST_GROUPS:
        return [part.reshape(-1, x.shape[2]) for part in np.array_split(x, min(chains, MOST_GROUPS))]
    pieces = min(samples, -(-FEWEST_GROUPS // chains))
    return [part for chain in x for part in np.array_split(chain, pieces)]


def _regressions(groups: list[np.ndarray]) -> Couplings:
    """One regression per spin on all others; the two estimates of a coupling averaged."""
    N = groups[0].shape[1]
    J, h, shifts = newton(groups, site_curvature, np.zeros((N, N)), np.zeros(N))
    J_error = _spread((shifts[:, :N] + shifts[:, :N].swapaxes(0, 1)) / 2)
    return Couplings(
        (J + J.T) / 2, h, J_error, _spread(shifts[:, N]), f"pseudo-likelihood, {N * (N - 1) // 2} pairs"
    )


def _penalised(S: np.ndarray, l1: float) -> Couplings:
    """The joint maximum under a penalty, with every coupling as a difference of two positive parts."""
    n, N = S.shape
    i, j = np.triu_indices(N, 1)
    P = len(i)

    def value(y: np.ndarray) -> tuple[float, np.ndarray]:
        J = np.zeros((N, N))
        J[i, j] = J[j, i] = y[:P] - y[P : 2 * P]
        e = np.exp(-2 * S * (S @ J + y[2 * P :]))
        r = 2 * S * e / (1 + e)  # s - tanh of the field
        slope = r.T @ S / n
        pair = (slope + slope.T)[i, j]
        loss = np.log1p(e).sum() / n + l1 * y[: 2 * P].sum()
        return loss, np.concatenate([l1 - pair, l1 + pair, -r.sum(0) / n])

    bounds = [(0, None)] * (2 * P) + [(None, None)] * N
    options = {"maxiter": 2000, "maxfun": 4000, "gtol": 1e-6, "ftol": 1e-14, "maxcor": 20}
    y = minimize(value, np.zeros(2 * P + N), jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
    J = np.zeros((N, N))
    J[i, j] = J[j, i] = y[:P] - y[P : 2 * P]
    unknown = np.full((N, N), np.nan), np.full(N, np.nan)
    return Couplings(J, y[2 * P :], *unknown, f"pseudo-likelihood, L1 {l1:g}")


def _spread(shifts: np.ndarray) -> np.ndarray:
    """Standard error from what each of G groups, the last axis, adds to an estimate."""
    G = shifts.shape[-1]
    return np.sqrt(G / (G - 1) * ((shifts - shifts.mean(-1, keepdims=True)) ** 2).sum(-1))


def _discoveries(p: np.ndarray, level: float) -> np.ndarray:
    """Hypotheses to reject so that on average a share of at most ``level`` of them is true."""
    if not 0 < level < 1:
        raise ValueError(f"select is a share of false couplings between 0 and 1, got {level}")
    ordered = np.sort(p)
    below = np.flatnonzero(ordered <= level * np.arange(1, len(p) + 1) / len(p))
    return p <= (ordered[below[-1]] if len(below) else -1.0)


def _jackknifed(solve: Callable, groups: list[np.ndarray], method: str) -> Couplings:
    """An estimate from means and correlations, with errors from leaving out one group at a time."""
    sizes = np.array([len(group) for group in groups], dtype=np.float64)
    first = np.stack([group.sum(0, dtype=np.float64) for group in groups])
    second = np.stack([g.T @ g for g in (group.astype(np.float64) for group in groups)])

    def estimate(n: float, sums: np.ndarray, products: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        m = sums / n
        C = products / n - np.outer(m, m)
        try:
            return solve(C, m)
        except np.linalg.LinAlgError:
            raise ValueError("the correlation matrix is singular: take more configurations") from None

    total = sizes.sum(), first.sum(0), second.sum(0)
    J, h = estimate(*total)
    without = [
        estimate(total[0] - a, total[1] - b, total[2] - c)
        for a, b, c in zip(sizes, first, second, strict=True)
    ]
    factor = np.sqrt((len(groups) - 1) / len(groups))
    J_error, h_error = (
        factor * np.sqrt(((np.stack(values) - np.mean(values, axis=0)) ** 2).sum(0))
        for values in zip(*without, strict=True)
    )
    return Couplings(J, h, J_error, h_error, method)
