"""Cluster kernels beyond what all updates are tested for: cluster sizes, limits, and bad random numbers.

False alarms: 4.5 standard errors for each of about 20 estimates (7e-6 each) and 1e-5 for each of about 45
p-values, on fixed seeds: 1 in 1500 new sets of seeds.
"""

import math

import numpy as np
import pytest
import torch
from scipy.stats import chi2, ks_2samp

from ising import exact, kernels, lattices, stats
from ising.kernels.xoshiro import jit
from ising.model import Ising
from ising.updates import swendsen_wang
from tests.checks import FALSE_ALARM
from tests.ising import laws

CRITICAL = math.asinh(1) / 2
CLUSTERS = {"wolff": kernels.Wolff, "swendsen_wang": kernels.SwendsenWang}
GENERATOR = torch.Generator().manual_seed(3)


def compiled(update: str, model: Ising, beta, spins: np.ndarray, threads: int = 1) -> kernels.Sampler:
    """The cluster kernel, whatever else would be chosen for so many chains."""
    return CLUSTERS[update](model, update, beta, spins, np.random.SeedSequence(1), threads=threads)


def up(chains: int, n_sites: int) -> np.ndarray:
    return np.ones((chains, n_sites), dtype=np.int8)


def energies(sampler: kernels.Sampler, n: int, every: int) -> np.ndarray:
    """Energies per site after every so many sweeps, ``(chains, n)``."""
    series = []
    for _ in range(n):
        sampler.sweep(every)
        series.append(sampler.measure()[0] / sampler.spins().shape[1])
    return np.stack(series, axis=-1)


@pytest.mark.parametrize(("name", "J", "h"), laws.HAMILTONIANS)
@pytest.mark.parametrize("update", CLUSTERS)
def test_the_boltzmann_law_is_invariant(update, name, J, h):
    model = laws.small(name, J, h)
    sampler = compiled(update, model, laws.BETA, laws.equilibrium(model, laws.BETA).numpy())
    sampler.sweep(2)
    assert laws.p_value(torch.from_numpy(sampler.spins()), model, laws.BETA) > FALSE_ALARM


@pytest.mark.parametrize("update", CLUSTERS)
def test_the_energy_of_a_critical_lattice_is_kaufmans(update):
    sampler = compiled(update, Ising(lattices.square(32)), CRITICAL, up(50, 1024))
    sampler.sweep(200)
    energy = stats.mean(energies(sampler, 300, every=3))
    assert energy.sigmas_from(exact.kaufman_energy(32, 32, CRITICAL)) < 4.5
    assert energy.error < 2e-3
    assert energy.sigmas_from(exact.kaufman_energy(32, 32, 0.99 * CRITICAL)) > 4.5  # one percent is seen


def glass(lattice: lattices.Lattice) -> Ising:
    return Ising(lattice, J=torch.randn(len(lattice.edges), generator=GENERATOR))


HAMILTONIANS = {
    "ferromagnet": Ising(lattices.square(8)),
    "frustrated antiferromagnet": Ising(lattices.triangular(8), J=-1.0),
    "glass": glass(lattices.cubic(4)),
}


@pytest.mark.parametrize("model", HAMILTONIANS.values(), ids=HAMILTONIANS)
def test_wolff_clusters_are_as_large_as_those_of_the_rule(model):
    """Sizes of 20 000 clusters from the same spins: two-sample Kolmogorov-Smirnov."""
    spins = torch.ones(20_000, model.lattice.n_sites, dtype=torch.int8)
    spins[:, ::3] = -1

    expected = (laws.swept("readable", "wolff", model, 0.5, spins, 1) != spins).sum(-1).numpy()

    def sizes(beta: float) -> np.ndarray:
        sampler = compiled("wolff", model, beta, spins.numpy())
        sampler.sweep(1)
        return (sampler.spins() != spins.numpy()).sum(-1)

    assert ks_2samp(expected, sizes(0.5)).pvalue > FALSE_ALARM
    assert ks_2samp(expected, sizes(0.6)).pvalue < FALSE_ALARM


@pytest.mark.parametrize("model", HAMILTONIANS.values(), ids=HAMILTONIANS)
def test_swendsen_wang_clusters_are_as_many_as_those_of_the_rule(model):
    """The number and the mean square size of the clusters of 5000 chains, from the same spins."""
    spins = torch.ones(5000, model.lattice.n_sites, dtype=torch.int8)
    spins[:, ::3] = -1
    found = compiled("swendsen_wang", model, 0.5, spins.numpy()).clusters()
    columns, (i, j) = spins.T, model.lattice.edges.T
    bonds = swendsen_wang.active(
        columns[i] * columns[j], model.bond_couplings, torch.tensor(0.5), torch.Generator().manual_seed(1)
    )
    expected = swendsen_wang.roots(bonds, model.lattice).T.numpy()
    for labels in (found, expected):
        assert (np.take_along_axis(labels, labels, axis=1) == labels).all()  # each is in its own cluster
    for moment in (number_of_clusters, mean_square_size):
        a, b = moment(found), moment(expected)
        assert abs(a.mean() - b.mean()) / math.sqrt((a.var() + b.var()) / 5000) < 4.5


def number_of_clusters(labels: np.ndarray) -> np.ndarray:
    return (labels == np.arange(labels.shape[1])).sum(1)


def mean_square_size(labels: np.ndarray) -> np.ndarray:
    return (labels[:, :, None] == labels[:, None, :]).mean((1, 2))


@pytest.mark.parametrize("update", CLUSTERS)
@pytest.mark.parametrize("h", [0.0, 0.2])
def test_threads_do_not_change_a_byte(update, h):
    model, results = Ising(lattices.triangular(5), h=h), []
    for threads in (1, 2, 3):
        sampler = compiled(update, model, np.linspace(0.1, 0.5, 11), up(11, 25), threads)
        acceptance = sampler.sweep(9)
        results.append((sampler.bits().tobytes(), sampler.measure()[0].tobytes(), acceptance))
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("update", CLUSTERS)
def test_sweeps_one_by_one_or_at_once_are_the_same(update):
    a, b = (compiled(update, HAMILTONIANS["glass"], 0.4, up(3, 64)) for _ in range(2))
    a.sweep(6)
    for _ in range(6):
        b.sweep(1)
    np.testing.assert_array_equal(a.spins(), b.spins())


@pytest.mark.parametrize("update", CLUSTERS)
@pytest.mark.parametrize("lattice", [lattices.square(6), lattices.honeycomb(4), lattices.cubic(4)])
def test_a_bipartite_antiferromagnet_is_the_ferromagnet_with_a_sublattice_reversed(update, lattice):
    sign = lattice.staggering.numpy().astype(np.int8)
    start = np.random.default_rng(0).choice(np.array([-1, 1], dtype=np.int8), (5, lattice.n_sites))
    h = torch.linspace(-0.5, 0.3, lattice.n_sites)
    ferromagnet = compiled(update, Ising(lattice, h=h), 0.4, start)
    antiferromagnet = compiled(
        update, Ising(lattice, J=-1.0, h=torch.from_numpy(sign) * h), 0.4, start * sign
    )
    assert ferromagnet.sweep(20) == antiferromagnet.sweep(20) > 0
    np.testing.assert_array_equal(ferromagnet.spins() * sign, antiferromagnet.spins())
    np.testing.assert_allclose(ferromagnet.measure()[0], antiferromagnet.measure()[0], rtol=1e-14)
    np.testing.assert_array_equal(antiferromagnet.measure()[1], antiferromagnet.spins().sum(1))


@pytest.mark.parametrize("update", CLUSTERS)
@pytest.mark.parametrize("J", [0.1, -0.1], ids=["alike", "frustrated"])
@pytest.mark.parametrize("h", [40.0, -40.0])
def test_a_strong_field_holds_the_spins(update, J, h):
    """Those against it turn, and then none ever leaves."""
    along = int(math.copysign(1, h)) * up(20, 16)
    sampler = compiled(update, Ising(lattices.triangular(4), J=J, h=h), 1.0, -along)
    sampler.sweep(1000)
    np.testing.assert_array_equal(sampler.spins(), along)
    assert sampler.sweep(10) == 0


def test_without_coupling_swendsen_wang_draws_every_spin_anew():
    sampler = compiled("swendsen_wang", Ising(lattices.square(4)), 0.0, up(20_000, 16))
    assert sampler.sweep(1) == pytest.approx(0.5, abs=4.5 * 0.5 / math.sqrt(320_000))
    spins = torch.from_numpy(sampler.spins())[:, :9]
    assert laws.p_value(spins, Ising(lattices.square(3)), 0.0) > FALSE_ALARM


def test_clusters_of_several_words_have_coins_of_their_own():
    """Correlations of 18336 pairs of uncoupled sites; as if one coin served two sites, they show."""
    sampler = compiled("swendsen_wang", Ising(lattices.chain(192)), 0.0, up(2000, 192))
    sampler.sweep(1)
    spins = sampler.spins()

    def p_value(spins: np.ndarray) -> float:
        r = np.corrcoef(spins.T)[np.triu_indices(192, 1)]
        return chi2.sf(len(spins) * (r**2).sum(), len(r))

    assert p_value(spins) > FALSE_ALARM
    spins[:, 32] = spins[:, 0]
    assert p_value(spins) < FALSE_ALARM


def test_without_coupling_a_wolff_cluster_is_one_site():
    sampler = compiled("wolff", Ising(lattices.square(4)), 0.0, up(16_000, 16))
    assert sampler.sweep(1) == 1 / 16
    flipped = sampler.spins() < 0
    assert (flipped.sum(1) == 1).all()
    assert np.abs(flipped.sum(0) - 1000).max() < 5 * math.sqrt(1000)  # every site alike


@pytest.mark.parametrize("beta", [20.0, 1e6])
def test_at_low_temperature_a_cluster_is_everything(beta):
    for J, lattice in ((1.0, lattices.triangular(4)), (-1.0, lattices.square(4))):
        start = up(400, 16) if J > 0 else np.tile(lattice.staggering.numpy().astype(np.int8), (400, 1))
        turned = compiled("wolff", Ising(lattice, J=J), beta, start)
        assert turned.sweep(3) == 1.0
        np.testing.assert_array_equal(turned.spins(), -start)
        drawn = compiled("swendsen_wang", Ising(lattice, J=J), beta, start)
        drawn.sweep(1)
        overlap = (drawn.spins() * start).sum(1)
        assert set(overlap.tolist()) == {-16, 16}
        assert abs((overlap > 0).sum() - 200) < 4.5 * 10


def test_a_lattice_without_bonds():
    model = Ising(lattices.chain(1, pbc=False), h=0.3)
    for update in CLUSTERS:
        spins = laws.equilibrium(model, 1.0).numpy()
        sampler = compiled(update, model, 1.0, spins)
        assert sampler.sweep(3) > 0
        assert laws.p_value(torch.from_numpy(sampler.spins()), model, 1.0) > FALSE_ALARM


# What follows is the test of Monte Carlo simulations: hidden errors from "good" random number generators
# (Ferrenberg, Landau and Wong, 1992).


def deviations(energy: np.ndarray) -> tuple[float, float]:
    """Energy and specific heat of the critical 16 x 16 torus against Kaufman, in standard errors."""
    mean = stats.mean(energy)
    shifted = energy - energy.mean()
    heat = stats.jackknife(lambda e, e2: 256 * CRITICAL**2 * (e2 - e * e), shifted, shifted**2)
    exact_values = exact.kaufman_energy(16, 16, CRITICAL), exact.kaufman_specific_heat(16, 16, CRITICAL)
    return tuple(x.z(stats.Estimate(value, 0.0)) for x, value in zip((mean, heat), exact_values, strict=True))


@pytest.mark.parametrize("clusters", [400_000, pytest.param(10_000_000, marks=pytest.mark.slow)])
def test_ferrenberg_landau_wong(clusters):
    chains, every = 100, 5
    sampler = compiled("wolff", Ising(lattices.square(16)), CRITICAL, up(chains, 256))
    sampler.sweep(200)
    z = deviations(energies(sampler, clusters // (chains * every), every))
    assert max(abs(x) for x in z) < 4.5, z


@jit
def r250(words, count):
    """The shift register :math:`x_n = x_{n-103} \\oplus x_{n-250}`, going on after the 250 first words."""
    sequence = np.empty(count + 250, dtype=np.uint32)
    sequence[:250] = words
    for n in range(250, len(sequence)):
        sequence[n] = sequence[n - 103] ^ sequence[n - 250]
    return sequence[250:]


@jit
def flip_clusters(s, words, threshold, energies):
    """Wolff on the square torus as of old, each decision the next word; fills energies as far as words go."""
    L, used, made = len(s), 0, 0
    stack = np.empty((L * L, 2), dtype=np.int64)
    while made < len(energies) and used + 4 * L * L + 2 <= len(words):
        x, y = (words[used] * L) >> 32, (words[used + 1] * L) >> 32
        used += 2
        old = s[x, y]
        s[x, y] = -old
        stack[0], top = (x, y), 1
        while top:
            top -= 1
            x, y = stack[top]
            for nx, ny in (((x + 1) % L, y), (x, (y + 1) % L), ((x - 1) % L, y), (x, (y - 1) % L)):
                if s[nx, ny] == old:
                    used += 1
                    if words[used - 1] < threshold:
                        s[nx, ny] = -old
                        stack[top], top = (nx, ny), top + 1
        energy = 0
        for x in range(L):
            for y in range(L):
                energy -= s[x, y] * (s[x - 1, y] + s[x, y - 1])
        energies[made] = energy / (L * L)
        made += 1
    return made, used


def energies_with(generator: str, clusters: int) -> np.ndarray:
    source = np.random.default_rng(1)
    words, s = source.integers(0, 2**32, 250, dtype=np.uint32), np.ones((16, 16), dtype=np.int8)
    threshold, found = np.uint32(-math.expm1(-2 * CRITICAL) * 2**32), []
    while sum(len(part) for part in found) < clusters:
        if generator == "r250":
            block = r250(words, 5_000_000)
            words = block[-250:]
        else:
            block = source.integers(0, 2**32, 5_000_000, dtype=np.uint32)
        energies = np.empty(clusters)
        made, _ = flip_clusters(s, block, threshold, energies)
        found.append(energies[:made])
    return np.concatenate(found)[:clusters]


@pytest.mark.parametrize("clusters", [400_000, pytest.param(10_000_000, marks=pytest.mark.slow)])
def test_the_same_check_catches_a_shift_register(clusters):
    """R250 passed the tests of its day. The same code with PCG64 is the control."""
    z = {name: deviations(energies_with(name, clusters).reshape(100, -1)) for name in ("r250", "pcg64")}
    assert max(abs(x) for x in z["pcg64"]) < 4.5, z
    assert max(abs(x) for x in z["r250"]) > 4.5, z
