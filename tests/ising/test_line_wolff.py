"""The Wolff kernel with lines of the lattice in words: its flood, its law and its memory.

False alarms: three p-values at 1e-5 and five estimates at 4.5 standard errors (7e-6 each), on fixed seeds.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import chisquare, ks_2samp

from ising import Ising, exact, lattices, stats
from ising.kernels import line_wolff
from ising.kernels.lanes import WORDS, aligned
from ising.kernels.line_wolff import LineWolff, blocks, configurations
from ising.kernels.parallel_wolff import ParallelWolff
from tests.checks import FALSE_ALARM
from tests.ising import plain_decisions

CRITICAL = exact.critical_beta("square")
SHAPES = [(12, 8), (16, 16), (5, 32), (64, 64), (6, 128), (4, 192)]


def sampler(shape, update="wolff", chains=64, beta=CRITICAL, form=LineWolff, J=1.0, threads=1, seed=1):
    model = Ising(lattices.rectangular(*shape), J=J)
    start = np.ones((chains, model.lattice.n_sites), dtype=np.int8)
    return form(model, update, beta, start, np.random.SeedSequence(seed), threads=threads)


def flooded(shape, seeds, down, right):
    """Marks, bool ``(chains, N)``, from the sites ``(chains,)`` along bonds to two neighbours of each."""
    height, line = shape
    marked, *bonds = (
        blocks(np.packbits(x, axis=-1), shape)[0] for x in (np.eye(height * line)[seeds] > 0, down, right)
    )
    tables = aligned((line_wolff.TABLES * len(marked), WORDS))
    both = aligned((2 * len(marked) + 1, WORDS))
    both[:-1] = np.concatenate(bonds)
    line_wolff._flood(marked, both, tables, height, min(line, 64))
    return np.unpackbits(configurations(marked[None], shape), axis=-1).astype(bool)


def test_a_torus_without_some_of_its_bonds_is_left_to_other_kernels():
    torus = lattices.square(8)
    diluted = Ising(replace(torus, edges=torus.edges[::2]))
    assert LineWolff.covers("wolff", Ising(torus), "cpu", 64)
    assert not LineWolff.covers("wolff", diluted, "cpu", 64)


@pytest.mark.parametrize("density", [0.03, 0.5, 0.8])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_flood_marks_the_connected_component(shape, density):
    n, chains, rng = shape[0] * shape[1], WORDS * max(1, 64 // shape[1]), np.random.default_rng(1)
    seeds, (down, right) = rng.integers(0, n, chains), rng.random((2, chains, n)) < density
    site = np.arange(n).reshape(shape)
    below, beside = (np.roll(site, -1, axis).ravel() for axis in (0, 1))
    marked = flooded(shape, seeds, down, right)
    for k in range(chains):
        here = np.concatenate([np.flatnonzero(down[k]), np.flatnonzero(right[k])])
        there = np.concatenate([below[down[k]], beside[right[k]]])
        graph = coo_array((np.ones(len(here)), (here, there)), shape=(n, n))
        label = connected_components(graph, directed=False)[1]
        np.testing.assert_array_equal(marked[k], label == label[seeds[k]])


def test_its_bonds_are_those_of_a_plain_program():
    """Bit for bit, so that no two of them share a random number: 1e-4 of the decisions wait for others."""
    kernel, asked = sampler((64, 64), chains=WORDS, beta=0.3), np.empty((128, WORDS), dtype=np.uint64)
    halves = [plain_decisions.Generator(kernel._rng[0][:, half]) for half in plain_decisions.HALVES]
    for _ in range(4):
        rows = kernel._rows[0].copy()
        asked[:64] = ~(rows ^ np.roll(rows, -1, 0))
        asked[64:] = ~(rows ^ (rows << 1 | rows >> 63))
        kernel.sweep(1)
        _, bonds, tables, _ = kernel._work[0]
        bonds[64:128] |= tables[:64]  # those that join the ends of a line
        found, wanted = plain_decisions.lanes(bonds[:128]), plain_decisions.lanes(asked)
        for generator, lanes in zip(halves, plain_decisions.LANES, strict=True):
            for first in range(0, 128, 16):
                here = wanted[first : first + 16, lanes]
                yes = here & plain_decisions.group(generator, [-np.expm1(-0.6)], 0 * here, here)
                np.testing.assert_array_equal(found[first : first + 16, lanes], yes)
            generator.draw()  # the sites that clusters begin at
    assert sum(generator.settled for generator in halves) > 3


@pytest.mark.parametrize("shape", SHAPES)
def test_it_packs_and_measures_what_it_was_given(shape):
    model, rng = Ising(lattices.rectangular(*shape), J=-0.5), np.random.default_rng(1)
    spins = 2 * rng.integers(0, 2, (70, model.lattice.n_sites), dtype=np.int8) - 1
    its = LineWolff(model, "wolff", 0.3, spins, np.random.SeedSequence(1))
    np.testing.assert_array_equal(its.spins(), spins)
    np.testing.assert_array_equal(its.bits(), np.packbits(spins > 0, axis=-1))
    energy, magnetisation = its.measure()
    np.testing.assert_array_equal(energy, model.energy(torch.from_numpy(spins)).numpy())
    np.testing.assert_array_equal(magnetisation, spins.sum(-1))


@pytest.mark.parametrize("update", ["wolff", "few_clusters"])
def test_energies_follow_the_exact_density_of_states(update):
    """One sample of each of 12 800 chains on 8 x 8; a bond probability that is 3 % off is caught."""
    levels, law = exact.energy_distribution(8, 8, 0.40)
    common = law > 20 / 12_800
    for beta, right in ((0.40, True), (0.412, False)):
        its = sampler((8, 8), update, 12_800, beta)
        its.sweep(100)
        seen = (its.measure()[0][:, None] == levels).sum(0)
        seen, expected = (np.append(x[common], x[~common].sum()) for x in (seen, 12_800 * law))
        assert (chisquare(seen, expected).pvalue > FALSE_ALARM) == right


@pytest.mark.parametrize("shape", SHAPES[1:])
def test_the_energy_is_kaufmans(shape):
    its, series = sampler(shape, "few_clusters", 128), []
    its.sweep(60)
    for _ in range(100):
        its.sweep(3)
        series.append(its.measure()[0] / (shape[0] * shape[1]))
    energy = stats.mean(np.stack(series, axis=-1))
    assert energy.sigmas_from(exact.kaufman_energy(*shape, CRITICAL)) < 4.5
    assert energy.error < 4e-3


@pytest.mark.parametrize("J", [1.0, -1.0])
def test_clusters_are_as_large_as_those_of_the_other_kernel(J):
    """The first cluster from the ground state, so that nothing but one update is compared."""
    model, sites = Ising(lattices.square(16), J=J), np.arange(256)
    ground = np.where((sites // 16 + sites) % 2, np.sign(J), 1).astype(np.int8)
    start, sizes = np.tile(ground, (6400, 1)), []
    for form, beta in ((LineWolff, 0.3), (ParallelWolff, 0.3), (ParallelWolff, 0.31)):
        its = form(model, "wolff", beta, start, np.random.SeedSequence(2))
        its.sweep(1)
        sizes.append((its.spins() != ground).sum(-1))
    assert ks_2samp(sizes[0], sizes[1]).pvalue > FALSE_ALARM
    assert ks_2samp(sizes[0], sizes[2]).pvalue < FALSE_ALARM


@pytest.mark.parametrize("shape", [(16, 16), (8, 64)])
def test_a_beta_per_chain(shape):
    """Without coupling to a neighbour a cluster is one site; at zero temperature it is everything."""
    beta = np.where(np.arange(100) % 3 == 0, 20.0, 0.0)
    its = sampler(shape, chains=100, beta=beta)
    its.sweep(1)
    flipped = (its.spins() < 0).sum(-1)
    np.testing.assert_array_equal(flipped, np.where(beta > 0, shape[0] * shape[1], 1))


def test_threads_and_resuming_do_not_change_a_byte():
    whole, *others = (sampler((8, 64), "few_clusters", 100, threads=threads) for threads in (1, 2, 4))
    whole.sweep(7)
    for other in others:
        other.sweep(3)
        again = sampler((8, 64), "few_clusters", 100, seed=9)
        again.load(other.state())
        for its in (other, again):
            its.sweep(4)
            np.testing.assert_array_equal(its.spins(), whole.spins())
