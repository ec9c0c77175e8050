"""Networks of one hidden layer per site: the gradient that is written out is that of the network."""

import pytest
import torch

from physgen import models, per_site

NAMES = [("fvbn", {}), ("odd", {"hidden": 1}), ("odd", {"hidden": 3})]


def net(name, hyper, shape=(5, 9), *, symmetric=False):
    """With weights everywhere, on and above the diagonal too, where none may be read."""
    torch.manual_seed(0)
    model = models.build(name, shape, symmetric=symmetric, **hyper)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.2 * torch.randn_like(p))
    return model


def gradients(model, value):
    model.zero_grad()
    value.backward()
    return [p.grad.clone() for p in model.parameters()]


def by_autograd(model, spins, weights):
    return gradients(model, (weights * model.alphabet.log_prob(spins, model(spins))).sum())


@pytest.mark.parametrize(("name", "hyper"), NAMES)
@pytest.mark.parametrize("symmetric", [False, True])
def test_density_and_gradient_are_those_of_the_network(name, hyper, symmetric):
    model = net(name, hyper, symmetric=symmetric).double()
    spins, weights = model.sample(7), torch.randn(7).double()
    expected = model.alphabet.log_prob(spins, model(spins))
    torch.testing.assert_close(model.log_prob(spins), expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(model.log_prob(spins[None]), expected[None], rtol=0, atol=1e-10)
    found = gradients(model, (weights * model.log_prob(spins)).sum())
    torch.testing.assert_close(found, by_autograd(model, spins, weights), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("name", "hyper"), NAMES)
def test_what_a_compiled_draw_has_computed_is_enough(name, hyper):
    model, weights = net(name, hyper), torch.randn(70)
    spins, log_q = model.sample_and_log_prob(70, torch.Generator().manual_seed(1))
    assert torch.equal(spins, model.sample(70, torch.Generator().manual_seed(1)))
    torch.testing.assert_close(log_q, model.log_prob(spins), rtol=0, atol=1e-4)
    found, expected = gradients(model, (weights * log_q).sum()), by_autograd(model, spins, weights)
    scale = max(float(g.abs().max()) for g in expected)
    torch.testing.assert_close([g / scale for g in found], [g / scale for g in expected], rtol=0, atol=1e-5)


def test_units_of_other_draws_give_another_gradient():
    """Negative control of the tolerance."""
    model = net("odd", {"hidden": 1})
    a, b = model.sample(70), model.sample(70)
    wrong = per_site.forward(model.weights, b).units
    known = per_site.forward(model.weights, a)._replace(units=wrong)
    found = gradients(model, per_site.log_prob(model.weights, a, known).sum())
    expected = by_autograd(model, a, torch.ones(70))
    assert max(float((f - e).abs().max() / e.abs().max()) for f, e in zip(found, expected, strict=True)) > 0.1
