"""Sites that read a frontier: nothing else matters for them; compiled passes are those of the network."""

import numpy as np
import pytest
import torch

from ising import Ising, exact, lattices
from physgen import models
from physgen.models import frontier
from workflows import neural_sampler


def net(hidden, *, symmetric, shape=(5, 9), spread=0.2):
    torch.manual_seed(0)
    model = models.build("frontier", shape, hidden=hidden, symmetric=symmetric)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(spread * torch.randn_like(p))
    return model


def gradients(model, value):
    return torch.autograd.grad(value, list(model.parameters()))


def number(bits):
    """Rows of bits as binary numbers."""
    return bits @ (2 ** np.arange(bits.shape[1]))


def spread_given(lattice, beta, drop=None):
    """How far conditionals of an exact law differ among configurations with equal spins in the slots."""
    n = lattice.n_sites
    _, sources = frontier.memory(n, lattice.edges.tolist())
    states = exact.states(n)
    p, up = exact.boltzmann(Ising(lattice), beta).numpy(), (states > 0).numpy()
    worst = 0.0
    for i in range(n):
        read = sorted({j for j in sources[i].tolist() if j < n and j != drop})
        earlier, seen = (number(up[:, sites]) for sites in (list(range(i)), read))
        total, ups = (np.bincount(earlier, x, 2**i) for x in (p, p * up[:, i]))
        conditional = (ups / total)[earlier]
        low, high = np.ones(2**n), np.zeros(2**n)
        np.minimum.at(low, seen, conditional)
        np.maximum.at(high, seen, conditional)
        worst = max(worst, (high - low)[np.unique(seen)].max())
    return worst


@pytest.mark.parametrize(
    "lattice", [lattices.square(3), lattices.rectangular(3, 4), lattices.triangular(3), lattices.chain(8)]
)
def test_the_law_of_a_site_depends_on_the_slots_alone(lattice):
    assert spread_given(lattice, 0.4) < 1e-12
    assert spread_given(lattice, 0.4, drop=1) > 1e-3  # negative control: without the second site


def test_a_torus_needs_two_rows_and_an_open_chain_one_spin():
    assert frontier.memory(48, frontier.torus((6, 8)))[1].shape == (48, 16)
    assert frontier.memory(9, [[i, i + 1] for i in range(8)])[1].shape == (9, 1)


@pytest.mark.parametrize("hidden", [1, 5, 7])
@pytest.mark.parametrize("symmetric", [False, True])
def test_compiled_passes_are_those_of_the_network(hidden, symmetric):
    model, weights = net(hidden, symmetric=symmetric), torch.randn(70)
    spins, log_q = model.sample_and_log_prob(70, torch.Generator().manual_seed(1))
    assert torch.equal(spins, model.sample(70, torch.Generator().manual_seed(1)))
    expected = model.alphabet.log_prob(spins, model(spins))
    torch.testing.assert_close(model.log_prob(spins[None]), expected[None], rtol=0, atol=1e-4)
    torch.testing.assert_close(log_q, expected, rtol=0, atol=1e-4)
    wanted = gradients(model, (weights * expected).sum())
    for found in (log_q, model.log_prob(spins)):
        for g, w in zip(gradients(model, (weights * found).sum()), wanted, strict=True):
            torch.testing.assert_close(g, w, rtol=0, atol=1e-5 * float(w.abs().max()))


def test_densities_of_strong_fields_stay_accurate():
    model = net(5, symmetric=False, spread=3.0)
    spins = 2.0 * torch.randint(2, (70, 45)) - 1
    with torch.no_grad():
        found, exactly = model.log_prob(spins).double(), model.double().log_prob(spins.double())
    assert float(exactly.min()) < -500
    torch.testing.assert_close(found, exactly, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("order", ["raster", "snake", "hierarchical"])
def test_bonds_follow_the_order(order):
    """The last site has all of its neighbours in slots, so its field is known."""
    config = neural_sampler.Config(L=(4,), beta=0.3, order=order)
    target = Ising(lattices.square(4))
    model = neural_sampler.network(config, target, 0.3)
    spins = model.sample(20)
    last = 15 if order == "raster" else int(model.order[-1])
    with torch.no_grad():
        getattr(model, "model", model).shared_outer.zero_()
        found = model(spins)[:, last]
    torch.testing.assert_close(found, 0.3 * target.local_field(spins)[:, last].float(), rtol=0, atol=1e-6)


def test_a_field_takes_biases():
    target, beta = Ising(lattices.square(4), h=0.2), 0.3
    model = neural_sampler.network(neural_sampler.Config(L=(4,), h=0.2, beta=beta), target, beta)
    up = torch.ones(1, 16)
    assert abs(float((model.log_prob(up) - model.log_prob(-up)).detach())) < 1e-5
    with torch.no_grad():
        model.direct.bias += 0.1
    assert float((model.log_prob(up) - model.log_prob(-up)).detach()) > 1
