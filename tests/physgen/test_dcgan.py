"""The GAN: exact properties of its parts, and the optimum of a critic that can be computed."""

import math

import pytest
import torch

from physgen.models import build
from physgen.models.dcgan import inhomogeneity
from physgen.nn import check_shape
from physgen.train import adversarial_step, fit, gradient_step


def test_the_sign_passes_the_gradient_of_tanh():
    torch.manual_seed(0)
    gan = build("dcgan", (4, 4), width=2)
    heads = []
    gan.generator.head.register_forward_hook(lambda *call: heads.append(call[-1]))
    spins = gan.generator(5)
    soft = torch.tanh(heads[0] / heads[0].square().mean((1, 2, 3), keepdim=True).sqrt())
    weight = torch.randn(5, 16)
    (found,) = torch.autograd.grad((weight * spins).sum(), heads[0], retain_graph=True)
    (expected,) = torch.autograd.grad((weight * soft.flatten(1)).sum(), heads[0])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(spins, torch.where(heads[0] < 0, -1.0, 1.0).flatten(1))


def test_the_critic_knows_no_place_on_the_torus():
    """Exactly for translations by its total stride, 4; a zero edge in place of the periodic one breaks it."""
    gan = build("dcgan", (8, 8), width=4)
    lattice = 2.0 * torch.randint(0, 2, (6, 8, 8)) - 1
    moved = lattice.roll((4, 4), (1, 2))
    values = [gan._features(x.flatten(1)) for x in (lattice, moved)]
    torch.testing.assert_close(*values, atol=1e-6, rtol=0)
    for module in gan.critic.features:
        if hasattr(module, "padding_mode"):
            module.padding_mode = "zeros"
    values = [gan._features(x.flatten(1)) for x in (lattice, moved)]
    assert (values[0] - values[1]).abs().max() > 1e-4


def test_inhomogeneity_is_that_of_known_laws():
    """Normal laws at distance d in one dimension: the mean distance within is 2 / sqrt(pi), across that of
    a folded normal law. Shift and scale of the features change nothing; equal laws give 0."""
    torch.manual_seed(0)
    d = 1.5
    x, y = torch.randn(2, 4000, 1, dtype=torch.float64)
    across = 2 / math.pi**0.5 * math.exp(-(d**2) / 4) + d * math.erf(d / 2)
    expected = 1 - 2 / math.pi**0.5 / across
    assert inhomogeneity(x, y + d).item() == pytest.approx(expected, abs=0.02)
    torch.testing.assert_close(inhomogeneity(7 * x + 3, 7 * (y + d) + 3), inhomogeneity(x, y + d))
    assert abs(inhomogeneity(x, y)) < 0.002
    assert inhomogeneity(x[:1].expand(5, 1), y[:1].expand(5, 1)) == pytest.approx(1)


def test_the_distance_sees_collapse_and_its_gradient_undoes_it():
    """Samples at the mean of the data, all but equal, are pushed apart; no mean of values could do that."""
    torch.manual_seed(0)
    data = torch.randn(200, 2)
    samples = 1e-3 * torch.randn(200, 2)
    samples.requires_grad_()
    distance = inhomogeneity(data, samples)
    distance.backward()
    assert distance > 0.2
    with torch.no_grad():
        assert (samples - 1e-3 * samples.grad / samples.grad.norm()).std() > samples.std()


def test_a_batch_of_one_is_refused():
    gan = build("dcgan", (4, 4), width=2)
    with pytest.raises(ValueError, match="at least 2 configurations"):
        gan.critic_loss(torch.ones(1, 16))


def test_equal_points_leave_the_gradient_finite():
    """Data and samples all in one point: no distance at all, as for a small ordered lattice in a field."""
    x = torch.ones(6, 3, requires_grad=True)
    inhomogeneity(torch.ones(6, 3), x).backward()
    assert x.grad.isfinite().all()


def test_symmetric_flips_half_of_the_samples():
    """Wherever the generator's magnetisation is the same for all, the flip alone splits them: 4.5 sigma."""
    gan = build("dcgan", (4, 4), width=2, symmetric=True)
    with torch.no_grad():
        gan.generator.head.bias.fill_(20.0)
    assert abs(gan.sample(4000).mean()) < 4.5 / 4000**0.5
    gan.generator.symmetric = False
    assert gan.sample(4000).mean() == 1


def test_each_loss_moves_its_own_network():
    torch.manual_seed(0)
    gan = build("dcgan", (4, 4), width=2)

    def bits():
        networks = gan.generator, gan.critic
        return [torch.cat([p.detach().flatten().clone() for p in net.parameters()]) for net in networks]

    generator = gradient_step(gan.generator_loss, torch.optim.SGD(gan.generator.parameters(), lr=0.1))
    critic = gradient_step(gan.critic_loss, torch.optim.SGD(gan.critic.parameters(), lr=0.1))
    batch = 2.0 * torch.randint(0, 2, (32, 16)) - 1
    for step, own in ((generator, 0), (critic, 1)):
        before = bits()
        step(batch)
        assert [torch.equal(*pair) for pair in zip(before, bits(), strict=True)] == [own == 1, own == 0]


def test_it_learns_the_magnetisation_of_ordered_data():
    """Data all up or all down; the untrained generator has a wide distribution of m."""
    torch.manual_seed(0)
    gan = build("dcgan", (4, 4), latent=4, width=4, symmetric=True)
    assert gan.sample(500).mean(-1).abs().mean() < 0.9
    data = torch.ones(64, 16) * (2.0 * torch.arange(64).unsqueeze(-1).remainder(2) - 1)
    adam = {"lr": 3e-3, "betas": (0.5, 0.9)}
    step = adversarial_step(
        gradient_step(gan.generator_loss, torch.optim.Adam(gan.generator.parameters(), **adam)),
        gradient_step(gan.critic_loss, torch.optim.Adam(gan.critic.parameters(), **adam)),
    )
    last = fit(step, [data], steps=100)
    assert gan.sample(500).mean(-1).abs().mean() > 0.95
    assert last.metrics["generator_spread_data"] == 0


def test_shapes_it_cannot_halve_twice_are_refused():
    for shape in ((6, 6), (2, 4), (16,), (4, 4, 4)):
        with pytest.raises(ValueError, match="sides of at least 4, multiples of 4, got shape"):
            build("dcgan", shape)
    check_shape((8, 12), divisor=4, model="this")
