import pytest
import torch

from physgen import models
from physgen.models.hopfield import RULES


def random_spins(*shape, seed=0):
    return 2.0 * torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(seed)) - 1


def corrupted(patterns, flips, seed=1):
    noisy = patterns.clone()
    for row in noisy:
        row[torch.randperm(len(row), generator=torch.Generator().manual_seed(seed))[:flips]] *= -1
    return noisy


@pytest.mark.parametrize("rule", RULES)
def test_recalls_what_it_stored(rule):
    patterns = random_spins(8, 256)
    net = models.build("hopfield", (16, 16), rule=rule).store(patterns)
    assert torch.equal(net.recall(patterns), patterns)
    assert torch.equal(net.recall(corrupted(patterns, 25)), patterns)


@pytest.mark.parametrize("rule", RULES)
def test_descent_never_raises_the_energy_and_ends_in_a_minimum(rule):
    """Every single flip away from where it stops costs energy, or nothing."""
    net = models.build("hopfield", (36,), rule=rule).store(random_spins(12, 36))
    start = random_spins(50, 36, seed=2)
    end = net.recall(start)
    assert (net.energy(end) <= net.energy(start)).all()
    flips = end.unsqueeze(1) * (1 - 2 * torch.eye(36))
    assert (net.energy(flips) >= net.energy(end).unsqueeze(1) - 1e-9).all()


def test_energy_is_the_sum_over_pairs():
    patterns = random_spins(3, 10)
    net = models.build("hopfield", (10,)).store(patterns)
    s = random_spins(10, seed=3).double()
    pairs = sum(
        -(patterns[:, i] @ patterns[:, j]).item() / 10 * s[i] * s[j] for i in range(10) for j in range(i)
    )
    torch.testing.assert_close(net.energy(s), pairs)


def test_capacity():
    """Hebb holds 0.05 N random patterns and loses 0.3 N; the pseudo-inverse holds both."""
    few, many = random_spins(20, 400), random_spins(120, 400)

    def overlap(rule, patterns):
        net = models.build("hopfield", (400,), rule=rule).store(patterns)
        return (net.recall(patterns) * patterns).mean().item()

    assert overlap("hebb", few) > 0.99
    assert overlap("hebb", many) < 0.8
    assert overlap("pseudo-inverse", many) == 1


def test_updating_all_sites_at_once_can_raise_the_energy():
    """The negative control: the descent property is one of the asynchronous order."""
    net = models.build("hopfield", (2,)).store(torch.tensor([[1.0, -1.0]]))
    s = torch.tensor([1.0, 1.0])
    both_flipped = torch.sign(net.J @ s.double()).float()
    assert torch.equal(both_flipped, -s)
    assert torch.equal(net.recall(s).prod(), torch.tensor(-1.0))


def test_type_and_shape_are_kept():
    net = models.build("hopfield", (4, 4)).store(random_spins(2, 16).to(torch.int8))
    out = net.recall(random_spins(3, 5, 16).to(torch.int8))
    assert out.dtype == torch.int8
    assert out.shape == (3, 5, 16)


def test_refuses_in_words():
    with pytest.raises(ValueError, match="choose one of hebb"):
        models.build("hopfield", (4,), rule="storkey")
    with pytest.raises(ValueError, match="turn 0/1 data"):
        models.build("hopfield", (4,)).store(torch.tensor([[0.0, 1, 1, 0]]))
