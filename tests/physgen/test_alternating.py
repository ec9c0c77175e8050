"""Compiled block updates of two-valued layers against enumeration: small machines, side by side as one."""

import itertools

import pytest
import torch

from physgen.distributions import RestrictedBoltzmann, alternating, units
from tests.checks import goodness_of_counts

FALSE_ALARM = 1e-5
COPIES, UNITS = 14, 3  # 42 units: the last word of a layer has bits to spare
KINDS = list(itertools.product(["bernoulli", "spin"], repeat=2))


def copies(kinds, seed=0):
    """A machine of 3 x 3 units, and 14 of them whose units are dealt in turn."""
    generator = torch.Generator().manual_seed(seed)
    W, b, c = (torch.randn(s, generator=generator) for s in ((UNITS, UNITS), (UNITS,), (UNITS,)))
    small = RestrictedBoltzmann(*(units.layer(kind, UNITS) for kind in kinds), W, b, c)
    big = (torch.kron(W, torch.eye(COPIES)), b.repeat_interleave(COPIES), c.repeat_interleave(COPIES))
    return small, RestrictedBoltzmann(*(units.layer(kind, COPIES * UNITS) for kind in kinds), *big)


def enumerated(law, hidden, n):
    """Law of the last state of n updates, by number, where half of the chains start up and half down."""
    layers, at = (law.visible_units, law.hidden_units), int(hidden)
    p = torch.zeros(2**UNITS, dtype=torch.float64)
    p[[0, -1]] = 0.5
    for _ in range(n):
        states, following = (layer.states(law.loc) for layer in (layers[at], layers[1 - at]))
        given = law.visible(states) if at else law.hidden(states)
        p = p @ torch.stack([given.log_prob(x) for x in following], -1).double().exp()
        at = 1 - at
    return p


def counts(states):
    """How often each state of a copy occurs in ``(chains, 42)``."""
    bits = (states == 1).long().reshape(-1, UNITS, COPIES)
    number = (bits * torch.tensor([4, 2, 1]).unsqueeze(-1)).sum(1)
    return torch.bincount(number.flatten(), minlength=2**UNITS).double()


@pytest.mark.parametrize("kinds", KINDS, ids="-".join)
@pytest.mark.parametrize("hidden", [False, True], ids=["visible", "hidden"])
def test_updates_follow_the_enumerated_law(kinds, hidden, monkeypatch):
    """One, two and three updates from known states; the law at another temperature is rejected.

    False alarm 1e-5 per chi-squared, 2.4e-4 in all at fixed seeds.
    """
    small, big = copies(kinds)
    generator = torch.Generator().manual_seed(1)
    start = torch.ones(3000, COPIES * UNITS)
    start[::2] = (big.hidden_units if hidden else big.visible_units).values[0][0]
    with monkeypatch.context() as only_the_kernel:
        only_the_kernel.delattr(RestrictedBoltzmann, "hidden_field")
        only_the_kernel.delattr(RestrictedBoltzmann, "visible_field")
        drawn = {n: big.alternate(start, n, generator, hidden=hidden) for n in (1, 2, 3)}
    for n, states in drawn.items():
        assert goodness_of_counts(counts(states), enumerated(small, hidden, n)) > FALSE_ALARM
        assert goodness_of_counts(counts(states), enumerated(small.at(1.2), hidden, n)) < FALSE_ALARM


@pytest.mark.parametrize("kinds", KINDS, ids="-".join)
def test_fields_are_those_of_the_first_update(kinds):
    """Those of the matrix product; the same seed gives the same states again, with fields or without."""
    _, big = copies(kinds)
    start = big.visible_units.draw(torch.zeros(5, 20, COPIES * UNITS))
    fields = torch.empty(5, 20, COPIES * UNITS)
    generators = (torch.Generator().manual_seed(2) for _ in range(2))
    one, two = (big.alternate(start, 4, g, fields=f) for g, f in zip(generators, (fields, None), strict=True))
    assert one.shape == start.shape
    assert torch.equal(one, two)
    assert torch.allclose(fields, start @ big.weight + big.hidden_bias, atol=1e-5)


def test_other_machines_are_left_to_the_layers():
    """No updates, few chains, float64, other values than the units have: the kernel declines."""
    _, big = copies(("bernoulli", "bernoulli"))
    sides = [alternating.Side(layer, big.loc) for layer in (big.visible_units, big.hidden_units)]
    v = big.visible_units.draw(torch.zeros(40, COPIES * UNITS))
    assert alternating.draw(v, sides, big.weight, 1, None, None) is not None
    for start, n in ((v, 0), (v[:20], 1), (v.double(), 1), (v / 2, 1), (2 * v - 1, 1)):
        assert alternating.draw(start, sides, big.weight, n, None, None) is None
    assert torch.equal(big.gibbs(v, 0), v)
