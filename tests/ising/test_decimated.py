"""The chain of which some spins are seen, against sums over all configurations.

False alarm: 1e-5 per chi-squared test, at fixed seeds.
"""

import itertools

import pytest
import torch

from ising import exact
from ising.exact.decimated import DecimatedChain
from tests.checks import FALSE_ALARM, goodness_of_counts

N = 6
VALUES = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0])] * N)


def by_hand(chain):
    """Boltzmann weights of the open chain, summed over the spins that are not seen."""
    spins = exact.states(N).double()
    boltzmann = (chain.beta_J * (spins[:, 1:] * spins[:, :-1]).sum(-1)).softmax(0)
    found = []
    for value in VALUES.double():
        visible = value != 0
        agrees = (spins[:, visible] == value[visible]).all(-1)
        m = int(visible.sum())
        found.append(boltzmann[agrees].sum() * chain.seen**m * (1 - chain.seen) ** (N - m))
    return torch.stack(found)


@pytest.mark.parametrize("seen", [0.3, 0.8])
def test_the_law_is_the_boltzmann_law_summed_over_what_is_not_seen(seen):
    chain = DecimatedChain(N, xi=3.0, seen=seen)
    p = chain.log_prob(VALUES).exp()
    torch.testing.assert_close(p, by_hand(chain), rtol=1e-12, atol=1e-15)
    wrong = DecimatedChain(N, xi=3.1, seen=seen).log_prob(VALUES).exp()  # negative control
    assert (wrong - p).abs().max() > 1e-5


def test_all_seen_is_the_open_chain():
    chain, spins = DecimatedChain(10, xi=2.5), exact.states(10).double()
    energy = -(spins[:, 1:] * spins[:, :-1]).sum(-1)
    expected = -chain.beta_J * energy - exact.chain_log_z(10, chain.beta_J, pbc=False)
    torch.testing.assert_close(chain.log_prob(spins), expected, rtol=0, atol=1e-12)
    assert chain.least_divergence(1) == 0
    assert chain.least_divergence(0) > 0.1


@pytest.mark.parametrize("seen", [0.4, 1.0])
def test_draws_follow_the_law(seen):
    chain = DecimatedChain(N, xi=3.0, seen=seen)
    drawn = chain.sample(60_000, torch.Generator().manual_seed(1))
    index = ((drawn.long() + 1) * 3 ** torch.arange(N - 1, -1, -1)).sum(-1)
    counts = torch.bincount(index, minlength=3**N).double()
    possible = chain.log_prob(VALUES) > -torch.inf
    assert counts[~possible].sum() == 0
    assert goodness_of_counts(counts[possible], chain.log_prob(VALUES)[possible].exp()) > FALSE_ALARM
    other = DecimatedChain(N, xi=3.5, seen=seen)  # negative control
    assert goodness_of_counts(counts[possible], other.log_prob(VALUES)[possible].exp()) < FALSE_ALARM


@pytest.mark.parametrize("field", [0, 1, 2, 4])
def test_the_least_divergence_of_a_receptive_field(field):
    """By conditioning the table of all probabilities on the last ``field`` sites."""
    chain = DecimatedChain(N, xi=3.0, seen=0.5)
    p = chain.log_prob(VALUES).exp().reshape([3] * N)
    loss = 0.0
    for i in range(N):
        upto = p.sum(tuple(range(i + 1, N))) if i + 1 < N else p
        window = upto.sum(tuple(range(max(i - field, 0)))) if i > field else upto
        full, known = (x / x.sum(-1, keepdim=True) for x in (upto, window))
        loss += float((upto * (full.log() - known.log())).sum())
    assert chain.least_divergence(field) == pytest.approx(loss / N, rel=1e-10)


def test_the_divergence_falls_with_the_correlation_length():
    """Ratio of successive fields: (1 - seen) exp(-2 / xi) far out."""
    for xi, seen in itertools.product((3.0, 8.0), (0.1, 0.5)):
        chain = DecimatedChain(100_000, xi=xi, seen=seen)
        ratio = chain.least_divergence(61) / chain.least_divergence(60)
        assert ratio == pytest.approx((1 - seen) * torch.exp(torch.tensor(-2 / xi)).item(), rel=1e-3)


def test_refusals():
    for wrong in ({"xi": 0.0}, {"xi": 3.0, "seen": 0.0}, {"xi": float("inf")}):
        with pytest.raises(ValueError, match="finite xi > 0"):
            DecimatedChain(4, **wrong)
