"""The contract of every model in the folder; a new one is tested as soon as it is there.

Weights are moved away from their start, so that no model is trivially right. False alarm: 1e-5 per
chi-squared test, at fixed seeds.
"""

import pytest
import torch

from ising import exact
from physgen import models
from tests.checks import FALSE_ALARM, goodness_of_fit

SHAPE, N = (4, 4), 16
SMALLER = {  # than by default, to save time
    "pixelcnn": {"depth": 3, "width": 8},
    "gated_pixelcnn": {"depth": 2, "width": 4, "kernel": 3},
    "nade": {"hidden": 32},
    "row_lstm": {"depth": 1, "width": 4, "kernel": 3},
    "transformer": {"depth": 1, "width": 4, "heads": 2},
    "diagonal_bilstm": {"depth": 1, "width": 4, "kernel": 3},
    "wavenet": {"dilations": (1, 2), "width": 6, "direct": True},
}
DENSITIES = [name for name in models.names() if hasattr(models.build(name, SHAPE), "log_prob")]
SAMPLERS = [name for name in models.names() if hasattr(models.build(name, SHAPE), "sample")]


def perturbed(name, spread=0.1, **hyper):
    torch.manual_seed(1)
    model = models.build(name, SHAPE, **SMALLER.get(name, {}), **hyper)
    with torch.no_grad():
        for p in model.parameters():
            p += spread * torch.randn_like(p)
    return model


def all_log_probs(model):
    with torch.no_grad():
        return torch.cat([model.log_prob(block) for block in exact.states(N).float().split(4096)]).double()


def test_the_folder_is_the_registry():
    assert {"dcgan", "made", "pixelcnn", "rbm", "vae"} <= set(models.names())
    with pytest.raises(ValueError, match=r"unknown model 'maed'; choose one of .*dcgan, "):
        models.build("maed", SHAPE)


@pytest.mark.parametrize("name", DENSITIES)
def test_the_density_sums_to_one_and_is_that_of_the_samples(name):
    """Negative control: the samples of slightly other weights are rejected."""
    model, other = perturbed(name), perturbed(name, spread=0.13)
    log_q = all_log_probs(model)
    assert abs(log_q.logsumexp(0)) < 1e-5
    assert goodness_of_fit(model.sample(40_000), log_q.exp()) > FALSE_ALARM
    assert goodness_of_fit(other.sample(40_000), log_q.exp()) < FALSE_ALARM


@pytest.mark.parametrize("name", DENSITIES)
@pytest.mark.parametrize("symmetric", [False, True])
def test_a_conditional_depends_on_earlier_sites_only(name, symmetric):
    """A flip of site j leaves every field up to and including j as it was and moves the next one."""
    model = perturbed(name, symmetric=symmetric).double()
    torch.manual_seed(2)
    spins = 2.0 * torch.randint(0, 2, (N,)).double() - 1
    flipped = spins * (1 - 2 * torch.eye(N, dtype=torch.float64))
    with torch.no_grad():
        fields = model(torch.cat([spins.unsqueeze(0), flipped]))
    moved = (fields[1:] - fields[:1]).abs() > 1e-12
    assert not moved.tril().any()
    assert moved[torch.arange(N - 1), torch.arange(1, N)].all()


@pytest.mark.parametrize("name", DENSITIES)
def test_symmetric_means_exactly_even(name):
    spins = exact.states(N)[torch.randperm(2**N)[:4096]].float()
    for symmetric in (True, False):
        model = perturbed(name, symmetric=symmetric)
        with torch.no_grad():
            log_q, turned = model.log_prob(spins), model.log_prob(-spins)
        assert torch.equal(log_q, turned) == symmetric
    assert (log_q - turned).abs().max() > 0.1


@pytest.mark.parametrize("name", DENSITIES)
def test_every_parameter_learns_from_the_likelihood(name):
    model = perturbed(name)
    model.loss(model.sample(8)).backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("name", SAMPLERS)
def test_samples_are_spins_of_the_right_shape(name):
    spins = perturbed(name).sample(7)
    assert spins.shape == (7, N)
    assert spins.dtype == torch.float32
    assert (spins.abs() == 1).all()


def evaluated(name, model, spins):
    if name in ("vae", "dbn"):
        return model.log_prob_bound(spins, k=2)
    if name == "dcgan":
        return model.critic_loss(spins)
    return (model.log_prob if name in DENSITIES else model.free_energy)(spins)


@pytest.mark.parametrize("name", SAMPLERS)
def test_wrong_spins_are_refused_in_a_sentence(name):
    model = models.build(name, SHAPE)
    with pytest.raises(ValueError, match="16"):
        evaluated(name, model, torch.ones(3, 15))
    with pytest.raises(ValueError, match="0/1 data"):
        evaluated(name, model, (exact.states(N)[:50].float() + 1) / 2)


@pytest.mark.parametrize("name", [*DENSITIES, "vae", "dcgan"])
def test_a_generator_makes_samples_repeatable_and_leaves_the_global_one_alone(name):
    model, before = perturbed(name), torch.get_rng_state()
    first, second = (model.sample(20, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", DENSITIES)
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_draws_come_from_the_fields_of_the_full_pass(name, symmetric, dtype, within):
    """At every site; dense nets have a compiled form in float32."""
    model = perturbed(name, symmetric=symmetric).to(dtype)
    spins, fields = model.draw(150)
    with torch.no_grad():
        torch.testing.assert_close(fields, model(spins), atol=within, rtol=0)
        (model.weight[:, 0] if name == "frontier" else model.direct.weight)[-1, 0] += 0.01  # negative control
        assert (fields - model(spins)).abs().max() > 0.005
