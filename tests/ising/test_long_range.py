"""The long-range ring against enumeration and its limit. False alarm: 1e-5 per chi-squared test."""

import pytest
import torch

from ising import Ising, exact, lattices, long_range, updates
from tests.checks import FALSE_ALARM, goodness_of_fit


def test_couplings_depend_on_the_shorter_way_around():
    model = long_range.ring(9, sigma=0.5)
    spins = torch.ones(9)
    expected = 9 * sum(r**-1.5 for r in (1, 2, 3, 4))
    assert model.energy(spins).item() == pytest.approx(-expected)
    torch.testing.assert_close(model.local_field(spins), torch.full((9,), 2 * expected / 9).double())


def test_a_steep_power_is_the_chain_of_nearest_neighbours():
    spins = exact.states(8)
    steep, chain = long_range.ring(8, sigma=60.0), Ising(lattices.chain(8))
    torch.testing.assert_close(steep.energy(spins), chain.energy(spins), rtol=0, atol=1e-12)


@pytest.mark.parametrize("update", ["heat_bath", "wolff"])
def test_updates_sample_it(update):
    model, beta = long_range.ring(8, sigma=0.5), 0.3
    generator = torch.Generator().manual_seed(1)
    spins = 2.0 * torch.randint(2, (20_000, 8), generator=generator) - 1
    for _ in range(40):
        spins, _ = updates.get(update)(spins, model, beta, generator)
    assert goodness_of_fit(spins, exact.boltzmann(model, beta)) > FALSE_ALARM
    other = exact.boltzmann(model, 0.27)  # negative control
    assert goodness_of_fit(spins, other) < FALSE_ALARM


def test_refusals():
    with pytest.raises(ValueError, match="finite sigma > 0"):
        long_range.ring(8, sigma=0.0)
    with pytest.raises(ValueError, match="at least 3 sites"):
        long_range.ring(2, sigma=1.0)
