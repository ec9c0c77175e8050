"""The centred machine on 4 x 4 against the sum over its 2**16 states, and against an exact Ising model."""

import math

import pytest
import torch

from ising.exact import log_partition as ising_log_z
from ising.exact import states
from ising.lattices import square
from ising.model import Ising
from physgen import models
from physgen.distributions import RestrictedBoltzmann, units
from physgen.distributions.centred import Centred
from physgen.energy import ExactLikelihood, PersistentCD
from physgen.models.rbm import RBM
from tests.checks import FALSE_ALARM, goodness_of_fit


def machine(hidden=6, spread=0.4, shape=(4, 4)):
    torch.manual_seed(3)
    rbm = models.build("rbm", shape, hidden=hidden, spread=spread)
    with torch.no_grad():
        rbm.centre(2.0 * torch.randint(0, 2, (40, rbm.n_sites)) - 1)
        rbm.c.normal_(0, 0.5)
    return rbm


def probabilities(rbm):
    return (-rbm.double().free_energy(states(rbm.n_sites))).softmax(0).detach()


@pytest.mark.parametrize("hidden", [6, 18])
def test_partition_function_is_the_sum_over_all_states(hidden):
    rbm = machine(hidden).double()
    exact = (-rbm.free_energy(states(16))).logsumexp(0).item()
    assert abs(rbm.log_partition() - exact) < 1e-10
    assert abs(rbm.distribution().log_prob(states(16)).exp().sum().item() - 1) < 1e-10


def test_centred_energy_is_the_plain_one_up_to_a_constant():
    rbm = machine().double()
    s, h = states(16)[::997], (torch.rand(66, 6) < 0.5).double()
    mu, half = rbm.base.tanh(), 0.5
    centred = -(s @ rbm.b) - h @ rbm.c - (((s - mu) @ rbm.W) * (h - half)).sum(-1)
    offset = centred - rbm.distribution().energy(s, h)
    assert offset.std() < 1e-12


@pytest.mark.parametrize("tied", [False, True])
def test_a_symmetric_machine_is_even_and_stays_even(tied):
    """Training on all spins up moves W only; with biases the same training breaks the symmetry."""
    s, odd = states(16)[::101], {}
    for symmetric in (True, False):
        rbm = RBM((4, 4), hidden=2, tied=tied, symmetric=symmetric).double().centre(torch.ones(9, 16))
        optimiser = torch.optim.Adam(rbm.parameters(), lr=0.1)
        for _ in range(3):
            optimiser.zero_grad()
            PersistentCD(rbm, start=s, k=1, chains=20)(torch.ones(9, 16).double()).backward()
            optimiser.step()
        odd[symmetric] = (rbm.free_energy(s) - rbm.free_energy(-s)).abs().max()
        assert rbm.W.grad.abs().max() > 0
    assert odd[True] < 1e-12
    assert odd[False] > 0.01


def test_centre_gives_the_marginals_of_the_data():
    data = 2.0 * torch.bernoulli(torch.linspace(0, 1, 9).expand(500, 9)) - 1
    rbm = RBM((3, 3), hidden=4, spread=0.0).centre(data)
    torch.testing.assert_close(rbm.distribution().mean, data.mean(0) * 500 / 502)


def test_an_ising_model_is_a_machine_with_one_hidden_unit_per_bond():
    """Hubbard-Stratonovich: 2 cosh(w (s_i + s_j) / 2) = 2 e^K e^{K s_i s_j} with cosh w = e^{2K}."""
    model, beta = Ising(square(4)), 0.4
    edges = model.lattice.edges
    rbm = RBM((4, 4), hidden=len(edges), spread=0.0).double()
    for bond, pair in enumerate(edges):
        rbm.W.data[pair, bond] = math.acosh(math.exp(2 * beta))
    s = states(16)
    constant = len(edges) * (math.log(2) + beta)
    torch.testing.assert_close(-rbm.free_energy(s), -beta * model.energy(s) + constant)
    assert abs(rbm.log_partition() - constant - ising_log_z(model, beta)) < 1e-10


def test_a_tied_machine_is_invariant_under_translations_only_of_the_torus():
    torch.manual_seed(0)
    rbm = RBM((3, 4), hidden=2, tied=True).double()
    rbm.c.data.normal_()
    s = states(12)[::37]
    moved = s.reshape(-1, 3, 4).roll((1, 2), (1, 2)).reshape(-1, 12)
    torch.testing.assert_close(rbm.free_energy(moved), rbm.free_energy(s))
    mixed = s.roll(1, -1)  # moves a site from the end of one row to the next
    assert (rbm.free_energy(mixed) - rbm.free_energy(s)).abs().max() > 0.01
    assert abs(rbm.log_partition() - (-rbm.free_energy(states(12))).logsumexp(0).item()) < 1e-10


def test_a_tied_machine_starts_near_bonds_along_each_axis_in_turn():
    torch.manual_seed(0)
    W = RBM((3, 5), hidden=4, tied=True).W.detach()
    ends = [set(column.topk(2).indices.tolist()) for column in W.T]
    assert ends == [{0, 5}, {0, 1}, {0, 10}, {0, 2}]
    assert float(W.topk(3, 0).values[2].abs().max()) < 0.15 < float(W.topk(2, 0).values.min())


def test_the_slope_through_the_centre_is_that_of_its_formula():
    """First and second derivatives by finite differences, float64."""
    torch.manual_seed(0)
    shapes = (4, 3), (4,), (3,), (4,), (3,)
    arguments = [random(*s) for s in shapes]
    assert torch.autograd.gradcheck(plain, arguments)
    assert torch.autograd.gradgradcheck(plain, arguments)


def plain(*parts):
    return Centred(*parts).plain()


def test_plain_parameters_keep_the_graph_whenever_they_are_asked_for():
    """First read without gradients, as samplers do, then differentiated; neither kind given is refused."""
    rbm, slopes = RBM((4, 4), hidden=3), []
    v = 2 * (torch.rand(5, 16) < 0.5).float() - 1
    for read_first in (False, True):
        law = rbm.distribution()
        if read_first:
            law.draw_hidden(v)
        slopes.append(torch.autograd.grad(law.free_energy(v).sum(), list(rbm.parameters())))
    for one, other in zip(*slopes, strict=True):
        assert torch.equal(one, other)
    with torch.no_grad():
        assert not rbm.distribution().loc.requires_grad
    with pytest.raises(ValueError, match="or centred parameters"):
        RestrictedBoltzmann(units.Spin(2), units.Spin(2))


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def test_a_tied_machine_with_two_units_per_site_holds_the_ising_model():
    """One unit for each of the two bonds of a site; the gradients of repeated weights add up."""
    model, beta = Ising(square(4)), 0.4
    rbm = RBM((4, 4), hidden=2, spread=0.0, tied=True).double()
    w = math.acosh(math.exp(2 * beta))
    rbm.W.data[[0, 1], 0] = w
    rbm.W.data[[0, 4], 1] = w
    s = states(16)
    constant = 32 * (math.log(2) + beta)
    torch.testing.assert_close(-rbm.free_energy(s), -beta * model.energy(s) + constant)
    rbm.free_energy(s[:3]).sum().backward()
    untied = RBM((4, 4), hidden=32).double()
    law = rbm.distribution()
    untied.W.data, untied.b.data, untied.c.data = (
        law.weight.detach(),
        rbm.b.expand(16).detach(),
        torch.zeros(32).double(),
    )
    untied.free_energy(s[:3]).sum().backward()
    torch.testing.assert_close(rbm.c.grad, untied.c.grad.reshape(16, 2).sum(0))
    torch.testing.assert_close(rbm.W.grad[0], untied.W.grad.reshape(16, 16, 2).diagonal().sum(-1))


def test_draws_follow_the_enumerated_law():
    """Exact sampler, annealed chains and one long set of chains; a wrong temperature is noticed."""
    rbm = machine(shape=(3, 3))
    spins = rbm.sample(20_000)
    chains = rbm.sample_chains(20_000, samples=2, thin=3, burn_in=60)
    probs = probabilities(rbm)
    assert goodness_of_fit(spins, probs) > FALSE_ALARM
    assert goodness_of_fit(chains[:, 0], probs) > FALSE_ALARM
    assert goodness_of_fit(chains[:, 1], probs) > FALSE_ALARM
    assert goodness_of_fit(spins, probs**1.2) < FALSE_ALARM


def test_gibbs_leaves_the_law_invariant_on_4x4():
    rbm = machine(hidden=8, spread=0.6)
    spins = rbm.sample(100_000)
    after = {steps: rbm.gibbs(spins, steps) for steps in (1, 3)}
    probs = probabilities(rbm)
    for moved in after.values():
        assert goodness_of_fit(moved, probs) > FALSE_ALARM
    rbm.W.data *= 1.05
    assert goodness_of_fit(rbm.float().gibbs(spins, 3), probs) < FALSE_ALARM


def test_chains_have_the_shape_and_repeat_with_their_generator():
    rbm = machine(hidden=30)
    seeds = (torch.Generator().manual_seed(4) for _ in range(2))
    one, two = (rbm.sample_chains(5, 7, thin=2, burn_in=10, generator=seed) for seed in seeds)
    assert one.shape == (5, 7, 16)
    assert torch.equal(one, two)
    start = torch.ones(5, 16)
    assert torch.equal(rbm.sample_chains(5, 1, thin=0, burn_in=0, start=start)[:, 0], start)


def test_beyond_enumeration():
    rbm = RBM((5, 5), hidden=21)
    assert not rbm.enumerable
    assert rbm.sample(3, burn_in=4).shape == (3, 25)
    with pytest.raises(ValueError, match="exact sums need a layer of at most 1048576 states"):
        rbm.log_partition()


def test_refuses_in_words():
    rbm = RBM((4, 4), hidden=3)
    with pytest.raises(ValueError, match="16 sites, got shape"):
        rbm.free_energy(torch.ones(2, 9))
    with pytest.raises(ValueError, match="2 \\* x - 1"):
        rbm.free_energy(torch.zeros(2, 16))
    with pytest.raises(ValueError, match="at least one hidden unit"):
        RBM((4, 4), hidden=0)


KINDS = ["bernoulli", "spin", "softmax:3", "binomial:3", "gaussian", "relu"]


def configurations(rbm, n=60):
    """Draws of the visible layer around no field: valid data of any kind."""
    layer = rbm.visible_layer()
    return layer.draw(torch.zeros(n, layer.width))


@pytest.mark.parametrize("labels", [0, 3])
@pytest.mark.parametrize("hidden", KINDS)
@pytest.mark.parametrize("visible", KINDS)
def test_any_visible_with_any_hidden_units_train_and_come_back(visible, hidden, labels):
    """A step of PCD moves every parameter; the centred energy is the plain one; weights load in float64."""
    torch.manual_seed(0)
    options = {"hidden": 3, "spread": 0.1, "visible": visible, "hidden_units": hidden, "labels": labels}
    options["learn_scale"] = visible in ("gaussian", "relu")
    rbm = models.build("rbm", (2, 2), **options)
    data = configurations(rbm)
    optimiser = torch.optim.Adam(rbm.centre(data).parameters(), lr=0.02)
    before = [p.detach().clone() for p in rbm.parameters()]
    PersistentCD(rbm, start=data, k=2, chains=30)(data).backward()
    optimiser.step()
    for old, new in zip(before, rbm.parameters(), strict=True):
        assert new.isfinite().all()
        assert (old != new).any()

    again = models.build("rbm", (2, 2), **options).double()
    again.load_state_dict(rbm.double().state_dict())
    v = data.double()
    torch.testing.assert_close(again.free_energy(v), rbm.free_energy(v), rtol=0, atol=0)
    assert again.free_energy(v).dtype == torch.float64

    law, layer = rbm.distribution(), rbm.visible_layer()
    h = rbm.hidden_layer.draw(torch.zeros(60, rbm.hidden_layer.width).double())
    mu = layer.coupled(layer.mean(rbm.base))
    rest = rbm.hidden_layer.coupled(rbm.hidden_layer.mean(torch.zeros_like(rbm.c)))
    pull = (((layer.coupled(v) - mu) @ rbm.W) * (rbm.hidden_layer.coupled(h) - rest)).sum(-1)
    centred = layer.energy(v, rbm.b) + rbm.hidden_layer.energy(h, rbm.c) - pull
    assert (law.energy(v, h) - centred).std() < 1e-12
    chains = rbm.sample_chains(4, 2, burn_in=4)
    assert layer.support.check(chains).all()
    assert rbm.sample(4, burn_in=4).shape == (4, rbm.width)


@pytest.mark.parametrize("hidden", ["spin", "relu"])
@pytest.mark.parametrize("visible", ["spin", "gaussian"])
def test_labels_given_pixels_and_pixels_given_labels(visible, hidden):
    """classify() against the free energies of the whole; given_label() is the law of the rest."""
    torch.manual_seed(0)
    rbm = RBM((2, 2), hidden=3, visible=visible, hidden_units=hidden, labels=3, spread=0.3).double()
    rbm.b.data.normal_()
    pixels, labels = configurations(rbm, 7)[:, :4].double(), torch.eye(3).double()
    whole = torch.cat([pixels.repeat_interleave(3, 0), labels.repeat(7, 1)], 1)
    F = rbm.free_energy(whole).reshape(7, 3)
    log_p = rbm.classify(pixels)
    torch.testing.assert_close(log_p, (-F).log_softmax(1), rtol=1e-10, atol=1e-10)
    law = rbm.given_label(torch.tensor([0, 1, 2]))
    torch.testing.assert_close(law.free_energy(pixels.unsqueeze(1)).diff(dim=0), F.diff(dim=0))
    assert law.gibbs(pixels[:3], 2).shape == (3, 4)
    with pytest.raises(ValueError, match="has no labels"):
        RBM((2, 2)).classify(pixels)


def test_a_gaussian_machine_has_its_closed_forms():
    """Log Z, draws and the gradient of the likelihood are exact without a sum."""
    torch.manual_seed(0)
    rbm = RBM((3, 3), hidden=2, visible="gaussian", hidden_units="gaussian", spread=0.1).double()
    assert rbm.enumerable
    v = rbm.sample(10)
    precision = torch.eye(9).double() - rbm.W @ rbm.W.mT
    law = torch.distributions.MultivariateNormal(torch.zeros(9).double(), precision_matrix=precision)
    log_p = law.log_prob(v)
    torch.testing.assert_close(-rbm.free_energy(v) - rbm.log_partition(), log_p)
    (expected,) = torch.autograd.grad(-log_p.mean(), rbm.W)
    (found,) = torch.autograd.grad(ExactLikelihood(rbm)(v), rbm.W)
    torch.testing.assert_close(found, expected)
