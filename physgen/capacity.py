r"""How many random patterns a Hopfield network with Hebb's rule holds.

A network of N units stores :math:`P = \alpha N` random patterns and runs, at zero temperature and one unit
after another, from a pattern to the next minimum. The overlap m with the pattern is then about 0.97 below the
critical load and about 0.35 above, at once in the limit of large N (a transition of first order), smoothly
for finite N. The share of patterns with m > 0.7, between the two, rises with N below the critical load and
falls with N above: curves of two sizes cross there, whatever the width of the transition.

References:
    | Storing infinite numbers of patterns in a spin-glass model of neural networks (Amit et al., 1985):
    | :math:`\alpha_c = 0.138` by replica-symmetric theory
    | A high-precision study of the Hopfield model in the phase of broken replica symmetry (Kohring, 1990)
"""

from collections.abc import Sequence

import numpy as np

from ising.stats import Estimate

from .loops import descend

RETRIEVED = 0.7  # an overlap above this counts as retrieved
RESAMPLES = 500  # of the bootstrap over networks


def retrieval(
    n_sites: int, loads: Sequence[float], *, networks: int = 50, tested: int = 40, seed: int = 0
) -> np.ndarray:
    """Overlaps m of patterns with where they run to, ``(loads, networks, tested)``.

    The networks are independent; one network takes more and more patterns, so that loads are not.

    Arguments:
        n_sites: Units N.
        loads: Rising values of P/N.
        networks: Independent sets of patterns.
        tested: Patterns of each that are tried, fewer where there are fewer.
        seed: Of the patterns.

    Example:
        >>> low, high = retrieval(200, [0.05, 0.3], networks=5, tested=10).mean((1, 2))
        >>> bool(low > 0.98 and high < 0.7)
        True
    """
    counts = np.rint(np.asarray(loads, dtype=float) * n_sites).astype(int)
    if len(counts) == 0 or counts[0] < 1 or (np.diff(counts) <= 0).any():
        raise ValueError(
            f"loads are rising shares of patterns, at least one pattern of {n_sites} units apart, got {loads}"
        )
    tested = min(tested, counts[0])
    found = np.empty((len(counts), networks, tested))
    for k in range(networks):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(n_sites, k)))
        patterns = rng.choice(np.array([-1, 1], dtype=np.float32), (counts[-1], n_sites))
        J = np.zeros((n_sites, n_sites), dtype=np.float32)  # times N: whole numbers, so without rounding
        for a, (first, last) in enumerate(zip([0, *counts], counts, strict=False)):
            J += patterns[first:last].T @ patterns[first:last]
            np.fill_diagonal(J, 0)
            start = patterns[rng.permutation(last)[:tested]]
            spins = start.copy()
            descend(spins, spins @ J, J, 0.0)
            found[a, k] = (spins * start).mean(1)
    return found


def crossing(
    loads: Sequence[float], small: np.ndarray, large: np.ndarray, *, seed: int = 0
) -> Estimate | None:
    """The load where two sizes retrieve the same share of patterns; error by bootstrap over networks.

    A straight line is fitted to the difference of the two log odds, weighted by their counts, over the loads
    where both shares are above 1/2. None where it has no zero between these loads.

    Arguments:
        loads: As in :func:`retrieval`.
        small, large: Overlaps ``(loads, networks, tested)`` of the smaller and the larger networks.
    """
    retrieved = [(overlaps > RETRIEVED).mean(2) for overlaps in (small, large)]
    chosen = np.min([share.mean(1) for share in retrieved], axis=0) > 0.5
    if chosen.sum() < 3:
        raise ValueError("a crossing needs at least three loads at which most patterns are retrieved")
    x = np.asarray(loads, dtype=float)[chosen]
    rng = np.random.default_rng(seed)

    def root(shares: list[np.ndarray]) -> float:
        odds, variance = [], []
        for share, overlaps in zip(shares, (small, large), strict=True):
            n = overlaps.shape[1] * overlaps.shape[2]
            p = (share[chosen] * n + 0.5) / (n + 1)
            odds.append(np.log(p / (1 - p)))
            variance.append(1 / (n * p * (1 - p)))
        slope, offset = np.polyfit(x, odds[0] - odds[1], 1, w=(variance[0] + variance[1]) ** -0.5)
        return -offset / slope

    def resampled(share: np.ndarray) -> np.ndarray:
        return share[:, rng.integers(0, share.shape[1], share.shape[1])].mean(1)

    estimates = [root([resampled(share) for share in retrieved]) for _ in range(RESAMPLES)]
    found = float(root([share.mean(1) for share in retrieved]))
    if not x[0] <= found <= x[-1]:
        return None
    low, high = np.quantile(estimates, [0.1587, 0.8413])  # robust against the rare flat line
    return Estimate(found, float(high - low) / 2)
