"""Draws of single units and of machines of any pair of layers follow the exact law, by chi-squared.

False alarm 1e-5 per test, at fixed seeds.
"""

import numpy as np
import pytest
import torch
from scipy.special import log_ndtr
from scipy.stats import chisquare

from physgen.distributions import machine, units
from tests.checks import FALSE_ALARM
from tests.physgen.unit_cases import KINDS, PAIRS, REAL, Case, Reference, build, ids


def p_value(draws, probs, edges=None):
    """Of the numbers of draws per bin: states, or intervals of exact probability between ``edges``."""
    index = draws.argmax(-1) if edges is None else torch.bucketize(draws, edges)
    counts = torch.bincount(index, minlength=len(probs)).double()
    few = probs * len(draws) < 10
    pooled = [torch.cat([x[few].sum()[None], x[~few]]) for x in (counts, probs / probs.sum() * len(draws))]
    pooled = [x[int(not few.any()) :].numpy() for x in pooled]
    return chisquare(*pooled).pvalue


class Binned:
    """The exact law of v in bins: its states, or twenty intervals of one real unit."""

    def __init__(self, case):
        self.case, self.real = case, case.v.kind in REAL
        if not self.real:
            self.probs = (case.weights - case.energy()).logsumexp(1).softmax(0)
            return
        low = 0.0 if case.v.kind == "relu" else -13.0
        self.x = torch.linspace(low, 13.0, 200_001, dtype=torch.float64)
        density = (-case.law().free_energy(self.x.unsqueeze(-1))).softmax(0)
        density[[0, -1]] /= 2
        self.cdf = (density.cumsum(0) - density / 2) / density.sum()
        self.edges = self.x[torch.searchsorted(self.cdf, torch.linspace(0, 1, 21).double()[1:-1])]
        inner = torch.cat([torch.zeros(1), self.cdf[torch.searchsorted(self.x, self.edges)], torch.ones(1)])
        self.probs = inner.diff()

    def draw(self, n):
        if not self.real:
            return self.case.v.x[torch.multinomial(self.probs, n, True)]
        u = torch.rand(n, dtype=torch.float64)
        return self.x[torch.searchsorted(self.cdf, u).clamp(max=len(self.x) - 1)].unsqueeze(-1)

    def p_value(self, v):
        if self.real:
            return p_value(v.squeeze(-1), self.probs, self.edges)
        number = (v.unsqueeze(1) == self.case.v.x).all(-1)
        assert number.any(-1).all()
        return p_value(number.double(), self.probs)


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_draws_and_gibbs_steps_follow_the_exact_law(pair):
    """Draws, and exact draws moved by 1 and 3 block updates; an update of a wrong machine is rejected.

    False alarm 1e-5 per chi-squared, 1.2e-3 in all at a fixed seed.
    """
    torch.manual_seed(1)
    case = Case(pair, n_visible=1 if pair[0] in REAL else 2)
    case.parameters[0] *= 0.3 if pair[1] in REAL and pair[0] not in REAL else 1.0
    exact, law = Binned(case), case.law()
    if law.enumerable:
        assert exact.p_value(law.sample((20_000,))) > FALSE_ALARM
    v = exact.draw(20_000)
    assert exact.p_value(v) > FALSE_ALARM
    for steps in (1, 3):
        assert exact.p_value(law.gibbs(v, steps)) > FALSE_ALARM
    W, b, c = case.parameters
    wrong = machine(*case.layers, -W, b + 0.6, c)
    assert exact.p_value(wrong.gibbs(v, 3)) < FALSE_ALARM


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kind", ["bernoulli", "spin", "softmax:3", "binomial:3"])
def test_draws_of_finite_units(kind, dtype):
    """200 000 draws per field, down to probabilities of 2e-3; fields off by 0.3 are rejected."""
    torch.manual_seed(2)
    layer, one = build(kind, 1), Reference(kind, 1)
    for field in (0.3, 2.0, -3.0):
        fields = field * torch.arange(1, layer.width + 1, dtype=dtype)
        probs = (one.log_weight + one.x @ fields.double()).softmax(0)
        for off, right in ((0.0, True), (0.3, False)):
            wrong = fields + off * torch.arange(1, layer.width + 1)
            drawn = layer.draw(wrong.expand(200_000, -1)).double()
            number = (drawn.unsqueeze(1) == one.x).all(-1)
            assert number.any(-1).all()
            assert (p_value(number.double(), probs) > FALSE_ALARM) == right


TAILS = [-100.0, -36.0, -34.0, -8.0, -1.0, 0.0, 3.0, 30.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("field", TAILS)
def test_draws_of_relu_units_follow_their_law_from_tail_to_tail(field, dtype):
    """The exact distribution function of 200 000 draws, in bins down to 1e-4 of either end.

    The noisy rectified unit max(0, field + noise), and a field 5 % off, are rejected.
    """
    torch.manual_seed(3)
    layer = units.ReLU(1, scale=0.5)
    fields = torch.full((200_000, 1), 0.5 * field, dtype=dtype)
    edges = torch.tensor([1e-4, 1e-3, 1e-2, *np.arange(0.1, 0.91, 0.1), 0.99, 0.999, 0.9999]).double()
    probs = torch.cat([torch.zeros(1), edges, torch.ones(1)]).diff().double()

    def exceeded(draws):
        x = draws.double().squeeze(-1).numpy() / 0.5
        return torch.from_numpy(np.exp(log_ndtr(field - x) - log_ndtr(field)))

    assert p_value(exceeded(layer.draw(fields)), probs, edges) > FALSE_ALARM
    other = fields + 0.025 * max(1, abs(field))
    assert p_value(exceeded(layer.draw(other)), probs, edges) < FALSE_ALARM
    if field < 2:
        noisy = (fields + 0.5 * torch.randn(200_000, 1)).clamp(min=0)
        assert p_value(exceeded(noisy), probs, edges) < FALSE_ALARM


def test_a_generator_fixes_the_draws_of_every_kind():
    for kind in (*KINDS, "labelled"):
        layer = build(kind, 3)
        field = torch.zeros(20, layer.width, dtype=torch.float64)
        first, again = (layer.draw(field, torch.Generator().manual_seed(1)) for _ in range(2))
        assert torch.equal(first, again)
