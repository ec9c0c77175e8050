"""Densities averaged over a group. False alarm: 1e-5 per chi-squared test, at fixed seeds."""

import pytest
import torch

from ising import Ising, exact, lattices
from physgen import models
from physgen.symmetrised import Symmetrised, group
from tests.checks import FALSE_ALARM, goodness_of_fit

SHAPE, N = (3, 3), 9
STATES = exact.states(N).double()
EVERYTHING = ["translation", "reflection", "transposition", "flip"]


def perturbed(seed=1, spread=0.2, symmetric=False):
    torch.manual_seed(seed)
    net = models.build("fvbn", SHAPE, symmetric=symmetric)
    with torch.no_grad():
        for p in net.parameters():
            p += spread * torch.randn_like(p)
    return net.double()


def nearest(shape):
    """Bonds of the torus, by hand."""
    site = torch.arange(shape[0] * shape[1]).reshape(shape)
    return [
        bond
        for axis in (0, 1)
        for bond in zip(site.flatten().tolist(), site.roll(1, axis).flatten().tolist(), strict=True)
    ]


def divergences(log_p, log_q):
    gap = log_p - log_q
    return float((log_p.exp() * gap).sum()), float(-(log_q.exp() * gap).sum())


@pytest.mark.parametrize(
    ("shape", "names", "size"),
    [
        ((3, 3), ["translation"], 9),
        ((3, 3), EVERYTHING, 9 * 8 * 2),
        ((4, 6), ["translation", "reflection", "flip"], 24 * 4 * 2),
        ((5,), ["translation", "reflection"], 10),
        ((3, 3, 3), ["reflection", "transposition"], 48),
    ],
)
def test_it_is_a_group_of_symmetries_of_the_bonds(shape, names, size):
    """Closed under products, and every element keeps the set of bonds of the torus."""
    sites, signs = group(shape, names)
    assert len(sites) == size
    elements = {(*g, s) for g, s in zip(map(tuple, sites.tolist()), signs.tolist(), strict=True)}
    assert len(elements) == size
    a, b = sites[size // 3], sites[size // 2]
    assert (*a[b].tolist(), float(signs[size // 3] * signs[size // 2])) in elements
    if len(shape) == 2:
        edges = torch.tensor(nearest(shape))
        bonds = {frozenset(bond) for bond in edges.tolist()}
        assert all({frozenset(bond) for bond in g[edges].tolist()} == bonds for g in sites)
        wrong = torch.randperm(len(sites[0]), generator=torch.Generator().manual_seed(0))
        assert {frozenset(bond) for bond in wrong[edges].tolist()} != bonds  # negative control


@pytest.mark.parametrize("names", [["flip"], ["translation"], EVERYTHING])
def test_the_density_sums_to_one_and_has_the_symmetry(names):
    net = Symmetrised(perturbed(), SHAPE, names)
    with torch.no_grad():
        log_q = net.log_prob(STATES)
        sites, signs = group(SHAPE, names)
        for k in (0, len(sites) // 2, len(sites) - 1):
            torch.testing.assert_close(net.log_prob(STATES[:, sites[k]] * signs[k]), log_q)
        assert abs(log_q.logsumexp(0)) < 1e-12
        by_hand = torch.stack(
            [net.model.log_prob(STATES[:, g] * s) for g, s in zip(sites, signs, strict=True)]
        )
    torch.testing.assert_close(log_q.exp(), by_hand.exp().mean(0))


def test_draws_are_of_the_average():
    net = Symmetrised(perturbed(spread=0.4), SHAPE, EVERYTHING)
    with torch.no_grad():
        average, single = net.log_prob(STATES), net.model.log_prob(STATES)
    drawn = net.sample(40_000, torch.Generator().manual_seed(0))
    assert goodness_of_fit(drawn, average.exp()) > FALSE_ALARM
    assert goodness_of_fit(drawn, single.exp()) < FALSE_ALARM  # negative control


@pytest.mark.parametrize("seed", range(5))
def test_no_divergence_from_an_invariant_law_grows(seed):
    log_p = (-0.3 * Ising(lattices.square(3)).energy(STATES)).log_softmax(0)
    previous = None
    for names in ([], ["flip"], ["translation", "flip"], EVERYTHING):
        with torch.no_grad():
            found = divergences(log_p, Symmetrised(perturbed(seed), SHAPE, names).log_prob(STATES))
        assert previous is None or all(new < old for new, old in zip(found, previous, strict=True))
        previous = found


def test_against_a_law_without_the_symmetry_it_can_grow():
    """Negative control: a field breaks the flip."""
    net = perturbed()
    with torch.no_grad():
        log_p = net.log_prob(STATES)
        assert divergences(log_p, Symmetrised(net, SHAPE, ["flip"]).log_prob(STATES))[0] > 0.01


def test_gradients_reach_the_model_and_wrong_names_are_refused():
    net = Symmetrised(perturbed(), SHAPE, EVERYTHING)
    spins, log_q = net.sample_and_log_prob(10)
    torch.testing.assert_close(net.log_prob(spins.reshape(2, 5, N)), log_q.reshape(2, 5))
    log_q.sum().backward()
    assert net.model.direct.weight.grad.any()
    with pytest.raises(ValueError, match="symmetries are any of"):
        Symmetrised(net.model, SHAPE, ["rotation"])
    with pytest.raises(ValueError, match="equal sides"):
        group((3, 4), ["transposition"])
