r"""Free energies of several temperatures from the energies seen at all of them, by Newton's method.

References:
    | Optimized Monte Carlo data analysis (Ferrenberg and Swendsen, 1989)
    | Statistically optimal analysis of samples from multiple equilibrium states (Shirts and Chodera, 2008)
"""

import numpy as np
from scipy.special import logsumexp


def joined(
    betas: np.ndarray, levels: np.ndarray, counts: np.ndarray, numbers: np.ndarray, start: np.ndarray
) -> np.ndarray:
    r"""Free energies :math:`a_k = \log Z(\beta_0) - \log Z(\beta_k)` of several data sets at once.

    They minimise the convex :math:`\sum_E H(E) \log \sum_k n_k e^{a_k - \beta_k E} - \sum_k n_k a_k`.

    Arguments:
        betas: ``(K,)``.
        levels: Energies, ``(S,)``.
        counts: Independent samples H at each level, ``(R, S)``.
        numbers: Independent samples n of each run, ``(R, K)``.
        start: Where to begin, ``(R, K)``, the first of each row 0.

    Example:
        >>> levels, n = np.array([-1.0, 1.0]), np.array([[100.0, 100.0]])
        >>> a = joined(np.array([0.0, 0.5]), levels, np.array([[50 + 73.1, 50 + 26.9]]), n, np.zeros((1, 2)))
        >>> a.round(3)  # log cosh(1/2) = 0.120
        array([[ 0.  , -0.12]])
    """
    free, scale = start.copy(), np.ones((len(start), 1))

    def evaluate(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        terms = (np.log(numbers) + a)[..., None] - betas[:, None] * levels
        log_sum = logsumexp(terms, axis=1, keepdims=True)
        return np.exp(terms - log_sum), (log_sum[:, 0] * counts).sum(-1) - (numbers * a).sum(-1)

    share, value = evaluate(free)
    for _ in range(100):
        weighted = share * counts[:, None]
        expected = weighted.sum(-1)
        gradient = expected - numbers
        if (np.abs(gradient) <= 1e-9 * numbers).all():
            return free
        curvature = np.eye(len(betas)) * expected[..., None] - weighted @ share.swapaxes(1, 2)
        try:
            step = np.linalg.solve(curvature[:, 1:, 1:], gradient[:, 1:, None])[..., 0]
        except np.linalg.LinAlgError:
            break
        moved = free.copy()
        moved[:, 1:] -= scale * step
        share_moved, value_moved = evaluate(moved)
        better = (value_moved <= value + 1e-12 * np.abs(value))[:, None]
        free, share = np.where(better, moved, free), np.where(better[..., None], share_moved, share)
        value = np.where(better[:, 0], value_moved, value)
        scale = np.where(better, np.minimum(1.0, 2 * scale), scale / 4)
    raise ValueError(
        "the free energies were not found, as the energies of neighbouring temperatures have too little in "
        f"common; add runs between beta = {', '.join(f'{beta:.6g}' for beta in betas)}"
    )
