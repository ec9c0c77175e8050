"""Planted bugs, each caught by a check of this suite: proof that the checks can fail.

Every test first sees its check pass on the code as it is.

===============================  =======================================================================
planted bug                      caught by
===============================  =======================================================================
factor 2 in the energy change    test_a_missing_factor_of_two_in_the_cost, ..._in_the_bond_probability
field of the wrong sign          test_the_field_with_the_wrong_sign
lost neighbour                   test_a_lost_bond
open edge for a periodic one     test_an_open_edge_for_a_periodic_one
double bond at L = 2             test_a_double_bond_at_two_sites_a_side
checkerboard on odd L            test_neighbours_updated_at_the_same_time
random numbers shared by chains  test_one_stream_for_all_columns_of_chains
no burn-in                       test_no_burn_in
stale energy                     test_stale_energies
<m> for <|m|>                    test_the_mean_of_m_for_the_mean_of_abs_m
wrong N in chi                   test_chi_without_the_absolute_value_or_with_a_wrong_n
wrong sign in the exchange       test_the_wrong_sign_in_the_exchange
===============================  =======================================================================
"""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

from ising import exact, kernels, lattices, observables, simulate, stats, updates
from ising.equilibrium import NotEquilibrated
from ising.lattices import Lattice
from ising.model import Ising
from ising.observables import Series
from ising.updates import heat_bath, metropolis, swendsen_wang, wolff
from tests.checks import FALSE_ALARM
from tests.ising import laws, test_simulate, test_tempering

SQUARE, IN_A_FIELD = Ising(lattices.square(4)), Ising(lattices.square(4), h=0.3)
STAGGERED = Ising(lattices.square(4), h=0.3 * lattices.square(4).staggering)


@contextmanager
def mutated(target, name, value):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, name, value)
        yield


def invariant(update: str, model: Ising = SQUARE, form: str = "readable") -> bool:
    return laws.invariance(form, update, model) > FALSE_ALARM


def scaled_field(factor):
    return lambda columns, sites, model: factor * updates.local_field(columns, sites, model)


@pytest.mark.parametrize("rule", [metropolis, heat_bath])
def test_a_missing_factor_of_two_in_the_cost(rule):
    name = rule.__name__.split(".")[-1]
    assert invariant(name)
    with mutated(rule, "local_field", scaled_field(0.5)):
        assert not invariant(name)


@pytest.mark.parametrize("rule", [wolff, swendsen_wang])
def test_a_missing_factor_of_two_in_the_bond_probability(rule):
    name = rule.__name__.split(".")[-1]
    assert invariant(name)
    with mutated(rule, "inverse_temperature", lambda beta, _: torch.tensor(beta / 2)):
        assert not invariant(name)


@pytest.mark.parametrize("form", ["readable", "compiled"])
@pytest.mark.parametrize(
    ("update", "model"),
    [(update, IN_A_FIELD) for update in laws.THROUGH_ALL_SECTORS]  # a uniform field does nothing at fixed M
    + [(update, STAGGERED) for update in updates.names()],
)
def test_the_field_with_the_wrong_sign(update, model, form):
    assert invariant(update, model, form)
    wrong = replace(model, h=-model.h)
    spins = laws.equilibrium(model, laws.BETA)
    assert laws.p_value(laws.swept(form, update, wrong, laws.BETA, spins, 3), model, laws.BETA) < FALSE_ALARM


@pytest.mark.parametrize("form", ["readable", "compiled"])
@pytest.mark.parametrize("update", updates.names())
def test_a_lost_bond(update, form):
    torus = lattices.square(4)
    spins = laws.equilibrium(SQUARE, laws.BETA)
    wrong = Ising(replace(torus, edges=torus.edges[1:]))
    assert laws.p_value(laws.swept(form, update, wrong, laws.BETA, spins, 3), SQUARE, laws.BETA) < FALSE_ALARM


@pytest.mark.parametrize("form", ["readable", "compiled"])
@pytest.mark.parametrize("update", updates.names())
def test_an_open_edge_for_a_periodic_one(update, form):
    spins = laws.equilibrium(SQUARE, laws.BETA)
    wrong = Ising(lattices.square(4, pbc=(True, False)))
    assert laws.p_value(laws.swept(form, update, wrong, laws.BETA, spins, 3), SQUARE, laws.BETA) < FALSE_ALARM


@pytest.mark.parametrize("form", ["readable", "compiled"])
@pytest.mark.parametrize("update", ["metropolis", "heat_bath", "wolff", "swendsen_wang"])
def test_a_double_bond_at_two_sites_a_side(update, form):
    """A torus of two sites a side would have each bond twice: it is refused, and would show here."""
    single = Ising(lattices.square(2, pbc=False))
    spins = laws.equilibrium(single, laws.BETA)

    def p_value(edges: torch.Tensor) -> float:
        model = Ising(replace(single.lattice, edges=edges))
        return laws.p_value(laws.swept(form, update, model, laws.BETA, spins, 3), single, laws.BETA)

    edges = single.lattice.edges
    assert p_value(edges) > FALSE_ALARM
    assert p_value(torch.cat([edges, edges.flip(-1)])) < FALSE_ALARM
    with pytest.raises(ValueError, match="not distinct"):
        lattices.square(2)


@pytest.mark.parametrize("update", ["metropolis", "heat_bath"])
def test_neighbours_updated_at_the_same_time(update):
    """What a checkerboard does on an odd torus."""
    everything_at_once = property(lambda lattice: [torch.arange(lattice.n_sites)])
    with mutated(Lattice, "colour_classes", everything_at_once):
        assert not invariant(update)


def test_metropolis_without_laziness_keeps_the_frozen_state():
    state, model = laws.frozen_state(8).repeat(8, 1), Ising(lattices.square(8))
    with mutated(metropolis, "LAZINESS", 1.0):
        moved = laws.swept("readable", "metropolis", model, 0.5, state, 5)
    assert (moved == -state).all()


@pytest.mark.parametrize("rule", [wolff, swendsen_wang])
def test_a_cluster_that_ignores_the_ghost_spin(rule):
    name, active = rule.__name__.split(".")[-1], rule.active
    assert invariant(name, IN_A_FIELD)

    def of_bonds_only(alignment, weight, beta, generator):
        return active(alignment, weight, beta, generator) & (len(weight) != IN_A_FIELD.lattice.n_sites)

    with mutated(rule, "active", of_bonds_only):
        assert not invariant(name, IN_A_FIELD)


def test_one_stream_for_all_columns_of_chains():
    """Chains that start differently coalesce, and their mean then fluctuates too much."""

    def spread_of_chain_means() -> float:
        run = simulate(SQUARE, beta=0.4, samples=250, burn_in=200, thin=10, chains=1024, seed=1)
        by_lane = run.energies.reshape(2, 512, -1)  # the same lane of two columns
        return by_lane.mean(0).var() / (by_lane.var() / 2)  # 1 for independent chains

    assert 0.95 < spread_of_chain_means() < 1.05  # 128 000 values: 8 sigma
    one = kernels.multispin.streams
    with mutated(kernels.multispin, "streams", lambda seed, n: np.repeat(one(seed, 1), n, axis=0)):
        assert spread_of_chain_means() > 1.2


def test_no_burn_in():
    settings = {"beta": 0.44, "start": "ordered", "samples": 40, "thin": 1, "seed": 1}
    model = Ising(lattices.square(32))
    simulate(model, burn_in=2000, **settings)
    with pytest.warns(NotEquilibrated):
        simulate(model, burn_in=0, **settings)


def test_stale_energies():
    """A sampler that tells what it measured the time before."""
    check = test_simulate.test_a_run_carries_what_it_was_made_of
    check()
    measure, last = kernels.ParallelWolff.measure, {}

    def stale(sampler):
        now = measure(sampler)
        before, last[sampler] = last.get(sampler, now), now
        return before

    with (
        mutated(kernels.ParallelWolff, "measure", stale),
        pytest.raises(AssertionError, match="Arrays are not equal"),
    ):
        check()


def critical_series() -> Series:
    return simulate(SQUARE, beta=0.44, samples=1000, seed=7).series


def agrees(estimate: stats.Estimate, name: str) -> bool:
    return estimate.sigmas_from(exact.known(SQUARE, 0.44)[name]) < 4.5


def test_the_mean_of_m_for_the_mean_of_abs_m():
    series = critical_series()
    assert agrees(observables.abs_m(series), "abs_m")
    assert not agrees(observables.m(series), "abs_m")


def test_chi_without_the_absolute_value_or_with_a_wrong_n():
    series = critical_series()
    assert agrees(observables.chi(series), "chi")
    assert not agrees(observables.chi(replace(series, n_sites=15)), "chi")
    M = series.magnetisation
    plain = stats.jackknife(lambda m, m2: 0.44 / 16 * (m2 - m * m), M, M * M)
    assert not agrees(plain, "chi")


def test_a_specific_heat_without_beta_squared():
    series = critical_series()
    assert agrees(observables.specific_heat(series), "specific_heat")
    assert not agrees(observables.specific_heat(replace(series, beta=1.0)), "specific_heat")


def test_the_wrong_sign_in_the_exchange():
    def invariant_exchange(sign: int) -> bool:
        replicas = test_tempering.replicas_at_equilibrium(SQUARE, "metropolis", 64 * 100)
        for block in replicas.blocks:
            block.exchanges.betas = sign * block.exchanges.betas
        replicas.sweep(2)
        spins = torch.from_numpy(replicas.sample()[0])
        pairs = zip(spins, test_tempering.BETAS, strict=True)
        return min(laws.p_value(at, SQUARE, beta) for at, beta in pairs) > FALSE_ALARM

    assert invariant_exchange(+1)
    assert not invariant_exchange(-1)


def test_an_exchange_of_every_pair_every_time():
    replicas = test_tempering.replicas_at_equilibrium(SQUARE, "metropolis", 64 * 100)
    for block in replicas.blocks:
        block.exchanges.betas = np.zeros(3)
        block.exchanges.propose(block.sampler.measure()[0])
    spins = torch.from_numpy(replicas.sample()[0])
    assert laws.p_value(spins[0], SQUARE, test_tempering.BETAS[0]) < FALSE_ALARM


@pytest.mark.parametrize("bias", [1.03, 0.97])
def test_an_acceptance_wrong_by_three_percent(bias):
    """The compiled Metropolis with one threshold off by three percent, over thirty sweeps."""
    spins = laws.equilibrium(SQUARE, laws.BETA, 64 * 2000)

    def p_value(factor: float) -> float:
        sampler = laws.kernel("metropolis", SQUARE, laws.BETA, spins.numpy())
        p = sampler.law.probability(np.full((1, 1, 1, 1), laws.BETA))
        p[:, :, 1] *= factor
        sampler._chances = kernels.tables.tables(p).reshape(1, -1, 8)
        sampler.sweep(30)
        return laws.p_value(torch.from_numpy(sampler.spins()), SQUARE, laws.BETA)

    assert p_value(1.0) > FALSE_ALARM
    assert p_value(bias) < FALSE_ALARM
