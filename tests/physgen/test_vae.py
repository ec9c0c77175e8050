"""The VAE against quadrature over two latent variables, where every integral is exact to many digits."""

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO

from ising import exact
from physgen.models import build
from physgen.nn import spin_log_prob
from tests.checks import FALSE_ALARM, goodness_of_fit

STATES = exact.states(4)


def small(flow):
    torch.manual_seed(3)
    vae = build("vae", (2, 2), latent=2, hidden=6, flow=flow).double()
    with torch.no_grad():
        for p in vae.decoder.parameters():
            p += 0.4 * torch.randn_like(p)
        for p in vae.couplings.parameters():
            p += 0.1 * torch.randn_like(p)
    return vae


@torch.no_grad()
def exact_log_prob(vae):
    r""":math:`\log \int N(\epsilon) \prod_i p(s_i | f(\epsilon)) d\epsilon` of all 16 states, on a grid."""
    axis = torch.linspace(-9, 9, 401, dtype=torch.float64)
    z = noise = torch.cartesian_prod(axis, axis)
    for transform in vae.flow():
        z = transform(z)
    weight = (-noise.square().sum(-1) / 2).softmax(0).log()
    return (weight + spin_log_prob(STATES.unsqueeze(1), vae.decoder(z))).logsumexp(-1)


@pytest.mark.parametrize("flow", [0, 2])
def test_samples_follow_the_integral(flow):
    """False alarm 1e-5 at a fixed seed; the law of other weights is the negative control."""
    vae = small(flow)
    log_p = exact_log_prob(vae)
    torch.testing.assert_close(log_p.logsumexp(0).item(), 0.0, atol=1e-10, rtol=0)
    spins = vae.sample(40_000)
    assert goodness_of_fit(spins, log_p.exp()) > FALSE_ALARM
    with torch.no_grad():
        vae.decoder[-1].bias += 0.1
    assert goodness_of_fit(spins, exact_log_prob(vae).exp()) < FALSE_ALARM


@pytest.mark.parametrize("flow", [0, 2])
def test_the_bound_lies_below_grows_with_k_and_converges(flow):
    """Means over 2000 draws per state, errors below 0.02; tolerance 4.5 sigma."""
    vae = small(flow)
    log_p = exact_log_prob(vae)
    means = []
    with torch.no_grad():
        for k in (1, 8, 512):
            draws = vae.log_prob_bound(STATES.repeat(2000 if k < 9 else 20, 1), k).reshape(-1, 16)
            error = draws.std(0) / len(draws) ** 0.5
            assert (draws.mean(0) < log_p + 4.5 * error).all()
            means.append(draws.mean().item())
    assert means[0] < means[1] < means[2]
    torch.testing.assert_close(means[2], log_p.mean().item(), atol=0.05, rtol=0)


def test_pyro_and_the_bound_agree_on_the_elbo():
    vae = small(2)
    with torch.no_grad():
        many = STATES.repeat(500, 1)
        torch.manual_seed(0)
        expected = vae.elbo(many).reshape(500, 16).mean(0).sum().item()
        found = -Trace_ELBO().loss(vae.model, vae.guide, many) / 500
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0)


def test_it_works_in_pyros_own_svi():
    vae = build("vae", (2, 2), latent=2, hidden=8, flow=1)
    before = vae.decoder[0].weight.detach().clone()
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
    losses = [svi.step(torch.ones(20, 4)) / 20 for _ in range(100)]
    assert not torch.equal(vae.decoder[0].weight, before)
    assert sum(losses[-10:]) / 10 < 1.0 < losses[0]


def test_one_latent_variable_cannot_be_coupled():
    assert build("vae", (2, 2), latent=1, flow=0).sample(3).shape == (3, 4)
    with pytest.raises(ValueError, match="2 with a flow, got 1"):
        build("vae", (2, 2), latent=1)
