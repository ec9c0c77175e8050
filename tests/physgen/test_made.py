"""MADE: depth, masks, and how well it learns a law that is known."""

import pytest
import torch

from ising import Ising, exact, lattices
from physgen.batches import Batches
from physgen.models import build
from physgen.train import decay, fit, gradient_step


@pytest.mark.parametrize(("hidden", "depth"), [(1, 1), (5, 1), (40, 2), (7, 3)])
def test_any_width_and_depth_is_normalised_on_any_lattice(hidden, depth):
    torch.manual_seed(0)
    made = build("made", (3, 1, 3), hidden=hidden, depth=depth).double()
    with torch.no_grad():
        for p in made.parameters():
            p += 0.3 * torch.randn_like(p)
        assert abs(made.log_prob(exact.states(9)).logsumexp(0)) < 1e-12
        spins = made.sample(100)
        assert spins.shape == (100, 9)


def test_a_mask_off_by_one_is_not_normalised():
    """Negative control: a site that sees itself."""
    torch.manual_seed(0)
    made = build("made", (3, 3), hidden=16).double()
    with torch.no_grad():
        made.direct.weight += 0.3 * torch.randn(9, 9).double()
        made.direct.mask += torch.eye(9)
        assert abs(made.log_prob(exact.states(9)).logsumexp(0)) > 0.01


def test_one_site():
    made = build("made", (1,), hidden=2)
    assert made.sample(5).shape == (5, 1)


def test_it_learns_the_critical_square_lattice():
    """Exact KL(p || q) on 4 x 4 sites; before training it is about 4 nats."""
    model, beta = Ising(lattices.square(4)), 1 / 2.269
    p = exact.boltzmann(model, beta)
    generator = torch.Generator().manual_seed(0)
    data = exact.states(16)[torch.multinomial(p, 20_000, replacement=True, generator=generator)]
    torch.manual_seed(0)
    made = build("made", (4, 4), hidden=64, symmetric=True)
    symmetries = ["translation", "reflection", "transposition", "flip"]
    batches = Batches(data, 256, shape=(4, 4), symmetries=symmetries)
    optimizer = torch.optim.Adam(made.parameters(), lr=0.01)
    step = gradient_step(made.loss, optimizer, schedule=decay(1200), average_from=900)
    fit(step, batches, steps=1200)
    step.finish()
    with torch.no_grad():
        log_q = made.log_prob(exact.states(16).float()).double()
    kl = (p * (p.log() - log_q)).sum().item()
    assert 0 < kl < 0.005
