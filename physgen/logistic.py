r"""Newton's method for the pseudo-likelihood: the logistic regression of every spin on all others.

.. math:: L = \frac1n \sum_s \sum_i \ln \sigma\Big( 2 s_i \big( h_i + \sum_j J_{ij} s_j \big) \Big) , \qquad
    \frac{\partial L}{\partial J_{ij}} = \langle (s_i - \tanh f_i) s_j \rangle , \qquad
    -\frac{\partial^2 L}{\partial J_{ij} \partial J_{ik}} = \langle (1 - \tanh^2 f_i) s_j s_k \rangle ,

with :math:`f_i = h_i + \sum_j J_{ij} s_j`. Slopes and steps are ``(N, N + 1, G)``: for each spin its
couplings, zero with itself, and its field, for G groups of configurations.
"""

from collections.abc import Callable

import numpy as np
import torch

CURVATURE_ROWS = 4000, 40  # configurations for the curvature: at least, and for each spin
MOST_STEPS, LONGEST_STEP, TOLERANCE = 60, 1.0, 1e-6  # of Newton's method, in couplings
RENEWED = 0.03  # after a longer step the curvature is computed again

Solver = Callable[[np.ndarray], np.ndarray]
"""From slopes to steps."""


def newton(
    groups: list[np.ndarray], curvature: Callable[..., Solver], J: np.ndarray, h: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Couplings and fields where the slope is zero, and what each group adds to them, ``(N, N + 1, G)``.

    The curvature, from some of the configurations, is kept once steps are small: what counts is the slope.

    Raises:
        FloatingPointError: If there is no finite maximum.
    """
    N, rows = len(h), _curvature_rows(np.concatenate(groups))
    length = np.inf
    try:
        solve = curvature(J, h, rows)
        for _ in range(MOST_STEPS):
            scores = _scores(J, h, groups)
            step = solve(scores.sum(-1, keepdims=True))[..., 0]
            step /= max(1.0, np.abs(step).max() / LONGEST_STEP)
            before, length = length, np.abs(step).max()
            if length < TOLERANCE:
                return J, h, curvature(J, h, rows)(scores)
            J, h = J + step[:, :N], h + step[:, N]
            if length > RENEWED or length > before / 2:
                solve = curvature(J, h, rows)
    except np.linalg.LinAlgError:  # the curvature is singular: no maximum, or one that is no point
        pass
    raise FloatingPointError(
        f"the pseudo-likelihood has no finite maximum, or {MOST_STEPS} Newton steps do not reach it: "
        "take more configurations, or ones at a higher temperature"
    )


def _scores(J: np.ndarray, h: np.ndarray, groups: list[np.ndarray]) -> np.ndarray:
    """Slopes of the mean log-pseudo-likelihood, each group's share of them, ``(N, N + 1, G)``."""
    n, found = sum(len(group) for group in groups), []
    for group in groups:
        s = torch.from_numpy(group).double()
        r = s - torch.addmm(torch.from_numpy(h), s, torch.from_numpy(J).T).tanh_()
        found.append(torch.cat([r.T @ s, r.sum(0).unsqueeze(-1)], dim=1) / n)
    scores = torch.stack(found, dim=-1).numpy()
    scores[np.arange(len(h)), np.arange(len(h))] = 0.0
    return scores


def _curvature_rows(S: np.ndarray) -> np.ndarray:
    """Some configurations, evenly spaced, with a column of ones for the field."""
    least, each = CURVATURE_ROWS
    rows = S[:: max(1, len(S) // max(least, each * S.shape[1]))]
    return np.concatenate([rows, np.ones((len(rows), 1))], axis=1)


def site_curvature(J: np.ndarray, h: np.ndarray, rows: np.ndarray) -> Solver:
    """Every spin's regression by itself."""
    N = len(h)
    weight = 1 - np.tanh(rows[:, :N] @ J.T + h) ** 2
    inverse = np.zeros((N, N + 1, N + 1))
    for i in range(N):
        others = np.flatnonzero(np.arange(N + 1) != i)
        whole = (weight[:, i, None] * rows).T @ rows / len(rows)
        inverse[np.ix_([i], others, others)] = np.linalg.inv(whole[np.ix_(others, others)])
    return lambda slopes: inverse @ slopes


def joint_curvature(J: np.ndarray, h: np.ndarray, rows: np.ndarray, support: np.ndarray) -> Solver:
    """All spins together; couplings outside the ``(N, N)`` support are zero, the others symmetric."""
    N, pairs = len(h), np.triu(support)
    count = int(pairs.sum())
    number = np.full((N, N + 1), -1)
    number[:, :N][pairs] = np.arange(count)
    number[:, :N] = np.maximum(number[:, :N], number[:, :N].T)
    number[:, N] = count + np.arange(N)
    weight = 1 - np.tanh(rows[:, :N] @ J.T + h) ** 2
    total = np.zeros((count + N, count + N))
    for i in range(N):
        own = np.flatnonzero(number[i] >= 0)
        x = rows[:, own]
        total[np.ix_(number[i, own], number[i, own])] += (weight[:, i, None] * x).T @ x / len(x)
    inside = number >= 0

    def solve(slopes: np.ndarray) -> np.ndarray:
        summed = np.zeros((count + N, slopes.shape[-1]))
        np.add.at(summed, number[inside], slopes[inside])
        steps = np.zeros_like(slopes)
        steps[inside] = np.linalg.solve(total, summed)[number[inside]]
        return steps

    return solve
