r"""Replicas that run side by side in one word, one row or one sampler are independent of each other.

One replica is a vector x of all its spins at all times it was looked at; the overlap of two is
q_ab = x_a . x_b / |x|^2. Where replicas are independent and none prefers a sign, every q_ab has the mean 0,
no two of them are correlated, and the mean of all R (R - 1) / 2 has the variance 2 <q_ab^2> / (R (R - 1)). It
comes from |sum_a x_a|^2 in O(N R).

Replicas that share random numbers become alike, or each other's negatives: there the mean overlap is zero,
and the squared one tells. Of independent replicas its mean at one time is the sum of G_ij^2 over N^2, and on
a torus G_ij, the correlation of two sites, can be averaged over translations, which no shared random number
survives.

Both sums have no terms linear in a single replica, and follow no normal law: the longest tail they can have
is that of (chi^2 - 1) / sqrt 2 with one degree of freedom, and z < 13 gives false alarms of 1.4e-5. There
are ten on fixed seeds.
"""

import numpy as np
import pytest
from scipy.stats import chisquare

from ising import exact, lattices, simulate
from ising.kernels import LineWolff, Multispin, ParallelWolff
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
    """Mean over pairs and times of q^2 less that of the overlap of all translations, in standard errors."""
    difference = np.zeros((len(spins), len(spins)))
    for x in spins.transpose(1, 0, 2).astype(np.float32):
        waves = np.abs(np.fft.fft2(x.reshape(-1, L, L))) ** 2 / x.shape[1]
        G = np.fft.ifft2(waves).real.reshape(len(x), -1).astype(np.float32)  # of one replica
        difference += (x @ x.T / x.shape[1]) ** 2 - G @ G.T / x.shape[1]
    np.fill_diagonal(difference, 0)
    return float(difference.sum() / np.sqrt(2 * (difference**2).sum()))


def findings(spins: np.ndarray) -> dict[str, bool]:
    """What is as it is among independent replicas."""
    return {
        "mean overlap": abs(mean_overlap_z(spins)) < TAIL,
        "squared overlap": abs(squared_overlap_z(spins)) < TAIL,
        "all distinct": len(np.unique(spins[:, -1], axis=0)) == len(spins),
    }


@pytest.mark.parametrize(("update", "thin"), [("metropolis", 500), ("heat_bath", 500), ("wolff", 10)])
def test_a_thousand_replicas_are_independent(update, thin):
    """10 000 sweeps, or 200 clusters in each replica, at the critical temperature, after burn-in."""
    run = simulate(
        SQUARE, beta=BETA, update=update, samples=SNAPSHOTS, burn_in=5 * thin, thin=thin, chains=REPLICAS
    )
    assert run.provenance["kernel"] == {"wolff": "parallel wolff"}.get(update, "multispin")
    assert findings(run.spins) == {"mean overlap": True, "squared overlap": True, "all distinct": True}


@jit
def shared_sweeps(words, rng, neighbours, accept, n):
    """Metropolis where the 64 replicas of a word share their random number, as many published codes do."""
    s0, s1, s2, s3 = rng[0], rng[1], rng[2], rng[3]
    for _ in range(n):
        for i in range(words.shape[0]):
            for w in range(words.shape[1]):
                own = words[i, w]
                a, b = own ^ words[neighbours[i, 0], w], own ^ words[neighbours[i, 1], w]
                c, d = own ^ words[neighbours[i, 2], w], own ^ words[neighbours[i, 3], w]
                some = a | b | c | d
                two = (a & b) | (c & d) | ((a | b) & (c | d))
                bits, s0, s1, s2, s3 = step(s0, s1, s2, s3)
                u = fraction(bits)
                flip = ~np.uint64(0) if u < accept[0] else some if u < accept[1] else two
                words[i, w] = own ^ flip
    rng[0], rng[1], rng[2], rng[3] = s0, s1, s2, s3


@pytest.mark.parametrize("start", ["random", "ordered"])
def test_a_random_number_shared_by_the_replicas_of_a_word_is_caught(start):
    """They forget their different starts, except the sign, together; 6 % of all pairs are of one word."""
    words = np.random.default_rng(1).integers(0, 2**64, (L * L, 16), dtype=np.uint64)
    if start == "ordered":
        words[:] = 2**64 - 1
    rng = streams(np.random.SeedSequence(1), 1)[:, 0].copy()
    spins = np.empty((REPLICAS, SNAPSHOTS, L * L), dtype=np.int8)
    for k in range(SNAPSHOTS):
        shared_sweeps(words, rng, SQUARE.lattice.neighbours[0].numpy(), np.exp([-8 * BETA, -4 * BETA]), 500)
        bits = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")
        spins[:, k] = 2 * bits.T[:REPLICAS].astype(np.int8) - 1
    alike = {"mean overlap": start == "random", "squared overlap": False, "all distinct": False}
    assert findings(spins) == alike


@pytest.mark.parametrize(
    ("form", "update", "shared"),
    [
        (Multispin, "metropolis", 488),
        (Multispin, "heat_bath", 488),
        (ParallelWolff, "wolff", 488),
        (LineWolff, "wolff", 32),
    ],
)
def test_a_stream_shared_by_two_columns_is_caught(form, update, shared):
    """Replicas k and 512 + k, or k and 32 + k of the first two groups, stay the same for ever."""
    distinct = []
    for common in (False, True):
        start = np.ones((REPLICAS, L * L), dtype=np.int8)
        sampler = form(SQUARE, update, BETA, start, np.random.SeedSequence(1))
        streams_of_columns = sampler.state()["rng"]
        if common:
            streams_of_columns[1] = streams_of_columns[0]
        sampler.load(sampler.state() | {"rng": streams_of_columns})
        sampler.sweep(200)
        distinct.append(len(np.unique(sampler.spins(), axis=0)))
    assert distinct == [REPLICAS, REPLICAS - shared]


@pytest.mark.parametrize("form", [LineWolff, ParallelWolff])
def test_every_replica_has_its_own_seed_of_a_cluster(form):
    """At high temperature a cluster is one site: uniform over sites, in the replicas of a word as well."""
    replicas = 51_200
    start = np.ones((replicas, L * L), dtype=np.int8)
    sampler = form(SQUARE, "wolff", 1e-9, start, np.random.SeedSequence(1))
    sampler.sweep(1)
    spins = sampler.spins()
    assert ((spins < 0).sum(1) == 1).all()
    site = spins.argmin(1)
    assert chisquare(np.bincount(site, minlength=L * L)).pvalue > FALSE_ALARM
    same = (site.reshape(-1, 2)[:, 0] == site.reshape(-1, 2)[:, 1]).sum()
    expected = replicas / 2 / L**2
    assert abs(same - expected) < 4.5 * np.sqrt(expected)
    word = site.reshape(-1, 64)
    alike = (np.sort(word, axis=1)[:, 1:] == np.sort(word, axis=1)[:, :-1]).mean()
    assert 0.05 < alike < 0.2  # 64 draws of 256 sites repeat 0.11 of them; one draw for all would repeat all
