"""The VAE against quadrature over two latent variables, where every integral is exact to many digits."""

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO

from ising import exact
from physgen.models import build
from physgen.models import vae as of_vae
from physgen.nn import spin_log_prob
from tests.checks import FALSE_ALARM, goodness_of_fit

STATES = exact.states(4)


def small(flow, bend=0.1):
    torch.manual_seed(3)
    vae = build("vae", (2, 2), latent=2, hidden=6, flow=flow).double()
    with torch.no_grad():
        for p in vae.decoder.parameters():
            p += 0.4 * torch.randn_like(p)
        for p in vae.couplings.parameters():
            p += bend * torch.randn_like(p)
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
    vae = small(flow, bend=0.5)  # so that the last exchange of the latent variables matters
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


@torch.no_grad()
@pytest.mark.parametrize("flow", [0, 2])
def test_the_marginal_is_normalised_and_two_grids_agree(flow):
    vae = small(flow)
    fine, coarse = vae.log_marginal(STATES, 96), vae.log_marginal(STATES, 64)
    assert fine.exp().sum().item() == pytest.approx(1, abs=1e-10)
    torch.testing.assert_close(fine, coarse, atol=1e-6, rtol=0)
    torch.testing.assert_close(fine, exact_log_prob(vae), atol=1e-6, rtol=0)
    assert (fine - vae.log_marginal(STATES, 6)).abs().max() > 1e-4  # a grid that is too coarse is seen


@pytest.mark.parametrize(("n_sites", "scale"), [(2, 1.0), (9, 1.0), (10, 400.0)])
def test_half_by_half_the_marginal_is_that_of_one_configuration_after_another(n_sites, scale, monkeypatch):
    """With strong fields a half is likely at other latent variables than the other, and the sums are lost."""
    states = exact.states(n_sites)[torch.randperm(2**n_sites)].repeat(3, 1)
    fields = scale * torch.randn(20, n_sites, dtype=torch.float64)
    arguments = states, fields, torch.randn(20, dtype=torch.float64).log_softmax(0)
    plain = torch.cat([of_vae._log_mixture(row, *arguments[1:]) for row in states.split(1)])
    torch.testing.assert_close(of_vae._log_mixture(*arguments), plain, atol=1e-10, rtol=1e-12)
    monkeypatch.setattr(of_vae, "LOST", -1.0)
    assert of_vae._log_mixture(*arguments).isinf().any() == (scale > 1)


@torch.no_grad()
def likelihoods(vae, n=40_000):
    """Unbiased draws ``(n, 16)`` of p(s): the likelihood at z from the prior, by no grid."""
    fields = vae.decoder(vae.prior(n).sample())
    return spin_log_prob(STATES.unsqueeze(0), fields.unsqueeze(1)).exp()


@torch.no_grad()
def importance(vae, n=40_000):
    """Unbiased draws ``(n, 16)`` of p(s) that are also large or small with the densities of z."""
    return vae.log_prob_bound(STATES.repeat(n, 1), k=1).exp().reshape(n, 16)


def agree(draws, log_p):
    """Each of 16 means within 4.5 standard errors: false alarm 1e-4 at a fixed seed."""
    return bool(((draws.mean(0) - log_p.exp()).abs() < 4.5 * draws.std(0) / len(draws) ** 0.5).all())


@torch.no_grad()
def without_the_jacobian(vae):
    """Planted error: the normal density taken at f(ε) and not at ε, on the same grid."""
    axis = torch.linspace(-7, 7, 96, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    for transform in vae.flow():
        z = transform(z)
    mass = (-z.square().sum(-1) / 2).log_softmax(0)
    return (mass + spin_log_prob(STATES.unsqueeze(1), vae.decoder(z))).logsumexp(-1)


def test_the_marginal_is_the_mean_likelihood_and_wrong_ones_are_rejected():
    vae = small(2)
    log_p = vae.log_marginal(STATES)
    for draws in (likelihoods(vae), importance(vae)):
        assert agree(draws, log_p)
        assert not agree(draws, without_the_jacobian(vae))
        assert not agree(draws, log_p + 0.05)  # a mass of 1.05


def test_a_bound_with_a_wrong_prior_is_rejected(monkeypatch):
    """Planted error: the density of ε in place of that of z, so the ELBO lacks the Jacobian of f."""
    vae = small(2)
    wrong = build("vae", (2, 2), latent=2, hidden=6, flow=0).double()
    monkeypatch.setattr(vae, "prior", wrong.prior)
    assert not agree(importance(vae), vae.log_marginal(STATES))


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
