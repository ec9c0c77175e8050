r"""Replicas that run side by side in one word, one row or one sampler are independent of each other.

One replica is a vector x of all its spins at all times it was looked at; the overlap of two is
q_ab = x_a . x_b / |x|^2. Where replicas are independent and none prefers a sign, every q_ab has the mean 0, no
two of them are correlated, and the mean of all R (R - 1) / 2 has the variance 2 <q_ab^2> / (R (R - 1)). It
comes from |sum_a x_a|^2 in O(N R). The mean of q_ab^2 at one time is the sum of G_ij^2 over N^2, and on a torus
G_ij, the correlation of two sites, can be averaged over translations: no random number that two replicas
share survives that.

Both sums have no terms linear in a single replica, and follow no normal law: the longest tail they can have
is that of (chi^2 - 1) / sqrt 2 with one degree of freedom, and z < 13 gives false alarms of 1.4e-5. There
are ten on fixed seeds.
"""

import numpy as np
import pytest
from scipy.stats import chisquare

from ising import exact, lattices, simulate
from ising.kernels import Multispin, ParallelWolff
from ising.kernels.xoshiro import fraction, jit, step, streams
from ising.model import Ising
from tests.checks import FALSE_ALARM

L, REPLICAS, SNAPSHOTS = 16, 1000, 20
SQUARE = Ising(lattices.square(L))
BETA = 1 / exact.critical_temperature("square")
TAIL = 13.0


def mean_overlap_z(spins: np.ndarray) -> float:
    """Mean overlap of all pairs in standard errors, of ``(replicas, times, N)`` spins."""
    x = spins.reshape(len(spins), -1).astype(np.float32)
    pairs, length = len(x) * (len(x) - 1), x.shape[1]
    total = x.sum(0, dtype=np.float64)
    mean = (total @ total / length - len(x)) / pairs
    squares = ((x @ x.T / length) ** 2).sum(dtype=np.float64) - len(x)
    return float(mean / np.sqrt(2 * squares / pairs / pairs))


def squared_overlap_z(spins: np.ndarray) -> float:
    """Mean of q^2 less the sum of squared correlations, averaged over the times, in standard errors.

    The variance of q^2 bounds that of the part of it which is not linear in a single replica.
    """
    differences, variances = [], []
    pairs = len(spins) * (len(spins) - 1)
    for x in spins.transpose(1, 0, 2).astype(np.float32):
        q2 = (x @ x.T / x.shape[1]) ** 2
        mean = (q2.sum(dtype=np.float64) - len(x)) / pairs
        waves = np.abs(np.fft.fft2(x.reshape(-1, L, L))) ** 2 / x.shape[1]
        G = np.fft.ifft2(waves).real.reshape(len(x), -1)  # of one replica, averaged over all translations
        independent = ((G.sum(0) ** 2).sum() - (G**2).sum()) / pairs / x.shape[1]
        differences.append(mean - independent)
        variances.append((q2**2).sum(dtype=np.float64) / pairs - mean**2)
    return float(np.mean(differences) / np.sqrt(2 * np.mean(variances) / pairs))


def findings(spins: np.ndarray) -> dict[str, bool]:
    """What is as it is among independent replicas."""
    return {
        "mean overlap": abs(mean_overlap_z(spins)) < TAIL,
        "squared overlap": abs(squared_overlap_z(spins)) < TAIL,
        "all distinct": len(np.unique(spins[:, -1], axis=0)) == len(spins),
    }
