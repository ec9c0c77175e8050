"""Houdayer moves: the sum of both energies, the clusters, the joint Boltzmann law, what they are good for.

False alarms: 1e-5 for each p-value, about 20 of them on fixed seeds.
"""

import numpy as np
import pytest
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import binom

from ising import exact, glasses, lattices
from ising.houdayer import Houdayer
from ising.kernels.xoshiro import fraction, jit, step, streams
from ising.model import Ising
from tests.checks import FALSE_ALARM, goodness_of_fit
from tests.ising import laws

FORMS = ("bytes", "words")
SEED = np.random.SeedSequence(5)


def moved(form: str, model: Ising, a: np.ndarray, b: np.ndarray, moves: int = 1, threads: int = 1):
    """Pairs of replicas ``(pairs, N)`` after some moves, as plain or as packed spins."""
    pairs = len(a)
    if form == "bytes":
        spins = np.concatenate([a, b])
        mover = Houdayer(model, pairs, SEED, threads)
        for _ in range(moves):
            mover.move(spins, np.arange(pairs), np.arange(pairs, 2 * pairs))
        return spins[:pairs], spins[pairs:]
    chains = np.random.default_rng(4).permutation(2 * pairs)  # pairs may sit anywhere in the words
    spins = np.empty((2 * pairs, a.shape[1]), np.int8)
    spins[chains] = np.concatenate([a, b])
    packed = pack(spins)
    mover = Houdayer(model, pairs, SEED, threads)
    for _ in range(moves):
        mover.move_words(packed, chains[:pairs], chains[pairs:])
    spins = unpack(packed)[chains]
    return spins[:pairs], spins[pairs:]


def pack(spins: np.ndarray) -> np.ndarray:
    """Bit b of word w is chain 64 w + b: ``(64 * words, N)`` to ``(N, words)``."""
    bits = np.packbits(spins.T > 0, axis=-1, bitorder="little")
    return np.ascontiguousarray(bits).view("<u8").astype(np.uint64)


def unpack(words: np.ndarray) -> np.ndarray:
    bits = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=-1, bitorder="little")
    return np.ascontiguousarray(2 * bits.T.astype(np.int8) - 1)


def random_pairs(model: Ising, pairs: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    return tuple(rng.choice(np.array([-1, 1], np.int8), (pairs, model.lattice.n_sites)) for _ in range(2))


def energies(model: Ising, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (model.energy(torch.from_numpy(a)) + model.energy(torch.from_numpy(b))).numpy()


def components(model: Ising, differ: np.ndarray) -> np.ndarray:
    """Label of the cluster of each site where two replicas differ, 0 elsewhere."""
    i, j = model.lattice.edges.numpy()[model.bond_couplings.numpy() != 0].T
    inside = differ[i] & differ[j]
    bonds = np.ones(inside.sum()), (i[inside], j[inside])
    graph = coo_array(bonds, shape=(len(differ), len(differ)))
    return np.where(differ, connected_components(graph, directed=False)[1] + 1, 0)


def joint_p_value(model: Ising, a: np.ndarray, b: np.ndarray, beta: float) -> float:
    """Chi-squared of the pair as one configuration of 2 N spins, and of each replica by itself."""
    p = exact.boltzmann(model, beta)
    pair = torch.from_numpy(np.concatenate([a, b], axis=1))
    single = [laws.p_value(torch.from_numpy(x), model, beta) for x in (a, b)]
    return 3 * min(goodness_of_fit(pair, torch.outer(p, p).flatten()), *single)


def equilibrium_pairs(model: Ising, beta: float, pairs: int) -> tuple[np.ndarray, np.ndarray]:
    return tuple(laws.equilibrium(model, beta, pairs, seed=k).numpy() for k in (0, 1))


GLASSES = {
    "gaussian": glasses.gaussian(lattices.square(3), 3),
    "in a field": glasses.gaussian(lattices.triangular(3), 3, h=0.4),
    "bimodal in fields": glasses.bimodal(lattices.square(3), 3, h=torch.linspace(-1, 1, 9)),
    "diluted": Ising(lattices.square(3), J=np.tile([1.0, 0.0, -1.0], 6)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("h", [0.0, 0.3])
def test_the_sum_of_the_energies_is_conserved(form, h):
    for model in (
        glasses.bimodal(lattices.square(12), 1, h=h),
        glasses.gaussian(lattices.cubic(4), 1, h=h),
        glasses.gaussian(lattices.square(7, pbc=False), 1, h=h),
    ):
        a, b = random_pairs(model, 128)
        a_new, b_new = moved(form, model, a, b)
        np.testing.assert_allclose(energies(model, a_new, b_new), energies(model, a, b), atol=1e-9)
        assert (model.energy(torch.from_numpy(a_new)) != model.energy(torch.from_numpy(a))).sum() > 64


@pytest.mark.parametrize("form", FORMS)
def test_one_cluster_of_each_pair_changes_sides(form):
    model = glasses.bimodal(lattices.square(8), 1)
    model = Ising(model.lattice, model.bond_couplings * (torch.arange(128) % 5 != 0))  # a fifth of no bonds
    a, b = random_pairs(model, 128)
    a_new, b_new = moved(form, model, a, b)
    np.testing.assert_array_equal(a_new * b_new, a * b)
    for before, after, partner in zip(a, a_new, b, strict=True):
        label = components(model, before != partner)
        changed = before != after
        (number,) = np.unique(label[changed])
        assert number > 0
        np.testing.assert_array_equal(changed, label == number)


@pytest.mark.parametrize("form", FORMS)
def test_clusters_are_chosen_by_their_size(form):
    """Two clusters of one and three sites: shares of 1/4 and 3/4. A binomial test, two-sided."""
    model, pairs = glasses.bimodal(lattices.square(4, pbc=False), 1), 6400
    a = np.ones((pairs, 16), np.int8)
    b = a.copy()
    b[:, [0, 10, 11, 15]] = -1
    a_new, _ = moved(form, model, a, b)
    small, large = (a_new[:, 0] < 0).sum(), (a_new[:, [10, 11, 15]] < 0).all(1).sum()
    assert small + large == pairs
    assert 2 * min(binom.cdf(small, pairs, 0.25), binom.sf(small - 1, pairs, 0.25)) > FALSE_ALARM


def test_the_sizes_are_told_and_equal_replicas_stay():
    model = glasses.bimodal(lattices.square(8), 1)
    a, b = random_pairs(model, 64)
    a[5] = b[5]
    spins, first, second = np.concatenate([a, b]), np.arange(64), np.arange(64, 128)
    words = pack(spins)
    by_bytes = Houdayer(model, 64, SEED).move(spins, first, second), spins
    by_words = Houdayer(model, 64, SEED).move_words(words, first, second), unpack(words)
    for sizes, moved_spins in (by_bytes, by_words):
        np.testing.assert_array_equal(sizes, (moved_spins[:64] != a).sum(1))
        np.testing.assert_array_equal(sizes, (moved_spins[64:] != b).sum(1))
        assert sizes[5] == 0
        assert (np.delete(sizes, 5) > 0).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", GLASSES)
def test_the_joint_boltzmann_law_is_invariant(form, name):
    model, beta = GLASSES[name], 0.8
    a, b = equilibrium_pairs(model, beta, 64 * 1000)
    assert joint_p_value(model, a, b, beta) > FALSE_ALARM
    assert joint_p_value(model, *moved(form, model, a, b, moves=2), beta) > FALSE_ALARM


@pytest.mark.parametrize("form", FORMS)
def test_a_cluster_that_misses_a_bond_is_caught(form):
    model, beta = GLASSES["gaussian"], 0.8
    J = model.bond_couplings
    short = Ising(model.lattice, J=torch.where(J.abs() == J.abs().max(), 0.0, J))
    a, b = equilibrium_pairs(model, beta, 64 * 1000)
    a_new, b_new = moved(form, short, a, b)
    assert joint_p_value(model, a_new, b_new, beta) < FALSE_ALARM
    assert not np.allclose(energies(model, a_new, b_new), energies(model, a, b))


def test_a_cluster_flipped_in_one_replica_alone_is_caught():
    model, beta = GLASSES["gaussian"], 0.8
    a, b = equilibrium_pairs(model, beta, 64 * 1000)
    assert joint_p_value(model, moved("bytes", model, a, b)[0], b, beta) < FALSE_ALARM


@pytest.mark.parametrize("form", FORMS)
def test_threads_do_not_change_a_byte(form):
    model = glasses.gaussian(lattices.square(6), 1)
    a, b = random_pairs(model, 448)
    results = [np.stack(moved(form, model, a, b, moves=3, threads=threads)) for threads in (1, 2, 4)]
    assert all((result == results[0]).all() for result in results)


def test_words_need_not_be_full():
    """Ten pairs of a hundred chains; the other bits stay as they are."""
    model = glasses.gaussian(lattices.square(6), 1)
    words = np.random.default_rng(1).integers(0, 2**64, (36, 2), dtype=np.uint64)
    for first in (np.arange(10), np.arange(20, 30)):
        moved_words = words.copy()
        Houdayer(model, 10, SEED).move_words(moved_words, first, np.arange(64, 74))
        before, after = unpack(words), unpack(moved_words)
        touched = np.unique((before != after).nonzero()[0])
        np.testing.assert_array_equal(touched, np.concatenate([first, np.arange(64, 74)]))
        np.testing.assert_allclose(
            energies(model, after[first], after[64:74]), energies(model, before[first], before[64:74])
        )


def test_the_streams_are_saved_and_restored():
    model = glasses.gaussian(lattices.square(6), 1)
    spins = np.concatenate(random_pairs(model, 64))
    mover, again = (Houdayer(model, 64, seed) for seed in (SEED, np.random.SeedSequence(6)))
    pairs = np.arange(64), np.arange(64, 128)
    mover.move(spins, *pairs)
    again.load(mover.state())
    copy = spins.copy()
    mover.move(spins, *pairs)
    again.move(copy, *pairs)
    np.testing.assert_array_equal(copy, spins)


def test_what_makes_no_sense_is_refused():
    model = GLASSES["gaussian"]
    mover, spins = Houdayer(model, 2, SEED), np.ones((4, 9), np.int8)
    for first, second in [([0, 1], [2, 1]), ([0, 1], [2, 4]), ([0, -1], [1, 2])]:
        with pytest.raises(ValueError, match="distinct chains from 0 to 3"):
            mover.move(spins, first, second)
    with pytest.raises(ValueError, match="made for 2 pairs, got"):
        mover.move(spins, [0], [1])
    with pytest.raises(ValueError, match="spins must be int8, got float64"):
        mover.move(spins.astype(float), [0, 1], [2, 3])
    with pytest.raises(ValueError, match="packed spins are uint64 words, got int64"):
        mover.move_words(np.zeros((9, 1), np.int64), [0, 1], [2, 3])


@jit
def heat_bath(spins, rng, beta, neighbours, J):
    """A plain sweep of every row of ``spins``, each at its own temperature."""
    for row in range(len(spins)):
        s = spins[row]
        s0, s1, s2, s3 = rng[row]
        for i in range(s.size):
            field = 0.0
            for k in range(neighbours.shape[1]):
                field += J[i, k] * s[neighbours[i, k]]
            bits, s0, s1, s2, s3 = step(s0, s1, s2, s3)
            s[i] = 1 if fraction(bits) * (1 + np.exp(-2 * beta[row] * field)) < 1 else -1
        rng[row] = s0, s1, s2, s3


def tempered(glass: Ising, betas: np.ndarray, ladders: int, sweeps: int, clusters: bool) -> int:
    """Round trips of replica exchange between pairs of replicas."""
    levels, width = (
        len(betas),
        2 * ladders,
    )  # row t * width + l: ladder l, the second replicas after the first
    rng = np.random.default_rng(1)
    spins = rng.choice(np.array([-1, 1], np.int8), (levels * width, glass.lattice.n_sites))
    stream, beta = np.ascontiguousarray(streams(SEED, len(spins)).T), np.repeat(betas, width)
    table = glass.lattice.neighbours[0].numpy(), np.array(glass.neighbour_couplings.numpy())
    rows = np.arange(len(spins)).reshape(levels, 2, ladders)
    mover = Houdayer(glass, levels * ladders, np.random.SeedSequence(2))
    walker, ladder = np.repeat(np.arange(levels)[:, None], width, axis=1), np.arange(width)
    returning, trips = np.zeros((levels, width), dtype=bool), 0
    for k in range(sweeps):
        heat_bath(spins, stream, beta, *table)
        if clusters:
            mover.move(spins, rows[:, 0].ravel(), rows[:, 1].ravel())
        energy = glass.energy(torch.from_numpy(spins)).numpy().reshape(levels, width)
        low = np.arange(k % 2, levels - 1, 2)
        gain = (betas[low] - betas[low + 1])[:, None] * (energy[low] - energy[low + 1])
        pair, column = (rng.random(gain.shape) < np.exp(np.minimum(gain, 0))).nonzero()
        a, b = low[pair] * width + column, (low[pair] + 1) * width + column
        spins[np.concatenate([a, b])] = spins[np.concatenate([b, a])]
        walker.ravel()[np.concatenate([a, b])] = walker.ravel()[np.concatenate([b, a])]
        trips += returning[walker[0], ladder].sum()
        returning[walker[0], ladder], returning[walker[-1], ladder] = False, True
    return trips


def test_a_two_dimensional_glass_mixes_faster_with_them():
    """Configurations travel through the temperatures about three times as often, here at least twice."""
    glass = glasses.bimodal(lattices.square(16), 3)
    betas = 1 / np.geomspace(0.3, 2.0, 14)
    without, with_them = (tempered(glass, betas, 4, 600, clusters) for clusters in (False, True))
    assert with_them > 2 * without > 0
