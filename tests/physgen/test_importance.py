"""A bad network gives right physics. False alarm: 1e-5 per chi-squared test, else 4 sigma; fixed seeds."""

import numpy as np
import pytest
import torch

from ising import Ising, exact, lattices, updates
from physgen import importance, models
from tests.checks import FALSE_ALARM, goodness_of_fit

BETA, N = 0.35, 9
ISING = Ising(lattices.square(3), J=1.0, h=0.1)
STATES = exact.states(N).float()
LOG_P = -BETA * ISING.energy(STATES)
LOG_Z = float(LOG_P.logsumexp(0))
LAW = (LOG_P - LOG_Z).exp()


@pytest.fixture(scope="module")
def bad():
    """Random weights that know nothing of the Hamiltonian."""
    torch.manual_seed(3)
    net = models.build("fvbn", (3, 3))
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(0.1 * torch.randn_like(p))
    return net


def test_the_network_is_bad(bad):
    with torch.no_grad():
        log_q = bad.log_prob(STATES).double()
    assert (LAW * (LOG_P - LOG_Z - log_q)).sum() > 1.0
    assert goodness_of_fit(bad.sample(5000), LAW) < FALSE_ALARM


def test_weights_give_log_z_and_observables(bad):
    spins, log_w = importance.log_weights(bad, ISING.energy, BETA, 50_000, seed=1)
    log_z = importance.log_partition(log_w)
    assert log_z.sigmas_from(LOG_Z) < 4
    energy = importance.reweighted(log_w, ISING.energy(spins).numpy())
    truth = float((LAW * ISING.energy(STATES)).sum())
    assert energy.sigmas_from(truth) < 4
    plain = importance.reweighted(np.zeros(len(log_w)), ISING.energy(spins).numpy())
    assert plain.sigmas_from(truth) > 40  # negative control: without weights


def test_the_intervals_are_honest(bad):
    """100 repeats: within one sigma 50 to 86 times (expected 68, spread 4.7), no bias beyond 4 sigma."""
    found = [
        importance.log_partition(importance.log_weights(bad, ISING.energy, BETA, 2000, seed=s)[1])
        for s in range(100)
    ]
    pulls = np.array([(f.mean - LOG_Z) / f.error for f in found])
    assert 0.5 < (abs(pulls) < 1).mean() < 0.86
    assert abs(np.mean([f.mean for f in found]) - LOG_Z) < 4 * np.std([f.mean for f in found]) / 10


def test_the_bias_of_a_logarithm_is_taken_out():
    """ln Z = 0 from 10 normal log-weights, 4000 times: 0.014 too low without the term; within 4 sigma."""
    log_w = 0.5 * np.random.default_rng(7).normal(size=(4000, 10)) - 0.125
    found = np.array([importance.log_partition(each).mean for each in log_w])
    plain = np.log(np.exp(log_w).mean(1))
    assert abs(found.mean()) < 4 * found.std() / 4000**0.5
    assert plain.mean() < -4 * plain.std() / 4000**0.5


def test_the_error_of_a_reweighted_mean_is_its_spread():
    """4000 ratios of 100 draws: the error is 1.5 % too small for so few; 5 % around that are 4.5 sigma."""
    rng = np.random.default_rng(2)
    log_w, noise = 0.5 * rng.normal(size=(2, 4000, 100))
    found = [importance.reweighted(*each) for each in zip(log_w, 3 + 2 * log_w + noise, strict=True)]
    spread = np.std([each.mean for each in found])
    assert 0.935 < np.sqrt(np.mean([each.error**2 for each in found])) / spread < 1.035


def test_metropolis_leaves_the_boltzmann_law_as_it_is(bad):
    start = STATES[
        torch.multinomial(LAW, 40_000, replacement=True, generator=torch.Generator().manual_seed(5))
    ]
    made = importance.metropolis(bad, ISING.energy, BETA, chains=40_000, samples=3, start=start, seed=2)
    assert 0.02 < made.acceptance < 0.6
    assert goodness_of_fit(made.spins[:, -1], LAW) > FALSE_ALARM


def test_cluster_moves_between_the_proposals_leave_it_too(bad):
    generator = torch.Generator().manual_seed(1)
    made = importance.metropolis(
        bad,
        ISING.energy,
        BETA,
        chains=20_000,
        samples=20,
        between=lambda s: updates.get("wolff")(s, ISING, BETA, generator)[0],
        seed=2,
    )
    assert goodness_of_fit(made.spins[:, -1], LAW) > FALSE_ALARM
    assert goodness_of_fit(made.spins[:, 0], LAW) < FALSE_ALARM


def test_metropolis_forgets_where_it_began(bad):
    """The largest w / Z, here about 30, is the number of proposals that it takes to do so."""
    law = torch.softmax(-0.2 * ISING.energy(STATES), 0)
    made = importance.metropolis(bad, ISING.energy, 0.2, chains=10_000, samples=200, seed=2)
    assert goodness_of_fit(made.spins[:, 0], law) < FALSE_ALARM  # negative control: one proposal
    assert goodness_of_fit(made.spins[:, -1], law) > FALSE_ALARM


def test_decisions_by_energy_alone_are_caught(bad, monkeypatch):
    """Negative control: without ln q in the weight the chain has another law."""
    monkeypatch.setattr(type(bad), "log_prob", lambda _self, spins: torch.zeros(len(spins)))
    made = importance.metropolis(bad, ISING.energy, BETA, chains=20_000, samples=60, seed=2)
    assert goodness_of_fit(made.spins[:, -1], LAW) < FALSE_ALARM
