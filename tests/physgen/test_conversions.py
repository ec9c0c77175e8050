"""Conversions and couplings of machines against enumeration and against exact Ising models."""

import itertools
from functools import partial

import pytest
import torch

from ising.exact import log_partition as ising_log_z
from ising.exact import states
from ising.lattices import square
from ising.model import Ising
from physgen.distributions import (
    BernoulliRBM,
    GaussianBinaryRBM,
    Groups,
    RestrictedBoltzmann,
    SpinRBM,
    machine,
    units,
)
from physgen.distributions.conversions import encoded, from_bonds, from_couplings, swapped
from physgen.distributions.couplings import couplings, many_body, pair_couplings

same = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-10)
ENCODINGS = list(itertools.product(("bernoulli", "spin"), repeat=2))
HIDDEN = ["spin", "bernoulli", "binomial:3", "gaussian", "softmax:3", "relu"]


def drawn(visible, hidden, seed=0, spread=0.6, **options):
    generator = torch.Generator().manual_seed(seed)
    normal = partial(torch.randn, generator=generator, dtype=torch.float64)
    D, H = visible.width, hidden.width
    return machine(visible, hidden, spread * normal(D, H), normal(D) / 2, normal(H) / 2, **options)


def recoded(x, old, new):
    return x if old == new else (2 * x - 1 if new == "spin" else (x + 1) / 2)


@pytest.mark.parametrize("new", ENCODINGS)
@pytest.mark.parametrize("old", ENCODINGS)
def test_encodings_of_either_layer_convert_both_ways(old, new):
    d = drawn(*(units.layer(kind, n) for kind, n in zip(old, (3, 2), strict=True)))
    d = RestrictedBoltzmann(
        d.visible_units, d.hidden_units, d.weight, d.loc, d.hidden_bias, log_partition=d.log_partition()
    )
    other = encoded(d, *new)
    v, h = d.enumerate_support(), swapped(d).enumerate_support()
    v_new, h_new = (recoded(x, *kinds) for x, kinds in zip((v, h), zip(old, new, strict=True), strict=True))
    same(other.log_prob(v_new), d.log_prob(v))
    same(other.log_prob_hidden(h_new), d.log_prob_hidden(h))
    same(other.log_partition(), other.log_weights(visible=True).logsumexp(0))
    again = encoded(other, *old)
    for name in ("weight", "loc", "hidden_bias"):
        same(getattr(again, name), getattr(d, name))
    same(again.log_partition(), d.log_partition())


@pytest.mark.parametrize("hidden", HIDDEN)
def test_encodings_beside_other_units(hidden):
    """A label beside the pixels and any hidden units stay as they are; a batch of machines, log Z known."""
    layers = Groups(units.Spin(3), units.Softmax(1, 3)), units.layer(hidden, 2)
    batch = torch.randn(2, 1, layers[1].width, dtype=torch.float64) / 3
    one = drawn(*layers)
    parameters = one.weight, one.loc, one.hidden_bias + batch.squeeze(1)
    d = machine(*layers, *parameters)
    d = machine(*layers, *parameters, log_partition=d.log_partition())
    v = d.enumerate_support()
    other = encoded(d, visible="bernoulli")
    v_new = torch.cat([(v[..., :3] + 1) / 2, v[..., 3:]], -1)
    same(other.log_prob(v_new), d.log_prob(v))
    with pytest.raises(ValueError, match="only 'spin' and 'bernoulli' units become each other"):
        encoded(swapped(drawn(units.Spin(2), units.Gaussian(2))), visible="spin")


def test_a_spin_machine_converts_to_its_class():
    d = drawn(units.Spin(3), units.Bernoulli(2))
    d = SpinRBM(d.weight, d.loc, d.hidden_bias)
    other, general = d.to_bernoulli(), encoded(d, visible="bernoulli")
    assert isinstance(other, BernoulliRBM)
    for name in ("weight", "loc", "hidden_bias"):
        same(getattr(other, name), getattr(general, name))


def lattice_model():
    """4 x 4 torus with random bonds of either sign and random fields."""
    generator = torch.Generator().manual_seed(5)
    normal = partial(torch.randn, generator=generator, dtype=torch.float64)
    lattice = square(4)
    return Ising(lattice, J=normal(len(lattice.edges)), h=0.3 * normal(16))


def kl(model, beta, law, s):
    log_p = -beta * model.energy(s) - ising_log_z(model, beta)
    return (log_p.exp() * (log_p - law.log_prob(s))).sum()


def test_a_lattice_ising_model_is_a_machine_with_a_hidden_spin_per_bond():
    """KL = 0 with couplings of either sign on every bond, as spins or as 0/1 units; 1 % off is seen."""
    model, beta, s = lattice_model(), 0.7, states(16)
    edges = torch.as_tensor(model.lattice.edges)
    law = from_bonds(edges, beta * model.J, beta * model.h)
    offset = (beta * model.J.abs() + torch.log(torch.tensor(2.0, dtype=torch.float64))).sum()
    assert abs(law.log_partition() - ising_log_z(model, beta) - offset) < 1e-10
    assert abs(kl(model, beta, law, s)) < 1e-10
    assert abs(kl(model, beta, encoded(law, hidden="bernoulli"), s)) < 1e-10
    assert kl(model, beta, from_bonds(edges, 1.01 * beta * model.J, beta * model.h), s) > 1e-5


@pytest.mark.parametrize("K", [1e-12, 1e-3, 1.0, 50.0, 800.0])
def test_bonds_of_any_strength(K):
    law = from_bonds(torch.tensor([[0, 1]]), torch.tensor([-K]).double(), torch.zeros(2).double())
    F = law.free_energy(torch.tensor([[1.0, 1], [1, -1]]).double())
    torch.testing.assert_close(F[0] - F[1], torch.tensor(2 * K).double(), rtol=1e-10, atol=1e-15)


def test_refuses_bonds_in_words():
    one, zero = torch.ones(1), torch.zeros(2)
    with pytest.raises(ValueError, match="one row a coupling"):
        from_bonds(torch.tensor([[0, 1], [1, 0]]), one, zero)
    for edge in ([0, 0], [0, 2], [-1, 0]):
        with pytest.raises(ValueError, match="two different sites of 0 to 1"):
            from_bonds(torch.tensor([edge]), one, zero)
    with pytest.raises(ValueError, match="symmetric"):
        from_couplings(torch.tensor([[0.0, 1], [0, 0]]), zero)


def test_couplings_are_gaussian_hidden_units_and_back():
    """Couplings -> machine -> couplings; KL = 0; 1/0 hidden units of a Gaussian machine as an Ising model."""
    model, beta, s = lattice_model(), 0.4, states(16)
    J = torch.zeros(16, 16, dtype=torch.float64)
    i, j = torch.as_tensor(model.lattice.edges).mT
    J[i, j] = J[j, i] = beta * model.J
    law = from_couplings(J, beta * model.h)
    assert law.n_hidden == 15
    assert abs(kl(model, beta, law, s)) < 1e-10
    fields, pairs = pair_couplings(law)
    same(fields, beta * model.h)
    same(pairs, J)
    gb = drawn(units.Gaussian(3), units.Bernoulli(4))
    scale = torch.tensor([0.5, 1.0, 2.0]).double()
    gb = GaussianBinaryRBM(gb.weight, gb.loc, gb.hidden_bias, scale)
    hidden = swapped(encoded(gb, hidden="spin"))
    fields, pairs = pair_couplings(hidden)
    h = hidden.enumerate_support()
    ising = ((h @ pairs * h).sum(-1) / 2 + h @ fields).log_softmax(0)
    same(ising, gb.log_prob_hidden((h + 1) / 2))
    W = gb.weight / gb.scale.unsqueeze(-1)
    off = 1 - torch.eye(4, dtype=torch.float64)
    same(pairs, off * (W.mT @ W) / 4)  # W^T Sigma^-1 W, over 4 for spins


@pytest.mark.parametrize("hidden", HIDDEN)
def test_all_couplings_are_averages_over_all_states(hidden):
    law = drawn(units.Spin(6), units.layer(hidden, 3))
    J, s = couplings(law), law.enumerate_support()
    for size in range(7):
        for sites in itertools.combinations(range(6), size):
            number = sum(32 >> i for i in sites)
            same(J[number], (-law.free_energy(s) * s[:, list(sites)].prod(-1)).mean())
    numbers = torch.tensor([32 >> i for i in range(6)])
    if hidden in ("softmax:3", "relu"):
        with pytest.raises(ValueError, match="hidden units have no such integral"):
            pair_couplings(law)
        return
    fields, pairs = pair_couplings(law)
    same(fields, J[numbers])
    same(pairs, J[numbers.unsqueeze(-1) | numbers] * (1 - torch.eye(6, dtype=torch.float64)))
    if hidden != "gaussian":
        for size in (3, 4, 5, 6):
            sites = torch.combinations(torch.arange(6), size)
            same(many_body(law, sites), J[numbers[sites].sum(-1)])


@pytest.mark.parametrize("spread", [0.01, 1.0, 20.0])
def test_couplings_of_many_spins_do_not_notice_idle_ones(spread):
    """300 spins, of which a unit sees 10: the integral equals the transform over those, weak or saturated."""
    small = drawn(units.Spin(10), units.Bernoulli(3), spread=spread)
    weight, loc = torch.zeros(300, 3).double(), torch.zeros(300).double()
    seen = torch.arange(7, 300, 30)
    weight[seen], loc[seen] = small.weight, small.loc
    fields, pairs = pair_couplings(
        machine(units.Spin(300), units.Bernoulli(3), weight, loc, small.hidden_bias)
    )
    J, numbers = couplings(small), 512 >> torch.arange(10)
    same(fields[seen], J[numbers])
    off = 1 - torch.eye(10, dtype=torch.float64)
    same(pairs[seen.unsqueeze(-1), seen], off * J[numbers.unsqueeze(-1) | numbers])
    assert pairs.count_nonzero() <= 90


def test_bonds_come_back_as_couplings_on_a_large_lattice():
    lattice = square(20)
    edges = torch.as_tensor(lattice.edges)
    K = torch.randn(len(edges), generator=torch.Generator().manual_seed(1)).double()
    f = torch.linspace(-1, 1, 400).double()
    fields, pairs = pair_couplings(from_bonds(edges[:60], K[:60], f))
    same(fields, f)
    expected = torch.zeros(400, 400).double()
    i, j = edges[:60].mT
    expected[i, j] = expected[j, i] = K[:60]
    same(pairs, expected)


def test_refuses_couplings_in_words():
    with pytest.raises(ValueError, match='encoded\\(law, visible="spin"\\)'):
        couplings(drawn(units.Bernoulli(3), units.Spin(2)))
    with pytest.raises(ValueError, match="at most 20 spins"):
        couplings(drawn(units.Spin(21), units.Spin(2)))
    law = drawn(units.Spin(4), units.Spin(2))
    with pytest.raises(ValueError, match="n >= 3"):
        many_body(law, torch.tensor([[0, 1]]))
    with pytest.raises(ValueError, match="different sites"):
        many_body(law, torch.tensor([[0, 1, 1]]))
    with pytest.raises(ValueError, match="this is a batch of"):
        pair_couplings(law.expand((2,)))
