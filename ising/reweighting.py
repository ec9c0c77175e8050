r"""Runs at several temperatures joined into curves: multi-histogram reweighting, with bootstrap errors.

Samples of total energy E from runs at :math:`\beta_k` are weighted as if they came from one mixture,

.. math::
    \langle A \rangle_\beta = \frac{\sum_n w_n A_n}{\sum_n w_n}, \qquad
    w_n = \frac{g_n^{-1} e^{-\beta E_n}}{\sum_k (n_k / g_k)\, e^{a_k - \beta_k E_n}}, \qquad
    g_k = 2 \tau_{int,k},

where :math:`n_k / g_k` is the number of independent samples of run k and :math:`a_k = -\log Z(\beta_k)` up to
a constant follows from :math:`e^{-a_k} = \sum_n w_n` at :math:`\beta_k`. This is the most accurate unbiased
combination; the free energies minimise a convex function, which Newton's method does in a few steps.

Errors come from resampling. A *replica* is the same analysis of as many blocks drawn with replacement; a
block is a chain, or a stretch of one of at least 8 tau. Functions here return all replicas at once, along the
first axis, the data themselves first. Functions of replicas are replicas; :func:`estimates` sums them up.

References:
    | Optimized Monte Carlo data analysis (Ferrenberg and Swendsen, 1989)
    | Statistically optimal analysis of samples from multiple equilibrium states (Shirts and Chodera, 2008)

Example:
    >>> from ising import Ising, lattices, simulate
    >>> model = Ising(lattices.square(4))
    >>> runs = [simulate(model, beta=b, samples=99, burn_in=50, thin=9, seed=1) for b in (0.3, 0.4)]
    >>> estimates(energy(Multihistogram(runs), 0.35)).sigmas_from(-1.10866) < 4
    True
"""

import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.special import logsumexp

from . import stats
from .free_energies import joined
from .run import Run
from .stats import Estimate

Moment = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of total energies and magnetisations
Curve = Callable[["Multihistogram", ArrayLike], np.ndarray]  # replicas of an observable against beta

BLOCKS = 64  # of a run, where its chains allow
LEAST_OVERLAP, NO_OVERLAP, LEAST_ESS = 0.05, 1e-4, 100.0
_NUMBERS = 2**22  # float64 numbers in the largest array


class PoorOverlap(UserWarning):
    """The runs hardly sample what was asked for, so the result and its error rest on a few samples."""


class Multihistogram:
    """Runs of one model at different temperatures, ready to be evaluated at any temperature between.

    Arguments:
        runs: Same model and shape; several may share a temperature if their seeds differ.
        resamples: Bootstrap replicas. An error from R of them is known to about :math:`1 / \\sqrt{2R}`.
        seed: Of the resampling, which is independent for each lattice size.

    Attributes:
        betas: Inverse temperatures of the runs, rising, shape ``(K,)``.
        inefficiencies: :math:`g_k = 2 \\tau_{int}` in samples, of the slower of E and :math:`|M|`, ``(K,)``.
        overlaps: Of neighbouring temperatures, ``(K - 1,)``: the common area of their energy distributions.
        n_sites: Number of sites N.

    Warns:
        PoorOverlap: If neighbouring energy distributions share less than 5 % of their area.
        ising.stats.ChainTooShort: If a run has fewer than 16 blocks.
    """

    def __init__(self, runs: Sequence[Run], *, resamples: int = 200, seed: int = 0):
        runs = sorted(runs, key=lambda run: run.beta)
        _check(runs, resamples)
        self.n_sites = math.prod(runs[0].shape)
        self.betas = np.array([run.beta for run in runs])
        self.resamples = resamples
        self.inefficiencies = np.array([_inefficiency(run) for run in runs])
        self._energy, self._magnetisation = (
            np.concatenate([np.ravel(getattr(run, name)) for run in runs])
            for name in ("energies", "magnetisations")
        )
        self._levels, level = np.unique(self._energy, return_inverse=True)
        numbers = [_blocks(run, g) for run, g in zip(runs, self.inefficiencies, strict=True)]
        counts = [int(block.max()) + 1 for block in numbers]
        block = np.concatenate(numbers) + np.repeat(np.cumsum([0] + counts[:-1]), [b.size for b in numbers])
        self._cells, self._cell = np.unique(block * len(self._levels) + level, return_inverse=True)
        self._n_blocks = sum(counts)
        entropy = [seed, *runs[0].shape, len(runs)]
        self._weights = _resampled(counts, resamples, np.random.SeedSequence(entropy)) / np.repeat(
            self.inefficiencies, counts
        )
        self._of_run = np.repeat(np.eye(len(runs)), counts, axis=0)
        self._numbers = self._weights * np.bincount(block, minlength=self._n_blocks) @ self._of_run
        self._histogram = self._per_block(np.ones_like(self._energy))
        self._free = self._solve()
        self.overlaps = self._overlaps()
        self._warn_of_gaps()

    def means(self, beta: ArrayLike, *moments: Moment) -> tuple[np.ndarray, ...]:
        r"""Replicas of :math:`\langle f(E, M) \rangle` for each function of total energy and magnetisation.

        Arguments:
            beta: One inverse temperature, or several of shape ``(n,)``.
            moments: Functions of two arrays, evaluated sample by sample: ``lambda E, M: M**2``.

        Returns:
            One array per function, shape ``(1 + resamples,)`` or ``(1 + resamples, n)``.

        Warns:
            PoorOverlap: If fewer than 100 independent samples carry the result at one of the temperatures.
        """
        at = np.atleast_1d(np.asarray(beta, dtype=float))
        ess = self.ess(at)
        least = ess.min()
        if least < LEAST_ESS:
            warnings.warn(
                f"only {least:.0f} independent samples carry beta = {at[ess.argmin()]:.6g}; add a run there, "
                f"or stay within {self.betas[0]:.6g} to {self.betas[-1]:.6g}",
                PoorOverlap,
                stacklevel=2,
            )
        tables = [self._histogram] + [
            self._per_block(np.broadcast_to(f(self._energy, self._magnetisation), self._energy.shape))
            for f in moments
        ]
        found = np.empty((len(moments), 1 + self.resamples, len(at)))
        for rows, log_density in self._log_densities(len(at)):
            sums = np.stack([_times(self._weights[rows], table) for table in tables], axis=-1)
            log_u = log_density[:, None, :] - at[:, None] * self._levels
            u = np.exp(log_u - np.where(sums[:, None, :, 0] > 0, log_u, -np.inf).max(-1, keepdims=True))
            total = np.minimum(u, 1.0) @ sums  # levels that a replica lacks are not weighted at all
            found[:, rows] = np.moveaxis(total[..., 1:] / total[..., :1], -1, 0)
        return tuple(found if np.ndim(beta) else found[..., 0])

    def log_z(self, beta: ArrayLike) -> np.ndarray:
        r"""Replicas of :math:`\log Z(\beta) - \log Z(\beta_0)` in nats, :math:`\beta_0` the lowest of all.

        With a run at beta = 0, add :math:`N \log 2` for the partition function itself.
        """
        at = np.atleast_1d(np.asarray(beta, dtype=float))
        found = np.empty((1 + self.resamples, len(at)))
        for rows, log_density in self._log_densities(len(at)):
            counts = _times(self._weights[rows], self._histogram)
            found[rows] = logsumexp(
                log_density[:, None] - at[:, None] * self._levels, b=counts[:, None], axis=-1
            )
        return found if np.ndim(beta) else found[:, 0]

    def ess(self, beta: ArrayLike) -> np.ndarray:
        r"""Independent samples that carry each temperature, :math:`(\sum_n w_n)^2 / \sum_n g_n w_n^2`."""
        at = np.atleast_1d(np.asarray(beta, dtype=float))
        counts = _times(self._weights[:1], self._histogram)[0]
        log_u = self._log_density(slice(0, 1))[0] - at[:, None] * self._levels
        u = np.exp(log_u - log_u.max(-1, keepdims=True))
        return (u @ counts) ** 2 / (u**2 @ counts)

    def _per_block(self, values: np.ndarray) -> sparse.csr_array:
        """Sums over the samples of each block (rows) at each energy level (columns)."""
        sums = np.bincount(self._cell, weights=values, minlength=len(self._cells))
        rows, columns = np.divmod(self._cells, len(self._levels))
        return sparse.csr_array((sums, (rows, columns)), shape=(self._n_blocks, len(self._levels)))

    def _log_densities(self, n: int) -> Iterator[tuple[slice, np.ndarray]]:
        """Replicas in groups small enough for arrays of their size times n times the energy levels."""
        step = max(1, _NUMBERS // (max(n, len(self.betas)) * len(self._levels)))
        for first in range(0, 1 + self.resamples, step):
            rows = slice(first, min(first + step, 1 + self.resamples))
            yield rows, self._log_density(rows)

    def _log_density(self, rows: slice) -> np.ndarray:
        r""":math:`-\log \sum_k (n_k / g_k) e^{a_k - \beta_k E}`, replicas by levels."""
        terms = np.log(self._numbers[rows]) + self._free[rows]
        return -logsumexp(terms[..., None] - self.betas[:, None] * self._levels, axis=1)

    def _solve(self) -> np.ndarray:
        """The free energies of every replica, first those of the data."""
        means = np.array([run @ self._levels / run.sum() for run in self._run_histograms()])
        start = np.concatenate([[0.0], np.cumsum(np.diff(self.betas) * (means[1:] + means[:-1]) / 2)])
        free = np.tile(start, (1 + self.resamples, 1))
        step = max(1, _NUMBERS // (len(self.betas) * len(self._levels)))
        edges = [0, 1, *range(1 + step, 1 + self.resamples, step), 1 + self.resamples]
        for first, last in itertools.pairwise(edges):
            counts = _times(self._weights[first:last], self._histogram)
            begin = np.tile(free[0], (last - first, 1))
            free[first:last] = joined(self.betas, self._levels, counts, self._numbers[first:last], begin)
        return free

    def _run_histograms(self) -> np.ndarray:
        """Samples of each run at each level, ``(K, levels)``."""
        return _times(self._of_run.T, self._histogram)

    def _overlaps(self) -> np.ndarray:
        counts = _times(self._weights[:1], self._histogram)[0]
        log_p = self._log_density(slice(0, 1))[0] - self.betas[:, None] * self._levels
        p = np.exp(log_p - log_p.max(-1, keepdims=True)) * counts
        p /= p.sum(-1, keepdims=True)
        return np.minimum(p[1:], p[:-1]).sum(-1)

    def _warn_of_gaps(self) -> None:
        for k in np.flatnonzero(self.overlaps < LEAST_OVERLAP):
            if self.overlaps[k] < NO_OVERLAP:
                raise ValueError(
                    f"the energies at beta = {self.betas[k]:.6g} and {self.betas[k + 1]:.6g} have nothing in "
                    "common, so the runs cannot be joined; add runs between them"
                )
            warnings.warn(
                f"the energies at beta = {self.betas[k]:.6g} and {self.betas[k + 1]:.6g} overlap by "
                f"{self.overlaps[k]:.1%} only; add a run between them",
                PoorOverlap,
                stacklevel=3,
            )


def estimates(replicas: np.ndarray) -> Estimate | list[Estimate]:
    """The value of the data with the standard deviation of its replicas as error; one per column.

    Example:
        >>> print(estimates(np.array([1.5, 1.4, 1.6])))
        1.50(14)
    """
    found = [
        Estimate(float(mean), float(error))
        for mean, error in zip(
            np.atleast_1d(replicas[0]), np.atleast_1d(replicas[1:].std(0, ddof=1)), strict=True
        )
    ]
    return found if replicas.ndim > 1 else found[0]


def energy(multi: Multihistogram, beta: ArrayLike) -> np.ndarray:
    """Energy per site."""
    return multi.means(beta, lambda E, _: E)[0] / multi.n_sites


def specific_heat(multi: Multihistogram, beta: ArrayLike) -> np.ndarray:
    r""":math:`C = \beta^2 (\langle E^2 \rangle - \langle E \rangle^2) / N`."""
    e, e2 = multi.means(beta, lambda E, _: E, lambda E, _: E**2)
    return np.square(beta) * (e2 - e**2) / multi.n_sites


def abs_m(multi: Multihistogram, beta: ArrayLike) -> np.ndarray:
    r""":math:`\langle |M| \rangle / N`."""
    return multi.means(beta, lambda _, M: np.abs(M))[0] / multi.n_sites


def chi(multi: Multihistogram, beta: ArrayLike) -> np.ndarray:
    r""":math:`\chi = \beta (\langle M^2 \rangle - \langle |M| \rangle^2) / N`."""
    m, m2 = multi.means(beta, lambda _, M: np.abs(M), lambda _, M: M**2)
    return np.asarray(beta) * (m2 - m**2) / multi.n_sites


def chi_symmetric(multi: Multihistogram, beta: ArrayLike) -> np.ndarray:
    r""":math:`\beta \langle M^2 \rangle / N`, the susceptibility where :math:`\langle M \rangle = 0`.

    At the critical point its corrections to scaling are far smaller than those of :func:`chi`.
    """
    return np.asarray(beta) * multi.means(beta, lambda _, M: M**2)[0] / multi.n_sites


def u4(multi: Multihistogram, beta: ArrayLike) -> np.ndarray:
    r"""Binder cumulant :math:`U_4 = 1 - \langle M^4 \rangle / (3 \langle M^2 \rangle^2)`."""
    m2, m4 = multi.means(beta, lambda _, M: M**2, lambda _, M: M**4)
    return 1 - m4 / (3 * m2**2)


def u4_slope(multi: Multihistogram, beta: ArrayLike) -> np.ndarray:
    r""":math:`dU_4 / d\beta`, where :math:`d\langle A \rangle / d\beta` is
    :math:`\langle A \rangle \langle E \rangle - \langle A E \rangle`.
    """
    e, m2, m4, em2, em4 = multi.means(
        beta,
        lambda E, _: E,
        lambda _, M: M**2,
        lambda _, M: M**4,
        lambda E, M: E * M**2,
        lambda E, M: E * M**4,
    )
    return (em4 - m4 * e) / (3 * m2**2) - 2 * m4 * (em2 - m2 * e) / (3 * m2**3)


def log_abs_m_slope(multi: Multihistogram, beta: ArrayLike) -> np.ndarray:
    r""":math:`d \log \langle |M| \rangle / d\beta`, which is
    :math:`\langle E \rangle - \langle |M| E \rangle / \langle |M| \rangle`.
    """
    e, m, em = multi.means(beta, lambda E, _: E, lambda _, M: np.abs(M), lambda E, M: E * np.abs(M))
    return e - em / m


def _check(runs: Sequence[Run], resamples: int) -> None:
    if not runs:
        raise ValueError("reweighting needs at least one run")
    if resamples < 2:
        raise ValueError(f"resamples must be at least 2 to tell an error, got {resamples}")
    for run in runs[1:]:
        if (run.model, tuple(run.shape)) != (runs[0].model, tuple(runs[0].shape)):
            raise ValueError(
                f"all runs must be of one Hamiltonian, got {runs[0].model} and {run.model}; "
                "combine each lattice size by itself"
            )
    if len({(run.beta, run.seed, run.update) for run in runs}) < len(runs):
        raise ValueError("two runs have the same temperature, update and seed, so they repeat each other")


def _inefficiency(run: Run) -> float:
    return 2 * max(stats.tau_int(x) for x in (run.energies, np.abs(run.magnetisations)))


def _blocks(run: Run, inefficiency: float) -> np.ndarray:
    """The number of the block of each sample, from 0, shape ``(chains * samples,)``."""
    chains, n = run.energies.shape
    if chains >= BLOCKS // 2:
        of_chain = np.arange(chains) * min(chains, BLOCKS) // chains
        return np.repeat(of_chain, n)
    pieces = max(1, min(math.ceil(BLOCKS / chains), int(n / (4 * inefficiency))))
    if chains * pieces < 16:
        warnings.warn(
            f"the run at beta = {run.beta:.6g} has only {chains * pieces} independent blocks, so its errors "
            "are uncertain; run longer or more chains",
            stats.ChainTooShort,
            stacklevel=4,
        )
    if chains * pieces < 2:
        raise ValueError(f"the run at beta = {run.beta:.6g} is one block; run longer or more chains")
    return (np.arange(chains)[:, None] * pieces + np.arange(n) * pieces // n).ravel()


def _resampled(counts: Sequence[int], resamples: int, seed: np.random.SeedSequence) -> np.ndarray:
    """How often each block is drawn, ``(1 + resamples, blocks)``; the first row is the data as they are."""
    rng = np.random.default_rng(seed)
    drawn = np.concatenate([rng.multinomial(n, np.full(n, 1 / n), size=resamples) for n in counts], axis=1)
    return np.concatenate([np.ones((1, sum(counts))), drawn])


def _times(weights: np.ndarray, table: sparse.csr_array) -> np.ndarray:
    return (table.T @ weights.T).T
