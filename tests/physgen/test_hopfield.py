"""Hopfield networks: minima, descent, capacity, temperature; dense memories.

Chi-squared tests have a false alarm of 1e-5, the crossing of 7e-6, at fixed seeds.
"""

import numpy as np
import pytest
import torch

from ising import exact
from physgen import capacity, models
from physgen.models.hopfield import RULES
from tests.checks import FALSE_ALARM, goodness_of_fit


def random_spins(*shape, seed=0):
    return 2.0 * torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(seed)) - 1


def corrupted(patterns, flips, seed=1):
    noisy = patterns.clone()
    for row in noisy:
        row[torch.randperm(len(row), generator=torch.Generator().manual_seed(seed))[:flips]] *= -1
    return noisy


@pytest.mark.parametrize("rule", RULES)
def test_recalls_what_it_stored(rule):
    patterns = random_spins(8, 256)
    net = models.build("hopfield", (16, 16), rule=rule).store(patterns)
    assert torch.equal(net.recall(patterns), patterns)
    assert torch.equal(net.recall(corrupted(patterns, 25)), patterns)


@pytest.mark.parametrize("rule", RULES)
def test_descent_never_raises_the_energy_and_ends_in_a_minimum(rule):
    """Every single flip away from where it stops costs energy, or nothing."""
    net = models.build("hopfield", (36,), rule=rule).store(random_spins(12, 36))
    start = random_spins(50, 36, seed=2)
    end = net.recall(start)
    assert (net.energy(end) <= net.energy(start)).all()
    flips = end.unsqueeze(1) * (1 - 2 * torch.eye(36))
    assert (net.energy(flips) >= net.energy(end).unsqueeze(1) - 1e-9).all()


def test_energy_is_the_sum_over_pairs():
    patterns = random_spins(3, 10)
    net = models.build("hopfield", (10,)).store(patterns)
    s = random_spins(10, seed=3).double()
    pairs = sum(
        -(patterns[:, i] @ patterns[:, j]).item() / 10 * s[i] * s[j] for i in range(10) for j in range(i)
    )
    torch.testing.assert_close(net.energy(s), pairs)


def test_capacity():
    """Hebb holds 0.05 N random patterns and loses 0.3 N; the pseudo-inverse holds both."""
    few, many = random_spins(20, 400), random_spins(120, 400)

    def overlap(rule, patterns):
        net = models.build("hopfield", (400,), rule=rule).store(patterns)
        return (net.recall(patterns) * patterns).mean().item()

    assert overlap("hebb", few) > 0.99
    assert overlap("hebb", many) < 0.8
    assert overlap("pseudo-inverse", many) == 1


def test_updating_all_sites_at_once_can_raise_the_energy():
    """The negative control: the descent property is one of the asynchronous order."""
    net = models.build("hopfield", (2,)).store(torch.tensor([[1.0, -1.0]]))
    s = torch.tensor([1.0, 1.0])
    both_flipped = torch.sign(net.J @ s.double()).float()
    assert torch.equal(both_flipped, -s)
    assert torch.equal(net.recall(s).prod(), torch.tensor(-1.0))


def test_type_and_shape_are_kept():
    net = models.build("hopfield", (4, 4)).store(random_spins(2, 16).to(torch.int8))
    out = net.recall(random_spins(3, 5, 16).to(torch.int8))
    assert out.dtype == torch.int8
    assert out.shape == (3, 5, 16)


def test_refuses_in_words():
    with pytest.raises(ValueError, match="choose one of hebb"):
        models.build("hopfield", (4,), rule="hebbian")
    with pytest.raises(ValueError, match="turn 0/1 data"):
        models.build("hopfield", (4,)).store(torch.tensor([[0.0, 1, 1, 0]]))


@pytest.mark.parametrize("rule", RULES)
def test_energy_falls_on_the_way_in_a_field_too(rule):
    net = models.build("hopfield", (36,), rule=rule).store(random_spins(12, 36))
    net.theta.copy_(0.3 * torch.randn(36, generator=torch.Generator().manual_seed(1)))
    start = random_spins(50, 36, seed=2)
    energies = net.descent(start)
    assert (energies.diff(dim=0) <= 1e-12).all()
    assert (energies[-1] < energies[0] - 0.1).all()
    torch.testing.assert_close(energies[0], net.energy(start))
    torch.testing.assert_close(energies[-1], net.energy(net.recall(start)))
    other = models.build("hopfield", (36,), rule=rule).store(random_spins(12, 36))
    assert not torch.equal(other.recall(start), net.recall(start)), "the field does nothing"


def test_storkeys_rule_is_its_formula_and_holds_more_than_hebbs():
    patterns = random_spins(3, 6).double()
    J = torch.zeros(6, 6).double()
    for x in patterns:
        old = J.clone()
        for i in range(6):
            for j in range(6):
                if i != j:
                    h_ij = sum(old[i, k] * x[k] for k in range(6) if k not in (i, j))
                    h_ji = sum(old[j, k] * x[k] for k in range(6) if k not in (i, j))
                    J[i, j] = old[i, j] + (x[i] * x[j] - x[i] * h_ji - h_ij * x[j]) / 6
    torch.testing.assert_close(models.build("hopfield", (6,), rule="storkey").store(patterns).J, J)
    many = random_spins(64, 400)
    kept = {
        rule: (models.build("hopfield", (400,), rule=rule).store(many).recall(many) * many).mean().item()
        for rule in ("hebb", "storkey")
    }
    assert kept["storkey"] > 0.99
    assert kept["hebb"] < 0.9


def test_at_a_temperature_it_is_a_boltzmann_machine():
    """Glauber sweeps from exact draws keep e^(-E/T)/Z; at low temperature they keep the pattern."""
    net = models.build("hopfield", (3, 3)).store(random_spins(2, 9))
    net.theta.fill_(0.1)
    states = exact.states(9)
    p = (-net.energy(states) / 0.8).softmax(0)
    machine = net.boltzmann(0.8)
    assert (
        goodness_of_fit(machine.sample_chains(20_000, 1, burn_in=3, start=machine.sample(20_000))[:, 0], p)
        > FALSE_ALARM
    )
    cold = (-net.energy(states) / 0.6).softmax(0)
    assert goodness_of_fit(machine.sample(20_000), cold) < FALSE_ALARM
    patterns = random_spins(5, 200)
    frozen = models.build("hopfield", (200,)).store(patterns).boltzmann(0.1)
    assert (frozen.sample_chains(5, 1, burn_in=20, start=patterns)[:, 0] * patterns).mean() > 0.95


def test_curves_of_two_sizes_cross_near_the_critical_load():
    """Theory 0.138; N = 250 and 1000 are small, so to 0.02. Exact curves give their crossing back."""
    loads = np.arange(0.11, 0.161, 0.01)
    small, large = (
        capacity.retrieval(N, loads, networks=k, tested=25, seed=3) for N, k in ((250, 40), (1000, 10))
    )
    assert abs(capacity.crossing(loads, small, large).mean - 0.138) < 0.02
    rng = np.random.default_rng(1)
    odds = [np.exp(-slope * (loads - 0.13) + 2) for slope in (40, 120)]
    drawn = [(rng.random((len(loads), 200, 20)) < (o / (1 + o))[:, None, None]).astype(float) for o in odds]
    found = capacity.crossing(loads, *drawn)
    assert found.sigmas_from(0.13) < 4.5
    assert found.sigmas_from(0.138) > 4.5
    assert capacity.crossing(loads, drawn[1], drawn[0] * 0 + 1) is None
    with pytest.raises(ValueError, match="at least three loads"):
        capacity.crossing(loads[:2], small[:2], large[:2])
    with pytest.raises(ValueError, match="rising shares of patterns"):
        capacity.retrieval(100, [0.1, 0.1])


def test_dense_memory_of_power_two_is_hebbs_network_and_higher_orders_hold_more():
    patterns, states = random_spins(3, 10), random_spins(40, 10, seed=2)
    dense = models.build("dense_memory", (10,), power=2).store(patterns)
    hebb = models.build("hopfield", (10,)).store(patterns)
    torch.testing.assert_close(dense.energy(states) / 2 + 1.5, hebb.energy(states))
    torch.testing.assert_close(hebb.energy(dense.recall(states)), hebb.energy(hebb.recall(states)))
    many = random_spins(100, 64)
    kept = {n: models.build("dense_memory", (64,), power=n).store(many).recall(many) for n in (2, 4)}
    assert (kept[2] * many).mean() < 0.7
    assert torch.equal(kept[4], many)


@pytest.mark.parametrize("power", [2, 3, 4])
def test_a_dense_memory_ends_in_a_minimum_that_is_not_higher(power):
    net = models.build("dense_memory", (5, 5), power=power).store(random_spins(10, 25))
    start = random_spins(30, 25, seed=4)
    energies = torch.stack([net.energy(net.recall(start, sweeps=k) if k else start) for k in range(6)])
    assert (energies.diff(dim=0) <= 1e-9).all()
    end = net.recall(start)
    flips = end.unsqueeze(1) * (1 - 2 * torch.eye(25))
    assert (net.energy(flips) >= net.energy(end).unsqueeze(1) - 1e-9).all()
    with pytest.raises(ValueError, match="power >= 2"):
        models.build("dense_memory", (4,), power=1)
