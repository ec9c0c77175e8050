r"""How far two laws, or two samples, are apart: numbers from arrays, without any model or Hamiltonian.

Throughout, p is the Boltzmann law (or Monte Carlo samples of it) and q the model. Natural logarithms.

References:
    | On information and sufficiency (Kullback and Leibler, 1951)
    | Note on the bias of information estimates (Miller, 1955)
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.special import fdtrc, logsumexp, xlogy

from ising import stats
from ising.stats import Estimate

FORWARD, REVERSE = "KL(p‖q)", "KL(q‖p)"
Kind = Literal["exact", "estimated", "bound", "histogram"]


@dataclass(frozen=True)
class Divergence:
    """One Kullback-Leibler divergence, with everything needed to read it.

    Attributes:
        direction: ``"KL(p‖q)"`` punishes a model that misses configurations, ``"KL(q‖p)"`` one that invents
            them.
        kind: ``exact`` (sum over all states), ``estimated`` (an average over samples), ``bound`` (the true
            value is not larger, up to the error) or ``histogram`` (from counts, without a density).
        estimate: Nats per site for whole configurations, nats for one observable.
        of: ``"configurations"``, or the symbol of the observable whose distribution is compared.
        note: What else a reader must know, a sentence or nothing.

    Example:
        >>> print(Divergence(FORWARD, "bound", Estimate(0.0123, 0.0004)))
        KL(p‖q) <= 0.01230(40) nats per site (bound)
    """

    direction: str
    kind: Kind
    estimate: Estimate
    of: str = "configurations"
    note: str = ""

    @property
    def unit(self) -> str:
        """Of the estimate: per site for configurations, in total for one number drawn from them."""
        return "nats per site" if self.of == "configurations" else "nats"

    def __str__(self) -> str:
        name = self.direction if self.of == "configurations" else f"{self.direction} of {self.of}"
        sign = "<=" if self.kind == "bound" else "="
        return f"{name} {sign} {self.estimate} {self.unit} ({self.kind})"


def enumerated(log_p: np.ndarray, log_q: np.ndarray, n_sites: int) -> tuple[Divergence, Divergence]:
    r"""Both directions by the sum over all states, :math:`\frac1N \sum_s p (\ln p - \ln q)` and the reverse.

    Arguments:
        log_p, log_q: Normalised, ``(2**N,)`` nats in the same order of states.

    Example:
        >>> p, q = np.log([0.5, 0.5]), np.log([0.25, 0.75])
        >>> forward, reverse = enumerated(p, q, 1)
        >>> round(forward.estimate.mean, 4), round(reverse.estimate.mean, 4)
        (0.1438, 0.1308)
    """
    total = math.exp(logsumexp(log_q))
    if not abs(total - 1) < 1e-3:
        raise ValueError(
            f"the model's probabilities must sum to 1 over all {len(log_q)} states, got {total:.6g}; "
            "offer free_energy instead of log_prob if log Z is unknown"
        )
    gap = log_p - log_q
    return (
        Divergence(FORWARD, "exact", Estimate(_expectation(log_p, gap) / n_sites, 0.0)),
        Divergence(REVERSE, "exact", Estimate(-_expectation(log_q, gap) / n_sites, 0.0)),
    )


def enumerated_on_grids(
    log_p: np.ndarray, fine: np.ndarray, coarse: np.ndarray, n_sites: int
) -> tuple[Divergence, Divergence]:
    """:func:`enumerated` of a q that is an integral on a grid; a coarser grid tells its error.

    Arguments:
        log_p, fine, coarse: Normalised, ``(2**N,)`` nats.
    """
    results = []
    for best, other in zip(enumerated(log_p, fine, n_sites), enumerated(log_p, coarse, n_sites), strict=True):
        error = abs(best.estimate.mean - other.estimate.mean)
        note = "latent integral by quadrature, error from a coarser grid"
        results.append(replace(best, estimate=Estimate(best.estimate.mean, error), note=note))
    return results[0], results[1]


def enumerated_from_repeats(
    log_p: np.ndarray, log_q: np.ndarray, n_sites: int
) -> tuple[Divergence, Divergence]:
    """Both directions over all states, where q itself is an unbiased estimate repeated R times.

    The mean over repeats is put for q; a jackknife over them gives the error and takes out the leading bias,
    which is of order 1/R since the logarithm of a noisy q is too small on average.

    Arguments:
        log_p: Normalised, ``(2**N,)`` nats.
        log_q: Logarithms of the independent estimates, ``(R, 2**N)``.
    """
    repeats = len(log_q)
    shift = log_q.max(0)
    weights = np.exp(log_q - shift)
    everything = weights.sum(0)
    results = []
    for direction in (FORWARD, REVERSE):

        def kl(mean: np.ndarray, direction: str = direction) -> float:
            log_mean = np.log(mean) + shift
            value = (
                _expectation(log_p, log_p - log_mean)
                if direction == FORWARD
                else _expectation(log_mean, log_mean - log_p)
            )
            return value / n_sites

        left_out = np.array([kl((everything - w) / (repeats - 1)) for w in weights])
        corrected = repeats * kl(everything / repeats) - (repeats - 1) * left_out.mean()
        error = math.sqrt((repeats - 1) * left_out.var())
        total = np.exp(logsumexp(log_q) - math.log(repeats))
        note = (
            f"q by importance sampling, {repeats} independent repeats; over all states it sums to {total:.4f}"
        )
        results.append(Divergence(direction, "estimated", Estimate(float(corrected), error), note=note))
    return results[0], results[1]


def averaged(
    log_ratio: np.ndarray, n_sites: int, direction: str, *, log_z_error: float = 0.0, kind: Kind = "estimated"
) -> Divergence:
    r"""The mean of :math:`\ln(p/q)` over samples of p, or of :math:`\ln(q/p)` over samples of q, per site.

    Unbiased, so a value below zero within its error is an honest zero.

    Arguments:
        log_ratio: ``(chains, n)`` nats.
        log_z_error: One standard error, nats, of a log partition function in the ratio of all samples.
    """
    mean = stats.mean(log_ratio / n_sites)
    error = math.hypot(mean.error, log_z_error / n_sites)
    note = f"log Z of the model adds {log_z_error / n_sites:.1g} to the error" if log_z_error else ""
    return Divergence(direction, kind, Estimate(mean.mean, error, mean.tau), note=note)


def counted(states: np.ndarray, log_p: np.ndarray, n_sites: int) -> Divergence:
    r"""KL(q‖p) of a model that only draws samples, from how often each of all states was drawn.

    .. math:: \frac1N \Big[ \sum_s \hat q_s (\ln \hat q_s - \ln p_s) - \frac{K - 1}{2n} \Big]

    with K states seen in n draws (Miller's correction). As a rule it is still too large while many states
    that matter have been drawn only a few times. The other direction has no such estimate: it is infinite as
    soon as one state is missed.

    Arguments:
        states: Index of each drawn state, ``(chains, n)``.
        log_p: Normalised, ``(2**N,)`` nats.
    """
    counts = np.bincount(states.ravel(), minlength=len(log_p))
    seen, n = int((counts > 0).sum()), states.size
    mean = stats.mean((np.log(counts[states] / n) - log_p[states]) / n_sites)
    bias = (seen - 1) * 2 * mean.tau / (2 * n * n_sites)
    note = f"{n} draws met {seen} of {len(log_p)} states; {bias:.2g} taken off for the bias of counting"
    return Divergence(REVERSE, "histogram", Estimate(mean.mean - bias, mean.error, mean.tau), note=note)


def histogram(model: np.ndarray, monte_carlo: np.ndarray, of: str, *, bins: int = 20) -> Divergence:
    r"""KL(p‖q) of the distributions of one observable, in nats (not per site).

    By the data-processing inequality this is a lower bound on the divergence of the configurations: laws that
    differ may have the same histogram. Bins hold about equal shares of both samples pooled; the probability
    of each is :math:`(n_i + \tfrac12) / (n + K/2)`, so a bin that the model never enters costs about
    :math:`p_i \ln (2 n p_i)` and not infinity. Bias and error come from a jackknife of each sample in turn,
    autocorrelation included; two samples of one law give zero within the error (which is then a little
    generous: one sigma covers about four times in five).

    Arguments:
        model: ``(chains, n)``.
        monte_carlo: ``(chains, n)``, of another shape if need be.
        of: Symbol of the observable.
        bins: At most so many; fewer where the observable takes few values.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> a, b, c = (rng.normal(x, size=(8, 2000)) for x in (0.0, 0.0, 1.0))
        >>> histogram(a, b, "m").estimate.sigmas_from(0) < 4, histogram(a, c, "m").estimate.mean > 0.4
        (True, True)
    """
    edges = _pooled_edges(model, monte_carlo, bins)
    shares = [_indicators(x, edges) for x in (model, monte_carlo)]
    k = len(edges) + 1
    q, p = (
        (share.mean((1, 2)) * x.size + 0.5) / (x.size + k / 2)
        for share, x in zip(shares, (model, monte_carlo), strict=True)
    )

    def smooth(means: tuple[float, ...], size: int) -> np.ndarray:
        return (np.array(means) * size + 0.5) / (size + k / 2)

    plain = float((p * np.log(p / q)).sum())
    from_q = stats.jackknife(lambda *x: float((p * np.log(p / smooth(x, model.size))).sum()), *shares[0])
    from_p = stats.jackknife(
        lambda *x: float(xlogy(y := smooth(x, monte_carlo.size), y / q).sum()), *shares[1]
    )
    null = _null_spread(
        k, sum(_tau(share) / x.size for share, x in zip(shares, (model, monte_carlo), strict=True))
    )
    error = max(math.hypot(from_q.error, from_p.error), null)
    empty = int((shares[0].sum((1, 2)) == 0).sum())
    note = f"{k} bins" + (f", {empty} of them never drawn by the model" if empty else "")
    tau = max(from_q.tau, from_p.tau)
    return Divergence(FORWARD, "histogram", Estimate(from_q.mean + from_p.mean - plain, error, tau), of, note)


def effective_sample_size(log_weights: np.ndarray) -> float:
    r""":math:`(\sum w)^2 / (n \sum w^2)` of the weights p/q at samples of q, between 1/n and 1.

    A model that misses a whole mode still shows weights in good health: read it with the histogram of m.

    Example:
        >>> round(effective_sample_size(np.zeros(10)), 12)
        1.0
    """
    x = np.asarray(log_weights, dtype=np.float64).ravel()
    return float(np.exp(2 * logsumexp(x) - logsumexp(2 * x)) / x.size)


@dataclass(frozen=True)
class Joint:
    """Agreement of several means at once: ``chi2`` on ``dof`` degrees of freedom and its ``p_value``."""

    chi2: float
    dof: int
    p_value: float
    of: tuple[str, ...]


def joint(model: dict[str, np.ndarray], monte_carlo: dict[str, np.ndarray]) -> Joint | None:
    r"""Hotelling's test that all means agree, their correlations taken from the data.

    .. math:: T^2 = d^\top (S_q + S_p)^{-1} d , \qquad \frac{B - k}{k (B - 1)} T^2 \sim F(k, B - k)

    for the difference d of k means and covariances S from B blocks (the fewer of the two samples), each
    longer than 10 tau or a chain of its own. None where a sample has too few blocks to judge by.

    Arguments:
        model, monte_carlo: The same names, each ``(chains, n)``.

    References:
        | The generalization of Student's ratio (Hotelling, 1931)
    """
    names = tuple(model)
    cut = [_block_means(np.stack([sample[name] for name in names])) for sample in (model, monte_carlo)]
    blocks, k = min(x.shape[1] for x in cut), len(names)
    if blocks < 4 * k:
        return None
    difference = cut[0].mean(1) - cut[1].mean(1)
    covariance = sum(np.cov(x) / x.shape[1] for x in cut)
    scale = np.sqrt(np.maximum(np.diag(covariance), np.finfo(float).tiny))
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    free = values > 1e-9 * max(values.max(), 1e-300)
    along = vectors.T @ (difference / scale)
    if not free.any() or (np.abs(along[~free]) > 1e-6 * max(1.0, np.abs(along).max())).any():
        same = bool(np.allclose(difference, 0))
        return Joint(0.0 if same else math.inf, k, 1.0 if same else 0.0, names)
    t2, dof = float((along[free] ** 2 / values[free]).sum()), int(free.sum())
    p_value = float(fdtrc(dof, blocks - dof, t2 * (blocks - dof) / (dof * (blocks - 1))))
    return Joint(t2, dof, p_value, names)


def _expectation(log_weights: np.ndarray, values: np.ndarray) -> float:
    """Sum of ``exp(log_weights) * values``, in which a state of weight zero counts nothing."""
    weights = np.exp(log_weights)
    return float((weights * np.where(weights > 0, values, 0.0)).sum())


def _pooled_edges(model: np.ndarray, monte_carlo: np.ndarray, bins: int) -> np.ndarray:
    """Inner edges, each a value that opens a bin; about equal shares of the two laws pooled half and half."""
    values = np.concatenate([model.ravel(), monte_carlo.ravel()])
    weights = np.concatenate([np.full(x.size, 0.5 / x.size) for x in (model, monte_carlo)])
    edges = np.quantile(values, np.arange(1, bins) / bins, weights=weights, method="inverted_cdf")
    return np.unique(edges[edges > values.min()])


def _indicators(x: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """``(bins, chains, n)``: 1 where a sample falls in the bin."""
    index = np.searchsorted(edges, x, side="right")
    return (index == np.arange(len(edges) + 1)[:, None, None]).astype(float)


def _tau(indicators: np.ndarray) -> float:
    """Root mean square over the bins of their autocorrelation times."""
    return math.sqrt(np.mean([stats.tau_int(x) ** 2 for x in indicators]))


def _null_spread(k: int, tau_per_draw: float) -> float:
    """Standard deviation where both laws agree: half a chi-squared on k - 1 degrees of freedom.

    There the divergence is quadratic in the fluctuations, where a jackknife is not to be trusted alone.
    """
    return math.sqrt(2 * (k - 1)) * tau_per_draw


def _block_means(x: np.ndarray) -> np.ndarray:
    """Means ``(k, B)`` of blocks of ``(k, chains, n)``: stretches of chains, about 64 if tau allows."""
    _, chains, n = x.shape
    tau = max(stats.tau_int(series) for series in x)
    pieces = max(1, min(math.ceil(64 / chains), int(n / (10 * tau))))
    kept = n // pieces * pieces
    return x[..., :kept].reshape(len(x), chains * pieces, -1).mean(-1)
