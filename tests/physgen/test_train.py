"""Steps, the loop and the batches, against closed forms. Seeds are fixed: no test here fails by chance."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from torch import nn

from ising import Ising, exact, lattices
from physgen.batches import SYMMETRIES, Batches
from physgen.models import build
from physgen.train import adversarial_step, decay, fit, gradient_step, svi_step
from tests.checks import FALSE_ALARM, goodness_of_fit


def parabola(start=3.0, lr=0.25, **options):
    """Gradient descent on (x - 1)^2: the distance to 1 halves at each step with lr = 1/4."""
    x = nn.Parameter(torch.tensor(start, dtype=torch.float64))
    step = gradient_step(lambda batch: (x - batch).square().mean(), torch.optim.SGD([x], lr=lr), **options)
    return x, step


ONES = [torch.ones(4, dtype=torch.float64)]


def test_gradient_descent_follows_its_closed_form():
    x, step = parabola()
    losses = [r.metrics["loss"] for r in fit(step, ONES, steps=6, every=1)]
    assert losses == [4.0 * 0.25**i for i in range(6)]
    assert x.item() == 1 + 2 * 0.5**6


def test_schedule_multiplies_the_base_rate():
    x, step = parabola(schedule=lambda i: 1.0 if i == 0 else 2.0)
    fit(step, ONES, steps=2)
    assert x.item() == 1.0  # the second step, with lr = 1/2, lands on the minimum


def test_a_warm_up_rises_to_the_top_of_the_cosine():
    factor = decay(104, final=0.1, warm_up=4)
    assert [factor(i) for i in (0, 3, 4, 54, 104)] == pytest.approx([0.2, 0.8, 1.0, 0.55, 0.1], abs=1e-3)


def test_the_first_step_has_the_first_rate_of_the_schedule():
    x = torch.nn.Parameter(torch.tensor(0.0))
    rates = [1.0, 0.5, 0.25]
    step = gradient_step(
        lambda batch: x * batch.mean(), torch.optim.SGD([x], lr=1.0), schedule=lambda i: rates[i]
    )
    assert [(step(torch.ones(2)), x.item())[1] for _ in rates] == [-1.0, -1.5, -1.75]


def test_clip_shortens_the_gradient():
    x, step = parabola(lr=1.0, clip=0.5)
    metrics = step(ONES[0])
    assert metrics["grad_norm"] == 4.0
    torch.testing.assert_close(x.item(), 2.5, atol=1e-6, rtol=0)


def test_average_is_the_mean_of_the_later_iterates_until_finish_applies_it():
    x, step = parabola(average_from=2)
    visited = [x.item() for _ in fit(step, ONES, steps=6, every=1)]
    assert x.item() == visited[-1]
    step.finish()
    torch.testing.assert_close(x.item(), sum(visited[2:]) / 4, rtol=1e-14, atol=0)


def test_loss_may_bring_metrics():
    x = nn.Parameter(torch.tensor(1.0))
    step = gradient_step(lambda batch: (x.square(), {"seen": batch.sum()}), torch.optim.SGD([x], lr=0.1))
    assert fit(step, [torch.ones(3)], steps=10).metrics["seen"] == 3.0


@pytest.mark.parametrize("bad", [lambda x: x * math.nan, lambda x: x * math.inf, lambda x: (x - 3).sqrt()])
def test_what_is_not_finite_stops_within_the_step_and_changes_nothing(bad):
    """The last case is a finite loss, 0, with an infinite gradient."""
    x = nn.Parameter(torch.tensor(3.0))
    step = gradient_step(lambda batch: bad(x), torch.optim.Adam([x], lr=0.1), clip=1.0)  # noqa: ARG005
    with pytest.raises(FloatingPointError, match=r"step 1 the loss is .* with a lower learning rate"):
        fit(step, [torch.ones(1)], steps=5)
    assert x.item() == 3.0


def test_vae_with_broken_weights_stops_too():
    vae = build("vae", (2, 2), latent=2, hidden=4)
    step = svi_step(vae.model, vae.guide, lr=1e-3)
    batch = torch.ones(3, 4)
    step(batch)
    with torch.no_grad():
        vae.decoder[0].weight.fill_(math.nan)
    with pytest.raises(FloatingPointError, match="step 2 the loss is nan"):
        step(batch)


class Gaussian(nn.Module):
    """z ~ N(0, 1), x | z ~ N(z, 1): evidence N(x; 0, 2), posterior N(x / 2, 1 / 2)."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.1))
        self.log_scale = nn.Parameter(torch.tensor(0.0))

    def model(self, x):
        pyro.module("gaussian", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[:, 0])

    def guide(self, x):
        pyro.module("gaussian", self)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.gain * x[:, 0], self.log_scale.exp()))


def test_svi_finds_the_exact_posterior_and_the_evidence():
    """At the optimum the one-draw ELBO has no variance: every draw gives log p(x)."""
    x = torch.tensor([[-1.0], [0.5], [2.0]]).repeat(20, 1)
    gaussian = Gaussian()
    step = svi_step(gaussian.model, gaussian.guide, lr=0.1, schedule=decay(400))
    last = fit(step, [x], steps=400)
    evidence = dist.Normal(0.0, math.sqrt(2)).log_prob(x).mean().item()
    torch.testing.assert_close(gaussian.gain.item(), 0.5, atol=5e-3, rtol=0)
    torch.testing.assert_close(last.metrics["loss"], -evidence, atol=5e-3, rtol=0)


def test_svi_leaves_the_global_parameter_store_alone():
    first, second = Gaussian(), Gaussian()
    for gaussian in (first, second):
        fit(svi_step(gaussian.model, gaussian.guide, lr=0.1), [torch.ones(4, 1)], steps=3)
    assert not list(pyro.get_param_store())
    assert first.gain != 0.1
    assert second.gain != 0.1


def test_svi_refuses_parameters_it_cannot_keep():
    gaussian = Gaussian()

    def guide(x):
        scale = pyro.param("scale", torch.tensor(1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros(len(x)), scale))

    with pytest.raises(ValueError, match="'scale' is in none; make it a PyroParam"):
        svi_step(gaussian.model, guide, lr=0.1)(torch.ones(2, 1))
    with pytest.raises(ValueError, match="found no parameters"):
        svi_step(lambda x: None, lambda x: None, lr=0.1)  # noqa: ARG005


def test_svi_trains_an_automatic_guide():
    def model(x):
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mean, 1.0), obs=x[:, 0])

    guide, x = AutoNormal(model), torch.full((8, 1), 2.0)
    guide(x)
    fit(svi_step(model, guide, lr=0.05, schedule=decay(400)), [x], steps=400)
    torch.testing.assert_close(guide.median()["mean"].item(), 16 / 9, atol=0.05, rtol=0)


def test_adversarial_step_trains_the_generator_on_every_kth_batch():
    class Counting:
        calls = 0

        def __call__(self, batch):
            self.calls += 1
            return {"loss": batch.mean()}

        def state_dict(self):
            return {}

        def load_state_dict(self, state): ...

    generator, critic = Counting(), Counting()
    step, resumed = (adversarial_step(generator, critic, critic_steps=3) for _ in range(2))
    last = fit(step, [torch.ones(2)], steps=10)
    assert (generator.calls, critic.calls) == (3, 10)
    assert last.metrics == {"critic_loss": 1.0}  # the last tenth is step 10 alone
    resumed.load_state_dict(step.state_dict())
    fit(resumed, [torch.ones(2)], steps=12, start=10)
    assert (generator.calls, critic.calls) == (4, 12)


def test_fit_numbers_its_records_through_a_resume():
    _, step = parabola()
    assert [r.step for r in fit(step, ONES, steps=7, every=3)] == [3, 6, 7]
    assert [r.step for r in fit(step, ONES, steps=12, every=3, start=7)] == [9, 12]
    assert list(fit(step, ONES, steps=7, every=3, start=7)) == []
    with pytest.raises(ValueError, match="7 of 7 steps are done"):
        fit(step, ONES, steps=7, start=7)
    with pytest.raises(ValueError, match="batches ran out"):
        fit(step, [], steps=1)
    with pytest.raises(ValueError, match="at least 1 step"):
        fit(step, ONES, steps=1, every=0)


def test_batches_go_through_all_data_in_a_new_order_each_time():
    spins = 2 * torch.randint(0, 2, (40, 30)) - 1
    batches = Batches(spins, 8, seed=3)
    epochs = [torch.cat([next(batches) for _ in range(5)]) for _ in range(2)]
    assert not torch.equal(*epochs)
    for epoch in epochs:
        assert sorted(epoch.tolist()) == sorted(spins.tolist())


def test_batches_continue_where_they_stopped():
    spins, options = 2 * torch.randint(0, 2, (50, 16)) - 1, {"shape": (4, 4), "symmetries": SYMMETRIES}
    batches = Batches(spins, 8, **options)
    for _ in range(8):
        next(batches)
    state, expected = batches.state_dict(), [next(batches) for _ in range(9)]
    again = Batches(spins, 8, **options)
    again.load_state_dict(state)
    for batch in expected:
        assert torch.equal(next(again), batch)
    with pytest.raises(ValueError, match="these batches have size = 4, the saved ones 8"):
        Batches(spins, 4, **options).load_state_dict(state)


@pytest.mark.parametrize("name", SYMMETRIES)
def test_a_symmetry_keeps_the_energy_and_does_something(name):
    spins = 2 * torch.randint(0, 2, (64, 16)) - 1
    model = Ising(lattices.square(4))
    batches = Batches(spins, 64, symmetries=[name], shape=(4, 4))
    energies = model.energy(spins).sort().values
    seen = [next(batches) for _ in range(10)]
    assert all(torch.equal(model.energy(batch).sort().values, energies) for batch in seen)
    assert any(sorted(batch.tolist()) != sorted(spins.float().tolist()) for batch in seen)


@pytest.mark.parametrize(
    ("name", "images"), [("translation", 16), ("reflection", 4), ("transposition", 2), ("flip", 2)]
)
def test_every_image_of_a_configuration_occurs(name, images):
    """One of 200 draws misses one of 16 with probability 4e-5, at a fixed seed."""
    spins = torch.ones(1, 16)
    spins[0, [0, 1, 6]] = -1
    batches = Batches(spins, 1, symmetries=[name], shape=(4, 4))
    assert len({tuple(next(batches)[0].tolist()) for _ in range(200)}) == images


def test_each_configuration_of_a_batch_is_flipped_by_itself():
    batch = next(Batches(torch.ones(100, 4), 100, symmetries=["flip"]))
    assert 20 < (batch[:, 0] > 0).sum() < 80  # 6 sigma


def augmented(model, beta, symmetries):
    generator = torch.Generator().manual_seed(0)
    rows = torch.multinomial(exact.boltzmann(model, beta), 20_000, replacement=True, generator=generator)
    batches = Batches(exact.states(9)[rows], 20, symmetries=symmetries, shape=(3, 3))
    return torch.cat([next(batches) for _ in range(1000)])


def test_symmetries_leave_the_boltzmann_law_invariant():
    """False alarm: 1e-5, at a fixed seed. Every configuration is used once, so the draws are independent."""
    model = Ising(lattices.square(3))
    p = goodness_of_fit(augmented(model, 0.4, SYMMETRIES), exact.boltzmann(model, 0.4))
    assert p > FALSE_ALARM


def test_a_flip_in_a_field_is_caught_by_the_same_check():
    model = Ising(lattices.square(3), h=0.1)
    law = exact.boltzmann(model, 0.4)
    assert (
        goodness_of_fit(augmented(model, 0.4, ["translation", "reflection", "transposition"]), law)
        > FALSE_ALARM
    )
    assert goodness_of_fit(augmented(model, 0.4, ["flip"]), law) < FALSE_ALARM


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((torch.tensor([[0, 1], [1, 0]]), 1), {}, "0/1 data becomes spins"),
        ((torch.tensor([[1.0, math.nan]]), 1), {}, "spins -1 and"),
        ((torch.ones(4), 1), {}, r"shape \(\*, N\)"),
        ((torch.ones(4, 6), 5), {}, "from 1 to the 4 configurations, got 5"),
        ((torch.ones(4, 6), 2), {"symmetries": ["rotation"]}, "symmetries are any of"),
        ((torch.ones(4, 6), 2), {"symmetries": ["translation"]}, "need the shape of the 6 sites"),
        ((torch.ones(4, 6), 2), {"symmetries": ["transposition"], "shape": (2, 3)}, "needs equal sides"),
    ],
)
def test_batches_refuse(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        Batches(*arguments, **options)
