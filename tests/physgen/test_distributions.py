"""Spin and the three RBM families against sums over all states, in float64 to 1e-10."""

import itertools

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import MCMC, NUTS, TraceEnum_ELBO, config_enumerate, infer_discrete
from torch.autograd import grad, gradcheck

from physgen.distributions import BernoulliRBM, GaussianBinaryRBM, Spin, SpinRBM
from tests.checks import FALSE_ALARM, goodness_of_fit

D, H = 3, 4
DISCRETE = [BernoulliRBM, SpinRBM]
FAMILIES = [*DISCRETE, GaussianBinaryRBM]
ALPHABET = {BernoulliRBM: (0.0, 1.0), SpinRBM: (-1.0, 1.0)}


def parameters(family, *batch, visible=D, hidden=H, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*batch, *shape, generator=generator, dtype=torch.float64)

    drawn = {"weight": 0.8 * normal(visible, hidden), "loc": normal(visible), "hidden_bias": normal(hidden)}
    return drawn | ({"scale": 0.5 + normal(visible).abs()} if family is GaussianBinaryRBM else {})


def states(n, alphabet=(0.0, 1.0)):
    return torch.tensor(list(itertools.product(alphabet, repeat=n)), dtype=torch.float64)


def brute_energy(p, v, h):
    """The definition, term by term."""
    if "scale" in p:
        well, x = ((v - p["loc"]) ** 2 / (2 * p["scale"] ** 2)).sum(), v / p["scale"] ** 2
    else:
        well, x = -(p["loc"] @ v), v
    return well - p["hidden_bias"] @ h - x @ p["weight"] @ h


def brute_table(p, vs, hs):
    return torch.stack([torch.stack([brute_energy(p, v, h) for h in hs]) for v in vs])


def brute_log_z(family, p):
    """All of E for discrete v; for Gaussian v a normal integral per hidden state."""
    hs = states(p["hidden_bias"].shape[-1])
    if family is not GaussianBinaryRBM:
        return torch.logsumexp(-brute_table(p, states(len(p["loc"]), ALPHABET[family]), hs), (0, 1))
    well, terms = dist.Normal(0 * p["loc"], p["scale"]), []
    for h in hs:  # E(v, h) = |v - centre|^2 / 2 s^2 + E(centre, h): any point fixes the constant
        centre = p["loc"] + p["weight"] @ h
        terms.append(-brute_energy(p, centre, h) - well.log_prob(0 * centre).sum())
    return torch.stack(terms).logsumexp(0)


def same(a, b, tolerance=1e-10):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


# -- Spin ----------------------------------------------------------------------------------------------


def test_spin_law_and_moments():
    d = Spin(torch.linspace(-3, 3, 7, dtype=torch.float64))
    values = d.enumerate_support()
    p = d.log_prob(values).exp()
    same(p.sum(0), torch.ones(7, dtype=torch.float64))
    same((p * values).sum(0), d.mean)
    same((p * values**2).sum(0) - d.mean**2, d.variance)
    same(-(p * p.log()).sum(0), d.entropy())


def test_spin_draws_follow_its_law():
    field = torch.tensor([0.4, -0.7, 0.1])
    d = Spin(field).to_event(1)
    probs = d.log_prob(states(3, (-1.0, 1.0)).float()).exp()
    assert goodness_of_fit(d.sample((20_000,)), probs) > FALSE_ALARM
    assert goodness_of_fit(Spin(1.1 * field + 0.03).sample((20_000,)), probs) < FALSE_ALARM


def test_spin_refuses_zeros():
    with pytest.raises(ValueError, match="within the support"):
        Spin(torch.zeros(3)).log_prob(torch.tensor([0.0, 1.0, 1.0]))


def test_spin_enumerates_in_pyro():
    """Two coupled spins, summed over by TraceEnum_ELBO: the evidence of s_2 is known by hand."""

    def pair():
        s = pyro.sample("s", Spin(torch.tensor(0.3)), infer={"enumerate": "parallel"})
        pyro.sample("t", Spin(0.8 * s), obs=torch.tensor(1.0))

    up = torch.sigmoid(torch.tensor(0.6))
    evidence = up * torch.sigmoid(torch.tensor(1.6)) + (1 - up) * torch.sigmoid(torch.tensor(-1.6))
    loss = TraceEnum_ELBO(max_plate_nesting=0).loss(pair, lambda: None)
    assert abs(loss + evidence.log().item()) < 1e-5


# -- machines against enumeration --------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("visible", "hidden"), [(3, 4), (4, 2)])
def test_partition_function(family, visible, hidden):
    p = parameters(family, visible=visible, hidden=hidden)
    same(family(**p).log_partition(), brute_log_z(family, p))


@pytest.mark.parametrize("family", FAMILIES)
def test_densities_and_conditionals(family):
    p = parameters(family)
    d, hs = family(**p), states(H)
    vs = (
        torch.randn(6, D, dtype=torch.float64) if family is GaussianBinaryRBM else states(D, ALPHABET[family])
    )
    table, log_z = brute_table(p, vs, hs), brute_log_z(family, p)
    same(d.energy(vs.unsqueeze(1), hs), table)
    same(d.free_energy(vs), -(-table).logsumexp(1))
    same(d.log_prob(vs), (-table).logsumexp(1) - log_z)
    same(d.hidden(vs.unsqueeze(1)).log_prob(hs), (-table).log_softmax(1))
    joint = d.log_prob_hidden(hs) + d.visible(hs).log_prob(vs.unsqueeze(1))
    same(joint, -table - log_z)
    same(d.log_prob_hidden(hs).logsumexp(0), torch.zeros((), dtype=torch.float64))


@pytest.mark.parametrize("family", DISCRETE)
def test_sums_to_one_over_its_support_and_has_its_moments(family):
    d = family(**parameters(family))
    v = d.enumerate_support()
    p = d.log_prob(v).exp().unsqueeze(-1)
    same(p.sum(), torch.ones((), dtype=torch.float64))
    same((p * v).sum(0), d.mean)
    same((p * v**2).sum(0) - d.mean**2, d.variance)


def test_gaussian_density_integrates_to_one():
    d = GaussianBinaryRBM(**parameters(GaussianBinaryRBM, visible=2))
    x = torch.linspace(-25, 25, 251, dtype=torch.float64)
    v = torch.cartesian_prod(x, x)
    mass = d.log_prob(v).exp().unsqueeze(-1) * (x[1] - x[0]) ** 2
    same(mass.sum(), torch.ones((), dtype=torch.float64))
    same((mass * v).sum(0), d.mean)
    same((mass * v**2).sum(0) - d.mean**2, d.variance)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients(family):
    """Autograd against the gradient of the enumerated log p, and against finite differences."""
    p = {name: x.requires_grad_() for name, x in parameters(family).items()}
    v = torch.tensor([[1.0, -1, 1], [1, 1, -1]], dtype=torch.float64)
    v = (v + 1) / 2 if family is BernoulliRBM else v
    log_p = torch.logsumexp(-brute_table(p, v, states(H)), 1) - brute_log_z(family, p)
    for found, expected in zip(
        grad(family(**p).log_prob(v).sum(), tuple(p.values())),
        grad(log_p.sum(), tuple(p.values())),
        strict=True,
    ):
        same(found, expected)
    assert gradcheck(lambda *xs: family(*xs).log_prob(v), tuple(p.values()))


@pytest.mark.parametrize("family", FAMILIES)
def test_batches_are_machines_side_by_side(family):
    p = parameters(family, 2, 1)
    p["hidden_bias"] = parameters(family, 3, seed=1)["hidden_bias"]
    d = family(**p)
    assert (d.batch_shape, d.event_shape) == ((2, 3), (D,))
    v = d.sample((5,))
    assert v.shape == (5, 2, 3, D)
    for i, j in itertools.product(range(2), range(3)):
        one = family(
            **{
                name: x.expand(2, 3, *x.shape[2 if name != "hidden_bias" else 1 :])[i, j]
                for name, x in p.items()
            }
        )
        same(d.log_prob(v)[:, i, j], one.log_prob(v[:, i, j]))
        same(d.mean[i, j], one.mean)
        same(d.hidden(v).mean[:, i, j], one.hidden(v[:, i, j]).mean)


@pytest.mark.parametrize("family", FAMILIES)
def test_expand(family):
    d = family(**parameters(family), log_partition=torch.tensor(1.0, dtype=torch.float64))
    wide = d.expand((4, 2))
    assert wide.batch_shape == (4, 2)
    v = wide.sample((3,))
    same(wide.log_prob(v), d.log_prob(v))
    assert wide.log_partition().shape == (4, 2)


def test_encodings_convert():
    p = parameters(SpinRBM)
    d = SpinRBM(**p)
    s = d.enumerate_support()
    other = d.to_bernoulli()
    same(other.log_prob((s + 1) / 2), d.log_prob(s))
    given = SpinRBM(**p, log_partition=d.log_partition()).to_bernoulli()
    same(given.log_partition(), other.log_partition())


# -- draws ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [2, 6])  # by the hidden and by the visible layer
@pytest.mark.parametrize("family", DISCRETE)
def test_draws_follow_the_law_and_gibbs_leaves_it(family, hidden):
    d = family(**parameters(family, visible=5, hidden=hidden))
    probs = d.log_prob(d.enumerate_support()).exp()
    v = d.sample((20_000,))
    signs = (lambda v: v) if family is SpinRBM else (lambda v: 2 * v - 1)
    assert goodness_of_fit(signs(v), probs) > FALSE_ALARM
    for steps in (1, 3):
        assert goodness_of_fit(signs(d.gibbs(v, steps)), probs) > FALSE_ALARM
    wrong = family(**{name: 1.15 * x for name, x in parameters(family, visible=5, hidden=hidden).items()})
    assert goodness_of_fit(signs(wrong.gibbs(v, 3)), probs) < FALSE_ALARM


def moments_agree(v, d, sigmas=4.5):
    """Means and second moments of ``(n, D)`` independent draws, each within ``sigmas`` (false alarm 1e-4)."""
    for sample, exact in ((v, d.mean), (v**2, d.variance + d.mean**2)):
        error = sample.std(0) / len(v) ** 0.5
        if ((sample.mean(0) - exact).abs() > sigmas * error).any():
            return False
    return True


def test_gaussian_draws_have_the_moments_and_gibbs_keeps_them():
    d = GaussianBinaryRBM(**parameters(GaussianBinaryRBM))
    v = d.sample((20_000,))
    assert moments_agree(v, d)
    assert moments_agree(d.gibbs(v, 3), d)
    wrong = GaussianBinaryRBM(**(parameters(GaussianBinaryRBM) | {"scale": 1.05 * d.scale}))
    assert not moments_agree(wrong.sample((20_000,)), d)


def test_a_generator_fixes_the_draws():
    d = SpinRBM(**parameters(SpinRBM))
    v = torch.ones(10, D, dtype=torch.float64)
    first, again = (d.gibbs(v, 3, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, again)


# -- in Pyro -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_joint_model_enumerates_to_the_marginal(family):
    """Evidence of v by TraceEnum_ELBO over the hidden states is log p(v)."""
    d = family(**parameters(family))
    v = d.sample()
    loss = TraceEnum_ELBO(max_plate_nesting=0).loss(config_enumerate(d.joint), lambda _: None, v)
    assert abs(loss + d.log_prob(v).item()) < 1e-10


def test_posterior_of_the_hidden_units_by_infer_discrete():
    """20 000 draws of h given v, in a plate, have the means of p(h | v): 4.5 sigma each, false alarm 3e-5."""
    d = GaussianBinaryRBM(**parameters(GaussianBinaryRBM))
    v = torch.tensor([0.5, -0.3, 1.0], dtype=torch.float64)

    @infer_discrete(first_available_dim=-2)
    @config_enumerate
    def story():
        with pyro.plate("copies", 20_000):
            d.joint(v)

    numbers = pyro.poutine.trace(story).get_trace().nodes["h"]["value"]
    h = states(H)[numbers]
    exact = d.hidden(v).mean
    assert ((h.mean(0) - exact).abs() < 4.5 * (exact * (1 - exact) / 20_000).sqrt()).all()


def test_nuts_draws_from_the_gaussian_machine():
    """pyro.sample of the machine, sampled by NUTS: mean and covariance of the mixture."""
    weight = torch.tensor([[0.6, -0.4], [0.3, 0.5]], dtype=torch.float64)
    one = torch.ones(2, dtype=torch.float64)
    d = GaussianBinaryRBM(weight, -0.2 * one, 0.3 * one, 0.8 * one)
    d = GaussianBinaryRBM(weight, d.loc, d.hidden_bias, d.scale, log_partition=d.log_partition())
    kernel = NUTS(lambda: pyro.sample("v", d))
    pyro.set_rng_seed(0)
    chain = MCMC(kernel, num_samples=250, warmup_steps=60, disable_progbar=True)
    chain.run()
    v = chain.get_samples()["v"]
    torch.testing.assert_close(v.mean(0), d.mean, atol=0.26, rtol=0)  # 4.5 sigma of 250 draws
    torch.testing.assert_close(v.var(0), d.variance, atol=0.34, rtol=0)
    log_p = d.log_prob_hidden(states(2)).exp()
    centres = d.loc + states(2) @ weight.T
    spread = (centres - d.mean) * log_p.unsqueeze(-1)
    covariance = spread.T @ (centres - d.mean) + torch.diag(d.scale**2)
    torch.testing.assert_close(torch.cov(v.T), covariance, atol=0.34, rtol=0)


def test_field_of_a_spin_machine_inferred_in_a_pyro_model():
    """A latent field common to all sites, posterior by enumeration on a grid against the Pyro log density."""

    def model(data):
        field = pyro.sample("field", dist.Normal(torch.zeros((), dtype=torch.float64), 1.0))
        machine = SpinRBM(**(parameters(SpinRBM) | {"loc": field * torch.ones(D, dtype=torch.float64)}))
        with pyro.plate("data", len(data)):
            pyro.sample("s", machine, obs=data)

    data = states(D, (-1.0, 1.0))[[7, 7, 6]]
    field = torch.tensor(0.4, dtype=torch.float64)
    trace = pyro.poutine.trace(pyro.condition(model, {"field": field})).get_trace(data)
    p = parameters(SpinRBM) | {"loc": field * torch.ones(D, dtype=torch.float64)}
    log_p = torch.logsumexp(-brute_table(p, data, states(H)), 1) - brute_log_z(SpinRBM, p)
    same(trace.log_prob_sum(), log_p.sum() + dist.Normal(0.0, 1.0).log_prob(field))


# -- refusals ------------------------------------------------------------------------------------------


def test_refuses_in_words():
    p = parameters(GaussianBinaryRBM)
    with pytest.raises(ValueError, match="looks transposed"):
        GaussianBinaryRBM(**(p | {"weight": p["weight"].T}))
    with pytest.raises(ValueError, match="scale"):
        GaussianBinaryRBM(**(p | {"scale": -p["scale"]}))
    with pytest.raises(ValueError, match="within the support"):
        SpinRBM(**parameters(SpinRBM)).log_prob(torch.zeros(D, dtype=torch.float64))


def test_beyond_enumeration_a_given_log_partition_serves():
    zeros = {"weight": torch.zeros(30, 25), "loc": torch.zeros(30), "hidden_bias": torch.zeros(25)}
    with pytest.raises(ValueError, match="20 binary units"):
        SpinRBM(**zeros).log_prob(torch.ones(30))
    d = SpinRBM(**zeros, log_partition=SpinRBM(**zeros).log_partition_uncoupled())
    same(d.log_prob(torch.ones(30)).exp(), torch.tensor(2.0**-30), 1e-4)
    with pytest.raises(ValueError, match=r"draw by gibbs\(\)"):
        d.sample()
