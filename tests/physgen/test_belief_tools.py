"""Aggregated posteriors, tied infinite nets, stages of training, rows, classifiers."""

import math

import pytest
import torch

from physgen import aggregated, infinite
from physgen.classification import ErrorRate, chosen_regression, logistic_regression, p_value
from physgen.distributions import BernoulliRBM, units
from physgen.rows import Rows
from physgen.stages import Stage, Stages
from physgen.train import fit, gradient_step


def test_the_aggregated_posterior_by_hand():
    """PHYSICS.md section 4: 0.3281 against 0.0625; sums to one; total correlation by draws agrees."""
    posteriors = torch.tensor([[0.9, 0.9, 0.1, 0.1], [0.1, 0.1, 0.9, 0.9]], dtype=torch.float64)
    h = torch.tensor([1.0, 1, 0, 0], dtype=torch.float64)
    assert aggregated.log_prob(posteriors, h).exp().item() == pytest.approx((0.9**4 + 0.1**4) / 2, abs=1e-12)
    assert aggregated.factorial_log_prob(posteriors, h).exp().item() == pytest.approx(0.5**4, abs=1e-12)
    states = units.Bernoulli(4).states(posteriors)
    assert aggregated.log_prob(posteriors, states).exp().sum().item() == pytest.approx(1, abs=1e-12)
    exact, none = aggregated.total_correlation(posteriors)
    assert none == 0
    wide = torch.cat([posteriors, torch.full((2, 9), 0.5, dtype=torch.float64)], -1)
    found, error = aggregated.total_correlation(wide, 4000, torch.Generator().manual_seed(0))
    assert abs(found - exact) < 4.5 * error < 0.2
    assert aggregated.total_correlation(posteriors[:1])[0] == pytest.approx(0, abs=1e-12)


def test_the_infinite_net_with_tied_weights_is_the_machine():
    """Its lowest layer and its posterior converge geometrically; an untied net does not."""
    torch.manual_seed(0)
    W, b, c = torch.randn(3, 2).double(), torch.randn(3).double(), torch.randn(2).double()
    machine = BernoulliRBM(W, b, c)
    p = machine.log_prob(machine.enumerate_support()).exp()
    off = [(infinite.marginal(machine, d) - p).abs().max().item() for d in (1, 4, 8, 40)]
    assert off[0] > off[1] > off[2] > off[3]
    assert off[3] < 1e-12
    gaps = [infinite.posterior_gap(machine, d) for d in (1, 4, 40)]
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 1e-12
    other = BernoulliRBM(1.2 * W, b, c)
    assert (infinite.marginal(other, 40) - p).abs().max() > 1e-3


def test_stages_resume_in_the_midst_of_each():
    def build():
        torch.manual_seed(0)
        x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))

        def make(target):
            return lambda: gradient_step(
                lambda batch: (x - target * batch).square().sum(), torch.optim.Adam([x], 0.1), average_from=1
            )

        seen = []
        return (
            x,
            Stages(
                [
                    Stage(3, make(1.0), end=lambda: seen.append(x.detach().clone())),
                    Stage(0, make(9.0), begin=lambda: seen.append("never")),
                    Stage(4, make(-1.0), begin=lambda: x.data.add_(1)),
                ]
            ),
            seen,
        )

    batches = [torch.tensor([1.0, 0.5]), torch.tensor([0.3, 2.0])]
    x, whole, seen = build()
    fit(whole, batches, steps=whole.total)
    assert (whole.total, len(seen), whole.step) == (7, 1, None)
    z, path = torch.nn.Parameter(torch.tensor([1.0, 2.0])), []
    plain = gradient_step(lambda batch: (z - batch).square().sum(), torch.optim.Adam([z], 0.1))
    for batch in (batches * 2)[:3]:
        plain(batch)
        path.append(z.detach().clone())
    torch.testing.assert_close(seen[0], (path[1] + path[2]) / 2)  # a stage ends with its averages
    for stop in (2, 3, 5):
        y, first, _ = build()
        fit(first, batches, steps=stop)
        state, weights = first.state_dict(), y.detach().clone()
        y, second, _ = build()
        y.data.copy_(weights)
        second.load_state_dict(state)
        rest = (batches * 9)[stop:]
        fit(second, rest, steps=7, start=stop)
        assert torch.equal(x, y), stop


def test_rows_are_drawn_anew_and_repeat():
    grey = torch.cat([torch.full((60, 5), 0.25), torch.arange(60.0).unsqueeze(-1)], -1)
    one, two = (Rows(grey, 20, seed=3, drawn=5) for _ in range(2))
    first = [next(one) for _ in range(6)]
    assert all(torch.equal(a, next(two)) for a in first)
    assert torch.cat(first[:3])[:, 5].sort().values.tolist() == list(range(60))
    assert abs(torch.cat(first)[:, :5].mean() - 0.25) < 4.5 * math.sqrt(0.25 * 0.75 / 600)  # false alarm 7e-6
    assert not torch.equal(first[0][:, :5], first[3][:, :5])
    three = Rows(grey, 20, seed=3, drawn=5)
    three.load_state_dict(one.state_dict())
    assert torch.equal(next(three), next(one))
    with pytest.raises(ValueError, match="saved ones"):
        Rows(grey + 0.01, 20, seed=3).load_state_dict(one.state_dict())
    with pytest.raises(ValueError, match="from 0 to 1"):
        Rows(5 * grey, 20, drawn=5)


def test_logistic_regression_is_at_the_minimum_and_wilson_covers():
    torch.manual_seed(0)
    x = torch.randn(300, 4, dtype=torch.float64)
    labels = (x @ torch.randn(4, 3).double() + torch.randn(300, 3).double()).argmax(-1)
    net = logistic_regression(x, labels, 3, penalty=0.01)
    residual = net(x).softmax(-1) - torch.nn.functional.one_hot(labels, 3)
    gradient = residual.T @ x / 300 + 0.01 * net.weight
    assert gradient.abs().max() < 1e-4
    best, penalty = chosen_regression((x[:200], labels[:200]), (x[200:], labels[200:]), 3)
    assert penalty in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
    assert (best(x).argmax(-1) == labels).double().mean() > 0.6

    p, n = 0.05, 200
    wrong = torch.arange(n + 1.0)
    weight = torch.distributions.Binomial(n, torch.tensor(p)).log_prob(wrong).exp()
    inside = [low <= p <= high for low, high in (ErrorRate(int(k), n).interval(1.96) for k in wrong)]
    assert 0.93 < float(weight[torch.tensor(inside)].sum()) < 0.97
    right = torch.tensor([True] * 9 + [False] * 91)
    assert p_value(right, torch.zeros(100, dtype=torch.bool)) == pytest.approx(2 * 0.5**9)
    assert p_value(right, right) == 1
