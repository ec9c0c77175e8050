"""Compiled block updates of two-valued layers against enumeration: small machines, side by side as one."""

import itertools

import pytest
import torch

from physgen.distributions import RestrictedBoltzmann, passes, units
from physgen.distributions.alternating import alternate, words_of
from physgen.distributions.passes import difference, walked
from physgen.energy.moments import contrast
from physgen.models.rbm import RBM
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
        drawn = {n: alternate(big, start, n, generator, hidden=hidden) for n in (1, 2, 3)}
    for n, states in drawn.items():
        assert goodness_of_counts(counts(states), enumerated(small, hidden, n)) > FALSE_ALARM
        assert goodness_of_counts(counts(states), enumerated(small.at(1.2), hidden, n)) < FALSE_ALARM


@pytest.mark.parametrize("kinds", KINDS, ids="-".join)
def test_chains_of_the_losses_come_with_their_contrast(kinds, monkeypatch):
    """The chains are those of plain updates with the same seed, their contrast that of the matrix product.

    The states that go on are drawn in fields beside those of the data: their law given the start, in which
    half of the chains start up and half down. False alarm 1e-5 per chi-squared at a fixed seed.
    """
    small, big = copies(kinds)
    seeded = torch.Generator().manual_seed
    data, h = (x.draw(torch.zeros(70, COPIES * UNITS)) for x in (big.visible_units, big.hidden_units))
    with monkeypatch.context() as only_the_kernel:
        only_the_kernel.delattr(RestrictedBoltzmann, "hidden_field")
        v, none, here = walked(big, data, 2, seeded(3))
        w, g, there = walked(big, data, 2, seeded(3), h[:50])
        start = torch.ones(3000, COPIES * UNITS)
        start[::2] = big.hidden_units.values[0][0]
        _, drawn, _ = walked(big, data, 1, seeded(4), start)
    assert none is None
    assert torch.equal(v, alternate(big, data, 4, seeded(3)))
    assert torch.equal(w, alternate(big, h[:50], 3, seeded(3), hidden=True))
    assert big.hidden_units.valid(g).all()
    exact = RestrictedBoltzmann(big.visible_units, big.hidden_units, *(x.double() for x in plain(big)))
    for chains, found in ((v, here), (w, there)):
        rows = torch.cat([data, chains]).double()
        expected = difference(exact, data.double(), chains.double(), exact.hidden_field(rows))
        torch.testing.assert_close(found.value.double(), expected.value, rtol=1e-5, atol=1e-4)
        for one, other in zip(found.slope, expected.slope, strict=True):
            torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)
    assert goodness_of_counts(counts(drawn), enumerated(small, True, 2)) > FALSE_ALARM
    assert goodness_of_counts(counts(drawn), enumerated(small.at(1.2), True, 2)) < FALSE_ALARM


def plain(law):
    return law.weight, law.loc, law.hidden_bias


def test_other_machines_are_updated_layer_by_layer():
    """Few chains, float64, other values than the units have; no updates leave the chains as they are."""
    _, big = copies(("bernoulli", "bernoulli"))
    v = big.visible_units.draw(torch.zeros(40, COPIES * UNITS))
    assert words_of(big, v, big.visible_units) is not None
    for start in (v[:20], v.double(), v / 2, 2 * v - 1):
        assert words_of(big, start, big.visible_units) is None
    assert torch.equal(big.gibbs(v, 0), v)
    assert big.gibbs(v[:20], 1).shape == (20, COPIES * UNITS)


@pytest.mark.parametrize("kinds", KINDS, ids="-".join)
def test_slopes_in_bits_are_those_of_the_free_energy(kinds, monkeypatch):
    """Of centred parameters, against autograd in float64; other values are left to torch."""
    torch.manual_seed(0)
    rbm = RBM((5, 8), hidden=37, visible=kinds[0], hidden_units=kinds[1])
    data = rbm.visible_layer().draw(torch.randn(40).expand(35, -1))
    chains = rbm.visible_layer().draw(torch.zeros(45, 40))
    rbm.centre(data)
    with torch.no_grad():
        for p in rbm.parameters():
            p += 0.1 * torch.randn_like(p)
    law = rbm.distribution()
    fields = law.hidden_field(torch.cat([data, chains]))
    with monkeypatch.context() as only_the_kernel:
        only_the_kernel.delattr(passes, "product")
        contrast(law, data, chains, difference(law, data, chains, fields, law.centred)).backward()
        with pytest.raises(NameError):
            difference(law, data, chains / 2, fields, law.centred)
    found = [p.grad.double() for p in rbm.parameters()]
    rbm.zero_grad()
    energies = rbm.double().free_energy(torch.cat([data, chains]).double())
    (energies[:35].mean() - energies[35:].mean()).backward()
    for slope, p in zip(found, rbm.parameters(), strict=True):
        torch.testing.assert_close(slope, p.grad, rtol=1e-5, atol=1e-5)
