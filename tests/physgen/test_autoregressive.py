"""Alphabets other than spins, for every model that takes them. A new model is tested as soon as it is there.

False alarm: 1e-5 per chi-squared test, at fixed seeds.
"""

import inspect

import pytest
import torch

from physgen import models
from physgen.alphabet import Symbols
from physgen.autoregressive import Autoregressive
from tests.checks import FALSE_ALARM, goodness_of_counts

SHAPE, N = (2, 3), 6
SMALLER = {
    "pixelcnn": {"depth": 2, "width": 8, "kernel": 3},
    "gated_pixelcnn": {"depth": 2, "width": 4, "kernel": 3},
    "nade": {"hidden": 32},
    "row_lstm": {"depth": 2, "width": 4},
    "transformer": {"width": 8, "heads": 2},
    "diagonal_bilstm": {"depth": 2, "width": 4},
    "wavenet": {"dilations": (1, 3), "width": 6},
}
ALPHABETS = [{"symbols": 3}, {"symbols": 4, "levels": True}]
MODELS = [
    name
    for name in models.names()
    if "symbols" in inspect.signature(type(models.build(name, (4, 4)))).parameters
]


def perturbed(name, letters, spread=0.3):
    torch.manual_seed(1)
    model = models.build(name, SHAPE, **SMALLER.get(name, {}), **letters)
    with torch.no_grad():
        for p in model.parameters():
            p += spread * torch.randn_like(p)
    return model.double()


def all_values(q):
    return torch.cartesian_prod(*[torch.arange(q)] * N)


def counts(values, q):
    return torch.bincount(values @ q ** torch.arange(N - 1, -1, -1), minlength=q**N).double()


@pytest.fixture(params=[f"{name}-{i}" for name in MODELS for i in range(len(ALPHABETS))])
def case(request):
    name, which = request.param.split("-")
    return name, ALPHABETS[int(which)]


def test_the_density_sums_to_one_and_is_that_of_the_samples(case):
    model, other, q = perturbed(*case), perturbed(*case, spread=0.5), case[1]["symbols"]
    with torch.no_grad():
        log_q, log_other = (net.log_prob(all_values(q)) for net in (model, other))
    assert abs(log_q.logsumexp(0)) < 1e-10
    torch.manual_seed(3)
    drawn = counts(model.sample(16_000), q)
    assert goodness_of_counts(drawn, log_q.exp()) > FALSE_ALARM
    assert goodness_of_counts(drawn, log_other.exp()) < FALSE_ALARM  # negative control


def test_a_conditional_depends_on_earlier_sites_only(case):
    model, q = perturbed(*case), case[1]["symbols"]
    torch.manual_seed(2)
    values = torch.randint(0, q, (N,))
    changed = values.repeat(N, 1)
    changed[range(N), range(N)] = (values + 1) % q
    with torch.no_grad():
        moved = ((model(changed) - model(values)).abs() > 1e-12).any(-1)
    assert not moved.tril().any()
    assert moved[range(N - 1), range(1, N)].all()


def test_draws_come_from_the_logits_of_the_full_pass(case):
    model = perturbed(*case)
    values, logits = model.draw(50)
    with torch.no_grad():
        torch.testing.assert_close(logits, model(values), atol=1e-10, rtol=0)
        p = model.conditionals(values)
    assert p.shape == (50, N, case[1]["symbols"])
    torch.testing.assert_close(p.sum(-1), torch.ones_like(p[..., 0]), atol=1e-12, rtol=0)


def test_the_likelihood_moves_every_parameter(case):
    model = perturbed(*case)
    model.loss(model.sample(8)).backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"fvbn"}))
def test_without_the_direct_term(name):
    model = perturbed(name, {"symbols": 5, "direct": False})
    values, logits = model.draw(20)
    with torch.no_grad():
        torch.testing.assert_close(logits, model(values), atol=1e-10, rtol=0)
    assert not any(p.shape == (5 * N, 5 * N) for p in model.parameters())
    assert logits.std(0).max() > 0.1  # the network is there


def test_all_autoregressive_models_take_symbols_but_those_of_spins():
    densities = [name for name in models.names() if isinstance(models.build(name, (4, 4)), Autoregressive)]
    assert set(densities) - set(MODELS) <= {"odd", "frontier"}


def test_wrong_values_are_refused_in_a_sentence():
    fvbn = models.build("fvbn", SHAPE, symbols=3)
    with pytest.raises(ValueError, match=r"shape \(\*, 6\)"):
        fvbn.log_prob(torch.zeros(2, 5, dtype=torch.long))
    with pytest.raises(ValueError, match="integers from 0 to 2"):
        fvbn.log_prob(torch.full((2, 6), 3))
    with pytest.raises(ValueError, match="flip of spins"):
        models.build("fvbn", SHAPE, symbols=3, symmetric=True)
    with pytest.raises(ValueError, match="at least 2"):
        models.build("fvbn", SHAPE, symbols=1)


def test_symbols_are_drawn_with_the_probabilities_of_their_logits():
    torch.manual_seed(5)
    logits = torch.tensor([0.5, 0.3, 0.2]).log().expand(40_000, 3)
    drawn = torch.bincount(Symbols(3).draw(logits, None), minlength=3).double()
    assert goodness_of_counts(drawn, torch.tensor([0.5, 0.3, 0.2])) > FALSE_ALARM
    assert goodness_of_counts(drawn, torch.tensor([0.53, 0.27, 0.2])) < FALSE_ALARM  # negative control


class Shifted(Autoregressive):
    """Adds the cosine of 1 and all earlier spins: an even function where all are turned, not an odd one."""

    odd = False

    def network(self, x):
        add = self.cached(x)
        return torch.stack([add(i) for i in range(self.n_sites)], 1)

    def cached(self, x):
        return lambda i: torch.cos(1 + x[:, :i].sum(1))


def test_a_network_that_is_not_odd_is_made_so():
    torch.manual_seed(0)
    model = Shifted((2, 3), symmetric=True).double()
    with torch.no_grad():
        model.direct.weight += torch.randn(6, 6)
        spins, fields = model.draw(200)
        torch.testing.assert_close(fields, model(spins), atol=1e-12, rtol=0)
        assert torch.equal(model.log_prob(spins), model.log_prob(-spins))
        states = 2.0 * all_values(2).double() - 1
        assert abs(model.log_prob(states).logsumexp(0)) < 1e-12
        model.relative = False  # negative control
        assert (model.log_prob(spins) - model.log_prob(-spins)).abs().max() > 0.1
