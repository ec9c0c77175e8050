"""Training on the Hamiltonian: the gradient is right on average, and a stop leaves no trace.

False alarm: 5 sigma for each of 10 components, 6e-6 in all, at fixed seeds.
"""

import itertools

import pytest
import torch

from ising import Ising, exact, lattices
from physgen import checkpoint, models
from physgen.batches import Batches
from physgen.reverse_kl import Drawn, Draws, InTurn, ReverseKL
from physgen.train import fit, gradient_step

ISING = Ising(lattices.chain(4), J=1.0, h=0.3)
STATES = exact.states(4)


def net():
    torch.manual_seed(0)
    model = models.build("fvbn", (4,)).double()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.3 * torch.randn_like(p))
    return model


def flat_gradient(model):
    below = model.direct.mask.bool()
    return torch.cat([model.direct.weight.grad[below], model.direct.bias.grad])


def exact_gradient(beta):
    model = net()
    log_q = model.log_prob(STATES)
    (log_q.exp() * (beta * ISING.energy(STATES) + log_q)).sum().backward()
    return flat_gradient(model)


def test_the_mean_gradient_is_that_of_the_free_energy():
    """Of batches of two, for which a bias from the baseline would be the largest."""
    model, gradients = net(), []
    loss = ReverseKL(ISING.energy, 0.6)
    for _, batch in zip(range(1500), Draws(model, 2, seed=3), strict=False):
        model.zero_grad()
        loss(batch)[0].backward()
        gradients.append(flat_gradient(model).clone())
    found = torch.stack(gradients)
    error = found.std(0) / len(found) ** 0.5
    assert ((found.mean(0) - exact_gradient(0.6)) / error).abs().max() < 5
    assert ((found.mean(0) - exact_gradient(0.9)) / error).abs().max() > 5  # negative control


def test_the_free_energy_is_that_of_the_temperature_reached():
    model = net()
    loss = ReverseKL(ISING.energy, 0.6, anneal=4)
    with torch.no_grad():
        batch = Drawn(*model.sample_and_log_prob(100))
        for t in (0.15, 0.3, 0.45, 0.6, 0.6):
            expected = (t * ISING.energy(batch.spins) + model.log_prob(batch.spins)).mean() / 4
            torch.testing.assert_close(loss(batch)[1]["free_energy"], expected)


def trained(folder, steps, resume):
    model = net()
    loss = ReverseKL(ISING.energy, 0.6, anneal=8)
    step = gradient_step(loss, torch.optim.Adam(model.parameters(), lr=0.01))
    draws = Draws(model, 10, seed=1)
    start = checkpoint.restore(folder, model, step, draws) if resume else 0
    fit(step, draws, steps=steps, start=start)
    checkpoint.save(folder, model, step, draws, at=steps)
    return model.direct.weight.detach()


def test_stop_and_resume_give_the_bits_of_not_stopping(tmp_path):
    trained(tmp_path / "a", 5, resume=False)
    assert torch.equal(trained(tmp_path / "a", 10, resume=True), trained(tmp_path / "b", 10, resume=False))
    assert not torch.equal(
        trained(tmp_path / "c", 9, resume=False), trained(tmp_path / "b", 10, resume=False)
    )


def test_every_batch_is_drawn_anew_whatever_was_drawn_before():
    batches = [batch.spins for _, batch in zip(range(4), Draws(net(), 50, seed=1), strict=False)]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(batches, 2))
    draws = Draws(net(), 50, seed=1)
    draws.load_state_dict(draws.state_dict() | {"drawn": 3})
    assert torch.equal(next(draws).spins, batches[3])


def test_draws_of_another_seed_are_refused():
    draws = Draws(net(), 10, seed=1)
    with pytest.raises(ValueError, match="same settings"):
        draws.load_state_dict({"drawn": 3, "size": 10, "seed": 2})
    with pytest.raises(ValueError, match="at least 2"):
        Draws(net(), 1)


def test_couplings_start_the_direct_term_at_the_known_neighbours():
    model = models.build("fvbn", (4,), symmetric=True)
    J = ISING.local_field(torch.eye(4)) - ISING.site_fields
    model.start_from(0.5 * J.float())
    spins = STATES.float()
    known = torch.stack([0 * spins[:, 0], spins[:, 0], spins[:, 1], spins[:, 0] + spins[:, 2]], 1)
    torch.testing.assert_close(model(spins), 0.5 * known)
    with pytest.raises(ValueError, match=r"shape \(4, 4\)"):
        model.start_from(J[:3])


def in_turn(folder, steps, resume):
    """Two batches of data, then draws; a checkpoint after ``steps``."""
    model = net()
    data = Batches(STATES, 8, seed=2)
    batches = InTurn(data, Draws(model, 10, seed=1), 2)
    loss = InTurn(lambda spins: model.loss(spins.double()), ReverseKL(ISING.energy, 0.6, anneal=3), 2)
    step = gradient_step(loss, torch.optim.Adam(model.parameters(), lr=0.01))
    start = checkpoint.restore(folder, model, step, batches) if resume else 0
    record = fit(step, batches, steps=steps, start=start)
    checkpoint.save(folder, model, step, batches, at=steps)
    return model.direct.weight.detach(), record, (data.drawn, batches.parts[1].drawn)


@pytest.mark.parametrize("stop", [1, 2, 4])
def test_data_and_then_draws_resume_in_either_stage(tmp_path, stop):
    in_turn(tmp_path / "a", stop, resume=False)
    resumed, _, drawn = in_turn(tmp_path / "a", 6, resume=True)
    whole, record, same = in_turn(tmp_path / "b", 6, resume=False)
    assert torch.equal(resumed, whole)
    assert drawn == same == (2, 4)
    assert "free_energy" in record.metrics
